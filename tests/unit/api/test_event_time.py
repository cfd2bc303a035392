"""Where event time comes from, and what happens to records without one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col

AT = datetime(2013, 1, 1, 5, tzinfo=UTC)


def windows(source, **read) -> list[datetime]:
    job = sf.Job("test")
    keyed = job.read(source, **read).key_by("k")
    out = keyed.window(sf.tumbling("1h")).aggregate(n=sf.count()).collect()
    job.run(mode="streaming")
    return [row["window_start"] for row in out.rows()]


@pytest.mark.parametrize(
    ("frame", "event_time"),
    [
        (pl.DataFrame({"k": ["a"], "t": [AT]}), "t"),
        (pl.DataFrame({"k": ["a"], "t": [AT.replace(tzinfo=None)]}), "t"),
        (
            pl.DataFrame({"k": ["a"], "t": [AT]}).with_columns(
                col("t").dt.convert_time_zone("America/New_York")
            ),
            "t",
        ),
        (pl.DataFrame({"k": ["a"], "t": [AT]}).with_columns(col("t").cast(pl.Datetime("ns", "UTC"))), "t"),
        (
            pl.DataFrame({"k": ["a"], "t": ["2013-01-01T05:00:00Z"]}),
            col("t").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_zone="UTC"),
        ),
        (pl.DataFrame({"k": ["a"], "t": [int(AT.timestamp())]}), sf.epoch("t", unit="s")),
        (pl.DataFrame({"k": ["a"], "t": [int(AT.timestamp() * 1000)]}), sf.epoch("t", unit="ms")),
        (pl.DataFrame({"k": ["a"], "t": [int(AT.timestamp() * 1e6)]}), sf.epoch("t", unit="us")),
        (pl.DataFrame({"k": ["a"], "t": [AT]}), lambda row: row["t"]),
    ],
)
def test_each_way_to_say_event_time(frame: pl.DataFrame, event_time: object) -> None:
    assert windows(sf.MemorySource(frame), event_time=event_time) == [AT]


@pytest.mark.parametrize("event_time", ["t", lambda r: r["t"]])
def test_objects(event_time: object) -> None:
    for moment in (AT, "2013-01-01T05:00:00Z"):
        source = sf.MemorySource([{"k": "a", "t": moment}], schema=sf.OBJECTS)
        assert windows(source, event_time=event_time) == [AT]
    source = sf.MemorySource([{"k": "a", "t": int(AT.timestamp() * 1000)}], schema=sf.OBJECTS)
    assert windows(source, event_time=sf.epoch("t")) == [AT]


@pytest.mark.parametrize(
    ("event_time", "message"),
    [
        ("k", "sf.epoch"),
        ("n", "its unit"),
        ("tt", "did you mean 't'"),
        (sf.epoch("missing"), "no column 'missing'"),
    ],
)
def test_what_is_no_event_time_is_refused_when_the_job_is_built(event_time: object, message: str) -> None:
    source = sf.MemorySource(pl.DataFrame({"k": ["a"], "n": [1], "t": [AT]}))
    with pytest.raises(sf.JobDefinitionError, match=message):
        sf.Job("test").read(source, event_time=event_time)


def test_a_watermark_without_event_time_is_refused() -> None:
    with pytest.raises(sf.JobDefinitionError, match="without event time"):
        sf.Job("test").read(sf.MemorySource([{"k": "a"}]), watermark=sf.bounded_disorder("1s"))


class TestNull:
    frame = pl.DataFrame({"k": ["a", "b", "c"], "t": [AT, None, AT]})

    def test_fail_shows_the_record(self) -> None:
        with pytest.raises(sf.RecordError, match=r"operator read-1.*event time t is null.*(?s:.*)'b'"):
            windows(sf.MemorySource(self.frame), event_time="t")

    def test_skip_counts(self) -> None:
        job = sf.Job("test")
        out = job.read(sf.MemorySource(self.frame), event_time="t").on_error("skip").collect()
        result = job.run()
        assert [row["k"] for row in out.rows()] == ["a", "c"]
        assert result.errors == 1

    def test_a_dead_letter_has_reason_and_split(self) -> None:
        from streamflow.operators.connectors.collect import CollectSink

        letters = sf.Collected()
        job = sf.Job("test")
        job.read(sf.MemorySource(self.frame), event_time="t").on_error(CollectSink(letters)).collect()
        job.run()
        (row,) = letters.rows()
        assert row["reason"] == "event time t is null"
        assert "'b'" in row["record"]


def test_the_year_9999_closes_no_window() -> None:
    """A record far ahead of the clock is kept, and what comes after it is not late."""
    far = datetime(9999, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame({"k": ["a", "a", "a"], "t": [AT, far, AT]})
    job = sf.Job("test")
    stream = job.read(sf.MemorySource(frame, batch_rows=1), event_time="t").key_by("k")
    out = stream.window(sf.tumbling("1h")).aggregate(n=sf.count()).collect()
    result = job.run(mode="streaming")
    assert [(row["window_start"], row["n"]) for row in out.rows()] == [(AT, 2), (far, 1)]
    assert result.dropped == 0


def test_late_records_are_counted_where_they_go() -> None:
    moments = [AT, AT.replace(hour=9), AT]
    frame = pl.DataFrame({"k": ["a", "a", "a"], "t": moments})
    for connected in (False, True):
        job = sf.Job("test")
        keyed = job.read(sf.MemorySource(frame, batch_rows=1), event_time="t").key_by("k")
        results = keyed.window(sf.tumbling("1h")).aggregate(n=sf.count())
        out = results.collect()
        late = results.late.collect() if connected else None
        result = job.run(mode="streaming")
        assert [row["n"] for row in out.rows()] == [1, 1]
        assert (result.late, result.dropped) == ((1, 0) if connected else (0, 1))
        assert late is None or late.rows() == [{"k": "a", "t": AT}]


@pytest.mark.parametrize("watermark", ["5s", timedelta(seconds=5), sf.bounded_disorder("5s")])
def test_a_duration_for_a_watermark_is_a_bound_of_disorder(watermark: Any) -> None:
    def dropped(watermark: Any) -> int:
        job = sf.Job("disorder")
        rows = [{"k": "a", "ts": at} for at in (0, 20, 16, 14)]
        source = sf.MemorySource(rows, batch_rows=1)
        stream = job.read(source, event_time=sf.epoch("ts", unit="s"), watermark=watermark)
        stream.key_by("k").window(sf.tumbling("1s")).aggregate(n=sf.count()).collect()
        return sum(operator.late_dropped for operator in job.run(mode="streaming").operators)

    assert (dropped(watermark), dropped(None)) == (1, 2)


@pytest.mark.parametrize("watermark", [5, "5", "-5s", True])
def test_a_watermark_that_is_no_duration_is_refused(watermark: Any) -> None:
    with pytest.raises(sf.JobDefinitionError, match="disorder bound"):
        sf.Job().read(sf.MemorySource([{"ts": 1}]), event_time=sf.epoch("ts"), watermark=watermark)


class TestEpoch:
    """The same from columns and from objects; a window of a microsecond shows the time."""

    def times(self, value: object, unit: Any, *, objects: bool) -> tuple[list[int], int]:
        job = sf.Job("epochs")
        source = sf.MemorySource([{"k": "a", "ts": value}], schema=sf.OBJECTS if objects else None)
        read = job.read(source, event_time=sf.epoch("ts", unit=unit)).on_error("skip")
        out = read.key_by("k").window(sf.tumbling("1us")).aggregate(n=sf.count()).collect()
        result = job.run()
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        found = [(row["window_start"] - epoch) // timedelta(microseconds=1) for row in out.rows()]
        return found, sum(operator.errors for operator in result.operators)

    @pytest.mark.parametrize("objects", [False, True])
    @pytest.mark.parametrize(
        ("unit", "value", "micros"),
        [
            ("s", 0.9, 900_000),
            ("s", -0.9, -900_000),
            ("s", 1_577_836_800.123_456, 1_577_836_800_123_456),
            ("s", Decimal("1.25"), 1_250_000),
            ("s", 3, 3_000_000),
            ("ms", 0.5, 500),
            ("ms", -1.5, -1_500),
            ("us", 1.7, 2),
            ("ns", -1, -1),
            ("ns", 1_999, 1),
            ("ns", 2_600.0, 3),
        ],
    )
    def test_fractions_go_to_the_nearest_microsecond(
        self, unit: str, value: object, micros: int, objects: bool
    ) -> None:
        assert self.times(value, unit, objects=objects) == ([micros], 0)

    @pytest.mark.parametrize("objects", [False, True])
    @pytest.mark.parametrize(
        "value", [float("nan"), float("inf"), -float("inf"), 1e300, 2**62, -(2**62), 2**63, None]
    )
    def test_what_is_no_time_is_a_bad_record(self, value: object, objects: bool) -> None:
        assert self.times(value, "s", objects=objects) == ([], 1)

    def test_a_column_that_counts_nothing_is_refused(self) -> None:
        for column in ([True], [AT], [[1]]):
            source = sf.MemorySource(pl.DataFrame({"ts": column}))
            with pytest.raises(sf.JobDefinitionError, match="no count of ms"):
                sf.Job().read(source, event_time=sf.epoch("ts"))
        assert self.times(True, "s", objects=True) == ([], 1)
