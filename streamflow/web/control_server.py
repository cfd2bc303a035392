"""The control server: answers for one job on the job's own event loop, until it is closed.

GET /status · GET /why · POST /checkpoint · POST /savepoint {"target": path or s3 URL} · POST /stop {"drain": false,
"savepoint": null} · POST /rescale {"parallelism": 4}. Answers are JSON; an error is {"error": …, "hint": …}. Nothing
serves a file or takes code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import PurePath
from typing import Any, Final, Protocol, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamflow.errors import StreamflowError
from streamflow.observe.http import HttpServer, as_json
from streamflow.observe.status import JobResult, JobStatus
from streamflow.observe.why import Wait

__all__ = ["MAX_BODY", "ControlledJob", "control_routes", "controlled", "serve_control"]

MAX_BODY: Final = 4_096
"""The largest body of a request, in bytes."""

_BODY_SECONDS: Final = 10.0
_REMOTE: Final = ("s3://", "gs://", "az://", "memory://")

Handler = Callable[[Request], Awaitable[dict[str, Any]]]


class ControlledJob(Protocol):
    """The part of a job that a control server uses."""

    def status(self) -> JobStatus: ...

    def why(self) -> tuple[Wait, ...]: ...

    async def checkpoint(self) -> int: ...

    async def savepoint(self, url: str) -> str: ...

    async def stop(self, *, drain: bool = False, savepoint: str | None = None) -> JobResult: ...

    async def rescale(self, parallelism: int) -> None: ...


class _NoOrder(msgspec.Struct, forbid_unknown_fields=True):
    """An order without options."""


class _SavepointOrder(msgspec.Struct, forbid_unknown_fields=True):
    target: str


class _StopOrder(msgspec.Struct, forbid_unknown_fields=True):
    drain: bool = False
    savepoint: str | None = None


class _RescaleOrder(msgspec.Struct, forbid_unknown_fields=True):
    parallelism: int


Order = TypeVar("Order", bound=msgspec.Struct)


async def serve_control(
    job: ControlledJob, port: int, address: str = "127.0.0.1", token: str | None = None
) -> HttpServer:
    """Serves a job's control routes on the running event loop; port 0 takes any free one.

    Raises ConfigError if it cannot listen, and for an address that other machines reach without a token.
    """
    server = HttpServer(control_routes(job), port, address, token, what="control")
    await server.start()
    return server


@asynccontextmanager
async def controlled(
    job: ControlledJob, port: int, address: str = "127.0.0.1", token: str | None = None
) -> AsyncGenerator[HttpServer]:
    """Serves a job's control routes inside this context: `async with controlled(handle, 7070): await handle.wait()`."""
    server = await serve_control(job, port, address, token)
    try:
        yield server
    finally:
        await server.close()


def control_routes(job: ControlledJob) -> list[Route]:
    """The routes that answer for one job."""

    async def status(request: Request) -> dict[str, Any]:
        return asdict(job.status())

    async def why(request: Request) -> dict[str, Any]:
        return {"waits": [asdict(each) for each in job.why()]}

    async def checkpoint(request: Request) -> dict[str, Any]:
        await _order(request, _NoOrder)
        return {"number": await job.checkpoint()}

    async def savepoint(request: Request) -> dict[str, Any]:
        order = await _order(request, _SavepointOrder)
        return {"savepoint": await job.savepoint(_target(order.target))}

    async def stop(request: Request) -> dict[str, Any]:
        order = await _order(request, _StopOrder)
        more = {} if order.savepoint is None else {"savepoint": _target(order.savepoint)}
        return {"result": (await job.stop(drain=order.drain, **more)).as_dict()}

    async def rescale(request: Request) -> dict[str, Any]:
        order = await _order(request, _RescaleOrder)
        await job.rescale(order.parallelism)
        return {"parallelism": order.parallelism}

    return [
        Route("/status", _answering(status), methods=["GET"]),
        Route("/why", _answering(why), methods=["GET"]),
        Route("/checkpoint", _answering(checkpoint), methods=["POST"]),
        Route("/savepoint", _answering(savepoint), methods=["POST"]),
        Route("/stop", _answering(stop), methods=["POST"]),
        Route("/rescale", _answering(rescale), methods=["POST"]),
    ]


def _target(target: str) -> str:
    """The place of a savepoint; raises if it depends on the folder that the job runs in."""
    if not target.startswith(_REMOTE) and not PurePath(target).is_absolute():
        raise HTTPException(400, "the target must be an absolute path or a URL like s3://bucket/folder")
    return target


def _answering(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint whose errors are answers too."""

    async def endpoint(request: Request) -> Response:
        try:
            return as_json(await handler(request))
        except HTTPException:
            raise
        except StreamflowError as error:
            told = {"error": error.message, "where": str(error.where), "hint": error.hint}
            return as_json({name: value for name, value in told.items() if value}, 409)
        except Exception as error:  # noqa: BLE001 - whoever asked is told; the job has its own errors
            return as_json({"error": f"unforeseen {type(error).__name__}: {error}"}, 500)

    return endpoint


async def _order(request: Request, kind: type[Order]) -> Order:
    """The request's body as an order of this kind; an empty body counts as {}."""
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise HTTPException(413, f"the body has more than {MAX_BODY} bytes")
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {_BODY_SECONDS:.0f} s") from None
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body does not fit this route: {error}") from error
