"""`TestJob`: a whole job step by step, its sources told what to say, its sinks gathered."""

import asyncio
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.testing import TestJob

FLIGHTS = {"origin": sf.String, "dep_delay": sf.Float64, "departed_at": sf.Datetime}


def departures(folder: Path) -> sf.Job:
    """API §1, with files that need not be there to test the job."""
    (folder / "flights").mkdir()
    (folder / "flights" / "a.ndjson").touch()
    job = sf.Job("departures")
    flights = job.read(
        sf.FileSource(str(folder / "flights" / "*.ndjson"), schema=FLIGHTS),
        event_time=col("departed_at"),
        watermark=sf.bounded_disorder("30m", idle_after="1m"),
    )
    delays = (
        flights.filter(col("dep_delay").is_not_null())
        .key_by("origin")
        .window(sf.sliding("1h", every="30m"), allowed_lateness="2h")
        .aggregate(flights=sf.count(), worst=sf.max("dep_delay"))
    )
    delays.write(sf.FileSink(str(folder / "delays")))
    delays.late.write(sf.FileSink(str(folder / "late"), format="ndjson"))
    return job


def flight(at: str, delay: float | None, origin: str = "JFK") -> dict[str, Any]:
    return {"origin": origin, "dep_delay": delay, "departed_at": f"2013-01-01T{at}:00Z"}


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_users_job(tmp_path: Path, parallelism: int) -> None:
    with TestJob(departures(tmp_path), parallelism=parallelism) as t:
        rows = [flight("09:10", 5), flight("09:40", 20), flight("09:50", None)]
        t.source("flights").push(rows).advance_watermark("2013-01-01T10:00")
        delays = t.output("delays")
        assert [(row["flights"], row["worst"]) for row in delays.rows()] == [(1, 5.0), (2, 20.0)]
        assert delays.new_rows() == delays.rows()
        assert delays.new_rows() == []
        t.source("flights").push([flight("09:20", 60)])
        assert [row["worst"] for row in delays.new_rows()] == [60.0, 60.0]
        t.source("flights").advance_watermark("2013-01-01T15:00").push([flight("09:20", 61)])
        assert [row["dep_delay"] for row in t.output("late").rows()] == [61.0]
        result = t.finish()
    assert result.records_in["read-1"] == 5
    assert result.late == 1 or result.dropped == 0
    assert list((tmp_path / "flights").iterdir()) == [tmp_path / "flights" / "a.ndjson"]
    assert not (tmp_path / "delays").exists()


def echo() -> sf.Job:
    job = sf.Job("echo")
    stream = job.read(sf.MemorySource([{"k": "a", "n": 1}]))
    stream.collect()
    return job


def test_values_left_out_are_null_and_frames_are_taken() -> None:
    with TestJob(echo()) as t:
        t.source().push([{"k": "b"}, {"n": 3}]).push(pl.DataFrame({"n": [4], "k": ["d"]}))
        assert t.output().rows() == [{"k": "b", "n": None}, {"k": None, "n": 3}, {"k": "d", "n": 4}]
        assert t.output().frame().schema == {"k": pl.String, "n": pl.Int64}


def test_an_unknown_column_is_refused_with_the_nearest() -> None:
    with (
        TestJob(echo()) as t,
        pytest.raises(sf.JobDefinitionError, match=r"no column 'kk'.*did you mean 'k'"),
    ):
        t.source().push([{"kk": "b"}])


def test_a_value_of_another_type_is_refused() -> None:
    with (
        TestJob(echo()) as t,
        pytest.raises(sf.JobDefinitionError, match=r"'n' is 'three' \(str\), not Int64"),
    ):
        t.source().push([{"k": "b", "n": "three"}])


def test_objects_go_through_as_they_are() -> None:
    job = sf.Job("objects")
    out = job.read(sf.MemorySource([object()], schema=sf.OBJECTS)).map(lambda value: [value, value]).collect()
    with TestJob(job) as t:
        t.source().push([{"deep": [1, {2}]}, 5])
        assert t.output(out).rows() == [[{"deep": [1, {2}]}] * 2, [5, 5]]


def test_sources_and_outputs_are_named_or_the_only_one() -> None:
    job = sf.Job("two")
    left = job.read(sf.MemorySource([{"n": 1}])).named("left")
    right = job.read(sf.MemorySource([{"n": 1}])).named("right")
    both = left.union(right).collect()
    left.collect()
    with TestJob(job) as t:
        with pytest.raises(sf.JobDefinitionError, match="has 2 sources: left, right"):
            t.source()
        with pytest.raises(sf.JobDefinitionError, match=r"no source 'lft'.*did you mean 'left'"):
            t.source("lft")
        t.source("left").push([{"n": 1}])
        t.source("right").push([{"n": 2}])
        assert [row["n"] for row in t.output(both).rows()] == [1, 2]
        assert [row["n"] for row in t.output("write-2").rows()] == [1]


def test_nothing_moves_event_time_but_the_script() -> None:
    job = sf.Job("script")
    stream = job.read(sf.MemorySource([{"ts": 1}]), event_time=sf.epoch("ts", unit="s"))
    stream.key_by("ts").window(sf.tumbling("1s")).aggregate(n=sf.count()).collect()
    with TestJob(job) as t:
        t.source().push([{"ts": 1}, {"ts": 1000}])
        assert t.output().rows() == []
    with TestJob(job, watermarks="job") as t:
        t.source().push([{"ts": 1}, {"ts": 1000}])
        assert [row["ts"] for row in t.output().rows()] == [1]


def test_two_tests_of_one_job_do_not_meet() -> None:
    job = echo()
    for _ in range(2):
        with TestJob(job) as t:
            t.source().push([{"k": "a", "n": 1}])
            assert len(t.output().rows()) == 1


def test_a_failure_comes_out_of_the_call_that_caused_it_and_closes_well() -> None:
    job = sf.Job("failing")
    job.read(sf.MemorySource([{"n": 1}])).map(lambda row: 1 // row["n"]).collect()
    with TestJob(job) as t:
        t.source().push([{"n": 1}])
        with pytest.raises(sf.RecordError, match="ZeroDivisionError"):
            t.source().push([{"n": 0}])
        assert t.output().rows() == [1]


def test_processing_time_reaches_coroutines_of_the_user() -> None:
    async def slowly(row: dict[str, int]) -> int:
        await asyncio.sleep(60)
        return row["n"]

    job = sf.Job("async")
    job.read(sf.MemorySource([{"n": 1}])).map_async(slowly, timeout="5m").collect()
    with TestJob(job) as t:
        t.source().push([{"n": 7}])
        t.advance_processing_time("59s")
        assert t.output().rows() == []
        t.advance_processing_time("1s")
        assert t.output().rows() == [{"value": 7}]


def test_what_cannot_be_is_said() -> None:
    unstarted = TestJob(echo())
    with pytest.raises(sf.JobDefinitionError, match="with TestJob"):
        unstarted.source().push([{"n": 1}])
    with TestJob(echo()) as t:
        with pytest.raises(sf.JobDefinitionError, match="no split 1 of 1"):
            t.source().push([{"n": 1}], split=1)
        with pytest.raises(sf.JobDefinitionError, match="event time from the records"):
            TestJob(_timed()).source().push([{"ts": 1}], times=[1])
        t.source().end()
        with pytest.raises(sf.JobDefinitionError, match="the job has ended"):
            t.source().push([{"n": 1}])
    with pytest.raises(sf.JobDefinitionError, match="writes nothing"):
        TestJob(sf.Job("empty"))
    with pytest.raises(sf.ConfigError, match="no setting 'paralelism'"):
        TestJob(echo(), paralelism=2)


def _timed() -> sf.Job:
    job = sf.Job("timed")
    job.read(sf.MemorySource([{"ts": 1}]), event_time=sf.epoch("ts")).collect()
    return job


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"watermarks": "scirpt"}, "watermarks is 'scirpt'"),
        ({"splits": {"flihgts": 2}}, "splits: no source 'flihgts'"),
        ({"splits": {"flights": 0}}, "splits is 0"),
        ({"splits": "2"}, "splits is '2'"),
    ],
)
def test_what_a_test_says_wrong_is_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(sf.JobDefinitionError, match=message):
        TestJob(departures(tmp_path), **given)
