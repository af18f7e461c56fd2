"""Every page's commands, run in order in a checkout's place: they work, and say what it shows."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
from places import LOUD, SMALL_DEMO, Demonstrated, Running, wait_until

from dataflows.flows.opening import open_shop
from dataflows.runtime.config import HOUSE, load_config
from services.status.slots import slot_statuses

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a busy machine takes its time

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r"^## ", re.MULTILINE)
UP = re.compile(r"^tidegate -d (\S+) up(?: --for \d+)?$", re.MULTILINE)

DIFFERS = re.compile(r"\b[0-9a-f]{12,32}\b|\d[\d,:.TZ-]*|[.]{3}")
CUT = re.compile(r" [.]{3}(?!\S)")
PORTS = 5  # of a supervisor and its workers


class Checkout:
    """What a page's commands find in a checkout, and a shell in it."""

    def __init__(self, directory: Path):
        self.directory = directory
        directory.mkdir()
        (directory / ".venv").symlink_to(sys.prefix)
        for part in ("config", "features", "metrics", "rules", "schemas", "warehouse_sql"):
            shutil.copytree(HOUSE / part, directory / part)
        shutil.copy(HOUSE / "README.md", directory)
        self.port = free_ports()
        self._environment = {
            **os.environ,
            **LOUD,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TIDEGATE_METRICS": str(directory / "metrics"),
            "TIDEGATE_RULES": str(directory / "rules"),
            "TIDEGATE_SCHEMAS": str(directory / "schemas"),
            "TIDEGATE_WAREHOUSE_SQL": str(directory / "warehouse_sql"),
            "TIDEGATE_SERVICE_PORT": str(self.port),
            "TIDEGATE_SLOTS_SNAPSHOT_INTERVAL": "1s",
        }
        self._up: Running | None = None
        self._where = ""

    def page(self, name: str, *without: str) -> None:
        """Runs a page from its top to its end, without what starts like this."""
        for section in SECTION.split((HOUSE / name).read_text("utf-8")):
            for (kind, text), (next_kind, shown) in pairwise([*BLOCK.findall(section), ("", "")]):
                if kind == "sh" and not text.startswith(without):
                    self._block(name, text, shown if next_kind == "text" else "")
                elif kind == "sql":
                    self._sql(text)
        self.press_ctrl_c()

    def _block(self, page: str, commands: str, shown: str) -> None:
        if "tidegate reset" in commands.replace(" -d shop", ""):
            self.press_ctrl_c()  # the page says that it must be stopped
        if commands.startswith("timeout "):
            self._feed(commands)
        elif commands.startswith("kill "):
            said = self._kill(commands)
        else:
            said = "".join(self._commands(commands))
        for line in shown.splitlines():
            assert pattern(line).search(said), f"{page} shows:\n{line}\nand there was:\n{said}"

    def _commands(self, commands: str) -> Iterator[str]:
        """What each part says, with the service started and stopped where the page does it."""
        begun = 0
        for up in UP.finditer(commands):
            yield self.run(commands[begun : up.start()])
            begun = up.end()
            yield self.start(up[1])
            if "--for" in up[0]:
                self.wait_until_drained()
                self.press_ctrl_c()
        yield self.run(commands[begun:])

    def run(self, commands: str) -> str:
        commands = commands.strip()
        if commands.startswith("make demo"):
            commands = " ".join(("tidegate demo", *SMALL_DEMO))
        commands = re.sub(r"\b946(\d)\b", lambda port: str(self.port + int(port[1])), commands)
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", commands],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        wrong = "Traceback" in done.stderr or (done.returncode and not refuses(commands))
        assert not wrong, f"{commands}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def _sql(self, query: str) -> None:
        with duckdb.connect() as connection:
            connection.execute(f"SET file_search_path = '{self.directory / '.tidegate' / 'demo'}'")
            assert connection.sql(f"SELECT count(*) > 0 FROM ({query})").fetchone() == (True,)

    # --- the service, in what the pages call another terminal ------------------------------------

    def start(self, where: str) -> str:
        self.press_ctrl_c()
        command = [*(sys.executable, "-P", "-m", "services.cli"), "-d", where, "up"]
        self._where = where
        errors = self.directory / "up.stderr"
        self._up = Running(command, self.directory, errors, self._environment)
        self._up.wait_for("ready: every slot is running")
        return self._up.stderr.replace(str(self.port), "9460")

    def _feed(self, commands: str) -> None:
        """Goes on while the page's next block is run."""
        shorter = commands.replace("timeout 40", "timeout 10")
        self._feeding = subprocess.Popen(
            ["bash", "-c", shorter],
            cwd=self.directory,
            env=self._environment,
            stdout=subprocess.DEVNULL,
        )

    def _kill(self, commands: str) -> str:
        """Of all processes on the machine, only those of this service."""
        assert self._up is not None
        self.run(commands.replace("pgrep", f"pgrep -P {self._up.process.pid}"))
        self._up.wait_for("ended with exit code -9")
        self._feeding.wait()
        self.wait_until_drained()
        return self._up.stderr

    def wait_until_drained(self) -> None:
        with ExitStack() as stack:
            overrides = {"data_dir": str(self.directory / self._where)}
            shop = open_shop(load_config(None, self._settings(), overrides))
            stack.callback(shop.log.close)
            wait_until(
                lambda: not any(status.lag_records for status in slot_statuses(shop)),
                "the flows to catch up",
                every_s=0.1,
            )

    def _settings(self) -> dict[str, str]:
        return {k: v for k, v in self._environment.items() if k.startswith("TIDEGATE_")}

    def press_ctrl_c(self) -> None:
        if self._up is not None:
            up, self._up = self._up, None
            assert up.press_ctrl_c() == 0, up.stderr
            assert up.stderr.endswith("stopped cleanly\n")

    def clean_up(self) -> None:
        if self._up is not None:
            self._up.kill()


def refuses(commands: str) -> bool:
    """Whether the page shows a command that is meant to end with another code than 0."""
    shown = ("visits.jsonl", "wrong.csv", "--dry-run", "sed -i", "--budget")
    return any(part in commands for part in shown)


def pattern(line: str) -> re.Pattern[str]:
    """The line, but for what differs from run to run: figures, times, hashes, `...`."""
    words = [DIFFERS.sub(r"\0", word) for word in CUT.sub("...", line).split()]
    parts = [[re.escape(part) for part in word.split("\0")] for word in words]
    return re.compile(r"\s+".join(r"\S*".join(word) for word in parts))


def free_ports() -> int:
    """The first of some ports in a row that nobody listens on."""
    for first in range(21_000 + os.getpid() % 1_000 * 10, 32_000, 10):
        with ExitStack() as stack:
            try:
                for port in range(first, first + PORTS):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports")


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    made = Checkout(tmp_path / "tidegate")
    yield made
    made.clean_up()


def test_the_tutorial(checkout: Checkout) -> None:
    checkout.page("docs/tutorial.md")


def test_what_goes_on_from_the_demo(checkout: Checkout, demonstrated: Demonstrated) -> None:
    shutil.copytree(demonstrated.directory / "demo", checkout.directory / ".tidegate" / "demo")
    for page in (
        "how-to/new-rule",
        "how-to/audit-with-replay",
        "how-to/warehouse",
        "how-to/archive",
        "how-to/cost",
        "how-to/find-anomalies",
        "reference/lake",
    ):
        checkout.page(f"docs/{page}.md")


@pytest.mark.parametrize(
    "page",
    ["own-data", "new-source", "change-a-contract", "operate", "train-a-model"],
)
def test_a_how_to_stands_alone(page: str, checkout: Checkout) -> None:
    asks_back = "tidegate -d shop reshard"  # test_commands gives the answer
    checkout.page(f"docs/how-to/{page}.md", asks_back)


def test_what_the_first_page_says_of_own_data(checkout: Checkout) -> None:
    """README's access.log is whatever its reader has."""
    (checkout.directory / "access.log").write_text(
        '198.51.100.7 - - [01/May/2026:10:00:05 +0000] "GET / HTTP/1.1" 200 998 "-" "Mozilla/5"\n'
    )
    checkout.page("README.md", "make test", "make demo")
