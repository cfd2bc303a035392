"""Jobs that are started again in their process: from what, and what happens when that fails as well."""

from __future__ import annotations

import asyncio
import errno
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch
from urllib.error import URLError
from urllib.request import urlopen

import pytest

import streamflow as sf
from streamflow.disk import LocalDisk
from streamflow.errors import RecordError, StateError
from streamflow.runners import local
from streamflow.runtime.ports import Ports

ROWS = 2_000


class UnreadableManifests(LocalDisk):
    """Fails to read a manifest the next `times` times."""

    times = 0

    def read(self, path: Path) -> bytes:
        if self.times and "manifests" in path.parts:
            self.times -= 1
            raise OSError(errno.EIO, "Input/output error", str(path))
        return super().read(path)


class Flaky:
    """Fails once, at a call, and does something else then."""

    def __init__(self, at: int, then: Any = lambda: None) -> None:
        self.calls = 0
        self.at = at
        self.then = then

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        if self.calls == self.at:
            self.then()
            raise OSError("the service is away")
        return row


def checkpoints(base: Path) -> list[Path]:
    return list(base.glob("flaky/manifests/*"))


def flaky_job(base: Path, function: Flaky) -> tuple[sf.Job, Any]:
    """Half of the rows come once there is a checkpoint."""

    async def rows(start: int) -> AsyncIterator[dict[str, int]]:
        for value in range(start, ROWS):
            while value == ROWS // 2 and not checkpoints(base):  # noqa: ASYNC110 — files make no news
                await asyncio.sleep(0.001)
            yield {"v": value, "w": 0}

    job = sf.Job("flaky")
    read = job.read(sf.source(rows, schema={"v": sf.Int64, "w": sf.Int64}, bounded=True))
    out = read.map(function, schema={"v": sf.Int64, "w": sf.Int64}).select("v").collect()
    return job, out


def run(base: Path, job: sf.Job, disk: LocalDisk | None = None, **given: Any) -> Any:
    settings = {"mode": "streaming", "checkpoint_interval": "10ms", "batch_rows": 100, "restart_delay": "1ms"}
    ports = Ports(disk=disk)

    async def whole() -> Any:
        handle = await job.start(ports=ports, checkpoint_dir=str(base), **{**settings, **given})
        async with asyncio.timeout(30):
            return await handle.wait()

    try:
        return asyncio.run(whole())
    finally:
        ports.close()


def test_what_was_not_to_be_restored_is_not_restored_by_a_restart_either(tmp_path: Path) -> None:
    with pytest.raises(RecordError):
        run(tmp_path, flaky_job(tmp_path, Flaky(1_500))[0], restart="none")
    assert checkpoints(tmp_path)
    job, out = flaky_job(tmp_path, Flaky(50))
    result = run(tmp_path, job, restore="none", restart="fixed", checkpoint_interval="1h")
    assert result.restarts == 1
    assert sorted(out.frame()["v"]) == list(range(ROWS))


def test_a_restart_that_cannot_restore_is_tried_again(tmp_path: Path) -> None:
    disk = UnreadableManifests()
    job, out = flaky_job(tmp_path, Flaky(1_500, lambda: setattr(disk, "times", 2)))
    result = run(tmp_path, job, disk, restart="fixed")
    # One of the failing reads may be that of a checkpoint under way, which looks for what is to be removed.
    assert result.restarts in (2, 3)
    assert sorted(out.frame()["v"]) == list(range(ROWS))


def test_a_first_start_that_cannot_restore_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecordError):
        run(tmp_path, flaky_job(tmp_path, Flaky(1_500))[0], restart="none")
    disk = UnreadableManifests()
    disk.times = 1_000
    with pytest.raises(StateError, match="Input/output error"):
        run(tmp_path, flaky_job(tmp_path, Flaky(-1))[0], disk, restart="fixed")
    assert disk.times > 900


async def _started_over(base: Path, process: type[sf.KeyedProcess], delay: str) -> Any:
    """A job that has failed once and waits to start again."""

    async def rows(start: int) -> AsyncIterator[dict[str, int]]:
        for value in range(start, 1_000_000):
            yield {"k": value % 10, "n": value}
            await asyncio.sleep(0.001)

    job = sf.Job("flaky")
    source = sf.source(rows, schema={"k": sf.Int64, "n": sf.Int64})
    job.read(source).key_by("k").process(process).collect()
    handle = await job.start(
        checkpoint_dir=str(base), checkpoint_interval="1h", restart="fixed", restart_delay=delay
    )
    while handle.status().state != "restarting":  # noqa: ASYNC110 — it makes no news
        await asyncio.sleep(0.001)
    return handle


class FailsOnce(sf.KeyedProcess):
    """Fails at its twentieth event, the first time only; its instances that are in memory are in `alive`."""

    alive: ClassVar[weakref.WeakSet[sf.KeyedProcess]] = weakref.WeakSet()
    before: ClassVar[list[int]] = []
    """How many others were in memory when each was opened."""
    seen: ClassVar[int] = 0
    output: ClassVar[object] = {"n": sf.Int64}

    def open(self) -> None:
        type(self).before.append(len(self.alive))
        self.alive.add(self)

    def on_event(self, event: dict[str, Any], ctx: Any) -> None:
        type(self).seen += 1
        if self.seen == 20:
            raise OSError("the service is away")


def test_the_old_run_has_left_memory_when_the_next_begins(tmp_path: Path) -> None:
    async def whole() -> None:
        handle = await _started_over(tmp_path, FailsOnce, "1ms")
        while FailsOnce.seen < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await handle.stop()

    asyncio.run(whole())
    assert FailsOnce.before == [0, 0]


class AlwaysFails(sf.KeyedProcess):
    output: ClassVar[object] = {"n": sf.Int64}

    def on_event(self, event: dict[str, Any], ctx: Any) -> None:
        raise OSError("the service is away")


def test_a_job_that_waits_to_start_again_stops_at_once(tmp_path: Path) -> None:
    async def whole() -> Any:
        handle = await _started_over(tmp_path, AlwaysFails, "1h")
        async with asyncio.timeout(30):
            return await handle.stop()

    result = asyncio.run(whole())
    assert result.stopped
    assert any("stopped while it waited to start again" in note for note in result.notes)


def test_a_job_that_waits_to_start_again_is_drained_at_once(tmp_path: Path) -> None:
    async def whole() -> None:
        handle = await _started_over(tmp_path, AlwaysFails, "1h")
        async with asyncio.timeout(30):
            await handle.stop(drain=True)

    asyncio.run(whole())


class HoldsOn(LocalDisk):
    """Does not let go of a lock."""

    def lock(self, path: Path) -> Callable[[], None]:
        release = super().lock(path)

        def fail() -> None:
            release()
            raise OSError(errno.EIO, "Input/output error", str(path))

        return fail


def test_a_job_whose_checkpoints_cannot_be_let_go_of_gives_its_ports_back(tmp_path: Path) -> None:
    async def whole() -> str | None:
        job = sf.Job("flaky")
        job.read(sf.MemorySource([{"k": 1, "n": 2}])).collect()
        handle = await job.start(ports=ports, checkpoint_dir=str(tmp_path), metrics_port=0)
        with pytest.raises(OSError, match="Input/output error"):
            await handle.wait()
        return handle.metrics_url

    ports = Ports(disk=HoldsOn())
    try:
        url = asyncio.run(whole())
    finally:
        ports.close()
    with pytest.raises(URLError):
        urlopen(f"{url}/metrics", timeout=5)


def test_a_stop_that_has_to_wait_says_for_whom(caplog: pytest.LogCaptureFixture) -> None:
    async def whole() -> None:
        writing, written = asyncio.Event(), asyncio.Event()

        async def write(rows: list[Any]) -> None:
            writing.set()
            await written.wait()

        job = sf.Job("slow")
        job.read(sf.MemorySource([{"k": 1, "n": 2}])).named("numbers").write(sf.sink(write))
        handle = await job.start()
        await writing.wait()
        stopping = asyncio.create_task(handle.stop())
        while "the job is still stopping" not in caplog.messages:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        written.set()
        await stopping

    with patch.object(local, "_PATIENCE", 0.01):
        asyncio.run(whole())
    record = next(record for record in caplog.records if record.message == "the job is still stopping")
    assert record.told["waits_for"] == "numbers-0"  # type: ignore[attr-defined]
