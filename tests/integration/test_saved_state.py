"""State that real jobs leave in checkpoints, read as DataFrames, and state that jobs are started with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import streamflow as sf

START = datetime(2013, 1, 1, tzinfo=UTC)
SCHEMA = {"key": sf.String, "n": sf.Int64, "at": sf.Datetime}
WHEN = pl.col("at").cast(pl.Datetime("us", "UTC"))


def rows(count: int, keys: int) -> list[dict[str, Any]]:
    return [
        {"key": f"k{n % keys}", "n": n, "at": START + timedelta(seconds=10 * n % 86_000)}
        for n in range(count)
    ]


def endless(given: list[dict[str, Any]]) -> sf.Stream | Any:
    async def source(start: int) -> AsyncIterator[dict[str, Any]]:
        for row in given[start:]:
            yield row
        await asyncio.Event().wait()

    return sf.source(source, schema=SCHEMA)


async def checkpointed(job: sf.Job, count: int, folder: Path, **settings: Any) -> int:
    """Run the job until it has read that many records; the number of a checkpoint taken then."""
    handle = await job.start(checkpoint_dir=str(folder), checkpoint_interval="1h", restart="none", **settings)
    try:
        async with asyncio.timeout(60):
            while handle.status().records_read < count:  # noqa: ASYNC110 - a job has no event for that
                await asyncio.sleep(0.005)
            return await handle.checkpoint()
    finally:
        await handle.cancel()


def windows(given: list[dict[str, Any]], assigner: Any, **aggregates: Any) -> sf.Job:
    job = sf.Job("windows")
    watermark = sf.bounded_disorder("2d")
    stream = job.read(endless(given), event_time="at", watermark=watermark)
    stream.key_by("key").window(assigner).aggregate(**aggregates).named("hourly").collect()
    return job


@pytest.mark.parametrize("parallelism", [1, 3])
def test_open_windows_are_what_they_have_so_far(tmp_path: Path, parallelism: int) -> None:
    given = rows(5_000, 7)
    job = windows(given, sf.tumbling("1h"), records_=sf.count(), mean=sf.mean("n"), last=sf.last("n"))
    asyncio.run(checkpointed(job, len(given), tmp_path, parallelism=parallelism))
    saved = sf.read_checkpoint(tmp_path)
    assert list(saved.operators) == ["hourly"]
    assert saved.operators["hourly"].parallelism == parallelism
    expected = (
        pl.DataFrame(given)
        .sort("at", "n")
        .group_by("key", WHEN.dt.truncate("1h").alias("slice_start"))
        .agg(
            pl.len().cast(pl.Int64).alias("records"),
            pl.len().cast(pl.Int64).alias("records_"),
            pl.col("n").mean().alias("mean"),
            pl.col("n").last().alias("last"),
        )
        .sort("key", "slice_start")
    )
    assert_frame_equal(saved.frame("hourly", "panes"), expected)


def test_what_was_spilled_is_read_as_well(tmp_path: Path) -> None:
    given = rows(40_000, 20_000)
    job = windows(given, sf.tumbling("1d"), total=sf.sum("n"))
    asyncio.run(checkpointed(job, len(given), tmp_path, memory_budget="100KB"))
    saved = sf.read_checkpoint(tmp_path)
    files = [file.name for subtask in saved.manifest.operators[-1].subtasks for file in subtask.files]
    assert any(name.startswith("backend/") for name in files), "nothing was spilled"
    expected = pl.DataFrame(given).group_by("key").agg(pl.col("n").sum().alias("total")).sort("key")
    read = saved.frame("hourly", "panes").select("key", pl.col("total").cast(pl.Int64))
    assert_frame_equal(read, expected)


def test_aggregates_of_other_kinds_come_as_partials(tmp_path: Path) -> None:
    given = rows(500, 3)
    job = windows(given, sf.session(gap="10s"), median=sf.approx_quantile("n", 0.5), n=sf.count())
    asyncio.run(checkpointed(job, len(given), tmp_path))
    panes = sf.read_checkpoint(tmp_path).frame("hourly", "panes")
    assert {"key", "slice_start", "first_time", "last_time", "records", "median", "n"} == set(panes.columns)
    assert panes["records"].sum() == panes["n"].sum() == 500
    assert panes["first_time"].dtype == pl.Datetime("us", "UTC")


def test_running_totals_are_one_row_a_key(tmp_path: Path) -> None:
    given = rows(500, 3)
    job = sf.Job("running")
    stream = job.read(endless(given), event_time="at").key_by("key")
    stream.aggregate(total=sf.sum("n"), mean=sf.mean("n")).named("sums").collect()
    asyncio.run(checkpointed(job, len(given), tmp_path, parallelism=2))
    read = sf.read_checkpoint(tmp_path).frame("sums", "panes")
    read = read.select("key", pl.col("total").cast(pl.Int64), "mean")
    expected = pl.DataFrame(given).group_by("key").agg(total=pl.col("n").sum(), mean=pl.col("n").mean())
    assert_frame_equal(read, expected.sort("key"))


def test_open_sessions_of_one_key_stay_apart(tmp_path: Path) -> None:
    given = [{"key": "k", "n": n, "at": START + timedelta(minutes=n)} for n in (0, 1, 10, 11, 12, 100)]
    job = sf.Job("sessions")
    stream = job.read(endless(given), event_time="at", watermark=sf.bounded_disorder("80m")).key_by("key")
    windowed = stream.window(sf.session(gap="5m"), allowed_lateness="1h")
    windowed.aggregate(n=sf.count(), last=sf.max("n")).named("sessions").collect()
    asyncio.run(checkpointed(job, len(given), tmp_path))
    states = sf.read_checkpoint(tmp_path).state("sessions")
    kept = [frame.select("n", "last") for frame in states.values() if {"n", "last"} <= set(frame.columns)]
    found = pl.concat(kept).sort("last")
    assert (found["n"].sum(), found["last"].max()) == (6, 100)
    assert found.height >= 3


class Totals(sf.KeyedProcess):
    total = sf.ValueState(int, default=0)
    seen = sf.ListState(int)

    def on_event(self, event: Any, ctx: Any) -> None:
        self.total.update(self.total.value() + event["n"])
        self.seen.add(event["n"])
        ctx.emit({"key": ctx.key, "total": self.total.value()})


def totals(given: list[dict[str, Any]]) -> sf.Job:
    job = sf.Job("totals")
    job.read(endless(given), event_time="at").key_by("key").process(Totals).named("sums").collect()
    return job


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_a_job_goes_on_from_what_it_was_given(tmp_path: Path, backend: str) -> None:
    given = rows(300, 5)
    job = totals(given)
    before = pl.DataFrame({"key": ["k0", "k1", "elsewhere"], "value": [1_000, 2_000, 3_000]})
    listed = pl.DataFrame({"key": ["k0"], "value": [-1]})
    sf.bootstrap(job, {"sums": {"total": before, "seen": listed}}, to=tmp_path, state_backend=backend)
    number = asyncio.run(checkpointed(job, 300, tmp_path, parallelism=2, state_backend=backend))
    expected = {f"k{key}": sum(row["n"] for row in given if row["key"] == f"k{key}") for key in range(5)}
    expected["k0"] += 1_000
    expected["k1"] += 2_000
    saved = sf.read_checkpoint(tmp_path)
    assert (saved.number, saved.manifest.parent) == (number, 1)
    read = saved.state("sums")
    assert dict(read["total"].rows()) == expected | {"elsewhere": 3_000}
    assert read["seen"].filter(key="k0")["value"].to_list() == [-1, *range(0, 300, 5)]


def test_state_that_was_read_starts_another_job(tmp_path: Path) -> None:
    given = rows(300, 5)
    asyncio.run(checkpointed(totals(given), 300, tmp_path / "first", parallelism=3))
    read = sf.read_checkpoint(tmp_path / "first").state("sums")
    sf.bootstrap(totals(given), {"sums": read}, to=tmp_path / "second")
    asyncio.run(checkpointed(totals(given), 300, tmp_path / "second", parallelism=2))
    again = sf.read_checkpoint(tmp_path / "second").frame("sums", "total")
    assert dict(again.rows()) == {key: 2 * total for key, total in read["total"].rows()}
    assert again.height == 5


def test_an_ended_job_has_no_state_left(tmp_path: Path) -> None:
    job = sf.Job("ended")
    stream = job.read(sf.MemorySource(rows(10, 2), schema=SCHEMA), event_time="at")
    stream.key_by("key").process(Totals).named("sums").collect()
    job.run(checkpoint_dir=str(tmp_path), mode="streaming")
    saved = sf.read_checkpoint(tmp_path)
    assert saved.manifest.finished
    assert saved.frame("sums", "total").is_empty()


def test_timers_that_were_given_fire(tmp_path: Path) -> None:
    class Alarm(sf.KeyedProcess):
        def on_event(self, event: Any, ctx: Any) -> None:
            """Only timers say something."""

        def on_timer(self, timer: Any, ctx: Any) -> None:
            ctx.emit({"key": ctx.key, "at": timer.time})

    job = sf.Job("alarms")
    stream = job.read(sf.MemorySource(rows(10, 2), schema=SCHEMA), event_time="at")
    out = stream.key_by("key").process(Alarm).named("alarm").collect()
    due = pl.DataFrame(
        {"key": ["k7", "k8"], "time": [START + timedelta(seconds=5), START + timedelta(days=9)]}
    )
    sf.bootstrap(job, {"alarm": {"event-timers": due}}, to=tmp_path)
    job.run(checkpoint_dir=str(tmp_path), mode="streaming")
    assert sorted((row["key"], row["at"]) for row in out.rows()) == due.rows()


class Zoned(sf.KeyedProcess):
    """Keeps the time of the latest event in another zone for each key."""

    at = sf.ValueState(datetime)
    by_time = sf.MapState(datetime, int)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        zone = ZoneInfo("Asia/Kolkata") if ctx.key == "k0" else timezone(timedelta(hours=-5))
        self.at.update(event["at"].astimezone(zone))
        self.by_time.put(event["at"].astimezone(zone), event["n"])


def test_times_in_several_zones_are_one_column(tmp_path: Path) -> None:
    given = rows(4, 2)
    job = sf.Job("zoned")
    job.read(endless(given)).key_by("key").process(Zoned).named("zoned").collect()
    asyncio.run(checkpointed(job, len(given), tmp_path))
    saved = sf.read_checkpoint(tmp_path)
    latest = [given[2]["at"], given[3]["at"]]
    assert saved.frame("zoned", "at").sort("key")["value"].to_list() == latest
    assert saved.frame("zoned", "by_time")["map_key"].sort().to_list() == [row["at"] for row in given]
