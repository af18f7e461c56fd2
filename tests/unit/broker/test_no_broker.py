"""A machine without Java or Maven is told what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.broker.jars import NoBroker, kafka_jars


def test_a_missing_tool_is_named_and_so_is_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NoBroker, match=r"^java is missing: .*kafka://host:port$"):
        kafka_jars()


def test_what_maven_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in (("java", "exit 0"), ("mvn", "echo no such repository; exit 1")):
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NoBroker, match=r"cannot fetch Kafka .*no such repository"):
        kafka_jars()
