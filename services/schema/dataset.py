"""A dataset of BigQuery: its tables, read and changed through Google's client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dataflows.connectors.bigquery_client import (
    BigQueryError,
    connect,
    first_line,
    forbidden,
    no_credentials,
    parse_dataset,
)
from services.schema.bigquery import Resource, fields, merged, widenings
from services.schema.errors import SchemaError

if TYPE_CHECKING:
    from google.cloud import bigquery

_PATIENCE_S = 60.0


class Unavailable(SchemaError):
    """BigQuery does not answer, or does not take more just now."""

    may_pass = True


class Dataset:
    """Where a source has its table, by its name.

    Args:
        name: project.dataset.

    Raises:
        SchemaError: it is no such name, there is no such dataset, or no client is installed.
    """

    def __init__(self, name: str):
        try:
            self._client = connect(parse_dataset(name)[0])
        except BigQueryError as error:
            raise SchemaError(str(error)) from error
        self.name = name
        with self._explained(name):
            self._client.get_dataset(name, retry=_retry(), timeout=_PATIENCE_S)

    def table(self, name: str) -> Resource | None:
        """What the API says of a table; None if there is no such table."""
        found = self._get(name)
        return None if found is None else dict(found.to_api_repr())

    def create(self, name: str, wanted: Resource) -> None:
        """Makes a table; one that somebody has made meanwhile is left as it is."""
        from google.cloud import bigquery

        resource = {**wanted, "tableReference": self._reference(name)}
        with self._explained(f"{self.name}.{name}"):
            self._client.create_table(
                bigquery.Table.from_api_repr(resource),
                exists_ok=True,
                retry=_retry(),
                timeout=_PATIENCE_S,
            )

    def change(self, name: str, wanted: Resource) -> None:
        """Adds, relaxes, widens and describes until the table is as wanted; can be done again.

        Raises:
            SchemaError: somebody else has changed the table meanwhile, or BigQuery refuses.
        """
        from google.cloud import bigquery

        table = self._get(name)
        if table is None:
            raise SchemaError(f"{self.name}.{name} was removed meanwhile; plan again")
        place = f"{self.name}.{name}"
        for column, kind in widenings(fields(table.to_api_repr()), fields(wanted)).items():
            sql = f"ALTER TABLE `{place}` ALTER COLUMN {column} SET DATA TYPE {kind}"
            with self._explained(f"{place}.{column}"):
                self._client.query(sql, retry=_retry(), timeout=_PATIENCE_S).result(
                    timeout=_PATIENCE_S
                )
        with self._explained(place):
            # Types have changed by now: the table is another one than was read above.
            table = self._client.get_table(place, retry=_retry(), timeout=_PATIENCE_S)
            columns = merged(fields(table.to_api_repr()), fields(wanted))
            table.schema = [bigquery.SchemaField.from_api_repr(column) for column in columns]
            table.description = wanted["description"]
            table.clustering_fields = wanted["clustering"]["fields"] or None
            # With the etag of what was read: a change by somebody else in between is not undone.
            self._client.update_table(
                table,
                ["schema", "description", "clustering_fields"],
                retry=_retry(),
                timeout=_PATIENCE_S,
            )

    def _get(self, name: str) -> bigquery.Table | None:
        from google.api_core.exceptions import NotFound

        place = f"{self.name}.{name}"
        with self._explained(place):
            try:
                return self._client.get_table(place, retry=_retry(), timeout=_PATIENCE_S)
            except NotFound:
                return None

    def _reference(self, name: str) -> dict[str, str]:
        project, _, dataset = self.name.rpartition(".")
        return {"projectId": project, "datasetId": dataset, "tableId": name}

    @contextmanager
    def _explained(self, place: str) -> Iterator[None]:
        """Turns what the client says into a line for a person."""
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        try:
            yield
        except exceptions.NotFound as error:
            raise SchemaError(
                f"{place}: there is no such dataset in BigQuery; make it where its data shall "
                f"live (`bq mk --dataset --location=EU {self.name.replace('.', ':')}`)"
            ) from error
        except exceptions.PreconditionFailed as error:
            raise SchemaError(
                f"{place}: somebody else has changed it meanwhile; plan again"
            ) from error
        except exceptions.Forbidden as error:
            raise SchemaError(forbidden(place, error)) from error
        except (
            exceptions.RetryError,
            exceptions.ServerError,
            exceptions.TooManyRequests,
            RequestException,
        ) as error:
            raise Unavailable(
                f"{place}: BigQuery does not answer ({first_line(error)}); try again, what was "
                "done is kept"
            ) from error
        except exceptions.GoogleAPICallError as error:
            raise SchemaError(f"{place}: BigQuery refuses: {first_line(error)}") from error
        except GoogleAuthError as error:
            raise SchemaError(no_credentials(error)) from error


def _retry() -> Any:
    from google.cloud.bigquery.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(_PATIENCE_S)
