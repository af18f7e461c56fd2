"""`tidegate`, in a process that something happens to while it writes BigQuery: for tests only.

    python struck_loader.py STRIKE run load ...

STRIKE is `<point>:<n>`: when the point is reached for the n-th time, the process gets SIGKILL, or
the signal that $STRUCK_BY names. The points wrap Google's client, not the product.
"""

from __future__ import annotations

import sys
from typing import Any

from google.cloud import bigquery_storage_v1
from struck_worker import Strike

POINTS = ("created", "appended", "finalized", "before commit", "after commit")


def install(strike: Strike) -> None:
    class Client(bigquery_storage_v1.BigQueryWriteClient):
        def create_write_stream(self, *args: Any, **options: Any) -> Any:
            made = super().create_write_stream(*args, **options)
            strike.reached("created")
            return made

        def append_rows(self, *args: Any, **options: Any) -> Any:
            answers = list(super().append_rows(*args, **options))
            strike.reached("appended")
            return answers

        def finalize_write_stream(self, *args: Any, **options: Any) -> Any:
            sealed = super().finalize_write_stream(*args, **options)
            strike.reached("finalized")
            return sealed

        def batch_commit_write_streams(self, *args: Any, **options: Any) -> Any:
            strike.reached("before commit")  # the marker is in the log
            done = super().batch_commit_write_streams(*args, **options)
            strike.reached("after commit")
            return done

    bigquery_storage_v1.BigQueryWriteClient = Client  # type: ignore[misc]


if __name__ == "__main__":
    install(Strike(sys.argv.pop(1)))
    from services.cli import main

    main()
