"""A moment that does not exist is no number of 19 digits: in status, results, metrics and at the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
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
