"""The operating port: /metrics for Prometheus, /healthz and /readyz for supervisors of processes.

It answers from a thread of its own, so that it can report a stuck event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Thread  # noqa: TID251  (answers beside the job; it touches only numbers)
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamflow.observe.health import Health
from streamflow.observe.http import HttpServer, as_json, last
from streamflow.observe.prometheus import exposition
from streamflow.observe.registry import MetricsRegistry

__all__ = ["OperatingServer"]

_CLOSE_SECONDS: Final = 5.0


class OperatingServer:
    """A job's metrics and health at `http://address:port`, until it is closed; port 0 takes any free one.

    Raises ConfigError as `HttpServer` does.
    """

    def __init__(
        self,
        registry: MetricsRegistry,
        health: Health,
        port: int,
        address: str = "127.0.0.1",
        token: str | None = None,
    ) -> None:
        page = exposition(registry)

        async def metrics(request: Request) -> Response:
            kind, content = page(request.headers.get("accept", ""))
            return last(Response(content, headers={"content-type": kind}))

        routes = [
            Route("/metrics", metrics),
            Route("/healthz", _telling(health.alive)),
            Route("/readyz", _telling(health.ready)),
        ]
        self._server = HttpServer(routes, port, address, token, what="metrics")
        self.port, self.address, self.url = self._server.port, self._server.address, self._server.url
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = Thread(target=self._answer, name="operating", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening and waits for the thread; may be called twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(_CLOSE_SECONDS)

    def _answer(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        await self._server.start()
        await self._closing.wait()
        await self._server.close()


def _telling(judge: Callable[[], tuple[bool, dict[str, Any]]]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        well, content = judge()
        return as_json(content, 200 if well else 503)

    return answer
