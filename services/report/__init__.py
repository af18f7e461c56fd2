"""What a run made of its events: facts from the lake, for the terminal and as a page of plots."""

from services.report.checks import Check
from services.report.facts import gather
from services.report.model import Facts, LagSample, RunFigures
from services.report.page import write_page
from services.report.terminal import Summary, summary

__all__ = [
    "Check",
    "Facts",
    "LagSample",
    "RunFigures",
    "Summary",
    "gather",
    "summary",
    "write_page",
]
