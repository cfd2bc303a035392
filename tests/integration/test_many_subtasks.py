"""Many subtasks with keyed state in one process: the files that they hold open, and the memory that they share."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

import streamflow as sf
from streamflow.runtime import assembly
from streamflow.runtime.task.chain import Chain
from streamflow.state.backends.growing import GrowingBackend

PARALLELISM = 20
OPERATORS = 4
SCHEMA = {"k": sf.Int64, "n": sf.Int64}
MOST_FILES = 100


def open_files() -> int:
    """The number of files that this process holds open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Count(sf.KeyedProcess):
    """Counts the records of each key and passes them on."""

    seen = sf.ValueState(int, default=0)
    output: ClassVar[object] = SCHEMA

    def on_event(self, event: dict[str, Any], ctx: sf.ProcessContext) -> None:
        self.seen.update((self.seen.value() or 0) + 1)
        ctx.emit({"k": event["k"], "n": event["n"]})


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
def test_many_subtasks_hold_few_files_open(tmp_path: Path) -> None:
    before = open_files()
    most = 0
    written = 0

    async def take(rows: list[Any]) -> None:
        nonlocal most, written
        most = max(most, open_files() - before)
        written += len(rows)

    job = sf.Job("many")
    stream = job.read(sf.MemorySource([{"k": n % 1_000, "n": n} for n in range(2_000)], batch_rows=400))
    for _ in range(OPERATORS):
        stream = stream.key_by("k").process(Count())
    stream.write(sf.sink(take))

    async def whole() -> Any:
        settings: dict[str, Any] = {"mode": "streaming", "checkpoint_interval": "100ms"}
        handle = await job.start(parallelism=PARALLELISM, checkpoint_dir=tmp_path, **settings)
        return await handle.wait()

    result = asyncio.run(whole())
    assert written == 2_000
    assert result.checkpoint.failed == 0
    assert 0 < most <= MOST_FILES


def test_other_tasks_go_on_while_subtasks_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop turns between two of them: a job in an application that serves requests does not hold these up."""
    turn = 0
    made: list[int] = []

    def noting(*args: Any, **options: Any) -> Chain:
        made.append(turn)
        return Chain(*args, **options)

    async def turning() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(assembly, "Chain", noting)
    job = sf.Job("many")
    stream = job.read(sf.MemorySource([{"k": n, "n": n} for n in range(20)]))
    for _ in range(OPERATORS):
        stream = stream.key_by("k").process(Count())
    kept = stream.collect()

    async def whole() -> None:
        other = asyncio.create_task(turning())
        await (await job.start(mode="streaming", parallelism=PARALLELISM)).wait()
        other.cancel()

    asyncio.run(whole())
    assert len(kept.rows()) == 20
    # The key is the same for all operators, so that they run in one task, beside the source's.
    assert len(made) >= PARALLELISM
    assert len(set(made)) == len(made)


def test_the_loop_turns_while_state_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closing, turned = threading.Event(), threading.Event()
    turned_meanwhile: list[bool] = []
    close = GrowingBackend.close

    def slow(backend: GrowingBackend) -> None:
        closing.set()
        turned_meanwhile.append(turned.wait(5))
        close(backend)

    monkeypatch.setattr(GrowingBackend, "close", slow)
    job = sf.Job("closed")
    job.read(sf.MemorySource([{"k": 1, "n": 1}])).key_by("k").process(Count()).collect()

    async def whole() -> None:
        handle = await job.start(mode="streaming")
        assert await asyncio.to_thread(closing.wait, 30)
        turned.set()
        await handle.wait()

    asyncio.run(whole())
    assert turned_meanwhile
    assert all(turned_meanwhile)
