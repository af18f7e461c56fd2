"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import kafka_broker
import pytest

from services.broker.broker import Broker
from services.status.kernels import need_kernels

pytest_plugins = ["faults_table"]

HOUSE = Path(__file__).resolve().parents[1]
LIFETIMES = "lifetimes==0.11.3"
CDNOW = "lifetimes/datasets/CDNOW_master.txt"

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JDK_JAVA_OPTIONS", kafka_broker.FAST_START)
hypothesis.settings.register_profile("tidegate", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("tidegate")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real inputs beside the checkout; a clone without them skips, and -ra shows it."""
    directory = HOUSE.parent / "shared" / "data"
    if not directory.is_dir():
        pytest.skip(f"needs the real inputs in {directory.parent.name}/data beside the checkout")
    return directory


@pytest.fixture(scope="session")
def purchases() -> Path:
    """CDNOW: 69,659 purchases of 23,570 customers (Fader and Hardie 2001), from a package that
    carries it; downloaded once a machine."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate-tests"
    file = home / Path(CDNOW).name
    if not file.is_file():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as fresh:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", LIFETIMES, "-d", fresh]
            done = subprocess.run(pip, capture_output=True, text=True, timeout=120)
            if done.returncode:
                pytest.skip(f"needs {LIFETIMES} from the package index: {done.stderr[-200:]}")
            (wheel,) = Path(fresh).iterdir()
            with zipfile.ZipFile(wheel) as archive:
                draft = Path(fresh) / file.name
                draft.write_bytes(archive.read(CDNOW))
            draft.rename(file)
    return file


@pytest.fixture(scope="session")
def kafka_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Kafka, with whatever topics other tests have made."""
    if given := os.environ.get(kafka_broker.GIVEN):
        yield f"kafka://{given}"
        return
    kafka_broker.require_kafka()
    started = Broker(tmp_path_factory.mktemp("kafka"))
    yield started.url
    started.kill()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A Kafka with no topics: those of a shop have the names they have."""
    kafka_broker.require_kafka()
    started = Broker(tmp_path / "kafka")
    yield started
    started.kill()


def pytest_sessionstart() -> None:
    """Tests in several processes use the kernels: never before they are all there."""
    need_kernels(say=print)
