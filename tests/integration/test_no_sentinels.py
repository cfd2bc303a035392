"""A moment that does not exist is no number of 19 digits: in status, results, metrics and at the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.request import urlopen

import pytest

import streamflow as sf
from streamflow.testing import TestJob

SENTINELS = (str(2**63)[:18], str(-(2**63))[:19])


def sentinel_free(text: str) -> bool:
    return not any(sentinel in text for sentinel in SENTINELS)


def counting(*, timed: bool = True) -> sf.Job:
    job = sf.Job("counting")
    read = job.read(
        sf.MemorySource([{"k": "a", "ts": 5}], schema={"k": sf.String, "ts": sf.Int64}),
        event_time=sf.epoch("ts", unit="s") if timed else None,
    )
    read.named("events").key_by("k").aggregate(n=sf.count()).named("counts").collect()
    return job


def test_there_is_no_watermark_before_the_first() -> None:
    with TestJob(counting()) as t:
        before = t.status()
        assert (before.watermark, before.ended) == (None, False)
        assert {(each.watermark, each.ended) for each in before.operators} == {(None, False)}
        t.source("events").push([{"k": "a", "ts": 5}]).advance_watermark(4_000_000)
        assert t.status().watermark == 4_000_000
        t.source("events").end()
        after = t.status()
        assert (after.watermark, after.ended) == (None, True)
        assert {(each.watermark, each.ended) for each in after.operators if each.kind != "write"} == {
            (None, True)
        }


@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
@pytest.mark.parametrize("timed", [True, False])
def test_a_result_has_none(mode: Any, timed: bool) -> None:
    result = counting(timed=timed).run(mode=mode)
    told = json.dumps(result.as_dict())
    assert sentinel_free(told)
    assert {each["watermark"] for each in json.loads(told)["operators"]} == {None}


SERIES = "streamflow_watermark_timestamp_seconds"


def test_what_a_running_job_serves_has_none() -> None:
    async def quiet() -> AsyncIterator[dict[str, Any]]:
        await asyncio.Event().wait()
        yield {}

    async def looked_at() -> tuple[Any, str]:
        job = sf.Job("quiet")
        source = sf.source(quiet, schema={"k": sf.String, "ts": sf.Int64})
        read = job.read(source, event_time=sf.epoch("ts", unit="s"))
        read.key_by("k").window(sf.tumbling("1m")).aggregate(n=sf.count()).collect()
        handle = await job.start(mode="streaming", metrics_port=0)
        assert handle.metrics_url is not None
        metrics = ""
        while SERIES not in metrics:  # its operators say theirs once they have begun
            metrics = await asyncio.to_thread(
                lambda: urlopen(f"{handle.metrics_url}/metrics").read().decode()
            )
        status = handle.status()
        await handle.stop()
        return status, metrics

    status, metrics = asyncio.run(looked_at())
    assert status.watermark is None
    assert "e+18" not in metrics
    lines = [line for line in metrics.splitlines() if line.startswith(SERIES)]
    assert lines
    assert all(line.endswith("NaN") for line in lines)


class Watermarks(sf.KeyedProcess):
    """Puts out what it sees of event time, wherever it is asked."""

    output: ClassVar = {"by": sf.String, "watermark": sf.Datetime, "timestamp": sf.Datetime}

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.tell("event", ctx)
        ctx.set_processing_timer("1ms")
        if ctx.timestamp is not None:
            ctx.set_timer(timedelta(seconds=1))

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        self.tell(f"{timer.clock} timer", ctx)

    def on_broadcast(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.tell("broadcast", ctx)

    def tell(self, by: str, ctx: sf.ProcessContext) -> None:
        watermark: datetime | None = ctx.watermark
        ctx.emit({"by": by, "watermark": watermark, "timestamp": ctx.timestamp})


def watched(order: Any = "arrival", *, timed: bool = True) -> tuple[sf.Job, sf.Collected]:
    job = sf.Job("watched")
    rows = [{"k": "a", "ts": second} for second in (1, 5, 9)]
    time: Any = {"event_time": sf.epoch("ts", unit="s"), "watermark": "2s"} if timed else {}
    events = job.read(sf.MemorySource(rows), **time)
    rules = job.read(sf.MemorySource([{"rule": 1}])).named("rules")
    keyed = events.named("events").key_by("k")
    told = keyed.process(Watermarks, broadcast=rules, order=order).named("watched").collect()
    return job, told


def at(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize("order", ["arrival", "event_time"])
@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
def test_a_process_sees_a_watermark_or_none(mode: Any, order: Any) -> None:
    job, told = watched(order)
    job.run(mode=mode)
    assert len(told.rows()) >= 7
    if order == "arrival":
        seen = [row["watermark"] for row in told.rows() if row["by"] == "event"]
        assert seen == [None, at(-1.000001), at(2.999999)]
    for row in told.rows():
        assert row["watermark"] is None or row["watermark"] >= at(-1.000001)
        assert row["timestamp"] >= at(-1)


@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
def test_a_process_without_event_time_sees_none(mode: Any) -> None:
    job, told = watched(timed=False)
    job.run(mode=mode)
    assert {(row["watermark"], row["timestamp"]) for row in told.rows()} == {(None, None)}


def test_rows_of_a_processing_timer_before_the_first_watermark_have_the_clock_s_time() -> None:
    job, _ = watched()
    with TestJob(job, watermarks="job") as t:
        t.source("events").push([{"k": "a", "ts": 5}])
        t.advance_processing_time("1s")
        t.source("events").end()
        t.source("rules").push([{"rule": 1}]).end()
        first, second, *_, last = t.output().rows()
        assert (first["by"], first["watermark"]) == ("event", None)
        assert (second["by"], second["watermark"]) == ("processing timer", at(2.999999))
        end = datetime.max.replace(tzinfo=UTC)
        assert (last["by"], last["watermark"]) == ("broadcast", end)
        assert all(
            0 <= time <= (end - at(0)) / timedelta(microseconds=1) for time in t.output().event_times()
        )
