"""Checkpoints whose files take long to store: reading goes on meanwhile. The clock is virtual, the disk slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import streamflow as sf
from streamflow.disk import LocalDisk
from streamflow.runtime.ports import Inline, Ports
from streamflow.testing import SteppedLoop, TestClock

SUBTASKS = 16
SECONDS = 10
LARGE = "x" * 40_000
"""Too much to be decoded on the event loop."""


class SlowDisk(LocalDisk):
    """A disk that takes a second to sync a file of a checkpoint."""

    def __init__(self) -> None:
        self.owed = 0.0
        """Seconds that what was called last would have taken."""

    def sync(self, path: Path) -> None:
        super().sync(path)
        self.owed += 1.0


class Pool(Inline):
    """Four threads on the virtual clock: a function takes as long as the disk that it uses."""

    def __init__(self, clock: TestClock, disk: SlowDisk) -> None:
        self._clock = clock
        self._disk = disk
        self._free = asyncio.Semaphore(4)

    async def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        async with self._free:
            result = function(*args)
            owed, self._disk.owed = self._disk.owed, 0.0
            if owed:
                await self._clock.sleep(owed)
            return result


class Count(sf.KeyedProcess):
    seen = sf.ValueState(int, default=0)
    output: ClassVar[object] = {"k": sf.Int64, "seen": sf.Int64}

    def on_event(self, event: dict[str, Any], ctx: sf.ProcessContext) -> None:
        self.seen.update((self.seen.value() or 0) + 1)


def longest_pause(folder: Path, *, one_pool: bool) -> tuple[float, int]:
    """The longest time between two records that were decoded, and how many checkpoints were taken."""
    clock, disk = TestClock(), SlowDisk()
    loop = SteppedLoop(clock)
    decoded: list[float] = []

    async def numbers(start: int) -> AsyncIterator[dict[str, Any]]:
        for number in range(start, SECONDS * 50):
            yield {"k": number % 64, "text": LARGE}
            await clock.sleep(0.02)

    def seen(row: dict[str, Any]) -> dict[str, int]:
        decoded.append(clock.monotonic())
        return {"k": row["k"]}

    async def nothing(rows: list[Any]) -> None:
        """Nobody reads them."""

    job = sf.Job("numbers")
    read = job.read(sf.source(numbers, schema={"k": sf.Int64, "text": sf.String}))
    keyed = read.map(seen, schema={"k": sf.Int64}).key_by("k")
    keyed.process(Count()).parallel(SUBTASKS).write(sf.sink(nothing))

    async def whole() -> int:
        ports = Ports(clock=clock, disk=disk, io=Pool(clock, disk), cpu=Inline())
        if not one_pool:
            for name in ("decoding", "output", "state", "uploads"):
                setattr(ports, name, Pool(clock, disk))
        settings: dict[str, Any] = {"state_backend": "memory", "checkpoint_interval": "1s"}
        handle = await job.start(ports=ports, checkpoint_dir=folder, **settings)
        return (await handle.wait()).checkpoint.taken

    try:
        taken = loop.run_virtually(whole())
    finally:
        loop.close_quietly()
    return max(after - before for before, after in pairwise(decoded)), taken


def test_reading_goes_on_while_files_are_stored(tmp_path: Path) -> None:
    pause, taken = longest_pause(tmp_path, one_pool=False)
    assert taken >= 1
    assert pause <= 0.2


def test_with_one_pool_for_everything_reading_would_stop(tmp_path: Path) -> None:
    pause, _ = longest_pause(tmp_path, one_pool=True)
    assert pause > 1
