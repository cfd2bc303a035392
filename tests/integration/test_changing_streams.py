"""Streams of changes: who may read them, what event time behind them does, and that a user's `change` is a column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.core.schema import CHANGE_TYPE
from streamflow.core.stream_type import EVERY_CHANGE
from streamflow.testing.results import final_rows

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


REFUSED: dict[str, tuple[Callable[[sf.Stream], Any], str]] = {
    "reduce": (
        lambda changes: changes.key_by("k").reduce(lambda left, right: left),
        "cannot take back a record",
    ),
    "window": (
        lambda changes: changes.key_by("k").window(sf.tumbling("1h")).aggregate(m=sf.sum("n")),
        r"(aggregate|window)-1 gives changes of its results",
    ),
    "first": (lambda changes: changes.key_by("k").aggregate(m=sf.first("n")), "cannot take back a record"),
    "behind columns": (
        lambda changes: changes.filter(col("n") > 1).select("k", "n").key_by("k").aggregate(m=sf.count()),
        "the column 'change' is gone",
    ),
    "behind a split": (
        lambda changes: changes.split(many=col("n") > 1)["many"].deduplicate("k"),
        r"(aggregate|window)-1 gives changes of its results",
    ),
}


OVERWRITTEN: dict[str, Callable[[sf.Stream], Any]] = {
    "with_columns": lambda changes: changes.with_columns(change=col("n") * 2),
    "select": lambda changes: changes.select("k", change=pl.lit("insert").cast(CHANGE_TYPE)),
    "rename": lambda changes: changes.rename({"change": "kind", "n": "change"}),
    "map": lambda changes: changes.map(lambda row: row, schema={"change": int, "k": str}),
    "map_batches": lambda changes: changes.map_batches(
        lambda frame: frame.with_columns(change=pl.lit("insert"))
    ),
}


@pytest.mark.parametrize("name", OVERWRITTEN)
def test_the_kind_of_a_change_is_not_overwritten(name: str) -> None:
    changes = totals(read(sf.Job("refused")))
    with pytest.raises(sf.JobDefinitionError, match=f"{name} puts something else into it") as raised:
        OVERWRITTEN[name](changes)
    assert str(raised.value.where.operator).startswith(name.replace("_", "-"))


@pytest.mark.parametrize("schema", [{"change": str, "k": str}, sf.OBJECTS])
def test_a_kind_that_a_function_makes_up_is_an_error_of_the_record(schema: object) -> None:
    job = sf.Job("made up")
    changes = totals(read(job)).map(lambda row: {"change": "upsert", "k": row["k"]}, schema=schema)
    changes.key_by(lambda row: row["k"]).aggregate(m=sf.count()).collect()
    with pytest.raises(sf.StreamflowError, match="upsert"):
        job.run()


APART: dict[str, tuple[Callable[[sf.Stream], sf.Stream], Callable[[Any], list[Any]]]] = {
    "branch": (lambda c: c.split(even=col("n") % 2 == 0)["even"], lambda n: [n] * (n % 2 == 0)),
    "rest": (lambda c: c.split(small=col("n") < 4, odd=col("n") == 5)["rest"], lambda n: [n] * (n == 4)),
    "flat_map": (
        lambda c: c.flat_map(
            lambda row: [row | {"n": n} for n in range(row["n"])], schema={"change": str, "k": str, "n": int}
        ),
        lambda n: [*range(n)],
    ),
    "objects": (
        lambda c: c.map(lambda row: row).flat_map(lambda row: [row | {"n": n} for n in range(row["n"])]),
        lambda n: [*range(n)],
    ),
    "explode": (
        lambda c: c.with_columns(n=pl.int_ranges(0, col("n") % 3)).explode("n"),
        lambda n: [*range(n % 3)] or [None],
    ),
}
"""By name: the way of changes, and the records that it makes of a total."""


@pytest.mark.parametrize("name", APART)
def test_halves_of_an_update_that_part_are_a_delete_and_an_insert(name: str) -> None:
    way, makes = APART[name]
    job = sf.Job("apart")
    out = way(totals(read(job))).collect()
    job.run(mode="streaming", batch_rows=2)
    standing: list[Any] = []
    rows: list[Any] = out.rows()
    kinds = [row["change"] for row in rows]
    for place, kind in enumerate(kinds):
        assert kind != "update_before" or kinds[place + 1] == "update_after"
        assert kind != "update_after" or kinds[place - 1] == "update_before"
        one = (rows[place]["k"], rows[place]["n"])
        (standing.remove if kind in ("update_before", "delete") else standing.append)(one)
    assert sorted(standing, key=str) == sorted(((k, n) for k in "ab" for n in makes(5)), key=str)


@pytest.mark.parametrize("make", [totals, retracting])
@pytest.mark.parametrize("name", REFUSED)
def test_changes_are_not_taken_for_records(name: str, make: Callable[[sf.Stream], sf.Stream]) -> None:
    changes = make(read(sf.Job("refused")))
    take, message = REFUSED[name]
    with pytest.raises(sf.JobDefinitionError, match=message):
        take(changes)


AGGREGATED: dict[str, tuple[Callable[[sf.Stream], sf.Stream], dict[str, int]]] = {
    "at once": (lambda changes: changes, {"n": 5, "times": 2}),
    "behind a function": (lambda changes: changes.map(lambda row: row), {"n": 5, "times": 2}),
    "behind columns": (
        lambda changes: changes.with_columns(n=col("n") + 1).select("change", "n"),
        {"n": 6, "times": 2},
    ),
    "behind a union": (lambda changes: changes.union(changes), {"n": 5, "times": 4}),
}
"""By name: the way of changes to a total, and the total in the end."""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", AGGREGATED)
def test_totals_of_changes_are_those_of_the_last_result(name: str, mode: Any) -> None:
    way, total = AGGREGATED[name]
    job = sf.Job("again")
    out = way(totals(read(job))).key_by("n").aggregate(times=sf.count()).collect()
    job.run(mode=mode, batch_rows=2, parallelism=2, micro_batch_interval="1h")
    assert final_rows(out.rows(), changing=True) == [total]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("by", [col("s") > 1, lambda row: row["s"] > 1])
def test_a_filter_makes_a_lone_half_of_an_update_an_insert_or_a_delete(by: Any, mode: Any) -> None:
    job = sf.Job("filtered")
    rows = [{"k": key, "v": value} for key, value in zip("abaabab", (1, 1, 1, 1, 1, -2, 5), strict=True)]
    totals = job.read(sf.MemorySource(rows, batch_rows=1)).key_by("k").aggregate(s=sf.sum("v"))
    large = totals.filter(by)
    assert list(large.schema) == ["change", "k", "s"]  # type: ignore[call-overload]
    out = large.collect()
    counted = large.key_by(col("s") > 0).aggregate(n=sf.count(), most=sf.max("s")).collect()
    job.run(mode=mode, batch_rows=1)
    assert final_rows(out.rows(), changing=True) == [{"k": "b", "s": 7}]
    assert [row["n"] for row in final_rows(counted.rows(), changing=True)] == [1]
    if mode == "streaming":
        said = [(row["change"], row["k"], row["s"]) for row in out.rows()]
        assert said == [
            ("insert", "a", 2),
            ("update_before", "a", 2),
            ("update_after", "a", 3),
            ("insert", "b", 2),
            ("delete", "a", 3),
            ("update_before", "b", 2),
            ("update_after", "b", 7),
        ]


def not_two(row: dict[str, Any]) -> dict[str, Any]:
    """A function that fails for a sum of two."""
    if row["s"] == 2:
        raise ValueError("two")
    return row


async def later_not_two(row: dict[str, Any]) -> dict[str, Any]:
    return not_two(row)


FAILING: dict[str, Callable[[sf.Stream], sf.Stream]] = {
    "a function": lambda totals: totals.map(not_two, schema={"change": str, "k": str, "s": int}),
    "a function of objects": lambda totals: totals.map(not_two),
    "columns": lambda totals: totals.with_columns(
        s=pl.when(col("s") == 2).then(-1).otherwise("s").cast(pl.UInt32)
    ),
    "a filter": lambda totals: totals.filter(lambda row: bool(not_two(row))),
    "requests": lambda totals: totals.map_async(later_not_two, schema={"change": str, "k": str, "s": int}),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_bad_half_of_an_update_leaves_an_insert_or_a_delete(name: str) -> None:
    job = sf.Job("halves")
    rows = [{"k": key, "v": value} for key, value in zip("aaabb", (1, 1, 1, 1, 1), strict=True)]
    totals = job.read(sf.MemorySource(rows, batch_rows=1)).key_by("k").aggregate(s=sf.sum("v"))
    made = FAILING[name](totals).on_error("skip")
    assert made.type.changes == EVERY_CHANGE
    # Behind it a query of its own, so that columns are put together with it.
    out = (made.select("change", "k", "s") if name == "columns" else made).collect()
    result = job.run(mode="streaming", batch_rows=1)
    assert [(row["change"], row["k"], row["s"]) for row in out.rows()] == [
        ("insert", "a", 1),
        ("delete", "a", 1),
        ("insert", "a", 3),
        ("insert", "b", 1),
        ("delete", "b", 1),
    ]
    assert result.errors == 3


def test_a_change_for_which_a_filter_fails_is_a_bad_record() -> None:
    job = sf.Job("bad")
    totals = job.read(sf.MemorySource([{"k": "a"}, {"k": "b"}])).key_by("k").aggregate(n=sf.count())
    out = totals.filter(lambda row: {"a": 1}[row["k"]]).on_error("skip").collect()
    result = job.run(mode="batch")
    assert ([row["k"] for row in out.rows()], result.errors) == (["a"], 1)


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
