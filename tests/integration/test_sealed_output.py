"""Sealed output of any size goes through checkpoints; while none can be stored, nothing is lost and nothing ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.sink import Committable, Committer, Sink, SinkContext, SinkWriter
from streamflow.runners.local import LocalJob

MANY = 70 << 20
"""More bytes than one packed value may have."""


@dataclass(frozen=True, eq=False)
class Outbox(Sink):
    """Seals an epoch's rows into memory, each with so many `padding` bytes, as a sink for a log does."""

    padding: int = 0
    visible: dict[str, list[int]] = field(default_factory=dict[str, "list[int]"])
    most_held: list[int] = field(default_factory=lambda: [0])
    delivery = "exactly_once"
    commits = "epoch"

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        return _Writer(self, ctx)

    def committer(self, ctx: SinkContext) -> Committer:
        return _Committer(self)

    def rows(self) -> list[int]:
        return sorted(n for rows in self.visible.values() for n in rows)


class _Writer:
    def __init__(self, sink: Outbox, ctx: SinkContext) -> None:
        self._sink, self._ctx, self._rows = sink, ctx, list[int]()

    async def write(self, batch: AnyBatch) -> None:
        await self._ctx.room()
        assert isinstance(batch, FrameBatch)
        self._rows += batch.frame["id"].to_list()

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        rows, self._rows = self._rows, []
        chunks = await self._ctx.run_blocking(
            lambda: [bytes([row % 256]) * self._sink.padding for row in rows]
        )
        return (
            [{"name": f"{epoch}-{self._ctx.subtask}", "rows": rows, "parts": [{"chunks": chunks}]}]
            if rows
            else []
        )

    async def close(self) -> None:
        """Nothing is open."""


class _Committer(Committer):
    def __init__(self, sink: Outbox) -> None:
        self._sink = sink

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        for one in committables:
            (part,) = one["parts"]
            assert [chunk[0] for chunk in part["chunks"]] == [row % 256 for row in one["rows"]]
            assert {len(chunk) for chunk in part["chunks"]} == {self._sink.padding}
            self._sink.visible[one["name"]] = one["rows"]

    async def restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable] = ()
    ) -> None:
        await self.commit(epoch, committables)


def numbers(count: int, *, ends: bool = False, seen: Callable[[int], None] = lambda n: None) -> Any:
    async def rows(start: int) -> AsyncIterator[dict[str, int]]:
        for n in range(start, count):
            seen(n)
            yield {"id": n}
            await asyncio.sleep(0)
        if not ends:
            await asyncio.Event().wait()

    return sf.source(rows, schema={"id": sf.Int64}, bounded=ends)


async def start(sink: Sink, source: Any, folder: Path, **settings: Any) -> LocalJob:
    job = sf.Job("sealed")
    job.read(source).write(sink)
    settings = {"checkpoint_interval": "1h", "mode": "streaming", **settings}
    return await job.start(checkpoint_dir=str(folder), **settings)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 — nothing tells
            await asyncio.sleep(0.005)


class Away:
    """The place of checkpoints' contents, which cannot be reached meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "sealed" / "blobs"

    def __enter__(self) -> None:
        self._blobs.rename(self._blobs.with_name("away"))
        self._blobs.write_text("")

    def __exit__(self, *_: object) -> None:
        self._blobs.unlink()
        self._blobs.with_name("away").rename(self._blobs)


def test_an_epoch_of_more_than_a_packed_value_is_published_and_goes_on(tmp_path: Path) -> None:
    sink = Outbox(MANY // 10)

    async def run() -> None:
        handle = await start(sink, numbers(10), tmp_path)
        await until(lambda: handle.status().records_written == 10)
        await handle.checkpoint()
        assert sink.rows() == list(range(10))
        sink.visible.clear()  # as if it had been killed before the commit
        await handle.cancel()
        await (await start(sink, numbers(10, ends=True), tmp_path)).wait()

    asyncio.run(run())
    assert sink.rows() == list(range(10))


def test_ten_checkpoints_that_fail_in_a_row_lose_nothing_and_end_nothing(tmp_path: Path) -> None:
    sink = Outbox(100_000)

    async def run() -> None:
        handle = await start(sink, numbers(200), tmp_path)
        await handle.checkpoint()
        with Away(tmp_path):
            for _ in range(10):
                with pytest.raises(sf.StateError):
                    await handle.checkpoint()
        await until(lambda: handle.status().records_written == 200)
        await handle.checkpoint()
        result = await handle.stop()
        assert result.restarts == 0

    asyncio.run(run())
    assert sink.rows() == list(range(200))


def test_while_checkpoints_fail_the_source_is_held_back(tmp_path: Path) -> None:
    sink, padding = Outbox(10_000), 10_000
    read = [0]

    async def run() -> None:
        source = numbers(10**9, seen=lambda n: read.__setitem__(0, n))
        settings: dict[str, Any] = {"output_backlog": 100 * padding, "batch_rows": 10, "channel_rows": 10}
        handle = await start(sink, source, tmp_path, checkpoint_interval="10ms", read_ahead=1, **settings)
        await until(lambda: handle.status().checkpoint is not None and len(sink.visible) > 2)
        with Away(tmp_path):
            held = before = 0
            for _ in range(8):
                with pytest.raises(sf.StateError):
                    await handle.checkpoint()
                held, before = read[0], held
            # What was on its way when the barrier came, and no more.
            assert held - before < 50
        await handle.checkpoint()
        await handle.stop()

    asyncio.run(run())
    assert sink.rows() == list(range(len(sink.rows())))


def test_a_savepoint_leaves_out_what_is_visible(tmp_path: Path) -> None:
    sink = Outbox(MANY // 10)

    async def run() -> str:
        handle = await start(sink, numbers(10), tmp_path / "checkpoints")
        await until(lambda: handle.status().records_written == 10)
        place = await handle.savepoint(str(tmp_path / "saves"))
        await handle.stop()
        return place

    place = asyncio.run(run())
    size = sum(path.stat().st_size for path in (tmp_path / "saves").rglob("*") if path.is_file())
    assert size < 100_000
    sink.visible.clear()

    async def again() -> None:
        await (await start(sink, numbers(12, ends=True), tmp_path / "elsewhere", restore=place)).wait()

    asyncio.run(again())
    assert sink.rows() == [10, 11]
