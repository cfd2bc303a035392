"""Where event time comes from, and what happens to records without one."""

from __future__ import annotations

from datetime import UTC, datetime

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
            col("t").str.to_datetime(time_zone="UTC"),
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
