"""Streams of changes: who may read them, what event time behind them does, and that a user's `change` is a column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col

ROWS = pl.DataFrame({"k": list("aababbaabb"), "v": range(10), "ts": range(10)})
MODES = ["streaming", "micro-batch", "batch"]


def read(job: sf.Job, rows: pl.DataFrame = ROWS) -> sf.Stream:
    return job.read(sf.MemorySource(rows, batch_rows=2), event_time=sf.epoch("ts", unit="us"))


def totals(stream: sf.Stream) -> sf.Stream:
    return stream.key_by("k").aggregate(n=sf.count())


def retracting(stream: sf.Stream) -> sf.Stream:
    windows = stream.key_by("k").window(sf.session(gap="5us"), accumulation="retracting")
    return windows.aggregate(n=sf.count())


class Echo(sf.KeyedProcess):
    """A process that emits each event, and its timer."""

    def on_event(self, event: Any, ctx: Any) -> None:
        ctx.set_timer(ctx.timestamp)
        ctx.emit(event)

    def on_timer(self, timer: Any, ctx: Any) -> None:
        ctx.emit("timer")


REFUSED: dict[str, Callable[[sf.Stream], Any]] = {
    "aggregate": lambda changes: changes.key_by("k").aggregate(m=sf.sum("n")),
    "reduce": lambda changes: changes.key_by("k").reduce(lambda left, right: left),
    "window": lambda changes: changes.key_by("k").window(sf.tumbling("1h")).aggregate(m=sf.sum("n")),
    "behind a function": lambda changes: changes.map(lambda row: row).key_by("k").aggregate(m=sf.count()),
    "behind columns": lambda changes: (
        changes.filter(col("n") > 1).select("k", "n").key_by("k").aggregate(m=sf.count())
    ),
    "behind a split": lambda changes: (
        changes.split(many=col("n") > 1)["many"].key_by("k").reduce(lambda left, right: left)
    ),
    "behind a union": lambda changes: changes.union(changes).key_by("k").aggregate(m=sf.count()),
}


@pytest.mark.parametrize("make", [totals, retracting])
@pytest.mark.parametrize("name", REFUSED)
def test_changes_are_not_aggregated_as_records(name: str, make: Callable[[sf.Stream], sf.Stream]) -> None:
    changes = make(read(sf.Job("refused")))
    with pytest.raises(sf.JobDefinitionError, match=r"(aggregate|window)-1 gives changes of its results"):
        REFUSED[name](changes)


def test_changes_and_records_are_no_union() -> None:
    stream = read(sf.Job("both"))
    with pytest.raises(sf.JobDefinitionError, match="holds changes of a result and another holds records"):
        totals(stream).map(lambda row: row).union(stream.map(lambda row: row))


def test_a_process_needs_to_see_which_changes_they_are() -> None:
    stream = totals(read(sf.Job("blind")))
    with pytest.raises(sf.JobDefinitionError, match="the column 'change' is gone"):
        stream.drop("change").key_by("k").process(Echo)


@pytest.mark.parametrize("mode", MODES)
def test_timers_behind_totals_fire(mode: Any) -> None:
    job = sf.Job("timers")
    out = totals(read(job)).key_by("k").process(Echo).collect()
    reduced = read(job).key_by("k").reduce(lambda left, right: max(left, right, key=str)).key_by("k")
    also = reduced.process(Echo).collect()
    job.run(mode=mode, batch_rows=2, parallelism=2, micro_batch_interval="1h")
    for rows in (out.rows(), also.rows()):
        events = [row for row in rows if row != "timer"]
        assert "timer" in rows
        assert rows.count("timer") <= len(events)
    assert {row["k"]: row["n"] for row in out.rows() if row != "timer"} == {"a": 5, "b": 5}


@pytest.mark.parametrize("mode", MODES)
def test_a_window_behind_a_global_window_has_its_results(mode: Any) -> None:
    job = sf.Job("behind")
    whole = read(job).key_by("k").window(sf.global_window()).aggregate(n=sf.count())
    out = whole.key_by("k").window(sf.tumbling("5us")).aggregate(n=sf.sum("n"))
    kept = out.collect()
    result = job.run(mode=mode, batch_rows=2, parallelism=2)
    assert sorted((row["k"], row["n"]) for row in kept.rows()) == [("a", 5), ("b", 5)]
    assert (result.late, result.dropped) == (0, 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_users_column_may_be_called_change(mode: Any) -> None:
    job = sf.Job("named")
    stream = read(job, ROWS.rename({"k": "change"}))
    windows = stream.key_by("change").window(sf.tumbling("5us")).aggregate(n=sf.count())
    both = windows.key_by("change").window(sf.tumbling("1h")).aggregate(n=sf.sum("n")).collect()
    most = stream.key_by("v").window(sf.tumbling("1h")).aggregate(change=sf.max("change")).collect()
    job.run(mode=mode, batch_rows=2)
    assert sorted((row["change"], row["n"]) for row in both.rows()) == [("a", 5), ("b", 5)]
    assert sorted(row["change"] for row in most.rows()) == sorted(ROWS["k"])


def test_where_every_result_has_a_column_change_a_key_of_that_name_is_refused() -> None:
    stream = read(sf.Job("taken"), ROWS.rename({"k": "change"}))
    with pytest.raises(sf.JobDefinitionError, match="a key cannot be named 'change'"):
        stream.key_by("change").aggregate(n=sf.count())
