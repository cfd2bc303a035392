"""A random job graph as a job: built as a user would write it, run in one way, compared with what it has to give."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import polars as pl

import streamflow as sf
from streamflow import col
from tests.properties.fewest import fewest
from tests.properties.graph_oracle import CHOOSE, changed, evaluated, half, larger, listed, repeated
from tests.properties.graph_panes import settled
from tests.properties.graph_programs import (
    Program,
    Run,
    Step,
    random_program,
    random_run,
    without_step,
)
from tests.properties.on_workers import run_on_workers
from tests.properties.spread import Spread

__all__ = ["OPEN_FAULTS", "built", "compared", "difference", "searched"]

Row = dict[str, Any]
_TRIES = 120
"""How often at most a failing graph is run again to make it small."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIELDS = {"k": sf.String, "j": sf.Int64, "v": sf.Int64, "f": sf.Float64, "b": sf.Boolean}

OPEN_FAULTS: Mapping[str, Callable[[Program, Run], bool]] = {}
"""Known faults, by reason: such graphs are left out until the fault is mended."""


# Writing the job.

_CHOICES: dict[str, pl.Expr] = {
    "not_threes": col("v") % 3 != 0,
    "some_j": col("j") > 1,
    "has_key": col("k").is_not_null(),
    "not_negative": col("f") >= 0,
    "true": col("b"),
}


class _Distance(Spread):
    """As SQL has it: null where there is no value."""

    def result(self, accumulator: list[int]) -> int | None:
        return super().result(accumulator) if accumulator else None


_AGGREGATES: dict[str, tuple[str | None, Callable[[Any], Any]]] = {
    "count": (None, lambda _: sf.count()),
    "count_v": ("v", sf.count),
    "sum_v": ("v", sf.sum),
    "sum_f": ("f", sf.sum),
    "sum_b": ("b", sf.sum),
    "mean_v": ("v", sf.mean),
    "min_v": ("v", sf.min),
    "max_f": ("f", sf.max),
    "min_k": ("k", sf.min),
    "max_k": ("k", sf.max),
    "first_v": ("v", sf.first),
    "last_k": ("k", sf.last),
    "std_v": ("v", sf.std),
    "var_f": ("f", sf.var),
    "any_b": ("b", sf.any),
    "all_b": ("b", sf.all),
    "n_unique_k": ("k", sf.n_unique),
    "n_unique_f": ("f", sf.n_unique),
    "about_n_unique_v": ("v", sf.approx_n_unique),
    "about_largest_f": ("f", lambda value: sf.approx_quantile(value, 1)),
    "lower_quantile_v": ("v", lambda value: sf.quantile(value, 0.3, interpolation="lower")),
    "linear_quantile_f": ("f", lambda value: sf.quantile(value, 0.6, interpolation="linear")),
    "list_v": ("v", sf.collect_list),
    "list_k": ("k", sf.collect_list),
    "top_v": ("v", lambda value: sf.top_k(value, 3)),
    "top_k_by_f": ("k", lambda value: sf.top_k(value, 2, by="f")),
    "own_v": ("v", _Distance),
}


@dataclass(frozen=True)
class Overlapping(sf.WindowAssigner):
    """Own windows of one size, one for each stretch of time, that reach into the next ones."""

    every: int
    size: int

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        starts = times.to_physical() // self.every * self.every
        return starts, starts + self.size


class Stretches(sf.KeyedProcess):
    """Each event goes on with a mark; at the end of each stretch of time a row with the number of its events."""

    counts = sf.MapState(int, int)

    def __init__(self, size: int) -> None:
        self.size = size

    def on_event(self, event: Row, ctx: Any) -> None:
        end = _micros(ctx.timestamp) // self.size * self.size + self.size
        self.counts.put(end, self.counts.get(end, 0) + 1)
        ctx.set_timer(end)
        ctx.emit({**event, "j": 7})

    def on_timer(self, timer: Any, ctx: Any) -> None:
        end = _micros(timer.time)
        count = self.counts.get(end, 0)
        self.counts.remove(end)
        ctx.emit({"k": _listed(ctx.key), "j": count, "v": count, "f": count / 2, "b": None})


class Distances(sf.KeyedProcess):
    """For each event how long after the one before it comes, unless a timer was due in between."""

    last = sf.ValueState(int)

    def __init__(self, size: int) -> None:
        self.size = size

    def on_event(self, event: Row, ctx: Any) -> None:
        now, last = _micros(ctx.timestamp), self.last.value()
        ctx.emit(
            {"k": _listed(ctx.key), "j": 0, "v": None if last is None else now - last, "f": None, "b": None}
        )
        self.last.update(now)
        ctx.set_timer(now + self.size)

    def on_timer(self, timer: Any, ctx: Any) -> None:
        if self.last.value() == _micros(timer.time) - self.size:
            self.last.clear()


def _listed(key: Any) -> str:
    return listed(key if isinstance(key, tuple) else [key])


class Fails:
    """Passes everything on, and fails once."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.calls = 0
        self.lock = threading.Lock()

    def __call__(self, row: Row) -> Row:
        with self.lock:
            self.calls += 1
            fails = self.calls == self.at
        if fails:
            raise OSError("the service is away")
        return row


def built(program: Program, run: Run) -> tuple[sf.Job, dict[int, Any]]:
    """The job, and what it collects for each end."""
    job = sf.Job("graph")
    fails = Fails(run.fails_at)
    streams: list[Any] = []
    splits: dict[tuple[Any, ...], dict[str, sf.Stream]] = {}
    for step in program.steps:
        inputs = [streams[before] for before in step.inputs]
        if step.kind == "branch":
            place = step["of"], step.inputs[0], tuple(step["choices"])
            if place not in splits:
                splits[place] = inputs[0].split(**{name: _CHOICES[name] for name in step["choices"]})
            streams.append(splits[place][step["branch"]])
            continue
        streams.append(_written(job, step, inputs, fails))
    return job, {end: streams[end].collect() for end in program.ends}


def _written(job: sf.Job, step: Step, inputs: list[Any], fails: Fails) -> Any:
    if step.kind == "source":
        stream = _read(job, step)
        return stream if fails.at is None else _typed(stream, fails, step.form)
    if step.kind == "union":
        return inputs[0].union(*inputs[1:])
    if step.kind == "join":
        return _joined(inputs[0], inputs[1], step)
    return _WRITTEN[step.kind](inputs[0], step)


def _joined(left: sf.Stream, right: sf.Stream, step: Step) -> sf.Stream:
    key, how = step["key"], step["how"]
    match step["by"]:
        case ("interval", lower, upper):
            joined = left.join(right, on=key, how=how, within=(f"{lower}us", f"{upper}us"))
        case ("window", size):
            joined = left.join(right, on=key, how=how, window=sf.tumbling(f"{size}us"))
        case ("session", gap):
            joined = left.join(right, on=key, how=how, window=sf.session(gap=f"{gap}us"))
        case ("own", every, size):
            joined = left.join(right, on=key, how=how, window=Overlapping(every, size))
        case ("as of",):
            joined = left.join_asof(right, on=key, how=how)
        case _:
            joined = left.join(right, on=key, how=how)
    value = "v" if how in ("semi", "anti") else "v_right"
    if step.form == "columns":
        return joined.select(*_kind(joined), "k", "j", col(value).alias("v"), "f", "b")
    return joined.map(lambda row: {**{name: row[name] for name in ("k", "j", "f", "b")}, "v": row.get(value)})


def _kind(stream: sf.Stream) -> list[str]:
    """The column with the kind of change, if there is one."""
    return ["change"] if isinstance(stream.schema, Mapping) and "change" in stream.schema else []


def _filtered(stream: sf.Stream, step: Step) -> Any:
    choice = step["choice"]
    return stream.filter(_CHOICES[choice] if step.form == "columns" else CHOOSE[choice])


def _changed(stream: sf.Stream, step: Step) -> Any:
    if step.form == "columns":
        return stream.with_columns(v=col("v") * 2 + 1, j=(col("j") + 1) % 4)
    return _typed(stream, changed, step["after"])


def _repeated(stream: sf.Stream, step: Step) -> Any:
    if step["after"] == "columns":
        return stream.flat_map(repeated, schema=FIELDS)
    return stream.flat_map(repeated)


def _reduced(stream: sf.Stream, step: Step) -> Any:
    keyed = _keyed(stream, step) if step["window"] is None else _windowed(stream, step)
    return keyed.reduce(larger)


def _processed(stream: sf.Stream, step: Step) -> Any:
    schema = FIELDS if step.form == "columns" else None
    return _keyed(stream, step).process(Stretches(step["size"]), schema=schema)


def _read(job: sf.Job, step: Step) -> sf.Stream:
    watermark = sf.bounded_disorder(timedelta(microseconds=step["bound"]))
    time = sf.epoch("ts", unit="us")
    if step.form == "objects":
        source = sf.MemorySource(
            [dict(row) for row in step["rows"]], batch_rows=step["batch"], schema=sf.OBJECTS
        )
        return job.read(source, event_time=time, watermark=watermark).map(_without_time)
    frame = pl.DataFrame(list(step["rows"]), schema={**FIELDS, "ts": sf.Int64})
    return job.read(
        sf.MemorySource(frame, batch_rows=step["batch"]), event_time=time, watermark=watermark
    ).drop("ts")


def _without_time(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "ts"}


def _typed(stream: sf.Stream, function: Callable[[Row], Row], after: str) -> sf.Stream:
    return stream.map(function, schema=FIELDS if after == "columns" else sf.OBJECTS)


def _keyed(stream: sf.Stream, step: Step) -> sf.KeyedStream:
    made: list[Any] = []
    for number, key in enumerate(step["keys"]):
        by = step["by"]
        if by == "mixed":
            by = "functions" if number % 2 else ("columns" if isinstance(stream.schema, Mapping) else "names")
        if by == "columns":
            made.append((col("j") // 2).alias("half") if key == "half" else key)
        elif by == "names" and key != "half":
            made.append(key)
        else:
            made.append(_KEYS[key])
    return stream.key_by(*made, null_keys="group")


def k(row: Row) -> Any:
    return row["k"]


def j(row: Row) -> Any:
    return row["j"]


def b(row: Row) -> Any:
    return row["b"]


def f(row: Row) -> Any:
    return row["f"]


_KEYS = {"k": k, "j": j, "b": b, "f": f, "half": half}


def _aggregates(step: Step) -> dict[str, Any]:
    objects = step.form == "objects"
    made: dict[str, Any] = {}
    for name, form in step["aggregates"]:
        field, make = _AGGREGATES[name]
        if field is None or form == "name" or (form == "expression" and objects):
            made[name] = make(field)
        elif form == "expression":
            made[name] = make(col(field))
        else:
            made[name] = make(lambda row, field=field: row[field])
    return made


def _windowed(stream: sf.Stream, step: Step) -> Any:
    micros = [f"{part}us" for part in step["window"][1:]]
    match step["window"]:
        case ("tumbling", _):
            window: Any = sf.tumbling(micros[0])
        case ("sliding", *_):
            window = sf.sliding(micros[0], every=micros[1])
        case ("cumulative", parts, every):
            window = sf.cumulative(f"{parts * every}us", step=f"{every}us")
        case ("session", _):
            window = sf.session(gap=micros[0])
        case _:
            window = sf.global_window()
    return _keyed(stream, step).window(
        window,
        trigger=step["trigger"],
        allowed_lateness=f"{step['lateness']}us",
        accumulation=step["accumulation"],
        pane_info=step["panes"],
    )


def _rows(stream: sf.Stream, step: Step) -> sf.Stream:
    keys = step["keys"]
    if step.form == "function":

        def row(result: Row) -> Row:
            count = result["count"]
            return {
                "k": result["k"] if "k" in keys else None,
                "j": result["j"] if "j" in keys else result["half"] if "half" in keys else 0,
                "v": count,
                "f": count / 2,
                "b": None,
            }

        return _typed(stream, row, step["after"])
    return stream.select(
        *_kind(stream),
        k=col("k") if "k" in keys else pl.lit(None, pl.String),
        j=col("j") if "j" in keys else col("half") if "half" in keys else pl.lit(0, pl.Int64),
        v=col("count"),
        f=col("count") / 2,
        b=pl.lit(None, pl.Boolean),
    )


def _in_order(stream: sf.Stream, step: Step) -> Any:
    schema = FIELDS if step.form == "columns" else None
    return _keyed(stream, step).process(Distances(step["size"]), schema=schema, order="event_time")


_WRITTEN: dict[str, Callable[[sf.Stream, Step], Any]] = {
    "filter": _filtered,
    "change": _changed,
    "repeat": _repeated,
    "same": lambda stream, step: _typed(stream, dict, step["after"]),
    "window": lambda stream, step: _windowed(stream, step).aggregate(**_aggregates(step)),
    "rows": _rows,
    "parts": _rows,
    "totals": lambda stream, step: _keyed(stream, step).aggregate(**_aggregates(step)),
    "reduce": _reduced,
    "process": _processed,
    "in_order": _in_order,
}


# Running it, and comparing.


def difference(program: Program, run: Run, folder: Path) -> str | None:
    """How what the job gives differs from what it has to give; None where it does not."""
    try:
        job, ends = built(program, run)
        more: dict[str, Any] = {}
        if run.fails_at is not None:
            more = {
                "checkpoint_dir": str(folder / "checkpoints"),
                "checkpoint_interval": "5ms",
                "restart": "fixed",
                "restart_delay": "1ms",
            }
        runs = job.run if run.workers == 1 else partial(run_on_workers, job, run.workers, 1)
        runs(
            mode=run.mode,
            parallelism=run.parallelism,
            batch_rows=run.batch_rows,
            state_backend=run.backend,
            state_dir=str(folder / "state"),
            memory_budget=run.memory_budget,
            micro_batch_interval="20ms",
            **more,
        )
    except Exception as error:  # noqa: BLE001 — any failure is a difference
        return f"{type(error).__name__}: {error}"
    return compared(program, {end: ends[end].rows() for end in program.ends})


def compared(program: Program, ends: Mapping[int, list[Row]]) -> str | None:
    """How the rows of the ends differ from what they have to come to; None where they do not."""
    for end, wanted in evaluated(program).items():
        step = program.steps[end]
        try:
            rows = settled(step, ends[end]) if step.kind == "window" else ends[end]
            found, expected = _standing(rows), Counter(map(_frozen, wanted))
        except AssertionError as error:
            return f"end {end}: {error}"
        if found != expected:
            missing, more_than = expected - found, found - expected
            return f"end {end}: missing {dict(missing.most_common(3))}, and too many {dict(more_than.most_common(3))}"
    return None


def _standing(rows: list[Row]) -> Counter[Any]:
    """The rows, or what is left of them after all changes."""
    standing: Counter[Any] = Counter()
    for row in rows:
        kind = row.get("change", "insert")
        frozen = _frozen({name: row[name] for name in row if name != "change"})
        standing[frozen] += -1 if kind in ("update_before", "delete") else 1
        assert standing[frozen] >= 0 or kind == "update_before", f"{row} is withdrawn, and is not there"
    for row, times in standing.items():
        assert times >= 0, f"{row} was withdrawn, and was never there"
    return +standing


def _frozen(row: Any) -> Any:
    """A value that can be compared: floats to nine digits, times as microseconds."""
    match row:
        case dict():
            return tuple(sorted((name, _frozen(value)) for name, value in row.items()))
        case list() | tuple():
            return tuple(map(_frozen, row))
        case bool():
            return str(row)
        case float():
            return float(f"{row:.9g}") + 0.0 if math.isfinite(row) else str(row)
        case datetime():
            return _micros(row)
        case _:
            return row


def _micros(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


def searched(seed: int, folder: Path, *, workers: int = 1) -> str | None:
    """One random graph, run in one random way, on so many workers if it has as many subtasks: what is wrong with it,
    and the smallest graph found of which that is true; None if nothing is. Works in new folders below `folder`."""
    random = Random(seed)
    program, run = random_program(random), random_run(random)
    run = replace(run, workers=min(workers, run.parallelism))
    if any(known(program, run) for known in OPEN_FAULTS.values()):
        return None
    wrong = difference(program, run, folder / "first")
    if wrong is None:
        return None
    program = _smaller(program, run, folder)
    wrong = difference(program, run, folder / "last") or f"{wrong} (not every time)"
    return f"graph {seed}: {wrong}\n{run}\nends {program.ends}\n" + "\n".join(map(str, program.steps))


def _smaller(program: Program, run: Run, folder: Path) -> Program:
    """The program without the steps and rows that it takes not to be right."""
    tried = 0

    def still_wrong(other: Program | None) -> bool:
        nonlocal tried
        tried += 1
        return (
            other is not None
            and tried < _TRIES
            and difference(other, run, folder / f"try{tried}") is not None
        )

    smaller = True
    while smaller:
        smaller = False
        for at in reversed(range(len(program.steps))):
            shorter = without_step(program, at) if at < len(program.steps) else None
            if shorter is not None and still_wrong(shorter):
                program, smaller = shorter, True
        for at, step in enumerate(program.steps):
            if step.kind == "source":
                program = _of_fewer_rows(program, at, still_wrong)
                smaller = smaller or len(program.steps[at]["rows"]) < len(step["rows"])
    return program


def _of_fewer_rows(program: Program, at: int, still_wrong: Callable[[Program], bool]) -> Program:
    """The program without the rows of one source that it takes not to be right."""

    def of(rows: list[Row]) -> Program:
        steps = [*program.steps]
        steps[at] = steps[at].with_rows(rows)
        return replace(program, steps=tuple(steps))

    return of(fewest(program.steps[at]["rows"], lambda rows: still_wrong(of(rows))))
