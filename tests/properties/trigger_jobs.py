"""Random jobs with triggers: windows of any kind in any of the ways to run a job, with and without a crash, against
their definition.

Where it is certain which records are there when a trigger is asked, every pane has to be that of the definition, and
every late record; elsewhere the laws of panes have to hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal

import polars as pl

import streamflow as sf
from streamflow.windows import triggers as tr
from streamflow.windows.assigners import Assigner, Cumulative, GlobalWindow, Session, Sliding, Tumbling
from tests.properties.fewest import fewest
from tests.properties.graph_jobs import Fails
from tests.properties.job_model import (
    EPOCH,
    MAX,
    Accumulation,
    Event,
    Way,
    arrivals,
    certain_batches,
    keyed,
    read,
    same,
    value_of,
)
from tests.properties.pane_laws import Place, broken
from tests.properties.trigger_model import Assigned, Fired, TriggeredModel, by_clock, lasts, random_trigger

__all__ = ["TriggeredJob", "random_job", "searched", "whole", "windowed", "windows_in"]

_HOUR = 3_600_000_000
_TRIES = 80
"""How often at most a failing job is run again to make it small."""
_ALL_TIME = 10_000


@dataclass(frozen=True)
class TriggeredJob:
    """Windows as they are written and what flows in. `unit`: the length of one unit of time in microseconds. `form`:
    whether the windows are the engine's own, those of a calendar, or those of a user's assigner."""

    records: tuple[Event, ...]
    bound: int
    assigner: Assigned
    trigger: tr.Trigger | None
    lateness: int
    accumulation: Accumulation
    form: Literal["built in", "calendar", "own", "own merge"] = "built in"
    unit: int = 1
    pane_info: bool = True
    late: bool = False
    timestamp: Literal["end", "earliest", "latest"] = "end"

    @property
    def merging(self) -> bool:
        return isinstance(self.assigner, Session)

    @property
    def asked(self) -> tr.Trigger:
        """The trigger, or that of windows without one."""
        return tr.DEFAULT if self.trigger is None else self.trigger


@dataclass(frozen=True)
class Run:
    """One way to run it. `fails_at`: the record at which the job fails once; None: never."""

    way: Way
    backend: str = "memory"
    memory_budget: int = 1 << 28
    fails_at: int | None = None


@dataclass(frozen=True)
class Spans(sf.WindowAssigner):
    """Sessions by hand."""

    merging = True
    gap: int

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        starts = times.to_physical()
        return starts, starts + self.gap


@dataclass(frozen=True)
class Chains(Spans):
    """The same, merged by hand."""

    def merge(self, starts: pl.Series, ends: pl.Series) -> tuple[pl.Series, pl.Series]:
        bounds: list[list[int]] = []
        for start, end in zip(starts, ends, strict=True):
            if bounds and start < bounds[-1][1]:
                bounds.append(bounds[-1])
                bounds[-1][1] = max(bounds[-1][1], end)
            else:
                bounds.append([start, end])
        return pl.Series([each[0] for each in bounds]), pl.Series([each[1] for each in bounds])


@dataclass(frozen=True)
class Stretches(sf.WindowAssigner):
    """The first `size` of every stretch of time are a window, and the rest of it is in none."""

    size: int
    every: int

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        at = times.to_physical()
        within = at % self.every
        starts = pl.select(pl.when(within < self.size).then(at - within)).to_series()
        return starts, starts + self.size


# Chance.


def random_job(random: Random, *, clock: bool) -> TriggeredJob:
    """Any windows under any trigger, and up to thirty records."""
    count, bound = random.choice([1, 3, 8, 20, 30]), random.choice([0, 0, 3, 10])
    disorder = random.choice([bound, bound, 2 * bound + 5])
    times = [random.randint(-20, 60) for _ in range(count)]
    records = [Event(random.choice("aaabc"), time, random.randint(-9, 9)) for time in times]
    records.sort(key=lambda event: event.ts + random.randint(0, disorder))
    form: Any = "built in"
    size, every = random.randint(1, 16), random.randint(1, 16)
    assigner: Assigned
    match random.randrange(8):
        case 0:
            assigner = Tumbling(size, random.randint(0, size - 1))
        case 1:
            assigner = Sliding(size, every, random.randint(0, every - 1))
        case 2:
            parts, step = random.randint(1, 4), random.randint(1, 6)
            assigner = Cumulative(parts * step, step, random.randint(0, step - 1))
        case 3 | 4:
            assigner = Session(random.randint(1, 9))
            form = random.choice(["built in", "built in", "own", "own merge"])
        case 5:
            assigner = GlobalWindow()
        case 6:
            assigner, form = Tumbling(24), "calendar"
        case _:
            every = max(size, every)
            assigner, form = Sliding(size, every), "own"
    timestamps: list[Any] = ["end"]
    if form in ("built in", "calendar"):
        timestamps += ["latest"] if isinstance(assigner, Session) else ["earliest", "latest"]
    return TriggeredJob(
        tuple(records),
        bound,
        assigner,
        None if random.random() < 0.1 else random_trigger(random, clock=clock),
        lateness=random.choice([0, 0, 4, 12, 1_000]),
        accumulation=random.choice(["accumulating", "discarding", "retracting"]),
        form=form,
        unit=_HOUR if form == "calendar" else 1,
        pane_info=random.random() < 0.8,
        late=random.random() < 0.3,
        timestamp=random.choice(["end", *timestamps]),
    )


def random_run(random: Random, *, certain: bool) -> Run:
    """Any way to run. `certain`: one in which it is certain what comes before what."""
    layout = random.choice(["columns", "columns", "functions", "objects"])
    parallelism, rows = random.randint(1, 4), random.choice([1, 2, 3, 5, 12, 1_000])
    if certain and layout != "columns":
        # A function is called with as many records at a time as it is fast, and what is behind it gets these.
        parallelism, rows = 1, 1
    way = Way(
        mode=random.choice(["streaming", "streaming", "micro-batch", "batch"]),
        parallelism=parallelism,
        rows=rows,
        slices=random.choice([1, 1, 2, 3, 1_000]),
        layout=layout,  # type: ignore[arg-type]
        one_reader=certain,
    )
    return Run(
        way,
        backend=random.choice(["memory", "memory", "rocksdb"]),
        memory_budget=random.choice([100, 5_000, 1 << 28]),
        fails_at=random.choice([None, None, random.randint(1, 30)]),
    )


# Writing and running it.


def written(job: TriggeredJob) -> Assigner:
    """The windows as a user writes them."""
    unit = job.unit
    match job.assigner:
        case Session(gap) if job.form != "built in":
            return (Spans if job.form == "own" else Chains)(gap * unit)
        case Sliding(size, every) if job.form == "own":
            return Stretches(size * unit, every * unit)
        case Tumbling() if job.form == "calendar":
            return sf.calendar("1d", tz="UTC")
        case assigner:
            return assigner


def windowed(job: TriggeredJob, stream: sf.Stream, way: Way) -> Any:
    """Count and sum by key and window of a stream of records."""
    return (
        keyed(stream, way)
        .window(
            written(job),
            trigger=job.trigger,
            allowed_lateness=timedelta(microseconds=job.lateness * job.unit),
            accumulation=job.accumulation,
            pane_info=job.pane_info,
            timestamp=job.timestamp,
        )
        .aggregate(n=sf.count(), total=sf.sum(value_of(way)))
    )


@dataclass(frozen=True)
class Outcome:
    rows: list[Fired]
    late: list[Event]
    dropped: int


def outcome(job: TriggeredJob, run: Run, folder: Path) -> Outcome:
    """The outcome of one run of the job."""
    way, unit = run.way, job.unit
    made = sf.Job("triggers")
    scaled = [event._replace(ts=event.ts * unit) for event in job.records]
    stream = read(made, scaled, way, bound=job.bound * unit)
    settings: dict[str, Any] = {
        **way.settings,
        "state_backend": run.backend,
        "state_dir": str(folder / "state"),
        "memory_budget": run.memory_budget,
    }
    if run.fails_at is not None:
        # Beside the windows, which get their batches as they are.
        stream.map(Fails(run.fails_at), schema=sf.OBJECTS).collect()
        settings |= {
            "checkpoint_dir": str(folder / "checkpoints"),
            "checkpoint_interval": "2ms",
            "restart": "fixed",
            "restart_delay": "1ms",
        }
    results = windowed(job, stream, way)
    out = results.collect()
    missed = results.late.collect() if job.late else None
    with certain_batches(certain=way.one_reader):
        result = made.run(**settings)
    return Outcome(
        windows_in(out.rows(), unit),
        [Event(row["key"], row["ts"] // unit, row["value"]) for row in (missed.rows() if missed else [])],
        result.dropped,
    )


def windows_in(rows: Sequence[dict[str, Any]], unit: int) -> list[Fired]:
    """The rows of a run; those without pane info have none of it."""

    def bound(row: dict[str, Any], name: str, otherwise: int) -> int:
        return (row[name] - EPOCH) // timedelta(microseconds=unit) if name in row else otherwise

    return [
        Fired(
            str(row.get("change", "insert")),
            row["key"],
            bound(row, "window_start", -MAX),
            bound(row, "window_end", MAX),
            row["n"],
            row["total"],
            *(row.get(name) for name in ("pane_timing", "pane_index", "is_first", "is_last")),  # type: ignore[arg-type]
        )
        for row in rows
    ]


# What it has to give.


def definitions(job: TriggeredJob, way: Way) -> Iterator[TriggeredModel]:
    """The model after all records. In batch mode all are there before the first window ends, and no trigger is asked.
    In micro-batch mode there may be two: an epoch that takes the last records ends, or the input does."""
    steps = [(job.records, MAX)] if way.mode == "batch" else list(arrivals(job.records, way, job.bound))
    yield _defined(job, steps, asks=way.mode != "batch")
    if way.mode == "micro-batch" and steps[-2][1] is not None:
        yield _defined(job, [*steps[:-2], (steps[-2][0], None), steps[-1]], asks=True)


def _defined(
    job: TriggeredJob, steps: Sequence[tuple[Sequence[Event], int | None]], *, asks: bool
) -> TriggeredModel:
    model = TriggeredModel(job.assigner, job.asked if asks else tr.never(), job.lateness, job.accumulation)
    for records, watermark in steps:
        if records:
            model.batch(records)
        if watermark is not None:
            model.advance(watermark)
    return model


def whole(job: TriggeredJob, records: Sequence[Event]) -> dict[Place, tuple[int, int]]:
    """Number and sum of the records of each window, of which none is late."""
    model = TriggeredModel(job.assigner, tr.never(), 0, "accumulating")
    model.batch(records)
    model.advance(MAX)
    return {(row.key, row.start, row.end): (row.n, row.total) for row in model.fired}


def difference(job: TriggeredJob, run: Run, folder: Path) -> str | None:
    """How what the job gives differs from what it has to give; None where it does not."""
    certain = run.way.one_reader and not (by_clock(job.trigger) and run.way.mode != "batch")
    try:
        got = outcome(job, run, folder)
    except Exception as error:  # noqa: BLE001 — any failure is a difference
        return f"{type(error).__name__}: {error}"
    if not certain:
        return broken(
            got.rows,
            whole(job, job.records),
            job.accumulation,
            lasts=lasts(job.asked),
            merging=job.merging,
            told=job.pane_info,
        )
    told = [_differing(job, run, got, model) for model in definitions(job, run.way)]
    return None if None in told else told[0]


def _differing(job: TriggeredJob, run: Run, got: Outcome, model: TriggeredModel) -> str | None:
    wanted = model.fired
    if not job.pane_info:
        wanted = [Fired(*row[:6], None, None, None, None) for row in wanted]  # type: ignore[arg-type]
    if not same(got.rows, wanted):
        missing, more = _without(wanted, got.rows), _without(got.rows, wanted)
        return f"missing {missing[:3]}, and too many {more[:3]}"
    if job.late and not same(got.late, model.late):
        return f"late are {got.late}, and not {model.late}"
    dropped = model.refused + (0 if job.late else len(model.late))
    if run.fails_at is None and got.dropped != dropped:
        return f"{got.dropped} are dropped, and not {dropped}"
    return None


def _without(rows: Sequence[Fired], others: Sequence[Fired]) -> list[Fired]:
    return [*(Counter(rows) - Counter(others)).elements()]


def searched(seed: int, folder: Path) -> str | None:
    """One random job, run in one random way: what is wrong with it, with as few of its records as that takes; None if
    nothing is. Works in new folders below `folder`."""
    random = Random(seed)
    certain = random.random() < 0.7
    job = random_job(random, clock=not certain)
    run = random_run(random, certain=certain)
    if not certain:
        # Nothing is late: how far the watermark has come when a record arrives depends on the machine.
        job = replace(job, lateness=_ALL_TIME)
    wrong = difference(job, run, folder / "first")
    if wrong is None:
        return None
    job = _smaller(job, run, folder)
    wrong = difference(job, run, folder / "last") or f"{wrong} (not every time)"
    return f"job {seed}: {wrong}\n{job}\n{run}"


def _smaller(job: TriggeredJob, run: Run, folder: Path) -> TriggeredJob:
    """The job without the records that it takes not to be right."""
    tried = 0

    def still_wrong(records: list[Event]) -> bool:
        nonlocal tried
        tried += 1
        fewer = replace(job, records=tuple(records))
        return (
            len(records) > 0
            and tried <= _TRIES
            and difference(fewer, run, folder / f"try{tried}") is not None
        )

    return replace(job, records=tuple(fewest(job.records, still_wrong)))
