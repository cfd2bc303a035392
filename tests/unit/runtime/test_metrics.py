"""A subtask's metrics: bytes, the watermark and its lag."""

from __future__ import annotations

import asyncio
import math

import streamflow as sf
from streamflow.testing import TestJob

SCHEMA = {"k": sf.String, "t": sf.Datetime}


def job() -> sf.Job:
    made = sf.Job("metrics")
    source = sf.MemorySource([], schema=SCHEMA)
    keyed = made.read(source, event_time="t", watermark=sf.bounded_disorder("1s")).key_by("k")
    keyed.window(sf.tumbling("1m")).aggregate(n=sf.count()).collect()
    return made


def test_the_lag_grows_while_nothing_comes() -> None:
    with TestJob(job()) as t:
        assert math.isnan(t.metric("streamflow_watermark_lag_seconds", "window-1"))
        t.source().push([{"k": "a", "t": "2030-01-01T00:00:00Z"}]).advance_watermark("2030-01-01T00:00:00Z")
        assert t.metric("streamflow_watermark_timestamp_seconds", "window-1") == 1893456000
        before = t.metric("streamflow_watermark_lag_seconds", "window-1")
        t.advance_processing_time("10s")
        assert t.metric("streamflow_watermark_lag_seconds", "window-1") - before == 10


def test_bytes_are_counted_on_both_sides_of_an_operator() -> None:
    with TestJob(job()) as t:
        t.source().push([{"k": "a", "t": "2030-01-01T00:00:00Z"}])
        assert t.metric("streamflow_bytes_in_total", "window-1-combine") > 0
        assert t.metric("streamflow_bytes_out_total", "window-1-combine") > 0
        assert t.metric("streamflow_bytes_in_total", "window-1") > 0
        assert t.metric("streamflow_bytes_out_total", "window-1") == 0
        t.finish()
        assert t.metric("streamflow_bytes_out_total", "window-1") > 0


def test_every_operator_of_a_task_shows_its_watermark() -> None:
    with TestJob(job()) as t:
        t.source().push([{"k": "a", "t": "2030-01-01T00:00:00Z"}]).advance_watermark("2030-01-01T00:00:00Z")
        for operator in ("read-1", "read-1-event-time", "window-1-combine", "window-1"):
            assert t.metric("streamflow_watermark_timestamp_seconds", operator) == 1893456000


def test_the_port_that_was_free_is_told() -> None:
    async def run() -> tuple[int | None, int | None]:
        served = await job().start(metrics_port=0)
        silent = await job().start()
        ports = served.metrics_port, silent.metrics_port
        await served.wait()
        await silent.wait()
        return ports

    port, none = asyncio.run(run())
    assert port is not None
    assert port > 0
    assert none is None
