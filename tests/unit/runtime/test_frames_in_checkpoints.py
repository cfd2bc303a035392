"""Large frames that stay from one checkpoint to the next are stored once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.disk import LocalDisk
from streamflow.errors import StateError
from streamflow.operators.contract.operator import OperatorSnapshot
from streamflow.runtime.checkpoints.snapshots import FRAMES, TABLE, OperatorShare
from streamflow.savepoints.shares import opened_parts, table_names
from streamflow.state.checkpoints.blobs import Stored
from streamflow.state.checkpoints.local_blobs import LocalBlobs
from streamflow.state.checkpoints.manifest import Manifest, OperatorEntry
from streamflow.state.checkpoints.store import CheckpointStore
from streamflow.state.checkpoints.tables import decode_table
from streamflow.state.operator_snapshot import Table
from streamflow.testing import TestClock


class Counting(LocalBlobs):
    """Counts the bytes of content that is stored."""

    written = 0

    def put(self, folder: str, chunks: Iterable[bytes]) -> Stored:
        stored = super().put(folder, chunks)
        self.written += stored.size
        return stored

    def taken(self) -> int:
        written, self.written = self.written, 0
        return written


def rows(first: int, count: int) -> pl.DataFrame:
    numbers = range(first, first + count)
    return pl.DataFrame({"k": [f"user-{number}" for number in numbers], "n": list(numbers)})


class Job:
    """Stores snapshots of one operator with one table."""

    def __init__(self, folder: Path) -> None:
        self.blobs = Counting(folder, LocalDisk())
        self.store = CheckpointStore(self.blobs, "job", clock=TestClock(), keep=100)
        self.store.claim()

    def checkpoint(self, table: Table) -> Manifest:
        writer = self.store.session(self.store.next_number())
        share = OperatorShare("window-1", range(128), OperatorSnapshot({}, {"panes": table}, ("k",)))
        operator = OperatorEntry("window-1", "window", 1, {}, (share.store(writer, 0),))
        return writer.publish(Manifest(writer.number, operators=(operator,)))

    def read(self, manifest: Manifest) -> list[tuple[int, pl.DataFrame]]:
        with opened_parts(self.store, manifest.operators[0]) as (parts, _):
            return list(parts[0].tables["panes"])


def apart(manifest: Manifest) -> list[str]:
    return [file.name for _, file in manifest.all_files() if file.name.startswith(FRAMES)]


def same(one: Table, other: Table) -> bool:
    return len(one) == len(other) and all(
        a[0] == b[0] and a[1].equals(b[1]) for a, b in zip(one, other, strict=True)
    )


def test_a_large_frame_that_stays_is_written_twice_and_then_named(tmp_path: Path) -> None:
    job = Job(tmp_path)
    large, larger = rows(0, 20_000), rows(100_000, 30_000)
    written: list[int] = []
    published: list[tuple[Manifest, Table]] = []
    for number in range(1, 6):
        table: Table = [(7, large), (7, rows(50_000 + number, 10)), (-8, larger)]
        published.append((job.checkpoint(table), table))
        written.append(job.blobs.taken())
    assert [apart(manifest) for manifest, _ in published] == [
        [],
        *[["frames/panes/0", "frames/panes/2"]] * 4,
    ]
    assert written[1] == pytest.approx(written[0], rel=0.01)
    assert max(written[2:]) < written[0] / 50
    for manifest, table in published:
        assert manifest.format == 2
        assert same(job.read(manifest), table)
        assert job.store.verify(manifest.number) == []
        assert table_names(manifest.operators[0]) == ["panes"]
        assert manifest.size > written[0] * 0.9


def test_frames_that_are_new_each_time_cost_no_files(tmp_path: Path) -> None:
    job = Job(tmp_path)
    for number in range(4):
        assert apart(job.checkpoint([(1, rows(number * 20_000, 20_000)), (2, rows(0, 1))])) == []


def test_a_new_generation_has_all_of_it(tmp_path: Path) -> None:
    job = Job(tmp_path)
    table = [(1, rows(0, 20_000))]
    for _ in range(9):
        job.checkpoint(table)
    job.blobs.taken()
    manifest = job.checkpoint(table)
    assert {file.generation for _, file in manifest.all_files()} == {10}
    assert job.blobs.taken() > 100_000
    assert same(job.read(manifest), table)


def test_a_missing_frame_is_told(tmp_path: Path) -> None:
    job = Job(tmp_path)
    table = [(1, rows(0, 20_000))]
    job.checkpoint(table)
    manifest = job.checkpoint(table)
    (file,) = [file for _, file in manifest.all_files() if file.name == TABLE + "panes"]
    data = job.store.read(file)
    with pytest.raises(StateError, match="frames/panes/0"):
        decode_table(data)
    with pytest.raises(StateError):
        decode_table(data.replace(b"SFT2", b"SFT1"), lambda _: b"")


KEYS, PASSES = 20_000, 3


def job_over(batches: int, counted: list[int]) -> tuple[sf.Job, Any]:
    """A count by key over many records, and over ten more for each further batch."""

    async def records(start: int) -> AsyncIterator[dict[str, Any]]:
        for number in range(KEYS + 10 * batches):
            if number >= start:
                yield {"k": f"user-{number % KEYS}", "at": number // KEYS}
                counted.append(number)
        if batches < PASSES:
            await asyncio.Event().wait()

    job = sf.Job("counting")
    schema = {"k": sf.String, "at": sf.Int64}
    stream = job.read(
        sf.source(records, schema=schema, bounded=batches == PASSES), event_time=sf.epoch("at", unit="s")
    ).named("records")
    windows = stream.key_by("k").window(sf.tumbling("1h")).aggregate(n=sf.count()).named("windows")
    return job, windows.collect()


@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_job_goes_on_from_frames_that_are_apart(parallelism: int, tmp_path: Path) -> None:
    async def first() -> None:
        handle = await job_over(0, [])[0].start(checkpoint_dir=str(tmp_path), checkpoint_interval="1h")
        while handle.status().records_read < KEYS:  # noqa: ASYNC110 — nothing tells
            await asyncio.sleep(0.005)
        for _ in range(3):
            await handle.checkpoint()
        await handle.stop()

    asyncio.run(first())
    store = CheckpointStore(LocalBlobs(tmp_path, LocalDisk()), "counting", clock=TestClock())
    assert len(apart(store.manifest(store.numbers()[-1]))) >= 1
    again: list[int] = []
    job, collected = job_over(PASSES, again)
    job.run(checkpoint_dir=str(tmp_path), parallelism=parallelism, mode="streaming")
    assert len(again) == 10 * PASSES
    counts = {row["k"]: row["n"] for row in collected.rows()}
    assert counts == {f"user-{number}": 1 + (number < 10 * PASSES) for number in range(KEYS)}
