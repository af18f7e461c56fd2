"""The image: what is in it, who it runs as, and that it is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import version as version_of

import pytest
from engine import HOUSE, Engine, wait_until
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = [pytest.mark.images, pytest.mark.timeout(900)]

LOCK = HOUSE / "locks" / "runtime.txt"
MOST_BYTES = 1_100_000_000  # the libraries are 850 MB of it, 150 of them scikit-learn and scipy

PACKAGES = """
import json
from importlib.metadata import distributions
from packaging.markers import default_environment
held = [(d.metadata["Name"], d.version) for d in distributions()]
print(json.dumps([held, default_environment()]))
"""


def inside(engine: Engine, image: str, *command: str) -> str:
    """What a command says that runs in a container of its own."""
    program, *arguments = command
    return engine.run("run", "--rm", "--entrypoint", program, image, *arguments).stdout


def test_it_holds_the_locked_packages_and_nothing_else(engine: Engine, image: str) -> None:
    program = "/opt/tidegate/bin/python"
    packages, machine = json.loads(inside(engine, image, program, "-c", PACKAGES))
    held = {(canonicalize_name(name), version) for name, version in packages}
    pins = map(Requirement, re.findall(r"^\w.*==.*?(?= \\$)", LOCK.read_text(), re.MULTILINE))
    locked = {
        (canonicalize_name(pin.name), str(pin.specifier).removeprefix("=="))
        for pin in pins
        if pin.marker is None or pin.marker.evaluate(machine)
    }
    assert held == locked | {("tidegate", version_of("tidegate"))}


def test_nobody_in_it_is_root_or_can_change_the_program(engine: Engine, image: str) -> None:
    assert inside(engine, image, "id", "-u").strip() == "10001"
    find = "find /opt /usr /etc /var -writable -not -type l 2>/dev/null; true"
    found = inside(engine, image, "sh", "-c", find).split()
    places = {"/".join(path.split("/")[:4]) for path in found}
    assert places - {"/var/tmp"} == {"/var/cache/tidegate", "/var/lib/tidegate"}


def test_it_is_no_larger_than_it_must_be(engine: Engine, image: str) -> None:
    size = int(engine.run("image", "inspect", "-f", "{{.Size}}", image).stdout)
    assert size < MOST_BYTES


def test_every_kernel_is_compiled_already(engine: Engine, image: str) -> None:
    kernels = "find /var/cache/tidegate -type f -printf '%p %T@\\n' | sort"
    same = f"{kernels} | diff /tmp/built - && wc -l /tmp/built"
    script = f"{kernels} > /tmp/built; tidegate doctor; {same}"
    said = inside(engine, image, "sh", "-c", script)
    assert "BAD" not in said
    assert int(said.split()[-2]) > 20


@pytest.fixture
def container(engine: Engine, image: str) -> Iterator[str]:
    """A service on the log embedded in it, with nothing that it does not need."""
    started = engine.run(
        *("run", "--detach", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", image),
    ).stdout.strip()
    yield started
    print(engine.run("logs", started, check=False))
    engine.run("rm", "--force", "--volumes", started)


def test_it_turns_healthy_with_a_file_system_that_is_read_only_and_drains_when_stopped(
    engine: Engine, container: str
) -> None:
    wait_until(lambda: engine.healthy(container), "the container to be healthy")
    engine.run("exec", container, "tidegate", "simulate", "--events", "2000", "--days", "2")
    engine.run("stop", "-t", "60", container)
    assert engine.run("inspect", "-f", "{{.State.ExitCode}}", container).stdout.strip() == "0"
    logs = engine.run("logs", container)
    assert "stopped cleanly" in logs.stdout + logs.stderr
