"""A job that goes on from a checkpoint reads each stored file once, at its own parallelism and at another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import streamflow as sf
from streamflow.disk import LocalDisk
from streamflow.runtime.ports import Ports

KEYS = 10_000
SCHEMA = {"k": sf.Int64, "at": sf.Int64}


class Reads(LocalDisk):
    """Counts how often each stored file is read."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()

    def read(self, path: Path) -> bytes:
        self._note(path)
        return super().read(path)

    def chunks(self, path: Path) -> Iterator[bytes]:
        self._note(path)
        return super().chunks(path)

    def _note(self, path: Path) -> None:
        if "blobs" in path.parts:
            self.times["/".join(path.parts[-2:])] += 1


class Latest(sf.KeyedProcess):
    """Keeps a text for each key and passes the records on."""

    text = sf.ValueState(str, default="")
    output: ClassVar[object] = {"k": sf.Int64}

    def on_event(self, event: dict[str, Any], ctx: sf.ProcessContext) -> None:
        self.text.update(f"{self.text.value()}{event['k']} and so on")
        ctx.emit({"k": event["k"]})


def job_of() -> sf.Job:
    async def numbers(start: int) -> AsyncIterator[dict[str, int]]:
        for number in range(start, KEYS):
            yield {"k": number, "at": number}
        await asyncio.Event().wait()  # more may come

    job = sf.Job("reads")
    rows = job.read(sf.source(numbers, schema=SCHEMA), event_time=sf.epoch("at", unit="s"))
    rows.key_by("k").process(Latest()).key_by("k").aggregate(n=sf.count()).collect()
    return job


async def run(place: Path, disk: LocalDisk, parallelism: int, records: int) -> Any:
    ports = Ports(disk=disk)
    try:
        handle = await job_of().start(
            mode="streaming",
            ports=ports,
            parallelism=parallelism,
            checkpoint_dir=place,
            checkpoint_interval="1h",
            checkpoint_keep=1,
            memory_budget="1MB",
        )
        while handle.status().records_read < records:  # noqa: ASYNC110 — a job tells nobody
            await asyncio.sleep(0.01)
        await handle.checkpoint()
        return await handle.stop()
    finally:
        ports.close()


@pytest.mark.parametrize("parallelism", [2, 3, 1])
def test_each_stored_file_is_read_once(tmp_path: Path, parallelism: int) -> None:
    asyncio.run(run(tmp_path, LocalDisk(), 2, KEYS))
    stored = {"/".join(path.parts[-2:]) for path in tmp_path.glob("reads/blobs/*/*")}
    assert len(stored) > 10
    disk = Reads()
    asyncio.run(run(tmp_path, disk, parallelism, 0))
    assert {name: times for name, times in disk.times.items() if name in stored} == dict.fromkeys(stored, 1)
