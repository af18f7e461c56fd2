"""Replays a file through a flow: same dataflow, same log, same state, in a directory of its own."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path

import msgspec

from dataflows.connectors.embedded import EmbeddedLog
from dataflows.connectors.log import Log
from dataflows.connectors.records import END_OF_TIME_US, heartbeat, heartbeat_time, published
from dataflows.contracts import load_contracts
from dataflows.errors import TidegateError
from dataflows.flows.opening import builder
from dataflows.flows.payments import REQUESTS, with_names
from dataflows.flows.shop import Shop
from dataflows.runtime.config import Config
from dataflows.runtime.slot import Slot, run_slot
from services.replay.lines import Line, read_lines
from services.status.peek import Record, peek_records, to_json_line
from services.status.slots import FlowTotals, flow_totals, slot_statuses

APPEND_RECORDS = 5_000
RAW_BYTES = ("dlq.", "late.")  # topics whose values may be any bytes: written as record lines


class ReplayReport(msgspec.Struct, kw_only=True):
    """What a replay read and wrote: lines by output file, and the reconciliation."""

    totals: FlowTotals
    written: dict[str, int]
    directory: str


def replay(
    flow: str,
    source: str,
    file: Path,
    out: Path,
    config: Config,
    *,
    final: bool,
    as_records: bool,
    arrival_us: int,
    progress: Callable[[int], None] = lambda lines: None,
) -> ReplayReport:
    """Runs `flow` over `file` and writes one `<topic>.jsonl` per output topic into `out`.

    Args:
        flow: any flow but load, which writes no topics.
        source: whose topic the file stands for, where the flow has one per source; or the topic.
        final: afterwards event time goes on to its end, so that everything closes.
        as_records: lines are records as `tidegate peek --json` prints them; else plain events.
        arrival_us: when plain events arrived; records carry their own time.

    Raises:
        TidegateError: the file cannot be read, or the flow cannot be replayed.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TidegateError(f"{out}: cannot be written ({error.strerror}); name another") from error
    with tempfile.TemporaryDirectory(prefix="tidegate-replay-") as scratch:
        clock = _Clock()
        shop = _scratch_shop(config, Path(scratch), clock)
        topic = _input_topic(shop, flow, source)
        _fill(shop.log, clock, topic, read_lines(file, as_records, arrival_us), progress)
        if final:
            shop.log.append([heartbeat(topic, 0, END_OF_TIME_US)])
        slot = Slot(flow, topic, 0, shop.log, shop.config, threading.Event(), stop_at_end=True)
        run_slot(slot, builder(shop, flow))
        written = {
            name: _dump(shop.log, name, out / f"{name}.jsonl")
            for name in _output_topics(shop, flow, topic)
        }
        (totals,) = flow_totals([s for s in slot_statuses(shop, (flow,)) if s.topic == topic])
        shop.log.close()
    return ReplayReport(totals=totals, written=written, directory=str(out))


def _scratch_shop(config: Config, scratch: Path, clock: Callable[[], int]) -> Shop:
    """One partition a topic, so that the file is one slot's log."""
    single = dict.fromkeys(load_contracts(Path(config.schemas)), 1)
    shop = Shop(
        msgspec.structs.replace(
            config,
            bus="",
            data_dir=str(scratch),
            models=str(config.models_path),
            partitions=single,
        ),
        EmbeddedLog(scratch / "log.db", clock=clock),
    )
    shop.log.create_topics(shop.topology.topics)
    return shop


def _input_topic(shop: Shop, flow: str, source: str) -> str:
    inputs = shop.topology.inputs[flow]
    if flow == "load":
        raise TidegateError("load: writes files, not topics; replay the flows before it")
    if len(inputs) == 1:
        return inputs[0]
    if source in inputs:
        return source
    if source not in shop.contracts:
        known = ", ".join(shop.contracts)
        raise TidegateError(f"--source {source}: there is no such source; there are {known}")
    prefix = inputs[0].partition(".")[0]
    return f"{prefix}.{source}"


def _output_topics(shop: Shop, flow: str, topic: str) -> Sequence[str]:
    source = topic.partition(".")[2]
    return {
        "ingest": (f"events.{source}", f"late.{source}", f"dlq.{source}"),
        "sessionize": ("sessions", "late.sessionize", "dlq.sessionize"),
        "features": ("scoring.requests", "dlq.features"),
        "score": ("scores", "alerts", "floods", "dlq.score"),
        "measure": ("metrics.parts", "dlq.measure"),
        "detect": ("metrics", "anomalies", "dlq.detect"),
        "watch": (
            "incidents",
            "dlq.watch",
            *(("logins",) if topic == "events.clickstream" else ()),
        ),
        "late": (f"buffered.{source}", "reprocess.requests", "dlq.late"),
    }[flow]


class _Clock:
    """The log's clock: whatever time the next records arrived at."""

    def __init__(self) -> None:
        self.now_us = 0

    def __call__(self) -> int:
        return self.now_us


def _fill(
    log: Log, clock: _Clock, topic: str, lines: Iterator[Line], progress: Callable[[int], None]
) -> None:
    done = 0
    for arrival_us, same in groupby(lines, key=lambda line: line.arrival_us):
        clock.now_us = arrival_us
        while chunk := list(islice(same, APPEND_RECORDS)):
            headers = [line.headers for line in chunk]
            log.append(
                [
                    published(
                        topic,
                        [line.key for line in chunk],
                        [line.value for line in chunk],
                        headers if any(headers) else None,
                        partition=0,
                    )
                ]
            )
            done += len(chunk)
            progress(done)


def _dump(log: Log, topic: str, file: Path) -> int:
    """Heartbeats are time, not data: they are left out."""
    lines = 0
    with open(file, "wb") as out:
        for record in peek_records(log, topic, 0, 0, count=2**62):
            if record.value is None and heartbeat_time(record.headers) is not None:
                continue
            for line in _lines(topic, record):
                out.write(line + b"\n")
                lines += 1
    return lines


def _lines(topic: str, record: Record) -> list[bytes]:
    """The record as it is; of a scoring request each payment, however many were put into one."""
    if topic.startswith(RAW_BYTES):
        return [to_json_line(record).encode()]
    if record.value is None:
        return [b"null"]
    return with_names(record.value) if topic == REQUESTS else [record.value]
