"""/metrics, /livez and /readyz of a process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from dataflows.errors import TidegateError


@dataclass(frozen=True)
class Health:
    """Answers to the probes; the text says which slot is why."""

    live: Callable[[], tuple[bool, str]]
    ready: Callable[[], tuple[bool, str]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a probe that hung up is no news
            super().handle_error(request, client_address)


def serve(host: str, port: int, registry: CollectorRegistry, health: Health) -> int:
    """Serves in a daemon thread and returns the port (a free one for 0).

    Raises:
        TidegateError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif self.path in ("/livez", "/readyz"):
                good, text = health.live() if self.path == "/livez" else health.ready()
                self._answer(200 if good else 503, f"{text}\n".encode(), "text/plain")
            else:
                self._answer(404, b"try /metrics, /livez or /readyz\n", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes are not worth a line each."""

    try:
        server = _Server((host, port), Handler)
    except OSError as error:
        raise TidegateError(
            f"port {host}:{port}: {error.strerror}; stop what listens there or set [service] port"
        ) from error
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return int(server.server_address[1])
