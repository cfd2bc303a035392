"""Calls of `join`, `join_asof`, `table` and `to_table`: which join they mean, and what they refuse."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from inspect import getsource
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamflow as sf
from streamflow import col
from streamflow.api.stream import builder_of, read_of
from streamflow.graph.logical import OperatorNode
from streamflow.operators.joins.changing import ChangingJoin
from streamflow.testing import TestJob

ROWS = [{"k": "a", "t": 0, "v": 1}]
TOPIC = sf.KafkaSink("rows", key="k", changes="upsert")
FRAME = pl.DataFrame({"k": ["a"], "w": [5]})


async def endless() -> AsyncIterator[dict[str, Any]]:
    """A source without an end, which no test runs."""
    yield ROWS[0]


def job_of(rows: Any = ROWS, *, timed: bool = True) -> tuple[sf.Job, sf.Stream, sf.Stream]:
    """A job with two streams of the same columns."""
    job = sf.Job("joins")
    time = sf.epoch("t", unit="s") if timed else None
    left, right = (job.read(sf.MemorySource(rows), event_time=time) for _ in range(2))
    return job, left, right


def refused(call: Callable[[sf.Job, sf.Stream, sf.Stream], Any], *, timed: bool = True) -> str:
    """The message of the error that a call raises, and its hint; it names the operator and the line of this file."""
    with pytest.raises(sf.JobDefinitionError) as raised:
        call(*job_of(timed=timed))
    assert raised.value.where.operator
    assert "test_joined.py" in (raised.value.where.code or "")
    return str(raised.value)


MISUSES: dict[str, tuple[Callable[[sf.Job, sf.Stream, sf.Stream], Any], str]] = {
    "no keys": (lambda j, a, b: a.join(b), "a join needs on=, or left_on= and right_on="),
    "one side's keys": (lambda j, a, b: a.join(b, left_on="k"), "a join needs on="),
    "keys and keys": (lambda j, a, b: a.join(b, on="k", left_on="k", right_on="k"), "a join needs on="),
    "other numbers of keys": (lambda j, a, b: a.join(b, left_on=["k", "v"], right_on="k"), "left_on names 2"),
    "an unknown key": (lambda j, a, b: a.join(b, on="kk"), "did you mean 'k'"),
    "a computed key": (lambda j, a, b: a.join(b, on=col("v") + 1), "names no column"),
    "a key twice": (lambda j, a, b: a.join(b, on=["k", "k"]), "name each key column once"),
    "other types of keys": (lambda j, a, b: a.join(b, left_on="k", right_on="v"), "which is String"),
    "how": (lambda j, a, b: a.join(b, on="k", how="cross"), "choose one of inner, left"),
    "several kinds of join": (lambda j, a, b: a.join(b, on="k", how=["left"]), "choose one of inner, left"),
    "strategy": (
        lambda j, a, b: a.join(b, on="k", strategy="nested"),
        "one of: auto, hash, sort-merge, broadcast",
    ),
    "window and within": (
        lambda j, a, b: a.join(b, on="k", window=sf.tumbling("1s"), within=("0s", "1s")),
        "give one of them",
    ),
    "a count window": (
        lambda j, a, b: a.join(b, on="k", window=sf.count_window(3)),
        "sf.session(…) or own ones, or within=",
    ),
    "a salt over sessions": (
        lambda j, a, b: a.join(b, on="k", window=sf.session(gap="1s"), salt=2),
        "all rows of a key make its windows",
    ),
    "an empty interval": (
        lambda j, a, b: a.join(b, on="k", within=("1s", "-1s")),
        "give the earlier end first",
    ),
    "half an interval": (lambda j, a, b: a.join(b, on="k", within="1s"), 'like within=("-5m", "1m")'),
    "a time to live of nothing": (lambda j, a, b: a.join(b, on="k", ttl="0s"), "ttl"),
    "a salt without a bound": (lambda j, a, b: a.join(b, on="k", salt=2), "salt= goes with window="),
    "a salt of nothing": (lambda j, a, b: a.join(b, on="k", within=("0s", "1s"), salt=0), "salt"),
    "a salt of millions": (
        lambda j, a, b: a.join(b, on="k", within=("0s", "1s"), salt=10**9),
        "at most 1,024",
    ),
    "a salt on the right": (
        lambda j, a, b: a.join(b, on="k", within=("0s", "1s"), salt=2, how="outer"),
        "cannot be how='outer'",
    ),
    "a list": (lambda j, a, b: a.join([1], on="k"), "give a stream before key_by(…), a table or a DataFrame"),
    "a keyed stream": (lambda j, a, b: a.join(b.key_by("k"), on="k"), "give a stream before key_by(…)"),
    "a suffix that is no text": (lambda j, a, b: a.join(b, on="k", suffix=2), "suffix is 2"),
    "a narrower key on the left": (
        lambda j, a, b: a.with_columns(n=col("v").cast(sf.Int32)).join(b, left_on="n", right_on="v"),
        "with_columns(col('n').cast(pl.Int64)) on the left",
    ),
    "a narrower key on the right": (
        lambda j, a, b: a.with_columns(n=col("v") / 2).join(b, left_on="n", right_on="v"),
        "with_columns(col('v').cast(pl.Float64)) on the right",
    ),
    "changes in every subtask": (
        lambda j, a, b: a.key_by("k").aggregate(n=sf.count()).join(b.to_table("k"), strategy="broadcast"),
        "which are joined by key",
    ),
    "a window with a table": (
        lambda j, a, b: a.join(b.to_table("k"), window=sf.tumbling("1s")),
        "a join with a table has no window",
    ),
    "an interval with a frame": (lambda j, a, b: a.join(FRAME, on="k", within=("0s", "1s")), "has no within"),
    "an outer join with a frame": (
        lambda j, a, b: a.join(FRAME, on="k", how="outer"),
        "cannot be how='outer'",
    ),
    "a right join with a table": (
        lambda j, a, b: a.join(b.to_table("k"), how="right"),
        "cannot be how='right'",
    ),
    "an outer broadcast": (
        lambda j, a, b: a.join(b, on="k", strategy="broadcast", how="outer"),
        "cannot be how='outer'",
    ),
    "a broadcast without an end": (
        lambda j, a, b: a.join(
            j.read(sf.source(endless, schema={"k": str, "w": int})), on="k", strategy="broadcast"
        ),
        "needs a right side that ends",
    ),
    "a history in every subtask": (
        lambda j, a, b: a.join(b.to_table("k", versioned=True), strategy="broadcast"),
        "joined by key",
    ),
    "other keys than the table's": (lambda j, a, b: a.join(b.to_table("k"), on="v"), "one row for each k"),
    "changes with a history, outer": (
        lambda j, a, b: a.key_by("k").count().join(b.to_table("k", versioned=True), how="outer"),
        "cannot be how='outer'",
    ),
    "changes without event time": (
        lambda j, a, b: (
            j.read(sf.MemorySource(ROWS)).key_by("k").count().join(b.to_table("k", versioned=True), on="k")
        ),
        "or join with table.changes(), which has the latest rows",
    ),
    "as of changes": (
        lambda j, a, b: a.join_asof(b.key_by("k").count(), on="k"),
        'make a table of them: to_table("key", versioned=True)',
    ),
    "changes with objects": (
        lambda j, a, b: a.key_by("k").count().join(b.map(dict, schema=sf.OBJECTS), on="k"),
        "give the streams columns first",
    ),
    "as of a frame": (lambda j, a, b: a.join_asof(FRAME, on="k"), "sf.MemorySource(frame)"),
    "as of, outer": (lambda j, a, b: a.join_asof(b, on="k", how="outer"), "cannot be how='outer'"),
    "a table of nothing": (lambda j, a, b: b.to_table([]), "name each key column once"),
    "an unknown key of a table": (lambda j, a, b: b.to_table("kk"), "did you mean 'k'"),
    "deleted is no expression": (lambda j, a, b: b.to_table("k", deleted="v"), "give an expression"),
    "deleted is no yes or no": (lambda j, a, b: b.to_table("k", deleted=col("v")), "a yes or no"),
    "a table of changes, and what is deleted": (
        lambda j, a, b: b.key_by("k").aggregate(n=sf.count()).to_table("k", deleted=col("n") == 0),
        "which say themselves what is gone",
    ),
    "a table of changes without their kind": (
        lambda j, a, b: b.key_by("k").aggregate(n=sf.count()).drop("change").to_table("k"),
        "'change'",
    ),
    "changes as objects, and a frame": (
        lambda j, a, b: (
            a.key_by("k").aggregate(n=sf.count()).map(dict, schema=sf.OBJECTS).join(FRAME, on="k")
        ),
        "a join of changes with Python objects",
    ),
    "changes without their kind": (
        lambda j, a, b: b.key_by("k").aggregate(n=sf.count()).drop("change").join(a, on="k"),
        "lack their kind",
    ),
    "a topic without the kinds of changes": (
        lambda j, a, b: b.key_by("k").aggregate(n=sf.count()).drop("change").write(TOPIC),
        "lack their kind",
    ),
    "a topic by another key": (
        lambda j, a, b: a.key_by("v").aggregate(k=sf.max("k")).write(TOPIC),
        "write the row that stands of each: .to_table('k').changes()",
    ),
    "a topic of a join by another key": (
        lambda j, a, b: a.to_table("k").join(b.to_table("k"), on="v").write(TOPIC),
        "made by another key",
    ),
    "a topic of changes that are spread": (
        lambda j, a, b: a.key_by("k").aggregate(n=sf.count()).filter(col("n") > 1).parallel(2).write(TOPIC),
        "spread by parallel",
    ),
    "a topic of several rows of a key": (
        lambda j, a, b: a.to_table("k").join(b, on="k").write(TOPIC),
        "several rows of one",
    ),
    "a window's name": (
        lambda j, a, b: a.rename({"v": "window_start"}).join(b, on="k", window=sf.tumbling("1s")),
        "which every result has",
    ),
    "a name twice": (
        lambda j, a, b: a.with_columns(v_right=1).join(b, on="k", within=("0s", "1s")),
        "give another suffix",
    ),
    "a change's name": (
        lambda j, a, b: a.rename({"v": "change"}).join(b, on="k", how="left"),
        "which a changing result has",
    ),
    "records out of changes": (
        lambda j, a, b: a.join(b, on="k", how="left").window(sf.tumbling("1s")).count(),
        "would take each for a record",
    ),
    "late rows without event time": (lambda j, a, b: a.join(b, on="k").late, "has no late rows"),
}


@pytest.mark.parametrize("name", MISUSES)
def test_a_misuse_is_an_error_when_the_job_is_built(name: str) -> None:
    call, message = MISUSES[name]
    said = refused(call)
    assert message in said
    assert "operator read-" not in said or "to_table" in getsource(call)


def test_a_table_says_where_the_methods_of_streams_are() -> None:
    table: Any = job_of()[1].to_table("k")
    with pytest.raises(AttributeError, match="of the stream before"):
        table.filter(col("v") > 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda j, a, b: a.join(b, on="k", window=sf.tumbling("1s")),
        lambda j, a, b: a.join(b, on="k", within=("0s", "1s")),
        lambda j, a, b: a.join_asof(b, on="k"),
        lambda j, a, b: a.join(b, on="k", ttl="1s"),
        lambda j, a, b: b.to_table("k", versioned=True),
    ],
)
def test_a_join_by_time_needs_event_time(call: Any) -> None:
    assert "event time" in refused(call, timed=False)


def test_a_keyed_stream_says_where_its_join_is() -> None:
    keyed: Any = job_of()[1].key_by("k")
    with pytest.raises(AttributeError, match="of the stream before key_by"):
        keyed.join(keyed)


def test_a_frame_is_joined_as_it_was_when_the_job_was_built() -> None:
    job, left, _ = job_of()
    frame = FRAME.clone()
    found = left.join(frame, on="k").collect()
    frame[0, "w"] = 6
    frame.insert_column(0, pl.Series("new", [1]))
    job.run()
    assert found.rows() == [{"k": "a", "t": 0, "v": 1, "w": 5}]


def test_streams_of_two_jobs_do_not_join() -> None:
    assert "of two jobs" in refused(lambda j, a, b: a.join(job_of()[1], on="k"))


def test_the_plan_says_which_join_was_chosen_and_what_it_keeps() -> None:
    job, left, right = job_of()
    for joined in (
        left.join(right, on="k", window=sf.tumbling("1h")),
        left.join(right, left_on="k", right_on="k", within=("-5m", "1m"), how="left"),
        left.join_asof(right, on="k", tolerance="2h"),
        left.key_by("k").count().join(right.to_table("k", versioned=True)),
        left.join(right.to_table("k")),
        left.join(right, on="k", strategy="broadcast"),
        left.join(FRAME, on="k"),
        left.join(right, on="k"),
        left.join(right, on="k", ttl="1d"),
    ):
        joined.collect()
    described = [node.spec.describe() for node in job.graph.nodes if isinstance(node, OperatorNode)]
    assert described == [
        "inner on k in tumbling(1h); keeps rows until their windows close",
        "left on k within -5m to 1m; keeps rows for 6m",
        "left on k as of the left's time within 2h; keeps the last version of each key",
        "by k: count=count()",
        "inner on k as of the left's time; keeps the last version of each key, and the left's rows that stand",
        "inner on k with a table, read first; keeps a row of each of its keys",
        "inner on k with a table, read first; keeps a row of each of its keys in every subtask",
        "inner on k with a frame of 1 rows",
        "inner on k; keeps all rows for ever",
        "inner on k; keeps all rows for 1d",
    ]


def test_a_join_that_grows_without_end_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    job, left, _ = job_of()
    other = job.read(sf.source(endless, schema={"k": str, "w": int}))
    with caplog.at_level(logging.WARNING):
        left.join(other, on="k").named("pairs").collect()
        left.join(other.to_table("k"), how="left").collect()
        left.join(left, on="k").collect()
        timed = job.read(sf.source(endless, schema={"k": str, "w": int}), event_time=sf.epoch("w", unit="s"))
        timed.key_by("k").count().join_asof(left, on="k").collect()
    assert [record.getMessage() for record in caplog.records] == [
        "join-1 keeps all rows of both sides for ever: join by window= or within=, with a table, or give a ttl=",
        "asof-join-1 keeps all rows of the left until they are withdrawn",
    ]


def test_columns_are_the_keys_once_then_the_lefts_then_the_rights() -> None:
    _, left, right = job_of()
    other = right.rename({"k": "name"}).with_columns(w=2)
    joined = left.select("v", "k").join(other, left_on="k", right_on="name", within=("0s", "1s"), suffix="_2")
    assert list(joined.type.schema) == ["k", "v", "t", "v_2", "w"]  # type: ignore[arg-type]


def test_late_rows_say_their_side_and_have_the_others_columns_null() -> None:
    job, left, right = job_of()
    joined = left.join(right, on="k", within=("0s", "1s"), how="semi").named("pairs")
    assert isinstance(joined, sf.JoinedStream)
    late = joined.late.collect()
    with TestJob(job) as test:
        for source in ("read-1", "read-2"):
            test.source(source).advance_watermark(10_000_000)
        test.source("read-1").push([{"k": "a", "t": 1, "v": 1}])
        test.source("read-2").push([{"k": "b", "t": 2, "v": 2}])
        rows = test.output(late).rows()
    assert rows == [
        {"late_side": "left", "k": "a", "t": 1, "v": 1, "t_right": None, "v_right": None},
        {"late_side": "right", "k": "b", "t": None, "v": None, "t_right": 2, "v_right": 2},
    ]


def test_late_rows_that_nothing_reads_are_counted() -> None:
    job, left, right = job_of()
    left.join(right, on="k", within=("0s", "1s")).collect()
    with TestJob(job) as test:
        for source in ("read-1", "read-2"):
            test.source(source).advance_watermark(10_000_000)
        test.source("read-1").push(ROWS)
        assert test.finish().dropped == 1


def test_objects_join_to_dicts() -> None:
    job = sf.Job("objects")
    left = job.read(sf.MemorySource([{"k": 1, "v": "a"}, {"k": 2, "v": "b"}], schema=sf.OBJECTS))
    right = job.read(sf.MemorySource([{"id": 1, "v": "x", "w": 3.5}], schema=sf.OBJECTS))
    table = pl.DataFrame({"k": [2], "u": [True]})
    pairs = left.join(right, left_on="k", right_on="id").named("pairs").parallel(2).collect()
    found = left.join(table, on="k", how="left").collect()
    job.run()
    assert pairs.rows() == [{"k": 1, "v": "a", "v_right": "x", "w": 3.5}]
    assert sorted(found.rows(), key=lambda row: row["k"]) == [
        {"k": 1, "v": "a"},
        {"k": 2, "v": "b", "u": True},
    ]


def test_a_join_of_objects_that_are_no_dicts_fails_with_the_record() -> None:
    job = sf.Job("objects")
    left, right = (job.read(sf.MemorySource(["a"], schema=sf.OBJECTS)) for _ in range(2))
    with pytest.raises(sf.JobDefinitionError, match="cannot be how='outer'"):
        left.join(right, on="k", how="outer")
    left.join(right, on="k").named("pairs").collect()
    with pytest.raises(sf.RecordError) as raised:
        job.run()
    assert raised.value.where.operator in ("pairs-left-keys", "pairs-right-keys")


@pytest.mark.parametrize("how", ["inner", "left", "semi", "anti"])
@pytest.mark.parametrize("kind", ["interval", "window", "as of", "objects"])
def test_a_salt_changes_nothing_but_the_subtasks(how: Any, kind: str) -> None:
    rows = [{"k": "hot" if n % 5 else "cold", "t": n % 17, "v": n} for n in range(60)]
    schema = sf.OBJECTS if kind == "objects" else None
    results: list[list[str]] = []
    for salt in (1, 4):
        job = sf.Job("salted")
        left, right = (
            job.read(sf.MemorySource(part, schema=schema), event_time=sf.epoch("t", unit="s"), watermark="1m")
            for part in (rows[:40], rows[40:])
        )
        if kind == "as of":
            joined = left.join_asof(right.filter(col("v") < 45), on="k", how=how, salt=salt)
        elif kind == "window":
            joined = left.join(right, on="k", how=how, window=sf.tumbling("5s"), salt=salt)
        else:
            joined = left.join(right, on="k", how=how, within=("-2s", "2s"), salt=salt)
        found, late = joined.named("pairs").collect(), joined.late.collect()
        job.run(parallelism=3)
        results.append(sorted(map(str, [*found.rows(), *late.rows()])))
    assert results[0] == results[1]
    assert results[0] or how == "anti"


def test_late_rows_of_a_salted_join_come_once() -> None:
    job, left, right = job_of()
    late = left.join(right, on="k", within=("0s", "1s"), salt=3).late.collect()
    with TestJob(job) as test:
        for source in ("read-1", "read-2"):
            test.source(source).advance_watermark(10_000_000)
        for source in ("read-1", "read-2"):
            test.source(source).push(ROWS)
        rows = test.output(late).rows()
    assert sorted(row["late_side"] for row in rows) == ["left", "right"]
    assert "salt" not in str(rows)


@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
@given(rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=12))
@settings(max_examples=8, deadline=None)
def test_a_table_of_a_changing_result_holds_what_stands(mode: Any, rows: list[tuple[str, int]]) -> None:
    job = sf.Job("tables")
    read = job.read(sf.MemorySource(pl.DataFrame(rows, ["k", "n"], orient="row"))).parallel(1)
    latest = read.to_table("k", deleted=col("n") == 0)
    again = latest.changes().to_table("k").changes().collect()
    keys = latest.changes().select("change", "k").to_table("k").changes().collect()
    names = job.table(sf.MemorySource([{"n": 2, "name": "two"}, {"n": 1, "name": "one"}]), key="n")
    named = latest.join(names, on="n").to_table("k").changes().collect()
    totals = read.key_by("k").aggregate(total=sf.sum("n")).to_table("k").changes().collect()
    job.run(mode=mode, parallelism=2, batch_rows=2)
    assert standing(again.rows(), "n") == {key: n for key, n in dict(rows).items() if n}
    assert sorted(standing(keys.rows(), "k")) == sorted(key for key, n in dict(rows).items() if n)
    assert standing(named.rows(), "n") == {key: n for key, n in dict(rows).items() if n in (1, 2)}
    sums = {key: sum(n for k, n in rows if k == key) for key, _ in rows}
    assert standing(totals.rows(), "total") == sums


def test_only_changes_out_of_order_need_all_rows_that_stand() -> None:
    """A database tells deletions by their key alone, which would withdraw no row."""
    items = sf.Job("tables").read(sf.KafkaSource("items", format="debezium", schema={"k": int, "n": int}))
    totals = items.key_by("k").aggregate(n=sf.sum("n"))
    kinds = [
        [node.kind for node in builder_of(stream.to_table("k").stream).graph.nodes][-1]
        for stream in (
            items.map_batches(lambda frame: frame),
            totals.filter(lambda row: row["n"] > 1).rename({"n": "m"}),
            totals.select("change", k="n"),
            totals.filter(col("n") > 1).parallel(2),
        )
    ]
    assert kinds == ["rows_of_changes"] * 2 + ["latest_standing"] * 2


def test_a_join_knows_which_sides_have_one_row_of_each_key() -> None:
    """A log of changes has an order, but nobody knows by which key."""
    job = sf.Job("tables")
    items = job.read(sf.KafkaSource("items", format="debezium", schema={"k": int, "n": int}))
    totals = items.key_by("k").aggregate(n=sf.sum("n"))
    table = items.to_table("k").changes().filter(col("n") > 1)
    both = totals.join(table.rename({"n": "m"}), on="k")
    joins = (
        both,
        both.join(items, on="k", suffix="_3"),
        items.join(items, on="k"),
        totals.join(table, on="n"),
        totals.join(items, on="k").join(totals, on="k", suffix="_3"),
    )
    graph = builder_of(items).graph
    specs = [node.spec for join in joins if isinstance(node := graph.node(read_of(join).node), OperatorNode)]
    single = [spec.single for spec in specs if isinstance(spec, ChangingJoin)]
    assert single == [(True, True), (True, False), (False, False), (False, False), (False, True)]


@pytest.mark.parametrize("how", ["inner", "left", "semi", "anti"])
def test_rows_that_are_looked_up_keep_their_order(how: Any) -> None:
    rows = [{"k": "a", "n": n, "t": t} for t, n in enumerate([5, 1, 9, 2, 1])]
    few = [{"n": 1, "u": 0}, {"n": 2, "u": 0}]
    job = sf.Job("in order")
    left = job.read(sf.MemorySource(rows), event_time=sf.epoch("t", unit="s")).parallel(1)
    right = job.read(sf.MemorySource(few), event_time=sf.epoch("u", unit="s")).drop("u")
    found = [
        left.join(other, on="n", how=how).collect()
        for other in (pl.DataFrame({"n": [1, 2]}), right.to_table("n"), right.to_table("n", versioned=True))
    ]
    found.append(left.join(right, on="n", how=how, strategy="broadcast").collect())
    job.run()
    has = [row["n"] for row in rows if how == "left" or (row["n"] in (1, 2)) == (how != "anti")]
    assert [[row["n"] for row in each.rows()] for each in found] == [has] * 4


def test_an_update_of_which_one_half_is_found_is_an_insert_or_a_delete() -> None:
    job = sf.Job("halves")
    totals = job.read(sf.MemorySource([{"k": "a"}] * 3)).key_by("k").aggregate(n=sf.count())
    once = totals.join(pl.DataFrame({"n": [1, 2]}), on="n").collect()
    twice = totals.join(pl.DataFrame({"n": [2, 2], "w": [5, 6]}), on="n").collect()
    job.run(mode="streaming", batch_rows=1)
    kinds = [[(row["change"], row["n"]) for row in each.rows()] for each in (once, twice)]
    assert kinds[0] == [("insert", 1), ("update_before", 1), ("update_after", 2), ("delete", 2)]
    assert kinds[1] == [("insert", 2)] * 2 + [("delete", 2)] * 2


def test_an_interval_of_all_time_has_every_row() -> None:
    job, left, right = job_of([{"k": "a", "t": n, "v": n} for n in range(3)])
    pairs = left.join(right, on="k", within=("-99999999d", "99999999d"), how="outer").collect()
    job.run()
    assert len(pairs.rows()) == 9


def standing(changes: list[dict[str, Any]], column: str) -> dict[str, int]:
    """The rows that are left after changes, in their order."""
    rows: dict[str, int] = {}
    for row in changes:
        if row["change"] in ("insert", "update_after"):
            rows[row["k"]] = row[column]
        else:
            del rows[row["k"]]
    return rows
