"""Joins against nested loops (SEMANTICS §6): every kind, as an operator step by step, and in whole jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow.api.stream import through
from streamflow.core.keys import key_group_of, subtask_of
from streamflow.core.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.stream_type import EVERY_CHANGE, StreamType
from streamflow.operators.contract.operator import LATE, OperatorSpec
from streamflow.operators.joins import interval
from streamflow.operators.joins.as_of import AsOfJoin
from streamflow.operators.joins.changing import ChangingJoin
from streamflow.operators.joins.interval import IntervalJoin
from streamflow.operators.joins.window import WindowJoin
from streamflow.state.frames import parts, runs
from streamflow.testing import OperatorHarness
from streamflow.time.timestamps import to_micros
from streamflow.windows.assigners import Cumulative, Session, Sliding, Tumbling
from tests.properties.forgetting_model import ForgettingJoin
from tests.properties.job_model import Event, Way, disordered, read, share, ways
from tests.properties.join_model import (
    HOW,
    OF_LEFT,
    Pair,
    Push,
    Restore,
    Row,
    Step,
    Watermark,
    as_of,
    combined,
    in_sessions,
    joined_in_sessions,
    pairs_of,
    row_of,
    session_join,
    steps,
)
from tests.properties.probes import Probe

BOUND = 10
COLUMNS = Schema({"key": pl.String, "time": pl.Int64, "value": pl.Int64})
TYPE = StreamType(COLUMNS, timed=True)
ON: dict[str, Any] = {"left_keys": ("key",), "right_keys": ("key",)}


def frame_of(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows as a frame with their event times."""
    frame = pl.DataFrame([row._asdict() for row in rows], schema=dict(COLUMNS))
    return frame.with_columns(pl.col("time").cast(EVENT_TIME_TYPE).alias(EVENT_TIME))


class Driven:
    """An operator under a script, and the rows that were on time by the operator's watermark, with that watermark."""

    def __init__(self, spec: OperatorSpec, script: Sequence[Step], *, budget: int, backend: str) -> None:
        self.harness = OperatorHarness(spec, TYPE, TYPE, memory_budget=budget, backend=backend)  # type: ignore[arg-type]
        self.rows: tuple[list[tuple[Row, int]], list[tuple[Row, int]]] = [], []
        told = [-30, -30]
        for step in script:
            match step:
                case Push(port, rows):
                    self.harness.push(frame_of(rows), port=port)
                    self.rows[port].extend((row, min(told)) for row in rows)
                case Watermark(port, by):
                    told[port] += by
                    self.harness.watermark(told[port], port=port)
                case Restore(parallelism):
                    self.harness.restore(self.harness.snapshot(), parallelism=parallelism)
        self.harness.finish()

    def on_time(self, port: int) -> list[Row]:
        """The rows of an input that were not behind the operator's watermark."""
        return [row for row, watermark in self.rows[port] if row.time > watermark]

    def check(self, wanted: Counter[Pair], late: int) -> None:
        """Compares the result; no record may have come behind the watermark that was forwarded before it."""
        assert pairs_of(self.harness.output()) == wanted
        assert len(self.harness.output(LATE)) == late


def settled() -> dict[str, st.SearchStrategy[Any]]:
    """The arguments that every script has."""
    return {
        "script": steps(),
        "budget": st.sampled_from([200, 1 << 20]),
        "backend": st.sampled_from(["memory", "memory", "rocksdb"]),
    }


@share(2)
@given(
    how=st.sampled_from(HOW),
    lower=st.integers(-12, 12),
    span=st.integers(0, 12),
    few_are_many=st.booleans(),
    **settled(),
)
def test_an_interval_join_step_by_step(
    how: Any, lower: int, span: int, few_are_many: bool, script: list[Step], budget: int, backend: str
) -> None:
    spec = IntervalJoin(how=how, lower=lower, upper=lower + span, **ON)
    with pytest.MonkeyPatch.context() as patched:
        if few_are_many:
            # Buckets are halved, and rows sorted and searched in columns.
            patched.setattr(interval, "_BUCKET_ROWS", 2)
            patched.setattr(parts, "_ALL_PER_KEY", 0)
            patched.setattr(parts, "_LOOKED_UP_ROWS", 3)
            for limit in ("_GONE_OVER", "_MANY", "_MANY_OF_SMALL", "_SEARCHED"):
                patched.setattr(runs, limit, 0)
        driven = Driven(spec, script, budget=budget, backend=backend)
    left, right = driven.on_time(0), driven.on_time(1)
    wanted = combined(left, right, how, lambda a, b: lower <= b.time - a.time <= lower + span)
    driven.check(wanted, len(driven.rows[0]) + len(driven.rows[1]) - len(left) - len(right))


@dataclass(frozen=True)
class Uneven(sf.WindowAssigner):
    """Own windows that do not merge, and may intersect: of one size, one for each stretch of time; each seventh moment
    is in none."""

    every: int
    size: int

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        moments = times.to_physical()
        starts = moments - moments % self.every
        nowhere = moments % 7 == 0
        return starts.set(nowhere, None), (starts + self.size).set(nowhere, None)


@share(2)
@given(
    how=st.sampled_from(HOW),
    assigner=st.one_of(
        st.builds(Tumbling, st.integers(1, 15)),
        st.builds(Sliding, st.integers(1, 15), st.integers(1, 15)),
        st.builds(lambda step, times: Cumulative(step * times, step), st.integers(1, 5), st.integers(1, 4)),
        st.builds(Uneven, st.integers(1, 9), st.integers(9, 15)),
    ),
    **settled(),
)
def test_a_window_join_step_by_step(
    how: Any,
    assigner: Tumbling | Sliding | Cumulative | Uneven,
    script: list[Step],
    budget: int,
    backend: str,
) -> None:
    driven = Driven(WindowJoin(how=how, assigner=assigner, **ON), script, budget=budget, backend=backend)
    bounds = [
        (start, start + size)
        for start in range(-80, 80)
        for size in _sizes(assigner)
        if start % _every(assigner) == 0
    ]

    def windows(row: Row) -> list[tuple[int, int]]:
        if isinstance(assigner, Uneven):
            start = row.time // assigner.every * assigner.every
            return [(start, start + assigner.size)] if row.time % 7 else []
        return [(start, end) for start, end in bounds if start <= row.time < end]

    joined: Counter[Pair] = Counter()
    for window in bounds:
        inside = [
            [row for row, w in side if window in windows(row) and window[1] - 1 > w] for side in driven.rows
        ]
        joined += combined(inside[0], inside[1], how, lambda _l, _r: True)
    late = [
        row
        for side in driven.rows
        for row, w in side
        if windows(row) and all(end - 1 <= w for _, end in windows(row))
    ]
    driven.check(joined, len(late))
    for row in driven.harness.output():
        assert row["window_start"] < row["window_end"]


def _sizes(assigner: Tumbling | Sliding | Cumulative | Uneven) -> list[int]:
    if isinstance(assigner, Cumulative):
        return list(range(assigner.step, assigner.size + 1, assigner.step))
    return [assigner.size]


def _every(assigner: Tumbling | Sliding | Cumulative | Uneven) -> int:
    return assigner.every if isinstance(assigner, (Sliding, Uneven)) else assigner.size


@dataclass(frozen=True)
class Around(sf.WindowAssigner):
    """Own windows that merge: from before a row until after it."""

    before: int
    after: int
    merging = True

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        return times.to_physical() - self.before, times.to_physical() + self.after


class AroundByHand(Around):
    """The same, merged by a function; each seventh moment is in no window."""

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        starts, ends = super().assign(times)
        nowhere = times.to_physical() % 7 == 0
        return starts.set(nowhere, None), ends.set(nowhere, None)

    def merge(self, starts: pl.Series, ends: pl.Series) -> tuple[pl.Series, pl.Series]:
        return super().merge(starts, ends)


@st.composite
def merging(draw: st.DrawFn) -> tuple[Session | Around, int, int]:
    """Windows that merge, their gap, and how long before a row they begin."""
    gap = draw(st.integers(1, 15))
    before = draw(st.one_of(st.just(0), st.integers(0, gap - 1)))
    kinds: list[Session | Around] = [Around(before, gap - before), AroundByHand(before, gap - before)]
    return draw(st.sampled_from(kinds if before else [Session(gap), Session(gap), *kinds])), gap, before


@share(2)
@given(how=st.sampled_from(HOW), windows=merging(), **settled())
def test_a_join_over_windows_that_merge_step_by_step(
    how: Any, windows: tuple[Session | Around, int, int], script: list[Step], budget: int, backend: str
) -> None:
    assigner, gap, before = windows
    driven = Driven(WindowJoin(how=how, assigner=assigner, **ON), script, budget=budget, backend=backend)
    if isinstance(assigner, AroundByHand):
        script = [
            Push(step.port, tuple(row for row in step.rows if row.time % 7))
            if isinstance(step, Push)
            else step
            for step in script
        ]
    wanted, late = session_join(script, how, gap, before)
    driven.check(Counter(pair for pair, _, _ in wanted.elements()), late)
    assert wanted == Counter(
        (
            (row_of(row), row_of(row, right=True)),
            *(to_micros(row[f"window_{end}"]) for end in ("start", "end")),
        )
        for row in driven.harness.output()
    )


@share(2)
@given(how=st.sampled_from(OF_LEFT), tolerance=st.one_of(st.none(), st.integers(0, 12)), **settled())
def test_an_as_of_join_step_by_step(
    how: Any, tolerance: int | None, script: list[Step], budget: int, backend: str
) -> None:
    driven = Driven(AsOfJoin(how=how, tolerance=tolerance, **ON), script, budget=budget, backend=backend)
    left, right = driven.on_time(0), driven.on_time(1)
    late = len(driven.rows[0]) + len(driven.rows[1]) - len(left) - len(right)
    driven.check(as_of(left, right, how, tolerance), late)


@st.composite
def withdrawals(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Steps of an as-of join: versions, watermarks, restores, and batches of changes (kind, row, event time), in which
    a withdrawal has the time of its row, of what replaces it, or any other."""
    standing: list[Row] = []
    steps: list[tuple[str, Any]] = []
    for what in draw(
        st.lists(st.sampled_from(["changes"] * 3 + ["version", "watermark", "restore"]), max_size=14)
    ):
        batch: list[tuple[str, Row, int]] = []
        for _ in range(draw(st.integers(1, 3)) if what == "changes" else 0):
            new = Row(
                draw(st.sampled_from(["a", "b", None])), draw(st.integers(0, 20)), draw(st.integers(0, 1))
            )
            kind = draw(st.sampled_from(["insert", "update", "update", "delete"])) if standing else "insert"
            if kind != "insert":
                old = standing.pop(draw(st.integers(0, len(standing) - 1)))
                time = draw(st.sampled_from([old.time, new.time, new.time + 4]))
                batch.append(("update_before" if kind == "update" else "delete", old, time))
            if kind != "delete":
                batch.append(("update_after" if kind == "update" else "insert", new, new.time))
                standing.append(new)
        number = draw(st.integers(1, 20))
        steps.append((what, batch or number))
    return steps


@share(3)
@given(
    how=st.sampled_from(OF_LEFT),
    script=withdrawals(),
    at_end=st.booleans(),
    budget=st.sampled_from([200, 1 << 20]),
)
def test_changes_as_of_a_time_take_back_what_they_gave(
    how: Any, script: list[tuple[str, Any]], at_end: bool, budget: int
) -> None:
    left = StreamType(Schema({CHANGE: CHANGE_TYPE, **COLUMNS}), timed=True, changes=EVERY_CHANGE)
    spec = AsOfJoin(how=how, changing=True, **ON)
    cadence: Any = "end" if at_end else "batch"
    harness = OperatorHarness(spec, left, TYPE, memory_budget=budget, updates=cadence)
    told, late, lost = -1, 0, 0
    versions: list[Row] = []
    standing: list[Row] = []
    gone: list[tuple[Row, int]] = []
    """Withdrawn rows, and when the withdrawal is due."""
    parallelism = 1
    for what, step in script:
        if what == "changes":
            kinds, changed, times = zip(*step, strict=True)
            frame = frame_of(changed).with_columns(pl.Series(EVENT_TIME, times).cast(EVENT_TIME_TYPE))
            harness.push(frame.insert_column(0, pl.Series(CHANGE, kinds, CHANGE_TYPE)))
            for (kind, row, time), (_, new, _) in zip(step, [*step[1:], step[0]], strict=True):
                if kind in ("insert", "update_after"):
                    late += row.time <= told
                    standing += [row] if row.time > told else []
                elif row in standing:
                    standing.remove(row)
                    # What goes by one subtask does not wait for what comes by another one.
                    one, other = (
                        subtask_of(key_group_of(k, 128), parallelism, 128) for k in (row.key, new.key)
                    )
                    half = kind == "update_before" and one == other
                    gone.append((row, new.time if half and new.time > told else time))
                else:
                    lost += 1
        elif what == "version":
            version = Row("a", told + step, step)
            versions += [version] if version not in versions else []
            harness.push(frame_of([version]), port=1)
        elif what == "watermark" and not at_end:
            told += step
            harness.watermark(told)
        elif what == "restore":
            parallelism = step % 3 + 1
            harness.restore(harness.snapshot(), parallelism=parallelism)
        shown = [row for row in standing if row.time <= told]
        shown += [row for row, due in gone if row.time <= told < due]
        assert stood_by(harness.output()) == as_of(shown, versions, how, None)
    harness.finish()
    assert stood_by(harness.output()) == as_of(standing, versions, how, None)
    assert len(harness.output(LATE)) == late
    assert harness.metrics.value_of("streamflow_withdrawals_of_forgotten_rows_total") == lost
    assert not at_end or all(row["change"] == "insert" for row in harness.output())


def stood_by(changes: Sequence[dict[str, Any]]) -> Counter[Pair]:
    """The rows that stand after changes; each withdraws one that is there."""
    standing: Counter[Pair] = Counter()
    for change in changes:
        pair, goes = (
            (row_of(change), row_of(change, right=True)),
            change["change"] in ("update_before", "delete"),
        )
        assert not goes or standing[pair], f"{change} takes back what does not stand"
        standing[pair] += -1 if goes else 1
    return +standing


# Two changing tables.


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[int, list[tuple[str, Row]]]]:
    """Batches of changes of two tables, (port, [(kind, row)]), each consistent with the rows that stand."""
    standing: tuple[list[Row], list[Row]] = [], []
    batches: list[tuple[int, list[tuple[str, Row]]]] = []
    for _ in range(draw(st.integers(0, 10))):
        port = draw(st.integers(0, 1))
        rows, batch = standing[port], list[tuple[str, Row]]()
        for _ in range(draw(st.integers(1, 4))):
            new = Row(
                draw(st.sampled_from(["a", "b", None])), draw(st.integers(0, 9)), draw(st.integers(0, 3))
            )
            what = draw(st.sampled_from(["insert", "insert", "update", "delete"])) if rows else "insert"
            old = rows.pop(draw(st.integers(0, len(rows) - 1))) if what != "insert" else None
            if old is not None:
                batch.append(("update_before" if what == "update" else "delete", old))
            if what != "delete":
                batch.append(("update_after" if what == "update" else "insert", new))
                rows.append(new)
        batches.append((port, batch))
    return batches


@share(1)
@given(
    how=st.sampled_from(HOW),
    batches=changes(),
    append_only=st.tuples(st.booleans(), st.booleans()),
    timed=st.booleans(),
    at_end=st.booleans(),
    restores=st.lists(st.integers(0, 3), min_size=10, max_size=10),
    budget=st.sampled_from([200, 1 << 20]),
)
def test_a_join_of_changing_tables_is_at_any_moment_that_of_their_rows(
    how: Any,
    batches: list[tuple[int, list[tuple[str, Row]]]],
    append_only: tuple[bool, bool],
    timed: bool,
    at_end: bool,
    restores: list[int],
    budget: int,
) -> None:
    types = [
        StreamType(
            COLUMNS if only else Schema({CHANGE: CHANGE_TYPE, **COLUMNS}),
            timed,
            frozenset() if only else EVERY_CHANGE,
        )
        for only in append_only
    ]
    harness = OperatorHarness(
        ChangingJoin(how=how, **ON), *types, memory_budget=budget, updates="end" if at_end else "batch"
    )
    standing: tuple[Counter[Row], Counter[Row]] = Counter(), Counter()

    def joined() -> Counter[Pair]:
        left, right = ([*side.elements()] for side in standing)
        return combined(left, right, how, lambda _l, _r: True)

    for (port, batch), restored in zip(batches, restores, strict=False):
        kept = [(kind, row) for kind, row in batch if not append_only[port] or kind == "insert"]
        frame = frame_of([row for _, row in kept])
        if not append_only[port]:
            frame = frame.insert_column(0, pl.Series(CHANGE, [kind for kind, _ in kept], CHANGE_TYPE))
        harness.push(frame if timed else frame.drop(EVENT_TIME), port=port)
        for kind, row in kept:
            standing[port][row] += 1 if kind in ("insert", "update_after") else -1
        if not at_end:
            assert pairs_of(harness.output()) == joined()
        if restored:
            harness.restore(harness.snapshot(), parallelism=restored)
    harness.finish()
    assert pairs_of(harness.output()) == joined()
    if at_end:
        assert all(row.get("change", "insert") == "insert" for row in harness.output())


@st.composite
def paths(draw: st.DrawFn) -> list[tuple[int, list[tuple[str, Row]]]]:
    """Changes of two inputs, each with one row of each key at most: it goes before the next one comes."""
    standing: tuple[dict[str | None, Row], dict[str | None, Row]] = {}, {}
    batches: list[tuple[int, list[tuple[str, Row]]]] = []
    for _ in range(draw(st.integers(0, 10))):
        port, batch = draw(st.integers(0, 1)), list[tuple[str, Row]]()
        for _ in range(draw(st.integers(0, 5))):
            key = draw(st.sampled_from(["a", "b", "c", None]))
            old, new = (
                standing[port].pop(key, None),
                Row(key, draw(st.integers(0, 9)), draw(st.integers(0, 2))),
            )
            comes = old is None or draw(st.sampled_from([True, True, False]))
            if old is not None:
                batch.append(("update_before" if comes else "delete", old))
            if comes:
                batch.append(("insert" if old is None else "update_after", new))
                standing[port][key] = new
        batches.append((port, batch))
    return batches


@share(1)
@given(
    how=st.sampled_from(HOW),
    batches=paths(),
    single=st.lists(
        st.sampled_from([(True, True), (True, False), (False, True), (False, False)]), min_size=10
    ),
    timed=st.booleans(),
    at_end=st.booleans(),
    budget=st.sampled_from([200, 1 << 20]),
)
def test_a_join_of_tables_with_one_row_of_each_key_tells_their_changes_by_key(
    how: Any,
    batches: list[tuple[int, list[tuple[str, Row]]]],
    single: list[tuple[bool, bool]],
    timed: bool,
    at_end: bool,
    budget: int,
) -> None:
    type_ = StreamType(Schema({CHANGE: CHANGE_TYPE, **COLUMNS}), timed, EVERY_CHANGE)

    def begun(sides: tuple[bool, bool]) -> OperatorHarness:
        spec = ChangingJoin(how=how, single=sides, **ON)
        updates: Any = "end" if at_end else "batch"
        return OperatorHarness(spec, type_, type_, memory_budget=budget, updates=updates)

    harness, seen = begun(single[0]), list[dict[str, Any]]()
    standing: tuple[Counter[Row], Counter[Row]] = Counter(), Counter()

    def joined() -> Counter[Pair]:
        left, right = ([*side.elements()] for side in standing)
        return combined(left, right, how, lambda _l, _r: True)

    for number, (port, batch) in enumerate(batches):
        frame = frame_of([row for _, row in batch])
        frame = frame.insert_column(0, pl.Series(CHANGE, [kind for kind, _ in batch], CHANGE_TYPE))
        harness.push(frame if timed else frame.drop(EVENT_TIME), port=port)
        for kind, row in batch:
            standing[port][row] += 1 if kind in ("insert", "update_after") else -1
        if not at_end:
            assert pairs_of([*seen, *harness.output()]) == joined()
            if single[number] == (True, True):
                _check_kinds(harness.output())
        if number + 1 < len(batches) and single[number + 1] != single[number]:
            # The state is the same, whatever was known when it was written.
            saved, seen = harness.snapshot(), [*seen, *harness.output()]
            harness = begun(single[number + 1]).restore(saved)
    harness.finish()
    assert pairs_of([*seen, *harness.output()]) == joined()


def _check_kinds(changes: Sequence[dict[str, Any]]) -> None:
    """Each row that is replaced stands right before its successor, which differs."""
    for at, row in enumerate(changes):
        kinds = row["change"], changes[at + 1]["change"] if at + 1 < len(changes) else None
        assert (kinds[0] == "update_before") == (kinds[1] == "update_after")
        if kinds[0] == "update_before":
            assert row["key"] == changes[at + 1]["key"]
            assert row | {"change": None} != changes[at + 1] | {"change": None}


@st.composite
def aging(draw: st.DrawFn) -> list[tuple[int, bool, Row, int]]:
    """Rows of one key that come, and perhaps go, one at a time on an input, and the watermark after each."""
    steps: list[tuple[int, bool, Row, int]] = []
    told = 0
    for _ in range(draw(st.integers(0, 12))):
        port = draw(st.integers(0, 1))
        before = [row for at, comes, row, _ in steps if at == port and comes]
        row = Row("a", told + draw(st.integers(0, 5)), draw(st.integers(0, 1)))
        comes = not before or draw(st.booleans())
        told += draw(st.sampled_from([0, 0, 3, 9]))
        steps.append((port, comes, row if comes else draw(st.sampled_from(before)), told))
    return steps


@share(1)
@given(
    how=st.sampled_from(HOW),
    script=aging(),
    append_only=st.tuples(st.booleans(), st.booleans()),
    restores=st.lists(st.integers(0, 6), min_size=12, max_size=12),
)
def test_what_a_join_of_changing_tables_forgets_changes_nothing_any_more(
    how: Any,
    script: list[tuple[int, bool, Row, int]],
    append_only: tuple[bool, bool],
    restores: list[int],
) -> None:
    types = [
        TYPE
        if only
        else StreamType(Schema({CHANGE: CHANGE_TYPE, **COLUMNS}), timed=True, changes=EVERY_CHANGE)
        for only in append_only
    ]
    harness = OperatorHarness(ChangingJoin(how=how, ttl=8, **ON), *types)
    model = ForgettingJoin(how, 8)
    standing: tuple[Counter[Row], Counter[Row]] = Counter(), Counter()
    for (port, comes, row, told), restored in zip(script, restores, strict=False):
        if comes or (standing[port][row] and not append_only[port]):
            frame = frame_of([row])
            if not append_only[port]:
                frame = frame.insert_column(
                    0, pl.Series(CHANGE, ["insert" if comes else "delete"], CHANGE_TYPE)
                )
            harness.push(frame, port=port)
            model.change(port, row, 1 if comes else -1)
            standing[port][row] += 1 if comes else -1
        assert pairs_of(harness.output()) == +model.result
        harness.watermark(told)
        model.watermark(told)
        if 0 < restored < 4:
            harness.restore(harness.snapshot(), parallelism=restored)


# Whole jobs.


def rows_of(records: Sequence[Event]) -> list[Row]:
    """The events as rows of the model."""
    return [Row(event.key, event.ts, event.value) for event in records]


def named(stream: sf.Stream, way: Way) -> sf.Stream:
    """The events of `read` under the names of the model."""
    if way.layout == "objects":
        return stream.map(_named)
    return stream.rename({"ts": "time"})


def _named(event: dict[str, Any]) -> dict[str, Any]:
    """One event likewise."""
    return {"key": event["key"], "time": event["ts"], "value": event["value"]}


def versions_of(job: sf.Job, rows: Sequence[Row], way: Way) -> tuple[sf.Stream, list[Row]]:
    """A stream of rows of which no two of a key have one time, and these rows."""
    versions = [*{(row.key, row.time): row for row in rows}.values()]
    read = job.read(
        sf.MemorySource(frame_of(versions), batch_rows=way.rows), watermark=sf.bounded_disorder("1s")
    )
    return read.map(dict, schema=sf.OBJECTS) if way.layout == "objects" else read, versions


def latest(job: sf.Job, rows: Sequence[Row], way: Way) -> tuple[sf.Stream, list[Row]]:
    """Each key's latest row by event time as a changing result, and these rows."""
    keyed = [row for row in rows if row.key is not None]
    stream, versions = versions_of(job, keyed, replace(way, layout="columns"))
    changes = stream.to_table("key", versioned=True).changes()
    return changes, [*{row.key: row for row in sorted(versions, key=lambda row: row.time)}.values()]


_OF_BOTH = ("interval", "window", "session", "changing")


def joined_as_objects(kind: str, how: str) -> tuple[str, Any]:
    """The join of this kind that streams of Python objects have."""
    if kind == "changing" and how not in ("inner", "semi"):
        return kind, "inner"
    return "as of" if kind == "changes as of" else kind, how


@share(1)
@given(
    left=disordered(BOUND, most=15),
    right=disordered(BOUND, most=15),
    how=st.sampled_from(HOW),
    kind=st.sampled_from(
        ["interval", "window", "session", "as of", "changes as of", "changing", "broadcast", "frame"]
    ),
    lower=st.integers(-12, 12),
    span=st.integers(0, 12),
    way=ways(),
)
def test_joins_in_whole_jobs(
    left: list[Event], right: list[Event], how: Any, kind: str, lower: int, span: int, way: Way
) -> None:
    """In three modes and layouts; nothing comes late out of a join, and windows behind it have all rows."""
    if (way.layout == "objects" or kind not in _OF_BOTH) and how not in OF_LEFT:
        how = "left"
    if way.layout == "objects":
        kind, how = joined_as_objects(kind, how)
    job = sf.Job("joined")
    first, second = (named(read(job, records, way, bound=BOUND), way) for records in (left, right))
    one, other = rows_of(left), rows_of(right)
    micros = [timedelta(microseconds=each) for each in (lower, lower + span)]
    match kind:
        case "interval":
            stream = first.join(second, on="key", how=how, within=(micros[0], micros[1]))
            wanted = combined(one, other, how, lambda a, b: lower <= b.time - a.time <= lower + span)
        case "window":
            size = span + 1
            stream = first.join(second, on="key", how=how, window=sf.tumbling(timedelta(microseconds=size)))
            wanted = Counter()
            for number in range(-40, 40):
                within = [[row for row in side if row.time // size == number] for side in (one, other)]
                wanted += combined(within[0], within[1], how, lambda _l, _r: True)
        case "session":
            gap = span + 1
            stream = first.join(second, on="key", how=how, window=sf.session(gap=timedelta(microseconds=gap)))
            sessions = in_sessions([*((0, row) for row in one), *((1, row) for row in other)], gap)
            wanted = Counter(pair for pair, _, _ in joined_in_sessions(sessions, how, gap).elements())
        case "as of" | "changes as of":
            second, other = versions_of(job, other, way)
            if kind == "changes as of":
                first, one = latest(job, one, way)
            stream = first.join_asof(second, on="key", how=how)
            wanted = as_of(one, other, how, None)
        case _:
            wanted = combined(one, other, how, lambda _l, _r: True)
            if kind == "frame":
                stream = first.join(frame_of(other).drop(EVENT_TIME), on="key", how=how)
            else:
                strategy: Any = "broadcast" if kind == "broadcast" else "auto"
                stream = first.join(second, on="key", how=how, strategy=strategy)
    probe = Probe()
    out = through(stream, probe).collect() if stream.type.timed else stream.collect()
    result = job.run(**way.settings)
    assert pairs_of(out.rows()) == wanted
    assert result.late == 0
    if kind not in ("changing", "as of", "changes as of") and stream.type.timed:
        probe.check()
