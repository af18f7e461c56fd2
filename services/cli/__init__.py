"""The `tidegate` command: one module a group of commands, heavy imports inside them."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from dataflows.errors import TidegateError
from dataflows.runtime.exits import Exit
from services.cli import (
    archive,
    context,
    contracts,
    cost,
    data,
    demo,
    detect,
    explain,
    features,
    inspection,
    metrics,
    replay,
    rules,
    running,
    schema,
    state,
    topics,
    training,
    warehouse,
)

app = typer.Typer(
    name="tidegate",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Event-time streaming for an online shop: sessions, explained fraud alerts, late data put "
    "right, nothing lost.\n\nStart with `make demo` or `tidegate up`.",
    epilog="Exit codes: 0 done; 1 the answer is no (a check failed); 2 wrong usage; "
    "65 some input was refused, the rest accepted; 70 crashed; "
    "75 something is held by another process, or no broker answers: try again; "
    "78 configuration or state do not fit.",
)
for module in (running, data, inspection, replay, demo, training, explain, cost):
    module.register(app)
app.add_typer(detect.app, name="detect")
app.add_typer(features.app, name="features")
app.add_typer(metrics.app, name="metrics")
app.add_typer(rules.app, name="rules")
app.add_typer(topics.app, name="topics")
app.add_typer(contracts.app, name="contracts")
app.add_typer(schema.app, name="schema")
app.add_typer(state.app, name="state")
app.add_typer(warehouse.app, name="warehouse")
app.add_typer(archive.app, name="archive")


@app.callback()
def configure(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            envvar="TIDEGATE_CONFIG",
            metavar="FILE",
            help="Configuration file (TOML); `tidegate.toml` here, if there is one.",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", "-d", metavar="DIR", help="Where log, lake and state live."),
    ] = None,
) -> None:
    context.choose(config, data_dir)


def main() -> None:
    """Runs a command; errors made for people are one line."""
    os.environ["RUST_BACKTRACE"] = "0"  # the Python traceback says more
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.basicConfig(format="tidegate: %(message)s", level=logging.WARNING)
    try:
        sys.exit(app(prog_name="tidegate", standalone_mode=False))
    except SystemExit as ended:
        # Typer ends with 1 when nobody reads on (`tidegate peek ... | head`): nothing is wrong.
        sys.exit(Exit.OK if isinstance(ended.__context__, BrokenPipeError) else ended.code)
    except TyperException as error:
        _explain_usage(error)
        sys.exit(error.exit_code)
    except TidegateError as error:
        print(f"tidegate: {error}", file=sys.stderr)
        sys.exit(context.exit_code(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"tidegate: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(Exit.CRASHED)
    except Exception:
        traceback.print_exc()
        sys.exit(Exit.CRASHED)


def _explain_usage(error: TyperException) -> None:
    """Without a message there is no error: a bare `tidegate` has shown its help."""
    if message := error.format_message():
        command = getattr(error, "ctx", None)
        hint = f"; see `{command.command_path} --help`" if command else ""
        print(f"tidegate: {message.rstrip('.')}{hint}", file=sys.stderr)
