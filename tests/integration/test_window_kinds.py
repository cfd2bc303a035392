"""All kinds of windows in whole jobs: the same in every mode, with and without a key, from columns and from objects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.testing import check_modes_agree

START = datetime(2024, 10, 26, 20, tzinfo=UTC)
ROWS = [{"k": "ab"[n % 2], "v": n, "at": START + timedelta(hours=n)} for n in range(60)]
WINDOWS = {
    "cumulative": sf.cumulative("12h", step="4h"),
    "day": sf.calendar("1d", tz="Europe/Berlin"),
    "week": sf.calendar("1w", tz="America/New_York", offset="6h"),
    "counted": sf.count_window(7),
    "last": sf.count_window(7, every=3),
}


def read(job: sf.Job, *, objects: bool, rows: list[dict[str, Any]] = ROWS) -> sf.Stream:
    source = sf.MemorySource(rows, schema=sf.OBJECTS) if objects else sf.MemorySource(rows)
    return job.read(source, event_time="at", watermark=sf.bounded_disorder("5h"))


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_agree_in_all_modes(name: str, objects: bool) -> None:
    job = sf.Job("all")
    events = read(job, objects=objects)
    for windowed in (events.window(WINDOWS[name]), events.key_by("k").window(WINDOWS[name])):
        windowed.aggregate(n=sf.count(), total=sf.sum("v")).collect()
        windowed.reduce(lambda a, b: a if a["v"] > b["v"] else b).collect()
    alone, largest, by_key, _ = check_modes_agree(job, parallelism=(1, 3), batch_rows=(13,)).values()
    if name in ("day", "week", "counted"):
        assert sum(row["total"] for row in alone) == sum(row["total"] for row in by_key) == sum(range(60))
    if name == "day":
        # The 27th of October has 25 hours.
        assert [row["n"] for row in alone] == [2, 25, 24, 9]
        assert [row["value"]["v"] for row in largest] == [1, 26, 50, 59]
    if name == "counted":
        assert [row["n"] for row in alone] == [7] * 8 + [4]


@pytest.mark.parametrize("timestamp", ["earliest", "latest"])
@pytest.mark.parametrize("parallelism", [1, 3])
def test_results_with_the_time_of_a_record_are_never_late(timestamp: Any, parallelism: int) -> None:
    job = sf.Job("times")
    small = read(job, objects=False).key_by("k").window(sf.tumbling("6h"), timestamp=timestamp)
    large = small.aggregate(n=sf.count()).key_by("k").window(sf.tumbling("12h")).aggregate(n=sf.sum("n"))
    large.collect()
    (rows,) = check_modes_agree(job, parallelism=(parallelism,), batch_rows=(1, 7)).values()
    assert sum(row["n"] for row in rows) == 60


def top_two(records: pl.DataFrame) -> pl.DataFrame:
    return records.top_k(2, by="v").select("v", place=pl.int_range(pl.len()))


class TestApply:
    def test_a_function_of_a_whole_window(self) -> None:
        job = sf.Job("apply")
        windows = read(job, objects=False).key_by("k").window(sf.tumbling("1d"))
        windows.apply(top_two).collect()
        windows.apply(lambda records: records.select(pl.col("v").diff().alias("step")).drop_nulls()).collect()
        best, steps = check_modes_agree(job, parallelism=(1, 3), batch_rows=(7,)).values()
        day = datetime(2024, 10, 27, tzinfo=UTC)
        assert list(best[0]) == ["k", "window_start", "window_end", "v", "place"]
        assert [
            (row["v"], row["place"]) for row in best if row["k"] == "a" and row["window_start"] == day
        ] == [
            (26, 0),
            (24, 1),
        ]
        # In order of event time.
        assert {row["step"] for row in steps} == {2}

    def test_columns_of_the_function_stand_in_for_those_of_the_window(self) -> None:
        job = sf.Job("own")
        windows = read(job, objects=False).key_by("k").window(sf.count_window(30))
        out = windows.apply(lambda records: records.head(1)).collect()
        job.run()
        assert out.frame().columns == ["window_start", "window_end", "k", "v", "at"]
        assert sorted(out.frame()["v"]) == [0, 1]

    def test_a_declared_schema_is_kept(self) -> None:
        job = sf.Job("declared")
        windows = read(job, objects=False).window(sf.calendar("1d"))
        out = windows.apply(
            lambda r: pl.DataFrame({"total": [r["v"].sum()]}), schema={"total": int}
        ).collect()
        job.run()
        assert sum(out.frame()["total"]) == sum(range(60))

    def test_what_a_late_record_changes_replaces_what_was(self) -> None:
        late = {"k": "a", "v": 99, "at": START}
        job = sf.Job("again")
        windows = read(job, objects=False, rows=[*ROWS, late]).window(
            sf.tumbling("4h"), allowed_lateness="4d", accumulation="retracting"
        )
        out = windows.apply(lambda records: records.select("v")).collect()
        job.run(mode="streaming", batch_rows=1)
        again = out.frame().filter(pl.col("window_start") == START)
        assert again.select(pl.col("change").cast(str), "v").rows() == [
            *[("insert", v) for v in (0, 1, 2, 3)],
            *[("delete", v) for v in (0, 1, 2, 3)],
            *[("insert", v) for v in (0, 99, 1, 2, 3)],
        ]

    def test_late_records_and_names_are_those_of_the_window(self) -> None:
        late = {"k": "a", "v": 99, "at": START}
        job = sf.Job("late")
        applied = (
            read(job, objects=False, rows=[*ROWS, late])
            .window(sf.tumbling("4h"))
            .apply(top_two)
            .named("best")
        )
        out, behind = applied.collect(), applied.late.collect()
        result = job.run(mode="streaming", batch_rows=1)
        assert behind.rows() == [late]
        assert len(out.rows()) == 30
        assert {"best", "best-apply"} <= {each.operator for each in result.operators}

    def test_errors_say_where_they_came_from(self) -> None:
        job = sf.Job("broken")
        windows = read(job, objects=False).window(sf.tumbling("4h"))
        windows.apply(lambda records: records.select(x=1 // records["v"][0]), schema={"x": int}).collect()
        with pytest.raises(sf.RecordError, match=r"test_window_kinds.*apply raised ZeroDivision") as raised:
            job.run()
        assert "{'window_start'" in raised.value.record
        with pytest.raises(sf.JobDefinitionError, match="objects"):
            read(sf.Job("objects"), objects=True).window(sf.tumbling("4h")).apply(top_two)
        with pytest.raises(sf.JobDefinitionError, match="failed on an empty frame"):
            windows.apply(lambda records: records.select(records["v"][0]))

    def test_a_column_called_change_is_a_user_s_own_unless_results_change(self) -> None:
        job = sf.Job("change")
        keyed = read(job, objects=False).key_by(col("k").alias("change"))
        out = keyed.window(sf.tumbling("1d")).apply(lambda records: records.select("v")).collect()
        job.run()
        assert set(out.frame()["change"]) == {row["k"] for row in ROWS}
        retracting = read(job, objects=False).window(sf.tumbling("1d"), accumulation="retracting")
        with pytest.raises(sf.JobDefinitionError, match=r"test_window_kinds.* a column 'change'"):
            retracting.apply(lambda records: records.select(change="v"))
