"""The operating port: /metrics for Prometheus, /healthz and /readyz for supervisors of processes.

It answers from threads of its own, so that it can report a stuck event loop. It listens on this machine only unless
it has a token. Connections are few and short: one request each, its head within a few seconds and 16 KiB, so that
clients that send slowly or never end hold up no other client.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socketserver import TCPServer, ThreadingMixIn
from threading import BoundedSemaphore, Thread  # noqa: TID251  (answers beside the job; it touches only numbers)
from time import monotonic  # noqa: TID251  (a client's patience is real time)
from typing import Any, Final, cast

from streamflow.errors import ConfigError
from streamflow.observe.guard import RequestGuard
from streamflow.observe.health import Health
from streamflow.observe.prometheus import exposition
from streamflow.observe.registry import MetricsRegistry

__all__ = ["OperatingServer", "serve"]

_CLOSE_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05
_HEAD_SECONDS: Final = 5.0
_HEAD_BYTES: Final = 16 << 10
_ANSWER_SECONDS: Final = 10.0
_CONNECTIONS: Final = 16
_LARGEST_PORT: Final = 65_535

_Page = tuple[HTTPStatus, str, bytes]
_Routes = dict[str, Callable[[str], _Page]]


class OperatingServer:
    """A running server; `close` stops it and waits for it, at most a few hundredths of a second."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._thread = Thread(
            target=server.serve_forever, args=(_POLL_SECONDS,), name="operating", daemon=True
        )
        self._thread.start()
        self._closed = False

    @property
    def port(self) -> int:
        """The port number."""
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        """The address that the server listens on."""
        return str(self._server.server_address[0])

    @property
    def url(self) -> str:
        """The server's URL, without a route."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{address}:{self.port}"

    def close(self) -> None:
        """Stops listening; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_CLOSE_SECONDS)


def serve(
    registry: MetricsRegistry, health: Health, port: int, address: str = "127.0.0.1", token: str | None = None
) -> OperatingServer:
    """Serve a job's metrics and health at `http://address:port` from threads; port 0 takes any free one.

    Raises ConfigError if it cannot listen, and, before anything listens, for an address that other machines reach
    without a token and for a token that could be guessed.
    """
    if not 0 <= port <= _LARGEST_PORT:
        raise ConfigError(
            f"the metrics port is {port}", hint=f"use 1 to {_LARGEST_PORT}, or 0 for any free one"
        )
    guard = RequestGuard(address, token, what="metrics")
    page = exposition(registry)

    def metrics(accept: str) -> _Page:
        kind, content = page(accept)
        return HTTPStatus.OK, kind, content

    def healthz(accept: str) -> _Page:
        return _as_json(*health.alive())

    def readyz(accept: str) -> _Page:
        return _as_json(*health.ready())

    routes: _Routes = {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz}
    try:
        server = (_Server6 if ":" in address else _Server)((address, port), routes)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(
            f"metrics cannot be served at {address}:{port}: {error}",
            hint="choose another port, or 0 for any free one",
        ) from error
    server.guard = guard
    return OperatingServer(server)


def _as_json(well: bool, content: dict[str, Any]) -> _Page:
    status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
    return status, "application/json", json.dumps(content).encode()


class _Server(ThreadingMixIn, TCPServer):
    """An HTTP server with a thread for each client, a few at most; further clients are disconnected at once."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 2 * _CONNECTIONS
    address_family = socket.AF_INET
    guard: RequestGuard

    def __init__(self, address: tuple[str, int], routes: _Routes) -> None:
        self.routes = routes
        self._places = BoundedSemaphore(_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads to be had
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores a client that goes away in the middle."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    """One request and its answer."""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = BytesIO(_head(self.connection))
        self.connection.settimeout(_ANSWER_SECONDS)

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        self.close_connection = True
        return parsed

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers a request that no route takes."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._send(*_problem(HTTPStatus.METHOD_NOT_ALLOWED, "send GET"), body=True)
        else:
            self._send(*_problem(code, "the request is not understood"), body=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: scrapes are not worth a log line."""

    def version_string(self) -> str:
        return "streamflow"

    def _answer(self, *, body: bool) -> None:
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self._given()]
        server = cast("_Server", self.server)
        refusal = server.guard.refusal(self.command, headers)
        route = server.routes.get(self.path.partition("?")[0])
        if refusal is not None:
            status, kind, content = _problem(refusal.status, refusal.message)
        elif route is None:
            status, kind, content = _problem(404, f"there are {', '.join(server.routes)}")
        else:
            status, kind, content = route(self.headers.get("Accept", ""))
        self._send(status, kind, content, body=body)

    def _send(self, status: HTTPStatus, kind: str, content: bytes, *, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _given(self) -> list[tuple[str, str]]:
        return [(name, str(value)) for name, value in self.headers.items()]


def _problem(status: int, message: str) -> _Page:
    return HTTPStatus(status), "application/json", json.dumps({"error": message}).encode()


def _head(connection: socket.socket) -> bytes:
    """A request's head; empty unless it comes whole, in time and short enough."""
    head, deadline = b"", monotonic() + _HEAD_SECONDS
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        remaining = deadline - monotonic()
        if remaining <= 0 or len(head) > _HEAD_BYTES:
            return b""
        connection.settimeout(remaining)
        try:
            more = connection.recv(4_096)
        except OSError:
            return b""
        if not more:
            return b""
        head += more
    return head
