"""Jobs that are started again in their process: from what, and what happens when that fails as well."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.disk import LocalDisk
from streamflow.errors import RecordError, StateError
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
    assert result.restarts == 3
    assert sorted(out.frame()["v"]) == list(range(ROWS))


def test_a_first_start_that_cannot_restore_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecordError):
        run(tmp_path, flaky_job(tmp_path, Flaky(1_500))[0], restart="none")
    disk = UnreadableManifests()
    disk.times = 1_000
    with pytest.raises(StateError, match="Input/output error"):
        run(tmp_path, flaky_job(tmp_path, Flaky(-1))[0], disk, restart="fixed")
    assert disk.times > 900
