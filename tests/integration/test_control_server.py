"""The control server on a real socket: what a client meets that is slow, too long, one of many, or there at the end."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.errors import ConfigError
from streamflow.observe import http
from streamflow.observe.http import HttpServer
from streamflow.observe.status import JobResult, JobStatus
from streamflow.observe.why import Wait
from streamflow.time.timestamps import MIN_TIME
from streamflow.web import control_server
from streamflow.web.control_server import controlled, serve_control

RESULT = JobResult("delays", "streaming", 2.5, {}, {}, stopped=True)


class SlowJob:
    """Takes its time to stop."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.may_end = asyncio.Event()

    def why(self) -> tuple[Wait, ...]:
        return (Wait("delays", "the global window", None, 3, None),)

    def status(self) -> JobStatus:
        return JobStatus("delays", "streaming", "running", 1.5, 0, 0, MIN_TIME, 0, ())

    async def checkpoint(self) -> int:
        return 1

    async def savepoint(self, url: str) -> str:
        return f"{url}#1"

    async def rescale(self, parallelism: int) -> None:
        raise NotImplementedError

    async def stop(self, *, drain: bool = False) -> JobResult:
        self.stopping.set()
        await self.may_end.wait()
        return RESULT


async def exchange(port: int, request: bytes) -> bytes:
    """All that the server answers until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def serving(use: Callable[[SlowJob, HttpServer], Awaitable[None]]) -> None:
    async def main() -> None:
        job = SlowJob()
        async with controlled(job, 0) as server:
            await use(job, server)

    asyncio.run(main())


def request(path: str, port: int, method: str = "GET", body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_it_answers_at_the_address_it_says() -> None:
    async def use(job: SlowJob, server: HttpServer) -> None:
        assert server.url == f"http://127.0.0.1:{server.port}"
        answer = await exchange(server.port, request("/status", server.port))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"uvicorn" not in head.lower()
        assert json.loads(body)["job"] == "delays"

    serving(use)


def test_who_stops_the_job_gets_an_answer_although_the_server_ends() -> None:
    async def use(job: SlowJob, server: HttpServer) -> None:
        asked = asyncio.create_task(exchange(server.port, request("/stop", server.port, "POST", b"{}")))
        await job.stopping.wait()
        closing = asyncio.create_task(server.close())
        await asyncio.sleep(0)
        job.may_end.set()
        answer: Any = json.loads((await asked).partition(b"\r\n\r\n")[2])
        assert answer["result"]["stopped"] is True
        await closing
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", server.port)

    serving(use)


def test_a_head_without_end_is_cut_off() -> None:
    async def use(job: SlowJob, server: HttpServer) -> None:
        long = b"GET /status HTTP/1.1\r\nX-Long: " + b"x" * (1 << 20)
        assert b"200" not in (await exchange(server.port, long))[:20]

    serving(use)


def test_a_client_that_sends_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_HEAD_SECONDS", 0.05)

    async def use(job: SlowJob, server: HttpServer) -> None:
        assert await exchange(server.port, b"") == b""
        assert await exchange(server.port, b"GET /status HTTP/1.1\r\nHost:") == b""

    serving(use)


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "_BODY_SECONDS", 0.05)

    async def use(job: SlowJob, server: HttpServer) -> None:
        head = request("/stop", server.port, "POST", b"{}").removesuffix(b"{}")
        assert (await exchange(server.port, head)).startswith(b"HTTP/1.1 408")
        assert not job.stopping.is_set()

    serving(use)


def test_slow_clients_do_not_keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_HEAD_SECONDS", 1.0)

    async def use(job: SlowJob, server: HttpServer) -> None:
        slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(60)]
        for _, writer in slow:
            writer.write(b"GET /status HTTP/1.1\r\n")
        answer = await exchange(server.port, request("/status", server.port))
        for reader, _ in slow:
            with suppress(ConnectionResetError):  # what was sent when the server had left it already
                assert await reader.read() == b""  # all of them are left
        again = await exchange(server.port, request("/status", server.port))
        assert again.startswith(b"HTTP/1.1 200")
        assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503"))
        for _, writer in slow:
            writer.close()

    serving(use)


def test_where_it_cannot_listen_it_says_so() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1:{port}"):
                await serve_control(SlowJob(), port)
        with pytest.raises(ConfigError, match="the control port is 70000"):
            await serve_control(SlowJob(), 70_000)
        with pytest.raises(ConfigError, match="without a token"):
            await serve_control(SlowJob(), 0, "0.0.0.0")

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/savepoint", "/stop"])
@pytest.mark.parametrize("target", ["/saves\0here", "\0", "", " ", "/"])
def test_a_place_that_cannot_be_one_is_the_client_s_mistake(path: str, target: str, tmp_path: Path) -> None:
    """Of a job that runs: it goes on."""

    async def quiet(start: int) -> AsyncIterator[dict[str, Any]]:
        yield {"n": start}
        await asyncio.Event().wait()

    async def main() -> None:
        job = sf.Job("quiet")
        job.read(sf.source(quiet, schema={"n": sf.Int64})).collect()
        handle = await job.start(mode="streaming", checkpoint_dir=str(tmp_path))
        await handle.checkpoint()
        async with controlled(handle, 0) as server:
            body = json.dumps({"target" if path == "/savepoint" else "savepoint": target}).encode()
            answer = await exchange(server.port, request(path, server.port, "POST", body))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 4")
            assert json.loads(body)["error"]
            assert handle.status().state == "running"
            await handle.stop()

    asyncio.run(main())
