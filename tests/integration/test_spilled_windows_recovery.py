"""Windows larger than their memory, over crashes and at other parallelisms: the results of an undisturbed run."""

from __future__ import annotations

from typing import Any

import pytest

import streamflow as sf
from streamflow.testing import TestJob, difference
from streamflow.windows.assigners import Assigner

KEYS = 400
BUDGET = 60_000
STEPS = 6


def job(assigner: Assigner, accumulation: Any) -> sf.Job:
    made = sf.Job("large")
    events = made.read(
        sf.MemorySource([{"k": "key-0", "v": 0, "ts": 0}]), event_time=sf.epoch("ts", unit="us")
    ).named("events")
    windows = events.key_by("k").window(assigner, allowed_lateness="20us", accumulation=accumulation)
    windows.aggregate(n=sf.count(), total=sf.sum("v"), values=sf.collect_list("v")).collect()
    return made


def rows(step: int) -> list[dict[str, Any]]:
    return [
        {"k": f"key-{(at * 7 + step) % KEYS}", "v": step * KEYS + at, "ts": step * 8 + at % 10}
        for at in range(KEYS)
    ]


def results(the_job: sf.Job, *, crashes: bool) -> list[Any]:
    with TestJob(the_job, memory_budget=BUDGET) as t:
        source = t.source("events")
        for step in range(STEPS):
            source.push(rows(step)).advance_watermark(step * 8 - 3)
            if crashes and step % 3:
                t.checkpoint()
            if crashes:
                t.crash().restore(parallelism=(3, 2, 1)[step % 3])
        t.finish()
        return t.output().rows()


@pytest.mark.parametrize("accumulation", ["accumulating", "discarding", "retracting"])
@pytest.mark.parametrize(
    "assigner", [sf.tumbling("10us"), sf.sliding("20us", every="10us"), sf.session(gap="5us")], ids=str
)
def test_spilled_windows_survive(assigner: Assigner, accumulation: Any) -> None:
    the_job = job(assigner, accumulation)
    undisturbed = results(the_job, crashes=False)
    assert len(undisturbed) > KEYS
    assert difference(undisturbed, results(the_job, crashes=True)) == ""
