"""Output that waits: a gigabyte sealed in one epoch, and a store that is away for ten epochs in a row."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamflow as sf
from benchmarks.figures import Figure
from reliability.account import Account
from reliability.inside import until
from streamflow.api.running import run_on_loop
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.stream_type import StreamType
from streamflow.errors import StateError
from streamflow.operators.contract.sink import Committable, Committer, Sink, SinkContext, SinkWriter
from streamflow.runners.local import LocalJob

SUBTASKS = 8
CHUNK_BYTES = 1 << 20
CHUNKS = 1_000
OUTAGES = 10


@dataclass(frozen=True, eq=False)
class Chunks(Sink):
    """Seals a chunk of memory for each row; what is committed are the rows whose chunk came back."""

    rows: list[int] = field(default_factory=list[int])
    delivery = "exactly_once"
    commits = "epoch"

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        return _Writer(ctx)

    def committer(self, ctx: SinkContext) -> Committer:
        return _Committer(self)


class _Writer:
    def __init__(self, ctx: SinkContext) -> None:
        self._ctx = ctx
        self._chunks: dict[int, bytes] = {}

    async def write(self, batch: AnyBatch) -> None:
        await self._ctx.room()
        assert isinstance(batch, FrameBatch)
        for n in batch.frame["n"]:
            self._chunks[n] = n.to_bytes(8, "big") + os.urandom(64) * (CHUNK_BYTES // 64)

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        chunks, self._chunks = self._chunks, {}
        return [{"rows": list(chunks), "chunks": list(chunks.values())}] if chunks else []

    async def close(self) -> None:
        """Nothing is open."""


class _Committer(Committer):
    def __init__(self, sink: Chunks) -> None:
        self._sink = sink

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        for one in committables:
            for n, chunk in zip(one["rows"], one["chunks"], strict=True):
                if int.from_bytes(chunk[:8], "big") == n and len(chunk) == CHUNK_BYTES + 8:
                    self._sink.rows.append(n)

    async def restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable] = ()
    ) -> None:
        self._sink.rows.clear()
        await self.commit(epoch, committables)


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part."""
    chunks = CHUNKS // 20 if quick else CHUNKS
    seconds, lost = run_on_loop(_one_epoch(folder / "epoch", chunks))
    refused, missing, restarts = run_on_loop(_outage(folder / "outage", chunks // 10))
    account.add(
        Figure("sealed in one epoch by 8 subtasks", chunks * CHUNK_BYTES / 2**20, "MiB"),
        Figure("until it was stored and committed", seconds, "s"),
        Figure("chunks lost or doubled, also after a restore", lost, "", "≤", 0),
        Figure("checkpoints that failed in a row", refused, "times", "≥", OUTAGES),
        Figure("rows lost or doubled by that", missing, "", "≤", 0),
        Figure("restarts by that", restarts, "", "≤", 0),
    )


async def _start(sink: Chunks, folder: Path, count: int, **settings: Any) -> LocalJob:
    async def rows(start: int) -> AsyncIterator[dict[str, int]]:
        for n in range(start, count):
            yield {"n": n}
        await asyncio.Event().wait()

    job = sf.Job("output")
    stream = job.read(sf.source(rows, schema={"n": sf.Int64}))
    stream.key_by("n").aggregate(seen=sf.count()).named("spread").write(sink)
    given: dict[str, Any] = {"checkpoint_interval": "1h", "mode": "streaming", **settings}
    return await job.start(checkpoint_dir=str(folder), parallelism=SUBTASKS, **given)


async def _one_epoch(folder: Path, chunks: int) -> tuple[float, int]:
    """How long its checkpoint took, and how many chunks did not come back."""
    sink = Chunks()
    handle = await _start(sink, folder, chunks)
    await until(lambda: handle.status().records_written == chunks)
    began = time.monotonic()
    await handle.checkpoint()
    seconds, lost = time.monotonic() - began, _wrong(sink, chunks)
    await handle.cancel()
    again = await _start(sink, folder, chunks)
    await until(lambda: again.status().state == "running")
    lost += _wrong(sink, chunks)
    await again.stop()
    return seconds, lost


async def _outage(folder: Path, chunks: int) -> tuple[int, int, int]:
    """How often a checkpoint was refused, how many rows are wrong in the end, and how often the job was restarted."""
    sink = Chunks()
    handle = await _start(sink, folder, chunks)
    await handle.checkpoint()
    blobs, refused = folder / "output" / "blobs", 0
    blobs.rename(blobs.with_name("away"))
    blobs.write_text("")
    for _ in range(OUTAGES):
        try:
            await handle.checkpoint()
        except StateError:
            refused += 1
    blobs.unlink()
    blobs.with_name("away").rename(blobs)
    await until(lambda: handle.status().records_written == chunks)
    await handle.checkpoint()
    result = await handle.stop()
    return refused, _wrong(sink, chunks), result.restarts


def _wrong(sink: Chunks, chunks: int) -> int:
    return abs(len(sink.rows) - chunks) + chunks - len(set(sink.rows))
