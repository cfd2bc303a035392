"""Windows of all records, and the shortcuts for one aggregate: the same in every mode and at any parallelism."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import streamflow as sf
from streamflow import col
from streamflow.testing import check_modes_agree

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = [{"k": "ab"[n % 2], "v": n, "at": START + timedelta(seconds=n)} for n in range(30)]


def read(job: sf.Job, rows: list[dict[str, Any]], *, objects: bool) -> sf.Stream:
    source = sf.MemorySource(rows, schema=sf.OBJECTS) if objects else sf.MemorySource(rows)
    return job.read(source, event_time="at", watermark=sf.bounded_disorder("5s"))


@pytest.mark.parametrize("objects", [False, True])
def test_windows_of_all_records_agree_in_all_modes(objects: bool) -> None:
    job = sf.Job("all")
    events = read(job, ROWS, objects=objects)
    windows = [sf.tumbling("10s"), sf.sliding("10s", every="5s"), sf.session(gap="2s"), sf.global_window()]
    for window in windows:
        events.window(window).aggregate(n=sf.count(), total=sf.sum("v")).collect()
    events.window(sf.tumbling("20s")).reduce(lambda a, b: a if a["v"] > b["v"] else b).collect()
    events.window(sf.tumbling("10s"), allowed_lateness="1m", accumulation="retracting").max("v").collect()
    results = list(check_modes_agree(job, parallelism=(1, 3), batch_rows=(7,)).values())
    tumbling, sliding, sessions, everything, largest, changing = results
    assert [row["total"] for row in tumbling] == [45, 145, 245]
    assert list(tumbling[0]) == ["window_start", "window_end", "n", "total"]
    assert (len(sliding), len(sessions)) == (7, 1)
    assert everything == [{"n": 30, "total": 435}]
    assert [row["value"]["v"] for row in largest] == [19, 29]
    assert [row["max"] for row in changing] == [9, 19, 29]


def test_late_records_of_windows_without_a_key_come_as_they_were() -> None:
    late = {"k": "a", "v": 99, "at": START}
    for objects in (False, True):
        job = sf.Job("late")
        counts = read(job, [*ROWS, late], objects=objects).window(sf.tumbling("10s")).count()
        collected, behind = counts.collect(), counts.late.collect()
        job.run(mode="streaming", batch_rows=1)
        assert collected.frame()["count"].to_list() == [10, 10, 10]
        assert behind.rows() == [late]


def test_shortcuts_are_aggregates_under_their_own_names() -> None:
    for windowed in (False, True):
        job = sf.Job("shortcuts")
        keyed = read(job, ROWS, objects=False).key_by("k")
        grouped = keyed.window(sf.tumbling("1m")) if windowed else keyed
        collected = {
            "count": grouped.count().collect(),
            "sum": grouped.sum("v").collect(),
            "mean": grouped.mean(col("v") * 2).collect(),
            "min": grouped.min(lambda row: row["v"] + 1).collect(),
            "max": grouped.max("v").collect(),
            "first": grouped.first("v").collect(),
            "last": grouped.last("v").collect(),
            "n_unique": grouped.n_unique("v").collect(),
        }
        job.run(mode="batch")
        of_a = {name: next(row[name] for row in c.rows() if row["k"] == "a") for name, c in collected.items()}
        assert of_a == {
            "count": 15,
            "sum": 210,
            "mean": 28.0,
            "min": 1,
            "max": 28,
            "first": 0,
            "last": 28,
            "n_unique": 15,
        }


def test_a_column_that_is_not_there_is_told_without_those_put_beside_the_records() -> None:
    events = read(sf.Job("misspelt"), ROWS, objects=False)
    with pytest.raises(sf.JobDefinitionError, match="no column 'vv'; there are: at, k, v;"):
        events.window(sf.tumbling("10s")).aggregate(total=sf.sum("vv"), ones=sf.sum(lambda row: 1))
