"""The order in which a process sees events and timers: whatever the mode, the batches, the parallelism."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.errors import JobDefinitionError
from streamflow.testing import check_modes_agree
from tests.every_pair import every_pair

START = datetime(2024, 1, 1, tzinfo=UTC)
BOUND = timedelta(seconds=30)
MODES = ("streaming", "micro-batch", "batch")


class Alerts(sf.KeyedProcess):
    """A large amount within a minute of a small one."""

    small = sf.ValueState(bool, default=False)
    output: ClassVar[object] = {"card": sf.String, "at": sf.Datetime}

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        if event["amount"] > 500 and self.small.value():
            ctx.emit({"card": ctx.key, "at": event["at"]})
        if event["amount"] < 10:
            self.small.update(True)
            ctx.set_timer(timedelta(minutes=1))
        else:
            self.small.clear()

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        self.small.clear()


def transactions(count: int, *, seed: int = 1) -> list[dict[str, Any]]:
    """Transactions of some cards, in order; no two at one moment."""
    chance, at, rows = random.Random(seed), START, []
    for number in range(count):
        at += timedelta(seconds=chance.randrange(8), microseconds=1 + number)
        amount = chance.choice([1.0, 5.0, 50.0, 600.0, 900.0])
        rows.append({"card": f"card-{chance.randrange(5)}", "amount": amount, "at": at})
    return rows


def permuted(rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The same, each of them up to the bound late."""
    chance = random.Random(seed)
    return sorted(rows, key=lambda row: row["at"] + chance.random() * BOUND)


def replay(rows: list[dict[str, Any]], lag: timedelta | None) -> list[tuple[str, datetime]]:
    """By hand: before each event the timers fire up to the watermark that the record before it has made, `lag` behind
    it; with None, up to the event. Amounts of 50 are filtered, and move the watermark nevertheless."""
    small: dict[str, bool] = {}
    timers: set[tuple[datetime, str]] = set()
    alerts, seen = [], START - timedelta(days=1)
    for row in rows:
        card, amount, at = row["card"], row["amount"], row["at"]
        watermark = at if lag is None else seen - lag
        for timer in sorted(timer for timer in timers if timer[0] < watermark):
            small[timer[1]] = False
            timers.discard(timer)
        seen = max(seen, at)
        if amount == 50:
            continue
        if amount > 500 and small.get(card):
            alerts.append((card, at))
        small[card] = amount < 10
        if amount < 10:
            timers.add((at + timedelta(minutes=1), card))
    return sorted(alerts)


def alerts_of(
    rows: list[dict[str, Any]], *, order: Any = "arrival", bound: timedelta = BOUND, **run: Any
) -> Any:
    job = sf.Job("alerts")
    source = sf.MemorySource(pl.DataFrame(rows))
    events = job.read(source, event_time="at", watermark=sf.bounded_disorder(bound))
    # An operator behind which the watermark still counts every record.
    kept = events.filter(col("amount") != 50)
    alerts = kept.key_by("card").process(Alerts, order=order).collect()
    job.run(**run)
    return sorted((row["card"], row["at"]) for row in alerts.rows())


ROWS = transactions(175)
CUTS = [(1, 1), (7, 2), (100, 3), (100_000, 1)]


@every_pair(bound=[timedelta(0), BOUND], mode=MODES, cut=CUTS)
def test_timers_fire_between_events_in_order_however_these_are_cut(
    mode: Any, cut: tuple[int, int], bound: timedelta
) -> None:
    batch_rows, parallelism = cut
    alerts = alerts_of(ROWS, bound=bound, mode=mode, batch_rows=batch_rows, parallelism=parallelism)
    assert alerts == replay(ROWS, bound)


async def answered(row: dict[str, Any]) -> dict[str, Any]:
    return row


COLUMNS = {"card": sf.String, "amount": sf.Float64, "at": sf.Datetime}
BETWEEN: dict[str, Callable[[sf.Stream], sf.Stream]] = {
    "map_async": lambda s: s.map_async(answered, schema=COLUMNS),
    "map_async of objects": lambda s: s.map_async(answered).map(lambda row: row, schema=COLUMNS),
    "map_async, unordered": lambda s: s.map_async(answered, ordered=False, capacity=1, schema=COLUMNS),
    "map_batches": lambda s: s.map_batches(lambda frame: frame),
    "map_batches with a column more": lambda s: s.map_batches(
        lambda frame: frame.with_columns(more=pl.lit(1))
    ),
    "map_batches of chosen columns": lambda s: s.map_batches(
        lambda frame: frame.select("__event_time", *COLUMNS), schema=COLUMNS
    ),
    "map_batches that filters": lambda s: s.map_batches(lambda frame: frame.filter(pl.col("amount") != 50)),
}


@every_pair(mode=MODES, batch_rows=[7, 100_000], between=list(BETWEEN))
def test_so_they_do_behind_what_gives_other_records(between: str, batch_rows: int, mode: Any) -> None:
    job = sf.Job("alerts")
    events = job.read(sf.MemorySource(pl.DataFrame(ROWS)), event_time="at", watermark=BOUND)
    kept = BETWEEN[between](events).filter(col("amount") != 50)
    alerts = kept.key_by("card").process(Alerts).collect()
    job.run(mode=mode, batch_rows=batch_rows)
    assert sorted((row["card"], row["at"]) for row in alerts.rows()) == replay(ROWS, BOUND)


@pytest.mark.parametrize("batch_rows", [7, 100_000])
def test_events_that_come_out_of_order_see_the_watermark_of_all_before_them(batch_rows: int) -> None:
    rows = permuted(ROWS, 3)
    assert alerts_of(rows, mode="streaming", batch_rows=batch_rows) == replay(rows, BOUND)


@pytest.mark.parametrize(("batch_rows", "parallelism"), CUTS[1:])
def test_batch_mode_gives_what_a_stream_in_order_gives(batch_rows: int, parallelism: int) -> None:
    shuffled = random.Random(5).sample(ROWS, len(ROWS))
    alerts = alerts_of(shuffled, mode="batch", batch_rows=batch_rows, parallelism=parallelism)
    assert alerts == replay(ROWS, BOUND)


@every_pair(mode=MODES, cut=CUTS[1:], seed=[None, 1])
def test_order_by_event_time_is_the_same_for_any_order_of_arrival(
    mode: Any, cut: tuple[int, int], seed: int | None
) -> None:
    batch_rows, parallelism = cut
    rows = ROWS if seed is None else permuted(ROWS, seed)
    run = {"mode": mode, "batch_rows": batch_rows, "parallelism": parallelism}
    assert alerts_of(rows, order="event_time", **run) == replay(ROWS, None)


class Log(sf.KeyedProcess):
    """Says what it sees, and ticks every minute."""

    output: ClassVar[object] = {
        "key": sf.String,
        "what": sf.String,
        "watermark": sf.Datetime,
        "ended": sf.Boolean,
    }

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.say(event["what"], ctx)
        ctx.set_timer(timedelta(minutes=1))

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        self.say(f"tick {(timer.time - START) // timedelta(minutes=1)}", ctx)
        ctx.set_timer(timedelta(minutes=1))

    @staticmethod
    def say(what: str, ctx: sf.ProcessContext) -> None:
        ctx.emit({"key": ctx.key, "what": what, "watermark": ctx.watermark, "ended": ctx.ended})


def at_minutes(*events: tuple[str, float]) -> list[dict[str, Any]]:
    return [
        {"key": "a", "what": what, "at": START + minute * timedelta(minutes=1)} for what, minute in events
    ]


def logged(rows: list[dict[str, Any]], order: Any, **run: Any) -> list[dict[str, Any]]:
    job = sf.Job("log")
    events = job.read(
        sf.MemorySource(pl.DataFrame(rows)), event_time="at", watermark=sf.bounded_disorder("30s")
    )
    log = events.key_by("key").process(Log, order=order).collect()
    job.run(**run)
    return [dict(row) for row in log.rows()]


@pytest.mark.parametrize("order", ["arrival", "event_time"])
@pytest.mark.parametrize("mode", MODES)
def test_a_timer_that_sets_itself_again_does_not_keep_a_bounded_job_alive(mode: Any, order: Any) -> None:
    """The watermark comes to minute 3; what is set then fires once, and sets another up to the last event."""
    log = logged(at_minutes(("first", 0), ("last", 3.5)), order, mode=mode, batch_rows=1)
    ticks = [row["what"] for row in log if row["what"].startswith("tick")]
    assert ticks == ["tick 1", "tick 2", "tick 3", "tick 4"]
    assert [row["ended"] for row in log if row["what"] == "tick 1"] == [False]
    assert log[-1]["ended"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("batch_rows", [3, 100_000])
def test_timers_fire_between_the_results_of_windows(mode: Any, batch_rows: int) -> None:
    """Three seconds after a count the run of counts begins again."""

    class Runs(sf.KeyedProcess):
        run = sf.ValueState(int, default=0)
        output: ClassVar[object] = {"card": sf.String, "run": sf.Int64}

        def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
            self.run.update(self.run.value() + 1)
            ctx.emit({"card": ctx.key, "run": self.run.value()})
            ctx.set_timer(timedelta(seconds=3))

        def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
            self.run.clear()

    job = sf.Job("runs")
    events = job.read(
        sf.MemorySource(pl.DataFrame(ROWS)), event_time="at", watermark=sf.bounded_disorder("0s")
    )
    counts = events.key_by("card").window(sf.tumbling("2s")).count()
    runs = counts.key_by("card").process(Runs).collect()
    job.run(mode=mode, batch_rows=batch_rows)
    expected = []
    for card in {row["card"] for row in ROWS}:
        run, due = 0, list[int]()
        for slot in sorted(
            {int((row["at"] - START).total_seconds()) // 2 for row in ROWS if row["card"] == card}
        ):
            if any(time < 2 * slot for time in due):
                run = 0
            due = [time for time in due if time >= 2 * slot]
            run += 1
            due.append(2 * slot + 3)
            expected.append((card, run))
    assert sorted((row["card"], row["run"]) for row in runs.rows()) == sorted(expected)


def test_what_becomes_of_one_record_sees_one_watermark() -> None:
    job = sf.Job("twice")
    events = job.read(sf.MemorySource(pl.DataFrame(ROWS[:100])), event_time="at", watermark="0s")
    twice = events.with_columns(amount=pl.concat_list("amount", "amount")).explode("amount")
    twice.key_by("card").process(Alerts).collect()
    assert check_modes_agree(job, parallelism=(1, 2))


def test_modes_that_differ_by_the_order_of_arrival_say_what_would_mend_it() -> None:
    def job(order: Any, rows: list[dict[str, Any]]) -> sf.Job:
        job = sf.Job("alerts")
        events = job.read(
            sf.MemorySource(pl.DataFrame(rows)), event_time="at", watermark=sf.bounded_disorder(BOUND)
        )
        events.key_by("card").process(Alerts, order=order).collect()
        return job

    rows = permuted(ROWS[:150], 3)
    with pytest.raises(AssertionError, match=r'process-1 sees events.*order="event_time"'):
        check_modes_agree(job("arrival", rows), parallelism=(1,))
    assert check_modes_agree(job("event_time", rows), parallelism=(1, 2))
    assert check_modes_agree(job("arrival", ROWS[:150]), parallelism=(1, 2))


def test_late_events_go_to_late_or_are_counted() -> None:
    rows = at_minutes(("b", 1), ("c", 2), ("late", 0.5), ("d", 1.6), ("e", 3))
    for used in (True, False):
        job = sf.Job("late")
        source = sf.MemorySource(pl.DataFrame(rows))
        events = job.read(source, event_time="at", watermark=sf.bounded_disorder("30s"))
        log = events.key_by("key").process(Log, order="event_time")
        seen = log.filter(~col("what").str.starts_with("tick")).select("what").collect()
        late = log.late.collect() if used else None
        result = job.run(mode="streaming", batch_rows=1)
        assert seen.frame()["what"].to_list() == ["b", "d", "c", "e"]
        assert late is None or late.rows() == [rows[2]]
        assert result.late == (1 if used else 0)
        assert result.dropped == (0 if used else 1)


def test_late_objects_come_as_they_were() -> None:
    rows = at_minutes(("b", 1), ("c", 2), ("late", 0.5))
    job = sf.Job("late")
    source = sf.MemorySource(rows, schema=sf.OBJECTS)
    events = job.read(source, event_time="at", watermark=sf.bounded_disorder("30s"))
    log = events.key_by(lambda row: row["key"]).process(Log, order="event_time")
    late = log.late.collect()
    job.run(mode="streaming", batch_rows=1)
    assert late.rows() == [rows[2]]


def test_what_order_needs_is_said() -> None:
    job = sf.Job("order")
    untimed = job.read(sf.MemorySource([{"key": "a"}])).key_by("key")
    with pytest.raises(JobDefinitionError, match=r"this stream has none.*event_time="):
        untimed.process(Log, order="event_time")
    with pytest.raises(JobDefinitionError, match=r'order is .time..*"arrival" or "event_time"'):
        untimed.process(Log, order="time")  # type: ignore[arg-type]
    with pytest.raises(JobDefinitionError, match=r'no late records.*order="event_time"'):
        _ = untimed.process(Log).late


@pytest.mark.parametrize("batch_rows", [1, 3, 100])
def test_a_process_behind_a_process_has_its_timers_in_between_too(batch_rows: int) -> None:
    """The first puts out at its timers, the second clears what it keeps by timers of its own."""

    class Closes(sf.KeyedProcess):
        output: ClassVar[object] = {"card": sf.String, "amount": sf.Float64, "at": sf.Datetime}

        def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
            ctx.emit(event)
            ctx.set_timer(timedelta(seconds=20))

        def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
            ctx.emit({"card": ctx.key, "amount": 900.0, "at": timer.time})

    def run(**settings: Any) -> list[Any]:
        job = sf.Job("two")
        source = sf.MemorySource(pl.DataFrame(ROWS))
        events = job.read(source, event_time="at", watermark=sf.bounded_disorder("0s"))
        closes = events.key_by("card").process(Closes)
        alerts = closes.key_by("card").process(Alerts).collect()
        job.run(**settings)
        return sorted(tuple(row.values()) for row in alerts.rows())

    reference = run(mode="streaming", batch_rows=100_000)
    assert len(reference) > 40
    assert run(mode="streaming", batch_rows=batch_rows) == reference
    assert run(mode="micro-batch", batch_rows=batch_rows) == reference
    # What a timer puts out comes behind the event that made it fire; in batch mode it comes before.
    assert run(mode="batch", batch_rows=batch_rows) == run(mode="batch", batch_rows=100_000)


class AtOnce(sf.KeyedProcess):
    """A timer that sets itself again `times` times, so that it is due at once."""

    output: ClassVar[object] = {"n": sf.Int64}
    n = sf.ValueState(int, default=0)

    def __init__(self, times: int, step: timedelta) -> None:
        self.times, self.step = times, step

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.set_timer(START)

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        self.n.update(self.n.value() + 1)
        if self.n.value() <= self.times:
            ctx.set_timer(timer.time - self.step)
        else:
            ctx.emit({"n": self.n.value()})


def at_once(times: int, step: timedelta, mode: Any) -> list[Any]:
    job = sf.Job("at once")
    rows = [{"k": k, "at": START + timedelta(hours=hours)} for hours in range(2) for k in "ab"]
    source = sf.MemorySource(rows, schema={"k": sf.String, "at": sf.Datetime}, batch_rows=1)
    stream = job.read(source, event_time="at", watermark="0s")
    out = stream.key_by("k").process(AtOnce(times, step)).collect()
    job.run(mode=mode)
    return out.rows()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("step", [timedelta(0), timedelta(seconds=1)])
def test_a_timer_that_is_due_at_once_for_ever_is_an_error(step: timedelta, mode: Any) -> None:
    with pytest.raises(sf.RecordError, match="due at once, 1,001 times in a row") as caught:
        at_once(10**9, step, mode)
    assert "test_process_order.py" in str(caught.value)


def test_a_timer_may_set_itself_again_some_times() -> None:
    assert at_once(900, timedelta(0), "streaming")[:2] == [{"n": 901}] * 2
