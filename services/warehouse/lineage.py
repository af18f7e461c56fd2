"""OpenLineage: which tables a build made of which, told to a lineage server or into a file.

A run of the build, begun as dbt begins, and within it a run of each model and seed, from dbt's
manifest and results. Who listens fails no build: what cannot be told is said in one line.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from services.warehouse.contents import Table
from services.warehouse.errors import WarehouseError
from services.warehouse.manifest import (
    Manifest,
    ManifestNode,
    RunResult,
    manifest,
    remove_run_results,
    run_results,
)

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.transport import Transport

NAMESPACE = "tidegate"
BUILD = "warehouse.build"
_MADE = ("model", "seed")
_HTTP_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class Made(NamedTuple):
    """What is in the tables that a build has put in place: rows, and names and types of columns."""

    rows: Mapping[Table, int]
    columns: Mapping[Table, Sequence[tuple[str, str]]]


class Places(NamedTuple):
    """How OpenLineage calls the datasets: a namespace for tables, and where bronze is.

    `schemas` are those in which dbt builds by another name than the one they are asked by.
    """

    tables: str
    bronze_namespace: str
    bronze_prefix: str
    schemas: Mapping[str, str] = MappingProxyType({})


class Lineage:
    """Tells of one build. Without a destination it tells nobody.

    Args:
        destination: a file to which a line an event is added, or the http(s) URL of a server.
        places: of the target.
        dbt_files: where dbt keeps what it writes.

    Raises:
        WarehouseError: OpenLineage's library is not installed.
    """

    def __init__(self, destination: str, places: Places, dbt_files: Path):
        self._destination, self._places, self._files = destination, places, dbt_files
        self._transport = _transport(destination) if destination else None
        self._run: Run | None = None
        self._began = datetime.now(UTC)

    @property
    def listens(self) -> bool:
        """Whether somebody is told of this run."""
        return self._run is not None and self._transport is not None

    def begin(self) -> None:
        """dbt is about to run."""
        if self._transport is None:
            return
        from openlineage.client.event_v2 import Run, RunState, set_producer
        from openlineage.client.uuid import generate_new_uuid

        set_producer(f"urn:tidegate:{version('tidegate')}")
        remove_run_results(self._files)  # should dbt not come to write some, these are no one's
        self._began = datetime.now(UTC)
        self._run = Run(runId=str(generate_new_uuid()))
        self._emit(self._event(RunState.START, self._began, self._run, BUILD, "JOB"))

    def complete(self, made: Made) -> None:
        """What was built is in place."""
        from openlineage.client.event_v2 import RunState

        if self._run is not None:
            self._tell_models(made, RunState.COMPLETE)
            self._emit(self._end(RunState.COMPLETE))

    def fail(self, error: BaseException) -> None:
        """The build failed. Models that did not are aborted: nothing of the build is in place."""
        from openlineage.client.event_v2 import RunState
        from openlineage.client.facet_v2 import error_message_run

        if self._run is not None:
            self._tell_models(Made({}, {}), RunState.ABORT)
            message = error_message_run.ErrorMessageRunFacet(str(error), "Python")
            self._run.facets = {"errorMessage": message}
            self._emit(self._end(RunState.FAIL))

    def _end(self, state: RunState) -> RunEvent:
        assert self._run is not None
        return self._event(state, datetime.now(UTC), self._run, BUILD, "JOB")

    def _tell_models(self, made: Made, succeeded: RunState) -> None:
        from openlineage.client.event_v2 import RunState

        try:
            project, results = manifest(self._files), run_results(self._files)
        except WarehouseError as error:
            _log.warning("lineage: no models are told: %s", error)
            return
        for result in results:
            node = project.nodes.get(result.unique_id)
            if node is None or node.resource_type not in _MADE or not result.timing:
                continue
            state = succeeded if result.status == "success" else RunState.FAIL
            for event in self._model_events(project, node, result, state, made):
                self._emit(event)

    def _model_events(
        self,
        project: Manifest,
        node: ManifestNode,
        result: RunResult,
        state: RunState,
        made: Made,
    ) -> Iterator[RunEvent]:
        from openlineage.client.event_v2 import Run, RunState
        from openlineage.client.facet_v2 import error_message_run, parent_run
        from openlineage.client.uuid import generate_new_uuid

        assert self._run is not None
        parent = parent_run.ParentRunFacet(
            run=parent_run.Run(runId=self._run.runId),
            job=parent_run.Job(namespace=NAMESPACE, name=BUILD),
        )
        facets: dict[str, Any] = {"parent": parent}
        if state is RunState.FAIL:
            message = error_message_run.ErrorMessageRunFacet(result.message or result.status, "SQL")
            facets["errorMessage"] = message
        run = Run(runId=str(generate_new_uuid()), facets=facets)
        inputs = [
            self._input(project, known)
            for known in node.depends_on.nodes
            if known in project.nodes or known in project.sources
        ]
        outputs = [self._output(node, made)]
        begun = [step.started_at for step in result.timing if step.started_at]
        ended = [step.completed_at for step in result.timing if step.completed_at]
        name, kind = f"{BUILD}.{self._schema(node)}.{node.name}", node.resource_type.upper()
        started = min(begun, default=self._began)
        for step, at in ((RunState.START, started), (state, max(ended, default=started))):
            yield self._event(step, at, run, name, kind, inputs, outputs)

    def _event(
        self,
        state: RunState,
        at: datetime,
        run: Run,
        job: str,
        kind: str,
        inputs: Sequence[InputDataset] = (),
        outputs: Sequence[OutputDataset] = (),
    ) -> RunEvent:
        from openlineage.client.event_v2 import Job, RunEvent
        from openlineage.client.facet_v2 import job_type_job

        facet = job_type_job.JobTypeJobFacet("BATCH", "DBT", kind)
        return RunEvent(
            eventType=state,
            eventTime=at.astimezone(UTC).isoformat(),
            run=run,
            job=Job(namespace=NAMESPACE, name=job, facets={"jobType": facet}),
            inputs=list(inputs),
            outputs=list(outputs),
        )

    def _input(self, project: Manifest, known: str) -> InputDataset:
        from openlineage.client.event_v2 import InputDataset

        if known in project.sources:
            name = f"{self._places.bronze_prefix}{project.sources[known].name}"
            return InputDataset(self._places.bronze_namespace, name)
        node = project.nodes[known]
        return InputDataset(self._places.tables, self._table_name(node))

    def _output(self, node: ManifestNode, made: Made) -> OutputDataset:
        from openlineage.client.event_v2 import OutputDataset
        from openlineage.client.facet_v2 import output_statistics_output_dataset, schema_dataset

        table = (self._schema(node), node.name)
        facets: dict[str, Any] = {}
        statistics: dict[str, Any] = {}
        if columns := made.columns.get(table):
            fields = [schema_dataset.SchemaDatasetFacetFields(name, kind) for name, kind in columns]
            facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
        if (rows := made.rows.get(table)) is not None:
            facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rows)
            statistics["outputStatistics"] = facet
        return OutputDataset(
            self._places.tables, self._table_name(node), facets=facets, outputFacets=statistics
        )

    def _table_name(self, node: ManifestNode) -> str:
        return f"{node.database}.{self._schema(node)}.{node.name}"

    def _schema(self, node: ManifestNode) -> str:
        return self._places.schemas.get(node.schema, node.schema)

    def _emit(self, event: RunEvent) -> None:
        """Tells it; who does not listen once is told nothing more of this build."""
        if self._transport is None:
            return
        from requests import RequestException

        try:
            self._transport.emit(event)
        except (RuntimeError, RequestException) as error:
            text = " ".join(str(error).split())
            _log.warning("lineage: %s does not take it, and is told no more: %s",
                         self._destination, text)  # fmt: skip
            self._transport = None


@contextmanager
def traced(lineage: Lineage) -> Iterator[None]:
    """Tells if what is done inside fails; that it is complete says who knows what was made."""
    try:
        yield
    except BaseException as error:
        lineage.fail(error)
        raise


def _transport(destination: str) -> Transport:
    try:
        from openlineage.client.transport.file import FileConfig, FileTransport
        from openlineage.client.transport.http import HttpConfig, HttpTransport
    except ImportError as error:
        raise WarehouseError(
            "[warehouse] lineage needs OpenLineage's library, which is not installed: "
            "`pip install openlineage-python` into Tidegate's environment"
        ) from error
    if destination.startswith(("http://", "https://")):
        retry = {"total": 1, "connect": 1, "read": 1}
        try:
            return HttpTransport(HttpConfig(url=destination, timeout=_HTTP_TIMEOUT_S, retry=retry))
        except ValueError as error:
            raise WarehouseError(
                f"[warehouse] lineage = {destination!r} is no URL of a server"
            ) from error
    return FileTransport(FileConfig(log_file_path=destination, append=True))
