"""Events that wait for the watermark: their order, snapshots, rescaling, spilling; what is late."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.schema import OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import LATE
from streamflow.operators.process.process import KeyedProcess, ProcessSpec
from streamflow.state.frames import time_sorted
from streamflow.testing.harness import OperatorHarness

TIMED = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)


class Sequence(KeyedProcess):
    """The events and timers of a key, in the order in which it sees them."""

    seen = sf.ListState(int)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.seen.add(event["v"])
        ctx.set_timer(timedelta(microseconds=15))
        ctx.emit((ctx.key, list(self.seen.get())))

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        self.seen.add(-timer.time.microsecond)


def harness_of(**options: Any) -> OperatorHarness:
    spec = ProcessSpec(("k",), Sequence(), ("k", "v"), OBJECTS, order="event_time")
    return OperatorHarness(spec, TIMED, **options)


def rows(count: int, seed: int) -> list[tuple[int, str]]:
    chance = random.Random(seed)
    return [(10 * number + 1, chance.choice("abc")) for number in range(count)]


def push(harness: OperatorHarness, events: list[tuple[int, str]]) -> None:
    harness.push([{"k": key, "v": time} for time, key in events], times=[time for time, _ in events])


def in_order(events: list[tuple[int, str]]) -> list[Any]:
    """The output of `Sequence` for events in order, each of which comes behind the timers before it."""
    seen: dict[str, list[int]] = {}
    timers: set[tuple[int, str]] = set()
    out = []
    for time, key in sorted(events):
        for timer in sorted(timer for timer in timers if timer[0] < time):
            seen[timer[1]].append(-timer[0])
            timers.discard(timer)
        seen.setdefault(key, []).append(time)
        timers.add((time + 15, key))
        out.append((key, list(seen[key])))
    return out


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize(("parallelism", "then"), [(1, 1), (1, 3), (3, 2)])
@pytest.mark.parametrize("budget", [64 << 20, 1])
def test_what_waits_survives_a_restore(
    backend: Any, parallelism: int, then: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_sorted, "_ROWS", 4)
    events = rows(120, seed=3)
    arrived = sorted(events, key=lambda event: event[0] + random.Random(event[0]).random() * 200)
    harness = harness_of(backend=backend, parallelism=parallelism, memory_budget=budget)
    watermark = 0
    for start in range(0, len(arrived), 10):
        push(harness, arrived[start : start + 10])
        watermark = max(watermark, *(time - 201 for time, _ in arrived[start : start + 10]))
        harness.watermark(watermark)
        if start % 30 == 20:
            harness.restore(harness.snapshot(), parallelism=then)
    harness.finish()
    by_key = lambda listed: sorted(listed, key=lambda row: (row[0], len(row[1])))  # noqa: E731
    assert by_key(harness.output()) == by_key(in_order(events))
    assert harness.output(LATE) == []


def test_nothing_comes_before_the_watermark_and_what_is_behind_it_is_late() -> None:
    harness = harness_of()
    push(harness, [(30, "a"), (10, "a")])
    assert harness.output() == []
    harness.watermark(10)
    assert harness.output() == [("a", [10])]
    push(harness, [(10, "a"), (11, "a"), (5, "b")])
    harness.watermark(20)
    assert harness.output() == [("a", [10]), ("a", [10, 11])]
    assert harness.output(LATE) == [{"k": "a", "v": 10}, {"k": "b", "v": 5}]
    harness.finish()
    assert harness.output()[2:] == [("a", [10, 11, -25, -26, 30])]


def test_events_of_one_moment_come_by_their_values_whatever_their_order() -> None:
    for values in ([3, 1, 2], [1, 2, 3], [2, 3, 1]):
        harness = harness_of()
        harness.push([{"k": "a", "v": value} for value in values], times=[7, 7, 7])
        harness.watermark(7)
        assert harness.output()[-1] == ("a", [1, 2, 3])


def test_what_waited_is_handed_over_where_a_job_goes_on_by_arrival() -> None:
    harness = harness_of()
    push(harness, [(30, "a"), (10, "a")])
    by_arrival = OperatorHarness(ProcessSpec(("k",), Sequence(), ("k", "v"), OBJECTS), TIMED)
    by_arrival.restore(harness.snapshot())
    push(by_arrival, [(40, "a")])
    assert by_arrival.output() == [("a", [10]), ("a", [10, 30]), ("a", [10, 30, 40])]
