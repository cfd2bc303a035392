"""Jobs whose checkpoints are fuzzed: between them they have a file of every kind that a checkpoint can have."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

import streamflow as sf
from streamflow.core.elements import AnyBatch
from streamflow.core.schema import CHANGE
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.sink import Committable, Committer, Sink, SinkContext, SinkWriter
from streamflow.runtime.ports import Inline, Ports
from streamflow.testing.rows import values_of
from streamflow.testing.simulation.disk import SimDisk

__all__ = ["JOBS", "PLACE", "Case", "made", "ports", "run_to_end"]

PLACE = Path("/checkpoints")
ROWS = 60
LET = [ROWS]
"""How many events are there so far."""
ENDS_WITHIN_SECONDS = 120.0
LARGE = 70_000
"""Bytes that an epoch's output has more than a list of output takes in."""
SCHEMA = {"at": sf.Int64, "k": sf.String, "v": sf.Int64}
EVENTS = [{"at": n * 400 + n * 7919 % 900, "k": f"k{n % 5}", "v": n * 37 % 100} for n in range(ROWS)]


@dataclass(frozen=True, eq=False)
class Outbox(Sink):
    """Seals rows into the checkpoint itself, as a sink for a log does, each with `padding` bytes."""

    padding: int = 0
    visible: dict[str, list[Any]] = field(default_factory=dict[str, "list[Any]"])
    delivery = "exactly_once"
    commits = "epoch"

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        return _Writer(self, ctx)

    def committer(self, ctx: SinkContext) -> Committer:
        return _Committer(self)

    def describe(self) -> str:
        return "Outbox()"


class _Writer:
    def __init__(self, sink: Outbox, ctx: SinkContext) -> None:
        self._sink, self._ctx, self._rows = sink, ctx, list[Any]()

    async def write(self, batch: AnyBatch) -> None:
        self._rows += values_of(batch)

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        rows, self._rows = self._rows, []
        name = f"{self._ctx.operator_id}-{epoch:04}-{self._ctx.subtask}"
        return [{"name": name, "rows": rows, "padding": bytes(self._sink.padding)}] if rows else []

    async def close(self) -> None:
        """Nothing is open."""


class _Committer(Committer):
    def __init__(self, sink: Outbox) -> None:
        self._sink = sink

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        for one in committables:
            self._sink.visible[one["name"]] = list(one["rows"])

    async def restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable] = ()
    ) -> None:
        for name in [name for name in self._sink.visible if int(name.rsplit("-", 2)[1]) > epoch]:
            del self._sink.visible[name]
        await self.commit(epoch, committables)


async def _events(start: int) -> AsyncIterator[dict[str, Any]]:
    for number in range(start, ROWS):
        while number >= LET[0]:  # noqa: ASYNC110 — several jobs share it, each on a loop of its own
            await asyncio.sleep(0.001)
        yield EVENTS[number]


def _read(job: sf.Job, source: Any = None) -> sf.Stream:
    return job.read(
        source or sf.source(_events, schema=SCHEMA, bounded=True),
        event_time=sf.epoch("at", unit="ms"),
        watermark=sf.bounded_disorder("1s"),
    )


class Everything(sf.KeyedProcess):
    """State of every kind, a TTL, and timers of both kinds."""

    last = sf.ValueState(int, default=0)
    by_ten = sf.MapState(int, str)
    seen = sf.ListState(int)
    largest = sf.ReducingState(int, max)
    brief = sf.ValueState(str, ttl="10s")
    output: ClassVar[object] = {"k": sf.String, "n": sf.Int64, "largest": sf.Int64}

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.last.update(event["v"])
        self.by_ten.put(event["v"] // 10, f"v{event['v']}")
        self.seen.add(event["v"])
        self.largest.add(event["v"])
        self.brief.update("x" * (event["v"] % 7))
        ctx.set_timer(timedelta(seconds=2))
        ctx.set_processing_timer("1d")

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        ctx.emit({"k": ctx.key, "n": len(list(self.seen.get())), "largest": self.largest.get()})


async def _asked(row: Any) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"k": row["k"], "twice": row["v"] * 2}


def windows(sink: Callable[[], Sink], folder: Path) -> sf.Job:
    """Windows of three kinds and running totals, in tables and values."""
    job = sf.Job("windows")
    keyed = _read(job).key_by("k")
    totals = {"n": sf.count(), "total": sf.sum("v"), "mean": sf.mean("v"), "distinct": sf.n_unique("v")}
    late = {"allowed_lateness": "2s", "accumulation": "retracting"}
    keyed.window(sf.tumbling("5s"), **late).aggregate(**totals).write(sink())  # type: ignore[arg-type]
    keyed.window(sf.sliding("6s", every="2s")).aggregate(n=sf.count()).write(sink())
    keyed.window(sf.session(gap="800ms"), allowed_lateness="1s").aggregate(**totals).write(sink())
    keyed.aggregate(n=sf.count(), total=sf.sum("v")).write(sink())
    return job


def processes(sink: Callable[[], Sink], folder: Path) -> sf.Job:
    """Two processes with keyed state, and one that is told rules; events that wait for their turn."""
    job = sf.Job("processes")
    keyed = _read(job).key_by("k")
    keyed.process(Everything).write(sink())
    keyed.process(Everything, order="event_time").write(sink())
    keyed.reduce(lambda one, other: {**other, "v": one["v"] + other["v"]}).write(sink())
    return job


def files(sink: Callable[[], Sink], folder: Path) -> sf.Job:
    """A job that reads files and memory, has requests under way, and keeps output in files of the checkpoint's own."""
    job = sf.Job("files")
    if not list(folder.glob("*.ndjson")):
        for number in range(3):
            pl.DataFrame(EVENTS[number::3]).write_ndjson(folder / f"{number}.ndjson")
    read = _read(job, sf.FileSource(str(folder / "*.ndjson"), schema=SCHEMA))
    read.map_async(_asked, schema={"k": sf.String, "twice": sf.Int64}).write(sink())
    _read(job, sf.MemorySource(pl.DataFrame(EVENTS), schema=SCHEMA)).select("k", "v").write(sink())
    return job


JOBS: Mapping[str, Callable[[Callable[[], Sink], Path], sf.Job]] = {
    "windows": windows,
    "processes": processes,
    "files": files,
}
PADDED = {"files"}


@dataclass
class Case:
    """A job, and all that lies below its checkpoints' place after it was killed with two of them taken."""

    name: str
    job: sf.Job
    sinks: list[Outbox]
    stored: dict[Path, bytes]
    visible: list[dict[str, list[Any]]]
    """The rows that each sink had made visible by then."""
    settings: Mapping[str, Any]
    right: list[Counter[str]] = field(default_factory=list["Counter[str]"])
    """The rows that each sink has to have made visible in the end."""

    def again(self) -> None:
        """Put the sinks back to where they were when the job was killed."""
        for sink, visible in zip(self.sinks, self.visible, strict=True):
            sink.visible.clear()
            sink.visible.update({name: list(rows) for name, rows in visible.items()})

    def results(self) -> list[Counter[str]]:
        """The visible rows of each sink: how often each is there when all changes have been made."""
        found: list[Counter[str]] = []
        for sink in self.sinks:
            there: Counter[str] = Counter()
            for row in chain.from_iterable(sink.visible.values()):
                values = {name: _shown(value) for name, value in row.items() if name != CHANGE}
                there[str(values)] += -1 if row.get(CHANGE) in ("update_before", "delete") else 1
            found.append(Counter({row: times for row, times in there.items() if times}))
        return found


def _shown(value: Any) -> str:
    """The same for UTC by whichever of its names."""
    return value.isoformat() if isinstance(value, datetime) else repr(value)


def made(name: str, folder: Path, *, parallelism: int = 2) -> Case:
    """Run a job until it has taken two checkpoints, and end it there."""
    sinks: list[Outbox] = []

    def sink() -> Outbox:
        sinks.append(Outbox(LARGE if name in PADDED and not sinks else 0))
        return sinks[-1]

    folder.mkdir(parents=True, exist_ok=True)
    job = JOBS[name](sink, folder)
    settings = {
        "mode": "streaming",
        "parallelism": parallelism,
        "state_backend": "memory",
        "batch_rows": 4,
        "checkpoint_dir": str(PLACE),
        "checkpoint_interval": "1h",
        "restart": "none",
        "read_ahead": 1,
    }
    case = Case(name, job, sinks, {}, [], settings)
    disk = SimDisk()
    with suppress(_Killed):
        asyncio.run(_half(case, disk))
    case.stored = {path: disk.read(path) for path in disk.files_below(PLACE)}
    case.visible = [{name: list(rows) for name, rows in sink.visible.items()} for sink in sinks]
    for each in sinks:
        each.visible.clear()
    asyncio.run(run_to_end(case, ports(SimDisk())))
    case.right = case.results()
    return case


class _Killed(KeyboardInterrupt):
    """The process is gone."""


async def _half(case: Case, disk: SimDisk) -> None:
    """Until the second checkpoint has been published and what it sealed is visible."""
    commits = 0

    def reach(point: str) -> None:
        nonlocal commits
        commits += point == "commit.after"
        if commits == 2:
            raise _Killed

    handle = await case.job.start(ports=ports(disk, reach), **case.settings)
    try:
        for limit in (ROWS // 3, ROWS * 2 // 3):
            LET[0] = limit
            while handle.status().records_read < min(limit, ROWS // 3):
                await asyncio.sleep(0)
                if handle.status().state == "failed":
                    await handle.wait()
            await handle.checkpoint()
    finally:
        LET[0] = ROWS


async def run_to_end(case: Case, given: Ports) -> None:
    """Run the job from what lies there to its end."""
    async with asyncio.timeout(ENDS_WITHIN_SECONDS):
        handle = await case.job.start(ports=given, **case.settings)
        await handle.wait()


def ports(disk: SimDisk, reach: Callable[[str], None] | None = None) -> Ports:
    """Everything in memory and in one thread."""
    return Ports(disk=disk, io=Inline(), cpu=Inline(), reach=reach or (lambda point: None))
