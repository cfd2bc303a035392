"""A real job, asked over HTTP how it is: health, readiness, metrics, `streamflow status` and `top`; what it logs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.cli.main import main
from streamflow.errors import ConfigError, SinkError
from streamflow.observe import health
from streamflow.runners.local import LocalJob
from streamflow.web.control_server import controlled

TOKEN = "0123456789abcdef0123456789abcdef"
SCHEMA = {"k": sf.String, "ts": sf.Int64}
PATIENCE = 20.0


def get(url: str, token: str | None = None) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


async def asked(url: str) -> tuple[int, Any]:
    status, body = await asyncio.to_thread(get, url)
    return status, json.loads(body)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await true():  # noqa: ASYNC110 - what is asked is a server
            await asyncio.sleep(0.02)


async def ticks(start: int) -> AsyncIterator[dict[str, Any]]:
    n = start
    while True:
        n += 1
        age = 600_000 if n % 10 == 0 else 0
        yield {"k": f"k{n % 3}", "ts": time.time_ns() // 1_000_000 - age}
        await asyncio.sleep(0.002)


async def swallow(rows: list[Any]) -> None:
    await asyncio.sleep(0)


def counting(sink: Callable[[list[Any]], Awaitable[None]] = swallow) -> sf.Job:
    job = sf.Job("counting")
    read = job.read(sf.source(ticks, schema=SCHEMA), event_time=sf.epoch("ts", unit="ms"))
    read.key_by("k").window(sf.tumbling("100ms")).aggregate(n=sf.count()).write(sf.sink(sink))
    return job


def running(use: Callable[[LocalJob], Awaitable[None]], job: sf.Job | None = None, **settings: Any) -> None:
    async def whole() -> None:
        handle = await (job or counting()).start(metrics_port=0, **settings)
        try:
            await use(handle)
        finally:
            await handle.cancel()

    asyncio.run(whole())


def test_a_job_that_runs_is_alive_ready_and_tells_its_figures(tmp_path: Path) -> None:
    async def use(handle: LocalJob) -> None:
        url = handle.metrics_url

        async def ready() -> bool:
            return (await asked(f"{url}/readyz"))[0] == 200

        async def held() -> bool:
            return (
                "streamflow_watermark_holder_lag_seconds{"
                in (await asyncio.to_thread(get, f"{url}/metrics"))[1]
            )

        await until(ready)
        status, told = await asked(f"{url}/healthz")
        assert (status, told["state"], told["job"]) == (200, "running", "counting")
        await until(held)
        await handle.checkpoint()
        page = (await asyncio.to_thread(get, f"{url}/metrics"))[1]
        assert (
            'streamflow_watermark_holder_lag_seconds{job="counting",operator="read-1",split="ticks",subtask="0"}'
            in page
        )
        assert 'streamflow_job_state{job="counting",state="running"} 1.0' in page
        assert 'streamflow_job_state{job="counting",state="failed"} 0.0' in page
        assert 'streamflow_job_info{job="counting",mode="streaming",version="' in page
        for name in (
            "checkpoint_age_seconds",
            "checkpoint_duration_seconds",
            "checkpoint_size_bytes",
            "job_uptime_seconds",
        ):
            assert f'streamflow_{name}{{job="counting"}}' in page
        assert 'streamflow_checkpoint_retention_failures_total{job="counting"} 0.0' in page

    running(use, checkpoint_dir=str(tmp_path))


def test_a_function_that_holds_up_the_event_loop_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "STUCK_SECONDS", 1.5)
    stuck = asyncio.Event()

    async def hold(rows: list[Any]) -> None:
        if not stuck.is_set():
            stuck.set()
            time.sleep(2.5)  # noqa: ASYNC251 - what must not be done

    async def use(handle: LocalJob) -> None:
        async def probe() -> list[int]:
            url, found = handle.metrics_url, []
            for _ in range(60):
                found.append((await asyncio.to_thread(get, f"{url}/healthz"))[0])
                await asyncio.sleep(0.05)
            return found

        # On a thread with a loop of its own: this one will be held up.
        found = await asyncio.to_thread(asyncio.run, probe())
        assert 503 in found
        assert (found[0], found[-1]) == (200, 200)

    running(use, counting(hold))


def test_a_job_that_starts_again_is_alive_and_not_ready(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streamflow")
    refused = asyncio.Event()

    async def refuse(rows: list[Any]) -> None:
        if not refused.is_set():
            refused.set()
            raise SinkError("no room for Alice", hint="make some")

    async def use(handle: LocalJob) -> None:
        async def starts_again() -> bool:
            status, told = await asked(f"{handle.metrics_url}/readyz")
            return status == 503 and told["state"] == "restarting"

        async def is_up() -> bool:
            return (await asked(f"{handle.metrics_url}/readyz"))[0] == 200

        await until(starts_again)
        assert (await asked(f"{handle.metrics_url}/healthz"))[0] == 200
        await until(is_up)
        await handle.stop()

    running(use, counting(refuse), checkpoint_dir=str(tmp_path), restart_delay="500ms")
    events = [(each.message, each.levelname) for each in caplog.records if each.name == "streamflow.job"]
    assert events == [
        ("job started", "INFO"),
        ("job is running", "INFO"),
        ("job restarts", "WARNING"),
        ("job is running", "INFO"),
        ("job stopped", "INFO"),
    ]


def test_records_that_are_passed_over_are_told_by_number_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "streamflow")
    job = sf.Job("bad")
    names = job.read(sf.MemorySource([{"name": "Alice"}, {"name": "7"}, {"name": "Bob"}]))
    numbers = names.map(lambda row: {"n": int(row["name"])}, schema={"n": sf.Int64})
    kept = numbers.on_error("skip").collect()
    asyncio.run(job.run_async())
    assert kept.rows() == [{"n": 7}]
    (passed_over,) = [each for each in caplog.records if each.name == "streamflow.records"]
    assert passed_over.message == "records skipped or sent to dead letters"
    assert getattr(passed_over, "told", {})["records"] == 2
    assert "Alice" not in "".join(str(each.__dict__) for each in caplog.records)


def test_the_port_is_nobody_elses_without_a_token() -> None:
    async def refused(**settings: Any) -> None:
        before = asyncio.all_tasks()
        with pytest.raises(ConfigError, match="token"):
            await counting().start(metrics_port=0, metrics_address="0.0.0.0", **settings)
        assert asyncio.all_tasks() == before, "a job was started all the same"

    asyncio.run(refused())
    asyncio.run(refused(metrics_token="too short"))

    async def use(handle: LocalJob) -> None:
        port = handle.metrics_port
        for path in ("metrics", "healthz", "readyz"):
            assert (await asyncio.to_thread(get, f"http://127.0.0.1:{port}/{path}"))[0] == 401
        assert (await asyncio.to_thread(get, f"http://127.0.0.1:{port}/healthz", TOKEN))[0] == 200

    running(use, metrics_address="0.0.0.0", metrics_token=TOKEN)


def test_status_and_top_show_it_and_say_when_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.delenv("STREAMFLOW_CONTROL_TOKEN", raising=False)

    async def use(handle: LocalJob) -> None:
        async with controlled(handle, 0, token=TOKEN) as server:

            async def told(*arguments: str) -> tuple[int, str, str]:
                code = await asyncio.to_thread(main, [*arguments])
                return (code, *capsys.readouterr())

            known = ["--token-file", str(tmp_path / "token")]
            await handle.checkpoint()
            for command in ("status", "top"):
                code, out, err = await told(command, server.url, *known)
                assert (code, err) == (0, "")
                assert out.startswith("counting  running for ")
                assert "checkpoint " in out
                assert "held back by ticks" in out
                code, out, err = await told(command, server.url)
                assert (code, out) == (2, "")
                assert err.startswith(f"error: the job at {server.url} does not take the token\n")
            code, out, _ = await told("status", server.url, "--json", *known)
            status = json.loads(out)
            assert (code, status["job"], status["state"], status["checkpoint"]["number"]) == (
                0,
                "counting",
                "running",
                1,
            )
            url = server.url
        for command in ("status", "top"):
            code, out, err = await told(command, url, *known)
            assert (code, out) == (1, "")
            assert err.startswith(f"error: no job answers at {url}")

    running(use, checkpoint_dir=str(tmp_path / "checkpoints"))


PROGRAM = """
import logging, sys
import streamflow as sf
if len(sys.argv) > 1:
    logging.basicConfig(level=sys.argv[1], format="mine %(name)s %(message)s %(told)s")
job = sf.Job("program")
names = job.read(sf.MemorySource([{"name": "Alice"}, {"name": "7"}]))
names.map(lambda row: {"n": int(row["name"])}, schema={"n": sf.Int64}).on_error("skip").collect()
job.run()
"""


def said(*arguments: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    return done.stderr.splitlines()


def test_a_program_of_its_own_hears_of_what_is_wrong_unless_it_has_said_what_it_wants() -> None:
    (line,) = said(STREAMFLOW_LOG_FORMAT="json")
    told = json.loads(line)
    assert (told["level"], told["job"], told["operator"], told["records"]) == (
        "warning",
        "program",
        "map-1",
        1,
    )
    assert len(said(STREAMFLOW_LOG_LEVEL="info")) > 3
    (line,) = said("WARNING")
    assert line.startswith("mine streamflow.records records skipped or sent to dead letters {")
    assert said("ERROR") == []
