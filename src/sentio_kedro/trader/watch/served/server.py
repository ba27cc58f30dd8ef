"""The page, the numbers and the health over HTTP, from the newest look; nothing can be changed by it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

from sentio_kedro.trader.watch.metrics import is_dead
from sentio_kedro.trader.watch.served.exporter import exposition
from sentio_kedro.trader.watch.served.page import CONTENT_POLICY, render, status
from sentio_kedro.trader.watch.watching import Seen

logger = logging.getLogger(__name__)
Answer = tuple[HTTPStatus, str, bytes]
HEADERS = (
    ("Content-Security-Policy", CONTENT_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
POLL = 0.05  # seconds from one look whether to stop to the next
PATIENCE = 10.0  # seconds that a connection may be silent


@dataclass(frozen=True)
class Shown:
    """What is served.

    Attributes:
        seen: The newest look.
        now: The time, seconds since 1970.
        env: Kedro environment, for the commands on the page.
    """

    seen: Callable[[], Seen]
    now: Callable[[], float]
    env: str = ""


def healthy(seen: Seen, now: float) -> tuple[bool, str]:
    """Return whether all is well, and why not: no journal, or no bar closed for too long in an open session."""
    if seen.problem:
        return False, seen.problem
    if is_dead(seen.view, now, seen.around):
        return False, f"No bar was closed since {seen.view.closed or 'the start'}."
    return True, "ok"


class WatchServer:
    """Serves in threads of its own until it is closed."""

    def __init__(self, host: str, port: int, shown: Shown) -> None:
        """Listen.

        Args:
            host: Address.
            port: Port; 0 takes a free one.
            shown: What is served.

        Raises:
            OSError: If the port is taken.
        """
        self._server = ThreadingHTTPServer((host, port), _handler(shown, _is_loopback(host)))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _handler(shown: Shown, local: bool) -> type[BaseHTTPRequestHandler]:
    metrics = exposition(shown.seen, shown.now)

    def answer(path: str) -> Answer:
        seen, now = shown.seen(), shown.now()
        if path == "/":
            return HTTPStatus.OK, "text/html; charset=utf-8", render(seen, now, shown.env).encode()
        if path == "/status.json":
            return HTTPStatus.OK, "application/json", json.dumps(status(seen, now), allow_nan=False).encode()
        if path == "/metrics":
            return HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", metrics()
        if path == "/healthz":
            well, text = healthy(seen, now)
            code = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
            return code, "text/plain; charset=utf-8", f"{text}\n".encode()
        return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"There are /, /status.json, /metrics and /healthz.\n"

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version, timeout = "sentio", "", PATIENCE

        def do_GET(self) -> None:
            if local and not self._is_asked_locally():
                text = b"This address serves this machine alone.\n"
                self._reply((HTTPStatus.MISDIRECTED_REQUEST, "text/plain; charset=utf-8", text))
                return
            try:
                found = answer(self.path.partition("?")[0])
            except Exception:
                logger.exception("%s could not be answered.", self.path[:100])
                text = b"The log of the watching process says what went wrong.\n"
                found = HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", text
            self._reply(found)

        def _refuse(self) -> None:
            self._reply((HTTPStatus.METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", b"Only GET is answered.\n"))

        do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

        def _is_asked_locally(self) -> bool:
            """A page of another site that has itself resolved to this machine names itself as host."""
            host = self.headers.get("Host", "localhost").rpartition("@")[2]
            return _is_loopback(host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0])

        def _reply(self, found: Answer) -> None:
            code, kind, body = found
            self.send_response(code)
            for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *HEADERS):
                self.send_header(name, value)
            if code == HTTPStatus.METHOD_NOT_ALLOWED:
                self.send_header("Allow", "GET")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            logger.debug(format, *args)

    return Handler
