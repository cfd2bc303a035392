"""`streamflow savepoint` and `streamflow stop` against a control server whose job is made up, and against strangers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from streamflow.cli.main import main
from streamflow.errors import StateError
from streamflow.observe.status import JobResult, JobStatus, OperatorStatus
from streamflow.observe.why import Wait
from streamflow.time.timestamps import MIN_TIME
from streamflow.web.control_server import serve_control

TOKEN = "0123456789abcdef0123456789abcdef"


class MadeUpJob:
    def __init__(self) -> None:
        self.orders: list[tuple[str, object]] = []
        self.failure: Exception | None = None
        self.minutes = 40
        self.waits = True

    def status(self) -> JobStatus:
        operator = OperatorStatus("quiet", "filter", 1, 0, 0, 0, 0, 0, None, 0.0, 0.0)
        return JobStatus("delays", "streaming", "running", 1.5, 0, 0, MIN_TIME, 0, (operator,))

    def why(self) -> tuple[Wait, ...]:
        minute = 60_000_000
        self.minutes += 1
        delays = Wait("delays", "the window to 01:00", 60 * minute - 1, 12, self.minutes * minute, ("clean",))
        delays = replace(delays, source="flights", split="p0", latest=50 * minute, bound=5 * minute)
        reminders = Wait("reminders", "the global window", None, 2, None, (), "flights", "p0")
        waits = (delays, replace(reminders, idle_after=minute))
        return waits if self.waits else ()

    async def checkpoint(self) -> int:
        return 1

    async def savepoint(self, url: str) -> str:
        self.orders.append(("savepoint", url))
        if self.failure is not None:
            raise self.failure
        return f"{url}#7"

    async def rescale(self, parallelism: int) -> None:
        self.orders.append(("rescale", parallelism))

    async def stop(self, *, drain: bool = False) -> JobResult:
        self.orders.append(("stop", drain))
        return JobResult("delays", "streaming", 2.5, {}, {}, late=3, restarts=1, stopped=True)


@contextmanager
def served(job: MadeUpJob, token: str | None = None) -> Generator[str]:
    """The URL of a control server on a thread of its own."""
    ready = threading.Event()
    told: list[str] = []
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        ended = asyncio.Event()
        server = await serve_control(job, 0, token=token)
        loops.append((asyncio.get_running_loop(), ended))
        told.append(server.url)
        ready.set()
        await ended.wait()
        await server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        yield told[0]
    finally:
        for loop, ended in loops:
            loop.call_soon_threadsafe(ended.set)
        thread.join()


@contextmanager
def stranger(
    status: int, body: bytes, headers: dict[str, str] | None = None
) -> Generator[tuple[str, list[str]]]:
    """A server that gives every request one answer; its URL, and the paths that it is asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMFLOW_CONTROL_TOKEN", raising=False)


def test_savepoint_prints_where_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = MadeUpJob()
    with served(job) as url:
        assert main(["savepoint", url, "saves"]) == 0
        assert capsys.readouterr().out == f"{tmp_path}/saves#7\n"
        assert main(["savepoint", url.removeprefix("http://"), "s3://bucket/saves", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"savepoint": "s3://bucket/saves#7"}
    assert job.orders == [("savepoint", f"{tmp_path}/saves"), ("savepoint", "s3://bucket/saves")]


def test_rescale_says_how_the_job_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with served(job := MadeUpJob()) as url:
        assert main(["rescale", url, "4"]) == 0
        assert capsys.readouterr().out == "running with parallelism 4\n"
        assert main(["rescale", url, "many"]) == 2
    assert job.orders == [("rescale", 4)]


def test_stop_says_how_the_job_ended(capsys: pytest.CaptureFixture[str]) -> None:
    job = MadeUpJob()
    with served(job) as url:
        assert main(["stop", url]) == 0
        assert capsys.readouterr().out.startswith("delays stopped (streaming): 0 read")
        assert main(["stop", url, "--drain", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["restarts"] == 1
    assert job.orders == [("stop", False), ("stop", True)]


def test_the_token_comes_from_a_file_or_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(f"{TOKEN}\n")
    wrong.write_text(TOKEN[::-1])
    with served(MadeUpJob(), TOKEN) as url:
        assert main(["stop", url]) == 2
        assert "give --token-file" in capsys.readouterr().err
        assert main(["stop", url, "--token-file", str(wrong)]) == 2
        assert TOKEN[::-1] not in capsys.readouterr().err
        assert main(["stop", url, "--token-file", str(right)]) == 0
        monkeypatch.setenv("STREAMFLOW_CONTROL_TOKEN", TOKEN)
        assert main(["stop", url]) == 0
        assert main(["stop", url, "--token-file", str(tmp_path / "none")]) == 2


def test_what_the_job_says_against_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    job = MadeUpJob()
    job.failure = StateError("the disk is full", hint="make room")
    with served(job) as url:
        assert main(["savepoint", url, "saves"]) == 1
    assert capsys.readouterr().err == f"error: the job at {url} says: the disk is full\n  hint: make room\n"


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>hello</html>"), (404, b"not here"), (200, b"[1]"), (500, b"{}"), (200, b"[" * 10_000)],
)
def test_a_stranger_is_no_job(status: int, body: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with stranger(status, body) as (url, _):
        assert main(["stop", url]) == 1
    assert "is no streamflow job" in capsys.readouterr().err


def test_redirects_are_not_followed(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("STREAMFLOW_CONTROL_TOKEN", TOKEN)
    with (
        stranger(200, b"{}") as (elsewhere, asked),
        stranger(307, b"", {"Location": f"{elsewhere}/stop"}) as (url, _),
    ):
        assert main(["stop", url]) == 1
    assert asked == []
    assert "is no streamflow job" in capsys.readouterr().err


def test_where_nobody_answers_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", "http://127.0.0.1:1"]) == 1
    assert "no job answers at http://127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    ["", "ftp://127.0.0.1", "file:///etc/passwd", "http://", "http://[::1", "http://h:99999", "http://h/path",
     "http://user:secret@h", "http://h?x"],
)  # fmt: skip
def test_a_url_that_is_none_is_wrong_usage(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", url]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "secret" not in error


@pytest.mark.parametrize("command", [["savepoint"], ["stop", "--savepoint"]])
def test_an_empty_place_for_a_savepoint_is_none(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with served(job := MadeUpJob()) as url:
        assert main([command[0], url, *command[1:], ""]) == 2
    assert not job.orders
    assert "the savepoint's place is empty" in capsys.readouterr().err


def test_why_says_what_results_wait_for(capsys: pytest.CaptureFixture[str]) -> None:
    with served(MadeUpJob()) as url:
        assert main(["why", url]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "delays: the window to 01:00 comes when the watermark reaches 1970-01-01T00:59:59.999999Z" in said
    assert "it is at 1970-01-01T00:42:00Z: 17m59s999ms999us of event time to go, about" in said
    assert "at this pace" in said
    assert "Held back by split p0 of flights: its latest event is of 1970-01-01T00:50:00Z" in said
    assert "it may still bring one up to 5m older. 12 rows wait." in said
    assert "reminders: the global window comes at the end of the input." in said
    assert "no event has come from it yet; left out when it has been quiet for 1m." in said


def test_why_of_one_operator(capsys: pytest.CaptureFixture[str]) -> None:
    job = MadeUpJob()
    with served(job) as url:
        assert main(["why", url, "reminders", "--json"]) == 0
        (wait,) = json.loads(capsys.readouterr().out)
        assert (wait["operator"], wait["until"], wait["rows"]) == ("reminders", None, 2)
        assert main(["why", url, "quiet"]) == 0
        assert capsys.readouterr().out == "quiet waits for nothing\n"
        assert main(["why", url, "quite"]) == 2
        assert "did you mean 'quiet'" in capsys.readouterr().err
        job.waits = False
        assert main(["why", url]) == 0
        assert capsys.readouterr().out == "nothing waits\n"
