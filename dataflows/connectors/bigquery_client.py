"""Google's clients for BigQuery, and what they say in words for a person."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dataflows.errors import TidegateError

if TYPE_CHECKING:
    from google.cloud import bigquery
    from google.cloud.bigquery_storage_v1 import BigQueryWriteClient

EMULATOR = "BIGQUERY_EMULATOR_HOST"  # the client's own variable
STORAGE_EMULATOR = "BIGQUERY_STORAGE_EMULATOR_HOST"  # host:port; the client has none for gRPC
_NAME = re.compile(r"(?P<project>[a-z0-9.:-]+)\.(?P<dataset>[A-Za-z0-9_]{1,1024})")


class BigQueryError(TidegateError):
    """BigQuery cannot be used as it is; what was committed before is safe."""


class BigQueryUnavailable(BigQueryError):
    """BigQuery does not answer, or does not take more just now."""

    may_pass = True


def parse_dataset(name: str) -> tuple[str, str]:
    """Project and dataset of `project.dataset`.

    Raises:
        BigQueryError: it is no such name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise BigQueryError(f"{name!r} is no dataset; write project.dataset, as in shop.bronze")
    return match["project"], match["dataset"]


def connect(project: str) -> bigquery.Client:
    """A client for tables and queries.

    Raises:
        BigQueryError: it is not installed, or there are no credentials.
    """
    with _installed(), explained("BigQuery"):
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import bigquery

        credentials: Any = AnonymousCredentials() if os.environ.get(EMULATOR) else None
        return bigquery.Client(project, credentials=credentials)


def connect_writer() -> BigQueryWriteClient:
    """A client for the Storage Write API.

    Raises:
        BigQueryError: it is not installed, there are no credentials, or only half an emulator is
            configured.
    """
    with _installed(), explained("BigQuery"):
        from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
        from google.cloud.bigquery_storage_v1.services.big_query_write.transports import (
            BigQueryWriteGrpcTransport,
        )

        if not os.environ.get(EMULATOR):
            return BigQueryWriteClient()
        import grpc

        address = os.environ.get(STORAGE_EMULATOR)
        if not address:
            raise BigQueryError(
                f"{EMULATOR} names an emulator, and {STORAGE_EMULATOR} does not: set it to "
                "host:port of its gRPC server"
            )
        channel = grpc.insecure_channel(address)
        return BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turns what the clients raise about `place` into one line.

    Raises:
        BigQueryUnavailable: it may pass.
        BigQueryError: it does not by itself.
    """
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        yield
    except exceptions.NotFound as error:
        raise BigQueryError(
            f"{place}: there is no such table in BigQuery ({first_line(error)}); `tidegate schema "
            "apply --bigquery PROJECT.DATASET` makes those of a dataset"
        ) from error
    except exceptions.Forbidden as error:
        raise BigQueryError(forbidden(place, error)) from error
    except (
        exceptions.RetryError,
        exceptions.ServerError,
        exceptions.TooManyRequests,
        exceptions.Aborted,
        exceptions.Cancelled,
        RequestException,
        TimeoutError,
    ) as error:
        raise BigQueryUnavailable(
            f"{place}: BigQuery does not answer ({first_line(cause(error))}); try again, what was "
            "done is kept"
        ) from error
    except exceptions.GoogleAPICallError as error:
        raise BigQueryError(
            f"{place}: BigQuery refuses: {first_line(error)}; compare table and contracts with "
            "`tidegate schema plan --bigquery PROJECT.DATASET`"
        ) from error
    except GoogleAuthError as error:
        raise BigQueryError(no_credentials(error)) from error


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise BigQueryError(
            "BigQuery needs Google's clients, which are not installed: `pip install "
            "google-cloud-bigquery google-cloud-bigquery-storage` into Tidegate's environment"
        ) from error


def forbidden(place: str, error: Exception) -> str:
    return (
        f"{place}: not allowed ({first_line(error)}); the role BigQuery Data Editor on the "
        "dataset, and BigQuery Job User on the project, let you"
    )


def no_credentials(error: Exception) -> str:
    return (
        f"BigQuery: no credentials ({first_line(error)}); `gcloud auth application-default login` "
        "makes some, or GOOGLE_APPLICATION_CREDENTIALS names them"
    )


def cause(error: Exception) -> Exception:
    """What was tried again until patience ended."""
    inner = getattr(error, "cause", None)
    return inner if isinstance(inner, Exception) else error


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
