"""The report as one HTML file that needs nothing else, and no network."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import jinja2
import msgspec
from plotly.offline import get_plotlyjs

from dataflows.errors import TidegateError
from services.report import wording
from services.report.figures import plots
from services.report.model import Facts

TEMPLATE = Path(__file__).parent / "template"


class ReportError(TidegateError):
    """The report cannot be written."""


def write_page(facts: Facts, file: Path) -> None:
    """Writes the page, about 5 MB, nearly all of it the library that draws the plots.

    Raises:
        ReportError: the place does not take it.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_page(facts), encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReportError(
            f"{file}: {error.strerror or error}; make room, or choose another place for the report"
        ) from error


def _page(facts: Facts) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": "{:,}".format,
        "fixed": "{:.{}f}".format,
        "words": wording.words,
        "printable": wording.printable,
        "percent": wording.percent,
        "duration": wording.duration,
        "milliseconds": wording.milliseconds,
        "instant": wording.instant,
    }
    drawn = plots(facts)
    scripts = {
        "plotly": get_plotlyjs(),
        "script": (TEMPLATE / "page.js").read_text(encoding="utf-8"),
    }
    return environment.get_template("page.html").render(
        facts=facts,
        drawn={name for name, plot in drawn.items() if plot.data},
        figures=as_data(drawn),
        style=(TEMPLATE / "page.css").read_text(encoding="utf-8"),
        allowed=" ".join(digest(script) for script in scripts.values()),
        fates=wording.FATES,
        reasons=wording.REASONS,
        money=wording.money,
        **scripts,
    )


def as_data(value: object) -> str:
    """JSON that no HTML parser takes for the end of its element."""
    return msgspec.json.encode(value).decode().replace("<", "\\u003c")


def digest(script: str) -> str:
    """What a content security policy calls this script; it lets no other one run."""
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
