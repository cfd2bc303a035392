"""The matching operator alone: order, lateness, what is stored, restored, divided and cleaned up; what it costs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import ERRORS, LATE
from streamflow.operators.patterns import key_matching
from streamflow.operators.patterns.after_match import AfterMatch
from streamflow.operators.patterns.match import TIMED_OUT, MatchSpec
from streamflow.operators.patterns.operator import MatchOperator
from streamflow.operators.patterns.pattern import Pattern, event_steps
from streamflow.state.frames import time_sorted
from streamflow.testing import check_batchings, check_snapshots
from streamflow.testing.harness import OperatorHarness

TIMED = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)
PAIR = sf.pattern("low", col("v") < 10).then("high", col("v") > 90)


def harness_of(sought: Pattern, *, rule: str = "no_skip", **options: Any) -> OperatorHarness:
    spec = MatchSpec(("k",), sought, ("k", "v"), AfterMatch.parsed(rule, event_steps(sought)))
    return OperatorHarness(spec, TIMED, reads=(LATE, ERRORS, TIMED_OUT), **options)


def push(harness: OperatorHarness, *events: tuple[int, str, int]) -> None:
    harness.push([{"k": key, "v": value} for _, key, value in events], times=[time for time, _, _ in events])


def pairs(rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    return sorted((row["k"], row["low"]["v"], row["high"]["v"]) for row in rows)


def test_events_are_looked_at_in_order_of_event_time_once_the_watermark_has_passed_them() -> None:
    harness = harness_of(PAIR)
    push(harness, (30, "a", 95), (10, "a", 1), (20, "b", 99), (5, "b", 50))
    assert harness.output() == []
    harness.watermark(29)
    assert harness.output() == []
    harness.watermark(30)
    assert pairs(harness.output()) == [("a", 1, 95)]
    row = harness.output()[0]
    assert [row["match_start"].microsecond, row["match_end"].microsecond] == [10, 30]
    assert harness.event_times() == [30]
    push(harness, (30, "a", 1), (31, "a", 2))
    assert harness.output(LATE) == [{"k": "a", "v": 1}]


def test_events_of_one_moment_come_by_their_values() -> None:
    for values in ([1, 99], [99, 1]):
        harness = harness_of(PAIR)
        push(harness, *((7, "a", value) for value in values))
        harness.watermark(7)
        assert pairs(harness.output()) == [("a", 1, 99)]


def test_what_is_timed_out_comes_at_its_own_moment() -> None:
    harness = harness_of(PAIR.within("20us"))
    push(harness, (10, "a", 1), (15, "a", 2), (15, "b", 3))
    harness.watermark(28)
    assert harness.output(TIMED_OUT) == []
    harness.watermark(29)
    assert [row["low"]["v"] for row in harness.output(TIMED_OUT)] == [1]
    assert harness.output(TIMED_OUT)[0]["high"] is None
    assert harness.output(TIMED_OUT)[0]["timed_out_at"].microsecond == 30
    harness.watermark(100)
    assert harness.event_times(TIMED_OUT) == [29, 34, 34]
    assert harness.output() == []


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize(("parallelism", "then"), [(1, 1), (1, 3), (3, 2)])
@pytest.mark.parametrize("budget", [64 << 20, 1])
def test_what_is_under_way_survives_a_restore(
    backend: Any, parallelism: int, then: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_sorted, "_ROWS", 4)
    chance = random.Random(3)
    keys = [f"k{number}" for number in range(20)]
    events = [(time, chance.choice(keys), chance.randrange(100)) for time in range(200)]
    sought = PAIR.within("60us")
    whole = harness_of(sought)
    push(whole, *events)
    whole.watermark(1_000)
    harness = harness_of(sought, backend=backend, parallelism=parallelism, memory_budget=budget)
    for start in range(0, len(events), 10):
        batch = events[start : start + 10]
        chance.shuffle(batch)
        push(harness, *batch)
        harness.watermark(start + 3)
        if start % 90 == 20:
            harness.restore(harness.snapshot(), parallelism=then)
    harness.finish()
    assert pairs(harness.output()) == pairs(whole.output())
    over = [
        sorted((row["k"], row["low"]["v"], row["match_start"]) for row in each.output(TIMED_OUT))
        for each in (harness, whole)
    ]
    assert over[0] == over[1]
    assert len(over[0]) > 5
    assert len(pairs(harness.output())) > 3


SOUGHT = {
    "relaxed": PAIR.within("40us"),
    "endless": PAIR,
    "strict": sf.pattern("low", col("v") < 40).next("high", col("v") > 40).times(1, 2).consecutive(),
    "between": sf.pattern("low", col("v") < 60)
    .then("more", col("v") > 50, within="9us")
    .one_or_more(gap="5us")
    .not_then("no", col("v") > 95, within="7us"),
    "dependent": sf.pattern("low", col("v") < 60)
    .then("more", col("v") > sf.step("low").v + sf.step("more").count())
    .one_or_more()
    .within("25us"),
}


@pytest.mark.parametrize(
    ("name", "rule"), [*((name, "no_skip") for name in SOUGHT), ("dependent", "skip_past_last")]
)
def test_batches_snapshots_and_restores_between_any_two_elements_change_nothing(name: str, rule: str) -> None:
    chance = random.Random(7)
    events = [(time, chance.choice("ab"), chance.randrange(100)) for time in range(24)]

    def script(harness: OperatorHarness) -> None:
        for start in range(0, len(events), 12):
            part = events[start : start + 12]
            push(harness, *sorted(part, key=lambda event: (event[2], event[0])))
            harness.watermark(start + 9)
        harness.finish()

    rules = AfterMatch.parsed(rule, [step.name for step in SOUGHT[name].steps])
    spec = MatchSpec(("k",), SOUGHT[name], ("k", "v"), rules)
    check_batchings(spec, TIMED, script=script, reads=(LATE, TIMED_OUT))
    check_snapshots(spec, TIMED, script=script, reads=(LATE, TIMED_OUT))


@pytest.mark.parametrize("rule", ["no_skip", "skip_past_last"])
def test_nothing_is_left_in_the_end(rule: str) -> None:
    absent = PAIR.not_next("no", col("v") == 5).within("1s")
    for sought in (PAIR, PAIR.within("1s"), PAIR.one_or_more(gap="1s"), absent):
        harness = harness_of(sought, rule=rule)
        push(harness, (1, "a", 1), (2, "a", 95), (3, "a", 2), (4, "b", 3))
        harness.finish()
        (part,) = harness.snapshot()
        assert [frame for table in part.tables.values() for _, frame in table if frame.height] == []


def test_what_waits_for_an_earlier_one_comes_in_the_end() -> None:
    """Nothing can complete the earlier one when the input has ended."""
    sought = sf.pattern("low", col("v") < 10).then("same", col("v") > 90 + sf.step("low").v)
    harness = harness_of(sought, rule="skip_past_last")
    push(harness, (1, "a", 9), (2, "a", 1), (3, "a", 95))
    harness.watermark(50)
    assert harness.output() == []
    push(harness, (60, "b", 50), (61, "b", 5))
    harness.finish()
    assert [(row["low"]["v"], row["same"]["v"]) for row in harness.output()] == [(1, 95)]
    assert harness.event_times() == [61]


def test_lists_of_repeated_steps_and_what_was_left_out() -> None:
    sought = (
        sf.pattern("low", col("v") < 10).one_or_more().greedy()
        .then("middle", col("v").is_between(10, 90)).times(1, 2).optional()
        .then("high", col("v") > 90)
    )  # fmt: skip
    harness = harness_of(sought)
    push(harness, (1, "a", 1), (2, "a", 2), (3, "a", 95), (4, "b", 3), (5, "b", 50), (6, "b", 99))
    harness.watermark(9)
    shown = [
        ([e["v"] for e in row["low"]], [e["v"] for e in row["middle"]], row["high"]["v"])
        for row in harness.output()
    ]
    assert sorted(shown) == [([1, 2], [], 95), ([2], [], 95), ([3], [], 99), ([3], [50], 99)]


def test_types_come_out_as_they_went_in() -> None:
    fields: dict[str, pl.DataType] = {
        "k": pl.String(),
        "at": pl.Datetime("ns"),
        "n": pl.Decimal(20, 3),
        "l": pl.List(pl.Int8()),
        "e": pl.Enum(["x", "y"]),
    }
    rows = {
        "k": ["a", "a"],
        "at": [1, 1_000_000_007],
        "n": ["1.001", "2.5"],
        "l": [[1], None],
        "e": ["x", "y"],
    }
    frame = pl.DataFrame(rows).with_columns(col(name).cast(dtype) for name, dtype in fields.items())
    job = sf.Job("types")
    read = job.read(sf.MemorySource(frame, batch_rows=1), event_time=col("at"))
    found = read.key_by("k").match(sf.pattern("x", col("e") == "x").then("y", col("e") == "y")).collect()
    job.run(mode="streaming", state_backend="memory")
    out = found.frame()
    assert out["x"].struct.unnest().equals(frame[:1])
    assert out["y"].struct.unnest().equals(frame[1:])


def test_an_event_that_a_condition_on_earlier_steps_fails_for_is_treated_by_the_policy() -> None:
    sought = sf.pattern("low", col("v") < 10).then_any("more", col("v").cast(pl.Int8) > sf.step("low").v)
    spec = MatchSpec(("k",), sought, ("k", "v"))
    harness = OperatorHarness(spec, TIMED)
    push(harness, (1, "a", 1), (2, "a", 300))
    with pytest.raises(sf.RecordError, match="300"):
        harness.watermark(2)
    skipping = OperatorHarness(MatchSpec(("k",), sought, ("k", "v"), on_error="skip"), TIMED)
    # Beside two partial matches it is one bad event.
    push(skipping, (1, "a", 1), (2, "a", 2), (3, "a", 300), (4, "a", 100))
    skipping.watermark(9)
    assert skipping.metrics.errors.value == 1
    assert len(skipping.output()) == 3


def test_events_that_no_condition_holds_for_are_left_out_at_once() -> None:
    harness = harness_of(PAIR)
    push(harness, *((time, "a", 50) for time in range(100)), (200, "a", 1))
    (part,) = harness.snapshot()
    assert sum(frame.height for _, frame in part.tables["waiting"]) == 1


def test_the_automaton_goes_over_events_of_keys_with_a_partial_match_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone_over = 0
    through = key_matching.KeyMatching.through

    def counted(self: Any, state: Any, events: Any, *rest: Any) -> Any:
        nonlocal gone_over
        listed = list(events)
        gone_over += len(listed)
        return through(self, state, listed, *rest)

    monkeypatch.setattr(key_matching.KeyMatching, "through", counted)
    harness = harness_of(PAIR.within("1s"))
    # A thousand keys with events that could be second ones, and ten that begin.
    push(harness, *((number, f"k{number}", 95) for number in range(1_000)))
    push(harness, *((2_000 + number, f"k{number}", 1) for number in range(10)))
    harness.watermark(3_000)
    assert gone_over == 20
    # Beside ten partial matches, one event that can complete one and hundreds that cannot.
    push(harness, *((4_000, f"k{number}", 95) for number in range(9, 1_000)))
    harness.watermark(5_000)
    assert gone_over == 21
    assert len(harness.output()) == 1


def test_keys_that_nothing_happens_to_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    go_over = MatchOperator._go_over

    def counted(self: Any, pool: pl.DataFrame, *rest: Any) -> None:
        looked_at.append(pool.height)
        go_over(self, pool, *rest)

    monkeypatch.setattr(MatchOperator, "_go_over", counted)
    harness = harness_of(PAIR.within("1h"))
    push(harness, *((number, f"k{number}", 1) for number in range(5_000)))
    harness.watermark(6_000)
    looked_at.clear()
    for number in range(20):
        push(harness, (7_000 + number, f"k{number}", 99))
        harness.watermark(7_000 + number)
    # Each of twenty keys has the event of its partial match and the new one.
    assert looked_at == [2] * 20
    assert len(harness.output()) == 20


def test_a_strict_step_sees_every_event_of_its_key() -> None:
    harness = harness_of(sf.pattern("low", col("v") < 10).next("high", col("v") > 90))
    push(harness, (1, "a", 1), (2, "b", 2), (3, "a", 50), (4, "a", 95), (5, "b", 96))
    harness.watermark(9)
    assert pairs(harness.output()) == [("b", 2, 96)]
