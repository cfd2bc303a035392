"""The control server: answers for one job on the job's own event loop, until it is closed.

It listens on this machine only unless it has a token. Connections are few and short: one request each, its head
within a few seconds and 16 KiB, so that clients that send slowly or never end hold up no other client.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamflow.errors import ConfigError
from streamflow.observe.guard import RequestGuard
from streamflow.web.control_app import ControlledJob, control_app

__all__ = ["ControlServer", "controlled", "serve_control"]

_HEAD_SECONDS: Final = 5.0
_HEAD_BYTES: Final = 16 << 10
_CONNECTIONS: Final = 32
_FAREWELL_SECONDS: Final = 3
_LARGEST_PORT: Final = 65_535


class ControlServer:
    """A running control server; made by `serve_control`."""

    def __init__(self, server: uvicorn.Server, listening: socket.socket) -> None:
        self._server = server
        self._socket = listening
        host, self.port = listening.getsockname()[:2]
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        self._task = asyncio.create_task(server.serve(sockets=[listening]))

    async def close(self) -> None:
        """Finishes the answers under way, and ends; may be called twice."""
        self._server.should_exit = True
        with suppress(asyncio.CancelledError):
            await self._task
        self._socket.close()


async def serve_control(
    job: ControlledJob, port: int, address: str = "127.0.0.1", token: str | None = None
) -> ControlServer:
    """Serves a job's control routes on the running event loop; port 0 takes any free one.

    Raises ConfigError if it cannot listen, and for an address that other machines reach without a token.
    """
    if not 0 <= port <= _LARGEST_PORT:
        raise ConfigError(
            f"the control port is {port}", hint=f"use 1 to {_LARGEST_PORT}, or 0 for any free one"
        )
    guard = RequestGuard(address, token)  # before anything listens
    listening = _listen(address, port)
    config = uvicorn.Config(
        control_app(job, guard),
        http=_ImpatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_FAREWELL_SECONDS,
    )
    return ControlServer(_QuietServer(config), listening)


@asynccontextmanager
async def controlled(
    job: ControlledJob, port: int, address: str = "127.0.0.1", token: str | None = None
) -> AsyncGenerator[ControlServer]:
    """Serves a job's control routes inside this context: `async with controlled(handle, 7070): await handle.wait()`."""
    server = await serve_control(job, port, address, token)
    try:
        yield server
    finally:
        await server.close()


def _listen(address: str, port: int) -> socket.socket:
    """A listening socket: clients wait in its queue from now on."""
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family, backlog=_CONNECTIONS)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(
            f"the control server cannot listen at {address}:{port}: {error}",
            hint="choose another port, or 0 for any free one",
        ) from error


class _QuietServer(uvicorn.Server):
    """A server that leaves the signals to the job."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


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
