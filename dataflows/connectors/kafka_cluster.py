"""A Kafka cluster as Tidegate talks to it: addresses, settings, clients, errors in words.

Settings are those of librdkafka. Most are fixed, because the guarantees or the speed hang on them;
SETTINGS lists what may be overridden: how to reach the brokers, not what is promised there.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from dataflows.connectors.log import KAFKA_SCHEME, LogError, LogUnreachable, UnknownTopic

T = TypeVar("T")

PATIENCE_S = 25.0  # after so long without an answer a person is told
CALL_S = 5.0
LOG_EVERY_S = 30.0
MAX_RECORD_BYTES = 16 * 2**20
REQUEST_BYTES = 4 * 2**20  # of several records for a partition; a larger one goes by itself

SETTINGS = frozenset(
    {
        "broker.address.family",
        "client.dns.lookup",
        "client.id",
        "client.rack",
        "compression.type",
        "sasl.mechanism",
        "sasl.oauthbearer.client.id",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.extensions",
        "sasl.oauthbearer.method",
        "sasl.oauthbearer.scope",
        "sasl.oauthbearer.token.endpoint.url",
        "sasl.password",
        "sasl.username",
        "security.protocol",
        "socket.keepalive.enable",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.key.password",
    }
)

_COMMON = {"client.id": "tidegate", "reconnect.backoff.max.ms": 2_000}
_CONSUMING = {
    "group.id": "tidegate.readers",  # a consumer must name one; none is ever joined
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
    "check.crcs": True,
    # At the end of a partition the broker answers after so long: then position passes markers.
    "fetch.wait.max.ms": 20,
    "fetch.queue.backoff.ms": 5,  # the default of a second starves whoever reads in bursts
    "queued.min.messages": 50_000,
    "queued.max.messages.kbytes": 65_536,
}
_PRODUCING = {
    "enable.idempotence": True,
    # A commit sends at once what waits. Until then it gathers: small requests cost the most, and
    # the client spins while one request is on its way and messages wait behind it.
    "linger.ms": 1_000,
    "batch.size": REQUEST_BYTES,
    "batch.num.messages": 100_000,
    "compression.type": "lz4",
    "message.max.bytes": MAX_RECORD_BYTES,
    "queue.buffering.max.messages": 1_000_000,
    "delivery.report.only.error": True,
    # A transaction that begins while the broker still ends the one before is told to come again;
    # the default of 100 ms would be most of a slot's time. Doubles with each attempt, to a second.
    "retry.backoff.ms": 1,
}

_WILL_NOT_PASS = {
    KafkaError._AUTHENTICATION: "the broker refuses the credentials; check [kafka] sasl.*",
    KafkaError._SSL: "TLS fails; check [kafka] security.protocol and ssl.*",
    KafkaError._RESOLVE: "the host is unknown; correct `bus`",
}
_IN_WORDS = {
    **_WILL_NOT_PASS,
    KafkaError.MSG_SIZE_TOO_LARGE: (
        "a record is larger than the topic takes, or several that go together are (up to "
        f"{REQUEST_BYTES} bytes); raise its max.message.bytes to {MAX_RECORD_BYTES}, as `tidegate "
        "topics apply` does"
    ),
    KafkaError.RECORD_LIST_TOO_LARGE: (
        "records are larger than the topic takes; raise its max.message.bytes"
    ),
    KafkaError.INVALID_REPLICATION_FACTOR: (
        "there are not so many brokers; add some, or lower [topics] replication_factor"
    ),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "the broker denies access to the topic; add an ACL",
    KafkaError.GROUP_AUTHORIZATION_FAILED: (
        "the broker denies the group; add an ACL to read groups with the prefix tidegate."
    ),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "the broker denies it on the cluster; add an ACL",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: (
        "the broker denies the transactional id; add an ACL for the prefix tidegate."
    ),
}
_BUSY = {
    # The broker answers, but not yet what was asked: it starts, or ends a transaction.
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.CONCURRENT_TRANSACTIONS,
}
_PASSING = _BUSY | {
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._WAIT_COORD,
    KafkaError._DESTROY_BROKER,
    KafkaError._UNKNOWN_PARTITION,  # asked for only where it is known to be
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.FENCED_LEADER_EPOCH,  # the leader has just changed, and one of us knows it first
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.UNKNOWN_TOPIC_OR_PART,  # just made, and not yet known everywhere
    KafkaError.OFFSET_NOT_AVAILABLE,
}

logger = logging.getLogger(__name__)


class _Sparing(logging.Filter):
    """librdkafka says the same at every attempt to reconnect; a person is told now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        what, now = record.getMessage().partition(" ")[0], time.monotonic()
        if what == "GETPID" or now - self._said_at.get(what, -LOG_EVERY_S) < LOG_EVERY_S:
            return False  # GETPID: waiting for an older transaction to end, which is normal
        self._said_at[what] = now
        return True


logger.addFilter(_Sparing())


class Cluster:
    """The brokers at `kafka://host:port[,host:port...]`; makes clients for them.

    Raises:
        LogError: no such address, or a setting that may not be overridden.
    """

    def __init__(self, url: str, settings: Mapping[str, str]):
        self.url = url
        self._settings = {
            "bootstrap.servers": _servers(url),
            "error_cb": self._note,
            "logger": logger,
        } | _allowed(settings)
        self._last_error: tuple[float, KafkaError] | None = None
        self._admin: AdminClient | None = None

    def consumer(self, **settings: object) -> Consumer:
        return self._make(Consumer, _CONSUMING, settings)

    def producer(self, **settings: object) -> Producer:
        return self._make(Producer, _PRODUCING, settings)

    def admin(self) -> AdminClient:
        self._admin = self._make(AdminClient, {}, {})
        return self._admin

    def _make(
        self,
        client: Callable[[dict[str, Any]], T],
        kind: Mapping[str, Any],
        more: Mapping[str, Any],
    ) -> T:
        own = {name.replace("_", "."): value for name, value in more.items()}
        try:
            return client({**_COMMON, **kind, **self._settings, **own})
        except KafkaException as error:
            why = _one_line(_error(error))
            raise LogError(f"{self.url}: settings: {why}; check [kafka]") from None

    def _note(self, error: KafkaError) -> None:
        # librdkafka goes on by itself; a call that gives up says what it last heard.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._last_error = (time.monotonic(), error)

    def _heard(self) -> KafkaError | None:
        """What a client said lately; an error of yesterday explains nothing."""
        if self._last_error is None or time.monotonic() - self._last_error[0] > PATIENCE_S:
            return None
        return self._last_error[1]

    def ask(self, what: str, call: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
        """What the call returns, repeated while its error may pass and patience lasts.

        Raises:
            LogError: names the cluster, what was asked, what is wrong and what to do.
        """
        give_up = time.monotonic() + patience_s
        while True:
            try:
                answer = call()
            except KafkaException as error:
                if self._admin is not None:
                    self._admin.poll(0)  # only then it tells _note what it heard
                heard = self._heard()
                hopeless = heard is not None and heard.code() in _WILL_NOT_PASS
                if hopeless or not may_pass(error) or time.monotonic() > give_up:
                    raise self.trouble(what, error) from error
                time.sleep(0.05)
            else:
                self._last_error = None  # what it was, it is over
                return answer

    def trouble(self, what: str, error: KafkaException) -> LogError:
        """The error as one line for a person."""
        kafka_error = _error(error)
        if kafka_error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return UnknownTopic(
                f"{self.url}: {what}: there is no such topic or partition; `tidegate topics apply` "
                "makes what is missing"
            )
        heard = self._heard()
        if heard is not None and kafka_error.code() in _PASSING - _BUSY:
            kafka_error = heard
        if kafka_error.code() in _IN_WORDS:
            why = f"{_IN_WORDS[kafka_error.code()]} ({_one_line(kafka_error)})"
        elif kafka_error.code() in _BUSY:
            return LogUnreachable(
                f"{self.url}: {what}: the broker is busy with its start, or with the end of an "
                f"earlier transaction ({_one_line(kafka_error)}); it takes a moment, try again"
            )
        elif kafka_error.code() in _PASSING:
            return LogUnreachable(
                f"{self.url}: {what}: no broker answers ({_one_line(kafka_error)}); start Kafka, "
                "or correct `bus`, [kafka] security.protocol and the listeners that the brokers "
                "advertise"
            )
        else:
            why = _one_line(kafka_error)
        return LogError(f"{self.url}: {what}: {why}")


def may_pass(error: KafkaException) -> bool:
    """Whether the same call may succeed later."""
    kafka_error = _error(error)
    return not kafka_error.fatal() and (kafka_error.retriable() or kafka_error.code() in _PASSING)


def _error(error: KafkaException) -> KafkaError:
    found: KafkaError = error.args[0]
    return found


def _one_line(error: KafkaError) -> str:
    return " ".join(f"{error.name()}: {error.str()}".split())


def _servers(url: str) -> str:
    servers = url.removeprefix(KAFKA_SCHEME).rstrip("/")
    if not re.fullmatch(r"[^\s,/@]+:\d{1,5}(,[^\s,/@]+:\d{1,5})*", servers):
        raise LogError(f"{url!r} names no brokers; use kafka://host:port[,host:port...]")
    return servers


def _allowed(settings: Mapping[str, str]) -> dict[str, str]:
    for name in settings:
        if name not in SETTINGS:
            raise LogError(
                f"[kafka] {name}: may not be set; docs/reference/config.md lists what may"
            )
    return dict(settings)
