"""Each peer's own environment under .cache/peers: made from its lock, anew when that changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = Path(__file__).parent
PLACE = PROGRAMS.parents[1] / ".cache" / "peers"


class NoPeer(Exception):
    """A peer's environment cannot be had here; says why, in a line."""


def python_environment(peer: str) -> Path:
    """The Python of a virtual environment with what `requirements.txt` locks, hashes checked.

    Raises:
        NoPeer: it cannot be made.
    """
    lock, place = PROGRAMS / peer / "requirements.txt", PLACE / peer
    python = place / "venv" / "bin" / "python"
    if _is_current(place, [lock]):
        return python
    uv = str(Path(sys.executable).with_name("uv"))
    _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place / "venv")])
    install = [uv, "pip", "install", "--quiet", "--system-certs", "--python", str(python)]
    _run([*install, "--require-hashes", "-r", str(lock)])
    _make_current(place, [lock])
    return python


def java_environment(peer: str) -> str:
    """The class path of the peer's program and the jars of its pom.xml.

    Raises:
        NoPeer: it cannot be made, or there is no JDK or Maven.
    """
    pom, place = PROGRAMS / peer / "pom.xml", PLACE / peer
    sources = sorted((PROGRAMS / peer).glob("*.java"))
    libraries, classes = place / "libs", place / "classes"
    if not _is_current(place, [pom, *sources]):
        for tool in ("java", "javac", "mvn"):
            if shutil.which(tool) is None:
                raise NoPeer(f"{tool} is missing: needs a JDK, 17 or newer, and Maven")
        shutil.rmtree(libraries, ignore_errors=True)
        maven = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        _run([*maven, "-DincludeScope=runtime", f"-DoutputDirectory={libraries}"])
        compiler = ["javac", "-cp", f"{libraries}/*", "-d", str(classes)]
        _run([*compiler, *map(str, sources)])
        _make_current(place, [pom, *sources])
    return f"{classes}:{libraries}/*"


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoPeer(f"{command[0]}: {error}") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise NoPeer(f"{Path(command[0]).name} failed: {said[:300]}")


def _digest(files: Sequence[Path]) -> str:
    python = os.path.realpath(sys.executable).encode()
    return hashlib.sha256(python + b"".join(file.read_bytes() for file in files)).hexdigest()


def _is_current(place: Path, files: Sequence[Path]) -> bool:
    made = place / "made"
    return made.exists() and made.read_text() == _digest(files)


def _make_current(place: Path, files: Sequence[Path]) -> None:
    (place / "made").write_text(_digest(files))
