"""Runs one system over one workload on a broker of its own, and measures and judges it.

The CPU time is that of all processes and threads that the system started, user and system, from
/proc; neither the broker's nor that of who feeds it and reads its answers. A system first answers a
warm-up. Then a transaction makes the whole load readable at once, and the time runs until the last
row that it publishes about it; meanwhile an event far later comes every second, so that every
window closes. A system that ends with its input is run twice instead, over the warm-up alone and
over both, and the difference counts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.kafka_cases import Feed, broker
from benchmarks.peers.answers import Judged
from benchmarks.peers.environments import NoPeer
from benchmarks.peers.systems import OUTPUT, Place, System
from benchmarks.peers.workloads import CLOSER, WORKLOADS, Answer, Record, Stream, make_stream
from dataflows.flows.opening import open_shop
from dataflows.runtime.config import load_config
from services.broker.jars import NoBroker
from services.child_process import end_with_parent

POLL_S = 0.05
CLOSER_EVERY_S = 1.0
QUIET_S = 20.0  # nothing more comes after so long without a row
START_S = 90.0
SETTLE_S = 1.0
LEFT_S = 3.0
WAIT_S = 600.0
_CLOSER = f"u-{CLOSER:07d}"


class Result(msgspec.Struct, kw_only=True):
    """What a run showed; `failed` says in a line why it showed nothing."""

    system: str
    workload: str
    mode: str
    keys: int
    events: int = 0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    rss_mb: float = 0.0
    error: float = 0.0
    failed: str = ""
    at: str = ""
    round: int = 0

    @property
    def rate(self) -> float:
        """Events per CPU-second."""
        return self.events / self.cpu_seconds if self.cpu_seconds else 0.0


class Stuck(Exception):
    """A system does not do what it was started for; says what was seen."""


@dataclass
class Usage:
    """CPU seconds so far, and the sum of the processes' peaks of memory in MB."""

    cpu_seconds: float
    rss_mb: float


class Group:
    """A system's process and all that it starts: a session of their own."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path):
        self._log = log
        with open(log, "wb") as sink:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                cwd=log.parent,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def usage(self) -> Usage:
        ticks, peak_kb = 0, 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._process.pid:
                    ticks += sum(map(int, fields[11:15]))
                    peak_kb += _peak_kb(stat.with_name("status").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile; its parent has its time
        return Usage(ticks / os.sysconf("SC_CLK_TCK"), peak_kb / 1024)

    def check_alive(self) -> None:
        """
        Raises:
            Stuck: it ended.
        """
        if (code := self._process.poll()) is not None:
            raise Stuck(f"it ended with {code}: {self.last_words()}")

    def await_end(self) -> Usage:
        """Waits until it has ended by itself.

        Raises:
            Stuck: it failed, or does not end.
        """
        give_up, peak = time.monotonic() + WAIT_S, 0.0
        while True:
            peak = max(peak, self.usage().rss_mb)
            pid, status, rusage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = code = os.waitstatus_to_exitcode(status)
                if code:
                    raise Stuck(f"it ended with {code}: {self.last_words()}")
                return Usage(rusage.ru_utime + rusage.ru_stime, peak)
            if time.monotonic() > give_up:
                raise Stuck("it does not end")
            time.sleep(POLL_S)

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        telling = [line for line in lines if "Error" in line or "Exception" in line]
        return " ".join((telling or lines or ["it said nothing"])[-1].split())[:200]

    def stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def _peak_kb(status: str) -> int:
    after = status.partition("VmHWM:")[2].split()
    return int(after[0]) if after else 0


class Ear:
    """Reads what a system publishes, as a reader of committed records sees it."""

    def __init__(self, place: Place, system: System, workload: str):
        self._read = system.readers[workload]()
        self._consumer = Consumer(
            {
                "bootstrap.servers": place.servers,
                "group.id": "ear",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.queue.backoff.ms": 5,
            }
        )
        self._consumer.assign([TopicPartition(place.target, 0, 0)])

    def listen(self, judged: Judged) -> int:
        """Takes in what there is; how many rows, those of closers left out."""
        rows = 0
        for message in self._consumer.consume(20_000, POLL_S):
            if message.error():
                raise RuntimeError(str(message.error()))
            value = message.value()
            if value is None or _CLOSER.encode() in value:
                continue
            for key, said in self._read(value):
                judged.hear(key, said)
            rows += 1
        return rows

    def close(self) -> None:
        self._consumer.close()


def run(system: System, workload: str, mode: str, keys: int, events: int, warm_up: int) -> Result:
    """One measurement; a system that cannot be had or fails gives a result that says so."""
    result = Result(system=system.name, workload=workload, mode=mode, keys=keys, events=events)
    if workload in system.cannot:
        result.failed = system.cannot[workload]
        return result
    try:
        stream = make_stream(WORKLOADS[workload], keys, warm_up, events)
        with _place(system, workload) as place:
            measure = _measure_ending if system.ends else _measure_running
            measure(system, workload, mode, place, stream, result)
    except (NoPeer, NoBroker, Stuck) as error:
        result.failed = " ".join(str(error).split())
    return result


@contextmanager
def _place(system: System, workload: str) -> Iterator[Place]:
    """A broker of its own, with topics of one partition."""
    with broker() as kafka, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        partitions = {"clickstream": 1, "transactions": 1}
        overrides = {"data_dir": directory, "bus": kafka.url, "partitions": partitions}
        open_shop(load_config(None, {}, overrides)).log.close()
        servers = kafka.url.removeprefix("kafka://")
        admin = AdminClient({"bootstrap.servers": servers})
        admin.create_topics([NewTopic(OUTPUT, 1, 1)])[OUTPUT].result(30)
        target = system.targets.get(workload, OUTPUT)
        yield Place(servers, WORKLOADS[workload].topic, target, Path(directory))


def _measure_running(
    system: System, workload: str, mode: str, place: Place, stream: Stream, result: Result
) -> None:
    feed, ear = Feed(place.servers, place.source), Ear(place, system, workload)
    command, environment = system.command(place, workload, mode)
    feed.commit(stream.warm_up)
    group = Group(command, environment, place.directory / "system.log")
    try:
        warm = Judged(
            _understood(system, workload, stream.warm_up_answer), workload in system.corrects
        )
        _hear_out(group, ear, warm, feed, iter(stream.warm_up_closers), START_S)
        if not warm.said:
            raise Stuck(f"it says nothing about the warm-up: {group.last_words()}")
        time.sleep(SETTLE_S)
        before, started = group.usage(), time.perf_counter()
        feed.commit(stream.load)
        if not system.sees_uncommitted:
            before, started = group.usage(), time.perf_counter()
        right = _understood(system, workload, stream.load_answer)
        judged = Judged(right, workload in system.corrects, frozenset(stream.warm_up_answer))
        last, wall_s = _hear_out(group, ear, judged, feed, iter(stream.load_closers))
        result.cpu_seconds = last.cpu_seconds - before.cpu_seconds
        result.wall_seconds, result.rss_mb = wall_s - started, last.rss_mb
        result.error = judged.error
    finally:
        group.stop()
        ear.close()


def _hear_out(
    group: Group,
    ear: Ear,
    judged: Judged,
    feed: Feed,
    closers: Iterator[Record],
    patience_s: float = QUIET_S,
) -> tuple[Usage, float]:
    """Listens until everything was said, or nothing is said any more: what the system had used, and
    what the time was, at its last row."""
    give_up = time.monotonic() + WAIT_S
    last, at = group.usage(), time.perf_counter()
    next_closer = time.monotonic() + CLOSER_EVERY_S
    while not judged.complete:
        group.check_alive()
        if ear.listen(judged):
            last, at, patience_s = group.usage(), time.perf_counter(), QUIET_S
        elif time.perf_counter() - at > patience_s and not _is_busy(group, last, at):
            return last, at
        if time.monotonic() > next_closer and (closer := next(closers, None)):
            feed.commit([closer])
            next_closer = time.monotonic() + CLOSER_EVERY_S
        if time.monotonic() > give_up:
            raise Stuck(f"not finished after {WAIT_S:.0f} s ({len(judged.said):,} rows)")
    settled = time.monotonic() + SETTLE_S
    while time.monotonic() < settled:  # what is said twice is said soon
        ear.listen(judged)
    return last, at


def _is_busy(group: Group, last: Usage, at: float) -> bool:
    """It used more than half a core since."""
    return group.usage().cpu_seconds - last.cpu_seconds > 0.5 * (time.perf_counter() - at)


def _measure_ending(
    system: System, workload: str, mode: str, place: Place, stream: Stream, result: Result
) -> None:
    feed, ear = Feed(place.servers, place.source), Ear(place, system, workload)
    feed.commit([*stream.warm_up, stream.warm_up_closers[0]])
    alone = _run_to_end(system, workload, mode, place, "warm-up")
    feed.commit([*stream.load, stream.load_closers[0]])
    started = time.perf_counter()
    both = _run_to_end(system, workload, mode, place, "both")
    result.wall_seconds = time.perf_counter() - started
    result.cpu_seconds, result.rss_mb = both.cpu_seconds - alone.cpu_seconds, both.rss_mb
    right = _understood(system, workload, stream.load_answer)
    judged = Judged(right, workload in system.corrects, frozenset(stream.warm_up_answer))
    try:
        _hear_all(ear, judged)
    finally:
        ear.close()
    if not judged.said:
        raise Stuck("it published nothing")
    result.error = judged.error


def _hear_all(ear: Ear, judged: Judged) -> None:
    """Listens until nothing is left of what was published before."""
    heard = time.monotonic()
    while time.monotonic() - heard < LEFT_S:
        if ear.listen(judged):
            heard = time.monotonic()


def _run_to_end(system: System, workload: str, mode: str, place: Place, name: str) -> Usage:
    directory = place.directory / name
    directory.mkdir()
    apart = Place(place.servers, place.source, place.target, directory)
    group = Group(*system.command(apart, workload, mode), directory / "system.log")
    try:
        return group.await_end()
    finally:
        group.stop()


def _understood(system: System, workload: str, right: Answer) -> Answer:
    """The right answer, as far as the system's output says it."""
    understand = system.understood.get(workload)
    return understand(right) if understand else right
