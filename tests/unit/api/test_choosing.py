"""`deduplicate`, `distinct`, `top_k`: what a job says, columns and objects, keys of all kinds, misuse."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

import streamflow as sf
from streamflow import col
from streamflow.errors import JobDefinitionError
from streamflow.testing import TestJob
from streamflow.testing.results import difference, final_rows

ROWS: list[dict[str, Any]] = [
    {"id": 1, "who": "a", "ts": 0},
    {"id": 1, "who": "a", "ts": 0},
    {"id": 2, "who": "A", "ts": 5},
    {"id": 1, "who": "b", "ts": 90},
]


def read(job: sf.Job, *, objects: bool = False, timed: bool = True) -> sf.Stream:
    source = sf.MemorySource(ROWS, schema=sf.OBJECTS) if objects else sf.MemorySource(ROWS)
    return job.read(source, event_time=sf.epoch("ts", unit="s") if timed else None)


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize(
    ("on", "wanted"),
    [
        (None, [0, 2, 3]),
        ("id", [0, 2]),
        (["id", "who"], [0, 2, 3]),
        (lambda row: row["who"].lower(), [0, 3]),
        (["id", lambda row: row["ts"] > 50], [0, 2, 3]),
        (col("who").str.to_lowercase(), [0, 3]),
        (["who", col("id") % 2], [0, 2, 3]),
    ],
)
def test_on_is_columns_expressions_and_functions(
    objects: bool, parallelism: int, on: Any, wanted: list[int]
) -> None:
    if objects and not isinstance(on, str) and "col(" in str(on):
        pytest.skip("expressions are of columns")
    for timed in (True, False):
        job = sf.Job("once")
        out = read(job, objects=objects, timed=timed).deduplicate(on).collect()
        result = job.run(parallelism=parallelism)
        assert sorted(out.rows(), key=lambda row: row["ts"]) == [ROWS[at] for at in wanted]
        assert result.duplicates == len(ROWS) - len(wanted)


@pytest.mark.parametrize("by", [["who", "ts"], [["who", "ts"]], ["who", ("ts",)]])
def test_an_order_is_by_columns_or_by_lists_of_them(by: Any) -> None:
    job = sf.Job("in order")
    out = read(job).sort(*by, descending=[False, True]).collect()
    job.run(mode="batch")
    assert [(row["who"], row["ts"]) for row in out.rows()] == [("A", 5), ("a", 0), ("a", 0), ("b", 90)]


def test_late_records_are_records() -> None:
    for objects in (False, True):
        job = sf.Job("late")
        rows = [{"id": 1, "ts": 50}, {"id": 2, "ts": 90}, {"id": 3, "ts": 10}]
        source = sf.MemorySource(rows, schema=sf.OBJECTS if objects else None, batch_rows=1)
        once = job.read(source, event_time=sf.epoch("ts", unit="s")).deduplicate(lambda row: row["id"])
        out, late = once.collect(), once.named("once").late.collect()
        result = job.run(mode="streaming")
        assert (out.rows(), late.rows(), result.late) == (rows[:2], rows[2:], 1)


def test_equal_objects_are_equal_whatever_the_order_of_their_fields() -> None:
    job = sf.Job("distinct")
    rows = [{"a": 1, "b": None}, {"b": None, "a": 1}, {"a": 1.0, "b": None}, {"a": "1", "b": None}]
    out = job.read(sf.MemorySource(rows, schema=sf.OBJECTS)).distinct().collect()
    job.run()
    assert out.rows() == [rows[0], rows[3]]


def test_null_is_a_value_among_distinct_ones_and_no_key_to_deduplicate_on() -> None:
    job = sf.Job("distinct")
    stream = job.read(sf.MemorySource([{"a": 1}, {"a": None}, {"a": None}]))
    out, whole = stream.distinct("a").collect(), stream.distinct().collect()
    bad = stream.deduplicate("a").on_error("skip").collect()
    result = job.run()
    assert [row["a"] for row in out.rows()] == [row["a"] for row in whole.rows()] == [1, None]
    assert (bad.rows(), result.errors) == ([{"a": 1}], 2)


async def endless() -> AsyncIterator[dict[str, Any]]:
    yield {"a": 1, "ts": 0}


def test_state_that_grows_for_ever_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    job = sf.Job("growing")
    source = sf.source(endless, schema={"a": sf.Int64, "ts": sf.Int64})
    stream = job.read(source, event_time=sf.epoch("ts"))
    with caplog.at_level(logging.WARNING):
        stream.deduplicate("a")
        stream.distinct()
        stream.deduplicate("a", keep="last")
        stream.deduplicate("a", within="1h")
        read(job).distinct()
    said = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert said == [f"deduplicate-{number} remembers every key for ever" for number in (1, 2, 3)]


def test_the_last_of_each_key_is_a_changing_result() -> None:
    for objects in (False, True):
        job = sf.Job("last")
        last = read(job, objects=objects).deduplicate("id", keep="last")
        out = last.collect()
        assert last.type.changes == {"insert", "update_before", "update_after"}
        job.run(mode="streaming", batch_rows=1)
        rows = final_rows(out.rows(), changing=True)
        found = [row["value"] if objects else row for row in rows]
        assert sorted(found, key=lambda row: row["id"]) == [ROWS[3], ROWS[2]]


def test_misuse_is_refused_when_the_job_is_built() -> None:
    job = sf.Job("wrong")
    stream, untimed = read(job), read(job, timed=False)
    totals = stream.key_by("who").aggregate(n=sf.count())
    for wrong, message in (
        (lambda: stream.deduplicate("nobody"), "no column 'nobody'"),
        (lambda: stream.deduplicate([]), "deduplicate without a key"),
        (lambda: stream.deduplicate("id", within="0s"), "longer than zero"),
        (lambda: stream.deduplicate("id", keep="best"), "keep is 'best'"),  # type: ignore[arg-type]
        (lambda: untimed.deduplicate("id", within="1m"), "within needs event time"),
        (lambda: untimed.deduplicate("id", keep="last"), 'keep="last" needs event time'),
        (lambda: untimed.deduplicate("id").late, "no record is late"),
        (lambda: stream.deduplicate("id", keep="last").late, "no record is late"),
        (lambda: totals.deduplicate("who"), "deduplicate would take each for a record"),
        (lambda: totals.sort("who"), "sort would take each for a record"),
        (lambda: stream.top_k(0, "ts"), "it must be at least 1"),
        (lambda: stream.key_by("who").top_k(1, "tz"), "no column 'tz'"),
        (lambda: stream.key_by("who").top_k(1, []), "top_k without a column"),
    ):
        with pytest.raises(JobDefinitionError, match=message):
            wrong()


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
def test_top_k_is_by_columns_expressions_and_functions(objects: bool, mode: Any) -> None:
    wanted = {"a": [0, 0], "b": [90], "A": [5]}
    ways: list[Any] = ["ts", lambda row: row["ts"]]
    for by in ways if objects else [*ways, col("ts") * 2]:
        job = sf.Job("top")
        stream = read(job, objects=objects)
        out = stream.key_by("who").top_k(2, by).collect()
        by_function = stream.key_by(lambda row: row["who"].lower()).top_k(1, by, descending=False).collect()
        largest = stream.top_k(1, by).collect()
        job.run(mode=mode, parallelism=2, batch_rows=1)
        found: dict[str, list[int]] = {}
        for row in final_rows(out.rows(), changing=True):
            found.setdefault(row["who"], []).append((row["value"] if objects else row)["ts"])
        assert found == wanted
        assert {row["key"] for row in final_rows(by_function.rows(), changing=True)} == {"a", "b"}
        (first,) = final_rows(largest.rows(), changing=True)
        assert first == ({"value": ROWS[3]} if objects else ROWS[3])


def test_top_k_of_totals_follows_them() -> None:
    job = sf.Job("leaders")
    words = [{"w": word} for word in ["a", "b", "a", "c", "c", "c", "b", "a", "a", "b", "d"]]
    totals = job.read(sf.MemorySource(words, batch_rows=1)).key_by("w").aggregate(n=sf.count())
    out = totals.top_k(2, ["n", "w"]).collect()
    job.run(mode="streaming", batch_rows=1)
    final = final_rows(out.rows(), changing=True)
    assert sorted((row["w"], row["n"]) for row in final) == [("a", 4), ("c", 3)]


def test_all_of_them_go_on_from_a_checkpoint() -> None:
    rows = [{"id": n % 3, "who": "ab"[n % 2], "ts": n} for n in range(12)]
    job = sf.Job("saved")
    stream = job.read(sf.MemorySource(rows[:1]), event_time=sf.epoch("ts", unit="s"))
    totals = stream.key_by("id").aggregate(n=sf.count(), last=sf.max("ts"))
    made = {
        "first": stream.deduplicate("id", within="4s"),
        "last": stream.deduplicate("id", within="4s", keep="last"),
        "latest": stream.deduplicate("id", keep="last"),
        "sorted": stream.sort("event_time"),
        "top": stream.key_by("who").top_k(2, "ts"),
        "top of totals": totals.top_k(1, ["last"]),
        "totals of totals": totals.key_by("n").aggregate(ids=sf.count(), last=sf.max("last")),
    }
    ends = {name: each.collect() for name, each in made.items()}

    def outputs(*, crashes: bool) -> dict[str, list[Any]]:
        with TestJob(job, parallelism=1) as t:
            for number in range(0, 12, 3):
                t.source().push(rows[number : number + 3]).advance_watermark(number * 1_000_000)
                if crashes:
                    t.checkpoint().crash()
                    t.restore(parallelism=number // 3 % 2 + 1)
            t.source().end()
            told = {name: t.output(end).rows() for name, end in ends.items()}
        return {name: final_rows(told[name], changing=bool(made[name].type.changes)) for name in made}

    undisturbed, disturbed = outputs(crashes=False), outputs(crashes=True)
    for name in made:
        assert undisturbed[name]
        assert not difference(undisturbed[name], disturbed[name]), name
