"""Costs that must not grow faster than what they are for: counted in steps, not in time."""

from __future__ import annotations

import pytest

import streamflow as sf
from streamflow.runtime.assembly import Assembly
from streamflow.testing import TestJob
from tests.steps import steps_of


def test_assembling_costs_so_much_a_subtask_and_a_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange of p by p subtasks has p² channels, which are small; that each subtask looked at all of them made
    it p³."""
    steps: list[int] = []
    build = Assembly.build
    monkeypatch.setattr(Assembly, "build", lambda assembly: steps.append(steps_of(build, assembly)))
    for parallelism in (8, 16, 32):
        with TestJob(exchanging(), parallelism=parallelism):
            """Building is what counts."""
    at_8, at_16, at_32 = steps
    assert at_16 < 2.4 * at_8
    assert at_32 < 2.7 * at_16


def exchanging() -> sf.Job:
    job = sf.Job("exchanging")
    rows = job.read(sf.MemorySource([{"k": "a", "v": 1, "ts": 0}]), event_time=sf.epoch("ts", unit="s"))
    sums = rows.key_by("k").window(sf.tumbling("1m")).aggregate(v=sf.sum("v"))
    sums.key_by("v").window(sf.tumbling("1h")).aggregate(n=sf.count()).collect()
    return job


def test_a_status_costs_so_much_an_operator_and_subtask() -> None:
    steps: dict[int, int] = {}
    for operators in (10, 20, 40):
        with TestJob(chained(operators), parallelism=4) as t:
            t.source().push([{"v": 1}])
            steps[operators] = steps_of(t.status)
    assert steps[20] < 2 * steps[10]
    assert steps[40] < 2 * steps[20]


def chained(operators: int) -> sf.Job:
    job = sf.Job("chained")
    stream = job.read(sf.MemorySource([{"v": 1}]))
    for _ in range(operators):
        stream = stream.filter(sf.col("v") > 0).map(lambda row: row, schema={"v": sf.Int64})
    stream.collect()
    return job
