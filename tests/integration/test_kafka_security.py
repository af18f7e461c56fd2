"""Who may come in to Kafka, how, and what is said to whoever may not: one line, within 30 s."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from confluent_kafka.admin import NewTopic
from kafka_broker import require_kafka
from secured_kafka import WAYS, SecuredKafka

from dataflows.connectors.log import Log, LogError, Marker, open_log
from dataflows.connectors.records import Output

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

SLOT = "sessionize.events.0"
WITHIN_S = 30.0
EVERYTHING = (
    ("TOPIC", "events", "READ"),
    ("TOPIC", "sessions", "WRITE"),
    ("TOPIC", "tidegate.", "READ"),
    ("TOPIC", "tidegate.", "WRITE"),
    ("TOPIC", "tidegate.", "CREATE"),
    ("GROUP", "tidegate.", "READ"),
    ("TRANSACTIONAL_ID", "tidegate.", "WRITE"),
    ("TRANSACTIONAL_ID", "tidegate.", "DESCRIBE"),
)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    require_kafka()
    started = SecuredKafka(tmp_path_factory.mktemp("secured"))
    topics = [NewTopic(name, 1) for name in ("events", "sessions")]
    for made in started.admin.create_topics(topics).values():
        made.result()
    open_log(started.broker.url).append([output("events")])
    yield started
    started.close()


def output(topic: str, size: int = 1) -> Output:
    return Output(topic, np.zeros(1, np.int64), [b"k"], [b"x" * size])


def commit(log: Log, at: int = 1) -> None:
    """What a slot does: fences, finds its marker, publishes with the next one."""
    writer = log.writer(SLOT)
    last = writer.marker or Marker(seq=0, next_offset=0)
    try:
        writer.commit([output("sessions")], Marker(seq=last.seq + 1, next_offset=at))
    finally:
        writer.close()


def use(kafka: SecuredKafka, way: str, changed: Mapping[str, str] | None = None) -> None:
    """Reads and publishes as a slot does."""
    log = open_log(kafka.url(way), {**kafka.settings(way), **(changed or {})})
    reader = log.reader("events", 0, 0)
    deadline = time.monotonic() + WITHIN_S
    while not len(reader.read(10)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    reader.close()
    commit(log)
    log.close()


def refused(kafka: SecuredKafka, way: str, changed: Mapping[str, str] | None = None) -> str:
    """The one line that is said, in time, with nothing published and no marker moved."""
    before = state(kafka)
    started = time.monotonic()
    with pytest.raises(LogError) as error:
        use(kafka, way, changed)
    assert time.monotonic() - started < WITHIN_S
    said = str(error.value)
    assert "\n" not in said
    assert state(kafka) == before
    return said


def state(kafka: SecuredKafka) -> object:
    log = open_log(kafka.broker.url)
    try:
        marker = log.markers().get(SLOT)
        return marker, log.unread({("events", 0): 0, ("sessions", 0): 0})
    finally:
        log.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_slot_works_by_every_way_in(kafka: SecuredKafka, way: str) -> None:
    with kafka.allowed(*EVERYTHING):
        use(kafka, way)


@pytest.mark.parametrize("way", ["scram", "plain"])
def test_a_wrong_password_is_named(kafka: SecuredKafka, way: str) -> None:
    said = refused(kafka, way, {"sasl.password": "wrong"})
    assert "the broker refuses the credentials; check [kafka] sasl.*" in said
    assert said.startswith(f"{kafka.url(way)}: ")
    assert "wrong" not in said.replace("credentials", "")


def test_a_wrong_secret_at_the_token_endpoint_is_named(kafka: SecuredKafka) -> None:
    said = refused(kafka, "oauth", {"sasl.oauthbearer.client.secret": "wrong"})
    assert "the broker refuses the credentials; check [kafka] sasl.*" in said


def test_an_authority_that_did_not_sign_the_broker_is_named(kafka: SecuredKafka) -> None:
    said = refused(kafka, "scram", {"ssl.ca.location": str(kafka.certificates.stranger)})
    assert "TLS fails; check [kafka] security.protocol and ssl.*" in said
    assert "certificate verify failed" in said


def test_a_missing_file_of_certificates_is_named(kafka: SecuredKafka) -> None:
    said = refused(kafka, "scram", {"ssl.ca.location": "/no/such.pem"})
    assert "ssl.ca.location" in said
    assert "check [kafka]" in said


def test_plain_text_to_a_port_that_speaks_tls_is_named(kafka: SecuredKafka) -> None:
    started = time.monotonic()
    with pytest.raises(LogError, match=r"security\.protocol"):
        open_log(kafka.url("ssl"))
    assert time.monotonic() - started < WITHIN_S


def test_an_unknown_codec_is_named(kafka: SecuredKafka) -> None:
    said = refused(kafka, "plain", {"compression.type": "brotli"})
    assert "brotli" in said
    assert "compression" in said
    assert "check [kafka]" in said


LACKING = {
    "topic to read": (("TOPIC", "events", "READ"), ["events"], "the broker denies"),
    "topic to write": (("TOPIC", "sessions", "WRITE"), ["sessions"], "the broker denies"),
    "group": (
        ("GROUP", "tidegate.", "READ"),
        ["tidegate."],
        "the broker denies the group",
    ),
    "transactional id": (
        ("TRANSACTIONAL_ID", "tidegate.", "WRITE"),
        [SLOT],
        "the broker denies the transactional id; add an ACL",
    ),
}


@pytest.mark.parametrize("what", LACKING)
def test_a_right_that_is_lacking_is_named(kafka: SecuredKafka, what: str) -> None:
    grant, names, words = LACKING[what]
    describing = [("TOPIC", name, "DESCRIBE") for name in ("events", "sessions")]
    with kafka.allowed(*(g for g in EVERYTHING if g != grant), *describing):
        said = refused(kafka, "plain")
    assert all(name in said for name in names), said
    assert words in said
    assert "add an ACL" in said


def test_who_may_not_make_topics_is_told_which(kafka: SecuredKafka) -> None:
    with kafka.allowed(("TOPIC", "events", "READ")):
        log = open_log(kafka.url("plain"), kafka.settings("plain"))
        with pytest.raises(LogError, match=r"alerts.*denies.*add an ACL"):
            log.create_topics({"alerts": 1})
        log.close()


def test_who_may_write_nowhere_is_told_so(kafka: SecuredKafka) -> None:
    with kafka.allowed(("TOPIC", "events", "DESCRIBE")):
        log = open_log(kafka.url("plain"), kafka.settings("plain"))
        with pytest.raises(LogError, match=r"denies.*add an ACL"):
            log.append([output("events")])
        with suppress(LogError):
            log.close()


@pytest.mark.parametrize("way", ["ssl", "scram"])
def test_an_outage_is_waited_for_and_not_taken_for_a_wrong_password(
    kafka: SecuredKafka, way: str
) -> None:
    log = open_log(kafka.url(way), kafka.settings(way))
    kafka.broker.kill()
    with ThreadPoolExecutor(1) as asking:
        answer = asking.submit(log.topics)
        kafka.start()
        answer.result()
    log.close()
