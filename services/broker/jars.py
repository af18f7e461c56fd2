"""The jars of Apache Kafka, fetched by Maven once into the user's cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from dataflows.errors import TidegateError

VERSION = "4.1.1"

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tidegate</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


class NoBroker(TidegateError):
    """A broker cannot be had here; says what is missing."""


def require_tools() -> None:
    """
    Raises:
        NoBroker: java or mvn is missing.
    """
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise NoBroker(
                f"{tool} is missing: a Kafka of its own needs Java 17 or newer and Maven; install "
                "them, or name a broker that runs, as kafka://host:port"
            )


def kafka_jars() -> Path:
    """The folder of the jars; the first process that asks fetches them (43 MB).

    Raises:
        NoBroker: a tool is missing, or Maven cannot fetch them.
    """
    require_tools()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"
    place = cache / f"kafka-{VERSION}"
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            _fetch(place)
            (place / "complete").touch()
    return place / "libs"


def _fetch(place: Path) -> None:
    (place / "pom.xml").write_text(_POM)
    done = subprocess.run(
        ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"],
        cwd=place,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())[-500:]
        raise NoBroker(
            f"Maven cannot fetch Kafka {VERSION} ({said}); check the network and Maven's settings"
        )
