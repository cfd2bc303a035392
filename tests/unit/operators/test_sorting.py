"""Records put in order: by event time as the watermark allows, and by any columns at the end of a batch."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.contract.operator import LATE
from streamflow.operators.sorting import sorted_runs
from streamflow.operators.sorting.event_time import EventTimeSortSpec
from streamflow.operators.sorting.sort_rows import SortRowsSpec
from streamflow.testing.harness import OperatorHarness

TYPE = Schema({"k": pl.String, "v": pl.Int64})
TIMED, UNTIMED = StreamType(TYPE, timed=True), StreamType(TYPE, timed=False)
BY_TIME = EventTimeSortSpec(("k", "v"))


def by(*columns: str, descending: bool = False, nulls_last: bool = False) -> SortRowsSpec:
    return SortRowsSpec(columns, (descending,) * len(columns), nulls_last, ("k", "v"), columns)


def test_records_come_out_in_order_when_the_watermark_has_passed_them() -> None:
    harness = OperatorHarness(BY_TIME, TIMED)
    harness.push([{"k": "a", "v": 3}, {"k": "b", "v": 1}, {"k": "b", "v": 2}], times=[3, 1, 2]).watermark(2)
    assert [row["v"] for row in harness.output()] == [1, 2]
    harness.push([{"k": "c", "v": 9}, {"k": "c", "v": 4}, {"k": "a", "v": 4}], times=[2, 4, 4]).finish()
    assert [(row["k"], row["v"]) for row in harness.output()] == [
        ("b", 1),
        ("b", 2),
        ("a", 3),
        ("a", 4),
        ("c", 4),
    ]
    assert harness.event_times() == [1, 2, 3, 4, 4]
    assert harness.output(LATE) == [{"k": "c", "v": 9}]


@pytest.mark.parametrize("budget", [64 << 20, 1])
def test_waiting_records_are_restored(budget: int) -> None:
    chance = random.Random(5)
    times = [n // 3 + chance.randint(0, 9) for n in range(300)]
    harness = OperatorHarness(BY_TIME, TIMED, memory_budget=budget)
    for start in range(0, 300, 20):
        rows = [{"k": "a", "v": n} for n in range(start, start + 20)]
        harness.push(rows, times=times[start : start + 20]).watermark((start + 20) // 3 - 1)
        harness.restore(harness.snapshot())
    harness.finish()
    assert harness.event_times() == sorted(times)
    assert [row["v"] for row in harness.output()] == [
        n for _, n in sorted((t, n) for n, t in enumerate(times))
    ]


@pytest.mark.parametrize("budget", [64 << 20, 100_000, 1])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("nulls_last", [False, True])
def test_a_batch_is_sorted_whatever_fits_into_memory(
    budget: int, descending: bool, nulls_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorted_runs, "_MOST_RUNS", 3)
    chance = random.Random(budget)
    count = 500 if budget == 1 else 5_000
    rows = [{"k": chance.choice(["a", "b", None]), "v": chance.randint(0, 50)} for _ in range(count)]
    harness = OperatorHarness(
        by("k", "v", descending=descending, nulls_last=nulls_last),
        UNTIMED,
        updates="end",
        memory_budget=budget,
    )
    for number, start in enumerate(range(0, len(rows), 250)):
        harness.push(rows[start : start + 250])
        if number % 2:
            harness.restore(harness.snapshot())
    assert harness.output() == []
    harness.finish()
    wanted = pl.DataFrame(rows, schema=dict(TYPE)).sort(
        "k", "v", descending=descending, nulls_last=nulls_last
    )
    assert harness.output() == wanted.to_dicts()


def test_equal_rows_are_in_the_order_of_the_rest() -> None:
    rows = [{"k": key, "v": value} for value, key in [(1, "b"), (0, "z"), (1, "a")]]
    harness = OperatorHarness(by("v"), TIMED, updates="end").push(rows, times=[7, 8, 7]).finish()
    assert [row["k"] for row in harness.output()] == ["z", "a", "b"]
    assert harness.event_times() == [8, 7, 7]


@pytest.mark.parametrize("mode", ["streaming", "micro-batch"])
def test_an_order_that_needs_all_records_is_refused_on_a_stream(mode: Any) -> None:
    job = sf.Job("sorted")
    job.read(sf.MemorySource([{"v": 1}])).sort("v").collect()
    with pytest.raises(JobDefinitionError, match=r'sort-1(.|\n)*sorted by v(.|\n)*mode="batch"') as raised:
        job.run(mode=mode)
    assert "event_time" in str(raised.value)
    assert job.run(mode="batch").records_out["sort-1"] == 1


ROWS = [{"v": 3, "ts": 1}, {"v": 1, "ts": 2}, {"v": 2, "ts": 0}]


@pytest.mark.parametrize(
    ("by", "descending", "wanted"),
    [
        (["v"], False, [1, 2, 3]),
        (["v"], True, [3, 2, 1]),
        ([-sf.col("v")], False, [3, 2, 1]),
        ([sf.col("v")], False, [1, 2, 3]),
        ([lambda row: row["v"] % 3], False, [3, 1, 2]),
        (["event_time"], False, [2, 3, 1]),
        (["event_time"], True, [1, 3, 2]),
        ([lambda row: 0, "v"], [False, True], [3, 2, 1]),
    ],
)
@pytest.mark.parametrize("objects", [False, True])
def test_an_order_is_columns_expressions_and_functions(
    by: list[Any], descending: Any, wanted: list[int], objects: bool
) -> None:
    if objects and any(isinstance(each, pl.Expr) for each in by):
        pytest.skip("expressions are of columns")
    job = sf.Job("sorted")
    source = sf.MemorySource(ROWS, schema=sf.OBJECTS) if objects else sf.MemorySource(ROWS)
    out = job.read(source, event_time=sf.epoch("ts", unit="s")).sort(*by, descending=descending).collect()
    job.run(mode="batch", parallelism=2)
    assert [row["v"] for row in out.rows()] == wanted
    assert set(out.rows()[0]) == {"v", "ts"}


def test_a_wrong_order_is_refused_when_the_job_is_built() -> None:
    stream = sf.Job("sorted").read(sf.MemorySource(ROWS))
    for wrong, message in (
        (lambda: stream.sort(), "sort without a column"),
        (lambda: stream.sort("w"), "no column 'w'"),
        (lambda: stream.sort("event_time"), "this stream has no event time"),
        (lambda: stream.sort("v", descending=[True, False]), "descending is"),
        (lambda: stream.sort(1), "1 is no column"),  # type: ignore[arg-type]
        (lambda: stream.sort("v").late, "no record is late"),
    ):
        with pytest.raises(JobDefinitionError, match=message):
            wrong()
