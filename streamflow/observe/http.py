"""The HTTP server of a job's metrics, health and control.

It listens on this machine only unless it has a token. Connections are few and short: one request each, its head within
a few seconds and 16 KiB, so that clients that send slowly or never end hold up no other client.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from streamflow.errors import ConfigError
from streamflow.observe.guard import RequestGuard

__all__ = ["HttpServer", "as_json", "guarded", "last"]

_HEAD_SECONDS: Final = 5.0
_HEAD_BYTES: Final = 16 << 10
_CONNECTIONS: Final = 32
_FAREWELL_SECONDS: Final = 3.0
_LARGEST_PORT: Final = 65_535
_HEADERS: Final = {"connection": "close", "cache-control": "no-store", "x-content-type-options": "nosniff"}


class HttpServer:
    """A listening server: clients wait in its queue until it is started on an event loop.

    `what` names it in errors. Raises ConfigError if it cannot listen, and, before anything listens, for an address that
    other machines reach without a token and for a token that could be guessed.
    """

    def __init__(
        self, routes: Sequence[Route], port: int, address: str, token: str | None, *, what: str
    ) -> None:
        if not 0 <= port <= _LARGEST_PORT:
            raise ConfigError(
                f"the {what} port is {port}", hint=f"use 1 to {_LARGEST_PORT}, or 0 for any free one"
            )
        guard = RequestGuard(address, token, what=what)
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self._socket = socket.create_server((address, port), family=family, backlog=_CONNECTIONS)
        except (OSError, OverflowError, UnicodeError) as error:
            raise ConfigError(
                f"the {what} server cannot listen at {address}:{port}: {error}",
                hint="choose another port, or 0 for any free one",
            ) from error
        self.address, self.port = self._socket.getsockname()[:2]
        host = f"[{self.address}]" if ":" in self.address else self.address
        self.url = f"http://{host}:{self.port}"
        self._config = uvicorn.Config(
            guarded(routes, guard),
            http=_ImpatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_HEAD_BYTES,
            limit_concurrency=_CONNECTIONS,
        )
        self._config.load()
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Starts to answer on the running event loop."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _ImpatientProtocol(self._config, self._state, {}), sock=self._socket
        )

    async def close(self) -> None:
        """Finishes the answers under way, and ends; may be called twice."""
        if self._server is not None:
            self._server.close()
        self._socket.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=_FAREWELL_SECONDS)


def guarded(routes: Sequence[Route], guard: RequestGuard) -> ASGIApp:
    """The application behind its guard: refused requests never reach a route."""
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    app.router.redirect_slashes = False

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = guard.refusal(scope["method"], scope["headers"])
        if refusal is None:
            await app(scope, receive, send)
        else:
            await as_json({"error": refusal.message}, refusal.status)(scope, receive, send)

    return answer


def as_json(
    content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in JSON."""
    asking = {"www-authenticate": "Bearer"} if status == 401 else {}
    return last(JSONResponse(content, status_code=status, headers={**(headers or {}), **asking}))


def last(response: Response) -> Response:
    """An answer after which the connection ends, so that a client that holds one open delays no other for long."""
    response.headers.update(_HEADERS)
    return response


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return as_json({"error": error.detail}, error.status_code, error.headers)


class _ImpatientProtocol(H11Protocol):
    """A protocol that closes a connection on which no whole request head arrives in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if cast("object", self.cycle) is None:  # until the first request's head is complete
            self.transport.abort()
