"""One flow over a file in arrival order: the live code on a log of its own."""

from services.replay.replay import ReplayReport, replay

__all__ = ["ReplayReport", "replay"]
