"""A process's timers on both clocks: order, deduplication, deletion, restore, the times of what they put out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.schema import OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.process import operator as process_operator
from streamflow.operators.process.process import KeyedProcess, ProcessSpec
from streamflow.testing.clock import TestClock
from streamflow.testing.harness import OperatorHarness

TIMED = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)
UNTIMED = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=False)


def harness_of(process: KeyedProcess, type_: StreamType = TIMED, **options: Any) -> OperatorHarness:
    return OperatorHarness(ProcessSpec(("k",), process, ("k", "v"), OBJECTS), type_, **options)


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class At(KeyedProcess):
    """Each event sets a timer for the time `v`, or deletes the one for −v."""

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        if event["v"] >= 0:
            ctx.set_timer(event["v"])
        else:
            ctx.delete_timer(-event["v"])

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        assert timer.clock == "event"
        assert timer.time == ctx.timestamp
        ctx.emit((ctx.key, micros(timer.time)))


def rows(*pairs: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"k": key, "v": value} for key, value in pairs]


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("restore", [None, 1, 3])
def test_timers_fire_once_in_time_order_when_their_time_has_come(backend: Any, restore: int | None) -> None:
    harness = harness_of(At(), backend=backend)
    harness.push(rows(("a", 30), ("b", 10), ("a", 20), ("a", 20), ("b", 31), ("a", 5)), times=[0] * 6)
    harness.push(rows(("a", -5), ("b", -20)), times=[0, 0])
    if restore:
        harness.restore(harness.snapshot(), parallelism=restore)
        harness.push(rows(("a", 20)), times=[0])
    harness.watermark(9)
    assert harness.output() == []
    harness.watermark(30)
    if restore != 3:
        assert harness.output() == [("b", 10), ("a", 20), ("a", 30)]
    assert sorted(harness.output()) == [("a", 20), ("a", 30), ("b", 10)]
    assert sorted(harness.event_times()) == [10, 20, 30]
    harness.watermark(30).watermark(31).watermark(100)
    assert sorted(harness.output()) == [("a", 20), ("a", 30), ("b", 10), ("b", 31)]


def test_a_timer_that_was_stored_can_be_deleted() -> None:
    harness = harness_of(At()).push(rows(("a", 10), ("a", 11)), times=[0, 0])
    harness.restore(harness.snapshot()).push(rows(("a", -10)), times=[1])
    harness.restore(harness.snapshot()).watermark(100)
    assert harness.output() == [("a", 11)]


def test_a_timer_for_the_past_fires_with_the_next_watermark() -> None:
    harness = harness_of(At()).watermark(100).push(rows(("a", 50)), times=[101])
    assert harness.output() == []
    assert harness.watermark(101).output() == [("a", 50)]


class Chain(KeyedProcess):
    """A timer sets the next, and deletes another that is due in the same moment."""

    hops = sf.ValueState(int, default=0)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.set_timer(timedelta(microseconds=10))
        ctx.set_timer(timedelta(microseconds=35))

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        self.hops.update(self.hops.value() + 1)
        ctx.emit(micros(timer.time))
        if self.hops.value() < 4:
            ctx.set_timer(timedelta(microseconds=10))
        if self.hops.value() == 2:
            ctx.delete_timer(35)


@pytest.mark.parametrize("restore", [False, True])
def test_timers_set_and_deleted_while_firing_take_their_place(restore: bool) -> None:
    harness = harness_of(Chain()).push(rows(("a", 0)), times=[0])
    if restore:
        harness.restore(harness.snapshot())
    assert harness.watermark(1_000).output() == [10, 20, 30, 40]


def test_many_timers_fire_in_slices_that_are_handed_on_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_operator, "_TIMERS_AT_ONCE", 100)
    spec = ProcessSpec(("k",), At(), ("k", "v"), OBJECTS)
    harness = OperatorHarness(spec, TIMED)
    pushed = [{"k": f"k{number % 7}", "v": number} for number in range(250)]
    harness.push(pushed[::2], times=[0] * 125)
    harness.restore(harness.snapshot()).push(pushed[1::2], times=[0] * 125).watermark(1_000)
    assert [time for _, time in harness.output()] == list(range(250))
    assert [len(batch) for batch in harness.outputs["main"].batches] == [100, 100, 50]
    assert harness.watermarks == [1_000]


HOUR = 3_600_000_000


class Endless(KeyedProcess):
    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        assert ctx.timestamp is not None
        ctx.set_timer(ctx.timestamp.replace(minute=0, second=0, microsecond=0))

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        ctx.emit((ctx.key, timer.time.hour))
        ctx.set_timer(timedelta(hours=1))


def test_a_timer_that_sets_itself_again_ends_with_the_input() -> None:
    """Those that are set then fire once; what they set fires if it is for no later than the last event."""
    harness = harness_of(Endless()).push(rows(("a", 0), ("b", 0)), times=[0, 3 * HOUR])
    assert sorted(harness.finish().output()) == [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("b", 3)]


class Idle(KeyedProcess):
    """Emits when nothing has come for ten seconds by the clock."""

    due = sf.ValueState(datetime)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        before = self.due.value()
        if before is not None:
            ctx.delete_processing_timer(before)
        self.due.update(ctx.set_processing_timer("10s"))

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        assert timer.clock == "processing"
        ctx.emit((ctx.key, timer.time.second, ctx.processing_time.second))


@pytest.mark.parametrize("type_", [TIMED, UNTIMED])
@pytest.mark.parametrize("parallelism", [1, 3])
def test_processing_timers(type_: StreamType, parallelism: int) -> None:
    clock = TestClock("2030-01-01T00:00:00Z")
    harness = harness_of(Idle(), type_, clock=clock, parallelism=parallelism)
    times = [0] if type_.timed else None
    harness.push(rows(("a", 0)), times=times)
    clock.advance("4s")
    harness.push(rows(("a", 0)), times=times).push(rows(("b", 0)), times=times)
    harness.restore(harness.snapshot(), parallelism=4 - parallelism)
    clock.advance("9s")
    assert harness.tick().output() == []
    clock.advance("2s")
    assert sorted(harness.tick().output()) == [("a", 14, 15), ("b", 14, 15)]
    clock.advance("1h")
    assert len(harness.tick().output()) == 2


def test_rows_of_processing_timers_are_not_late() -> None:
    clock = TestClock("2030-01-01T00:00:00Z")
    harness = harness_of(Idle(), clock=clock).push(rows(("a", 0)), times=[5])
    clock.advance("10s")
    assert harness.tick().event_times() == [clock.now()]  # event time is not known yet
    harness.push(rows(("a", 0)), times=[6]).watermark(7)
    clock.advance("10s")
    assert harness.tick().event_times()[1:] == [8]


def test_event_timers_need_event_time() -> None:
    with pytest.raises(JobDefinitionError, match="needs event time, and this stream has none"):
        harness_of(At(), UNTIMED).push(rows(("a", 5)))


class Silent(KeyedProcess):
    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.set_timer(1)


def test_a_timer_without_on_timer_is_an_error() -> None:
    with pytest.raises(JobDefinitionError, match="Silent has set a timer and has no on_timer"):
        harness_of(Silent()).push(rows(("a", 0)), times=[0]).watermark(1)


class Clocks(KeyedProcess):
    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.emit((ctx.timestamp, ctx.watermark, ctx.ended))
        ctx.set_timer("2013-01-01T00:00:00Z")

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        ctx.emit((ctx.timestamp, ctx.ended))


def test_what_the_context_says_of_time() -> None:
    noon = datetime(2012, 12, 31, 12, tzinfo=UTC)
    harness = harness_of(Clocks()).push(rows(("a", 0)), times=[noon])
    harness.watermark(noon).push(rows(("a", 0)), times=["2012-12-31T13:00:00Z"]).finish()
    assert harness.output() == [
        (noon, None, False),
        (noon + timedelta(hours=1), noon, False),
        (datetime(2013, 1, 1, tzinfo=UTC), True),
    ]
    untimed = harness_of(
        type("C", (Clocks,), {"on_event": lambda s, e, ctx: ctx.emit(ctx.timestamp)})(), UNTIMED
    )
    assert untimed.push(rows(("a", 0))).output() == [None]
