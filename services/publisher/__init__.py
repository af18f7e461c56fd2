"""Bringing one's own data in: files of several formats become records of a raw topic."""

from services.publisher.errors import PublishError, PublishInterrupted
from services.publisher.heartbeats import completion_time, heartbeats
from services.publisher.options import Format, Order, PublishOptions, parse_options
from services.publisher.publish import publish_files
from services.publisher.report import BadLine, Progress, PublishReport

__all__ = [
    "BadLine",
    "Format",
    "Order",
    "Progress",
    "PublishError",
    "PublishInterrupted",
    "PublishOptions",
    "PublishReport",
    "completion_time",
    "heartbeats",
    "parse_options",
    "publish_files",
]
