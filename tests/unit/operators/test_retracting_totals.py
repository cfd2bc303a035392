"""Running totals of changes: withdrawn records are taken back, and keys without records go."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.totals.running import RunningAggregateSpec
from streamflow.testing.harness import OperatorHarness
from streamflow.testing.results import difference, final_rows
from streamflow.windows.aggregates import reduce
from tests.unit.operators.rows_gone_over import RowsGoneOver

KINDS: Any = frozenset({"insert", "update_before", "update_after", "delete"})
TYPE = Schema({CHANGE: CHANGE_TYPE, "k": pl.String, "v": pl.Int64})
CHANGES = StreamType(TYPE, timed=False, changes=KINDS)
TIMED = StreamType(TYPE, timed=True, changes=KINDS)
Row = tuple[str, int | None]
Change = tuple[str, str, int | None]
AGGREGATES: dict[str, Any] = {
    "n": sf.count(),
    "filled": sf.count("v"),
    "total": sf.sum("v"),
    "mean": sf.mean("v"),
    "least": sf.min("v"),
    "most": sf.max("v"),
    "different": sf.n_unique("v"),
    "median": sf.quantile("v", 0.5),
    "spread": sf.var("v"),
    "best": sf.top_k("v", 2),
    "any": sf.any(pl.col("v") > 5),
    "all": sf.all(pl.col("v") > 5),
}


def spec(*names: str) -> RunningAggregateSpec:
    return RunningAggregateSpec(("k",), tuple((name, AGGREGATES[name]) for name in names or AGGREGATES))


def pushed(harness: OperatorHarness, *changes: Change, times: Any = None) -> OperatorHarness:
    return harness.push([{CHANGE: kind, "k": key, "v": value} for kind, key, value in changes], times=times)


def said(harness: OperatorHarness) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in harness.output()]


def test_what_is_withdrawn_is_taken_back() -> None:
    harness = pushed(
        OperatorHarness(spec("n", "total", "most"), CHANGES), ("insert", "a", 3), ("insert", "a", 5)
    )
    pushed(harness, ("update_before", "a", 5), ("update_after", "a", 4))
    assert said(harness) == [
        ("insert", "a", 2, 8, 5),
        ("update_before", "a", 2, 8, 5),
        ("update_after", "a", 2, 7, 4),
    ]


def test_a_key_without_records_is_gone_and_may_come_again() -> None:
    harness = pushed(OperatorHarness(spec("n", "most"), CHANGES), ("insert", "a", 3), ("insert", "b", 1))
    pushed(harness, ("delete", "a", 3), ("insert", "b", 2), ("insert", "c", 0), ("delete", "c", 0))
    assert Counter(said(harness)[2:]) == Counter(
        [("delete", "a", 1, 3), ("update_before", "b", 1, 1), ("update_after", "b", 2, 2)]
    )
    pushed(harness, ("insert", "a", 7))
    assert said(harness)[-1] == ("insert", "a", 1, 7)


def test_a_change_that_changes_nothing_is_none() -> None:
    harness = pushed(OperatorHarness(spec("most"), CHANGES), ("insert", "a", 3), ("insert", "a", 5))
    pushed(harness, ("delete", "a", 3), ("insert", "a", 4))
    assert said(harness) == [("insert", "a", 5)]


def test_a_withdrawal_has_the_time_of_what_withdraws() -> None:
    harness = pushed(OperatorHarness(spec("n"), TIMED), ("insert", "a", 1), times=[10])
    pushed(harness, ("delete", "a", 1), times=[30])
    assert (said(harness), harness.event_times()) == ([("insert", "a", 1), ("delete", "a", 1)], [10, 30])


def test_the_sum_of_nothing_is_nothing_whatever_was_rounded() -> None:
    type_ = StreamType(
        Schema({CHANGE: CHANGE_TYPE, "k": pl.String, "v": pl.Float64}), timed=False, changes=KINDS
    )
    harness = OperatorHarness(
        RunningAggregateSpec(("k",), (("total", sf.sum("v")), ("mean", sf.mean("v")))), type_
    )
    for kind, value in [
        ("insert", 1e16),
        ("insert", 1.1),
        ("insert", None),
        ("delete", 1e16),
        ("delete", 1.1),
    ]:
        harness.push([{CHANGE: kind, "k": "a", "v": value}])
    assert said(harness)[-1] == ("update_after", "a", 0.0, None)


def changes_of(chance: random.Random, there: list[Row], count: int) -> list[Change]:
    """Random changes of the rows that are there."""
    changes: list[Change] = []
    for _ in range(count):
        if there and chance.random() < 0.45:
            key, value = there.pop(chance.randrange(len(there)))
            changes.append((chance.choice(["delete", "update_before"]), key, value))
        else:
            there.append((chance.choice("abc"), chance.choice([None, *range(10)])))
            changes.append((chance.choice(["insert", "update_after"]), *there[-1]))
    return changes


def direct(there: list[Row]) -> list[dict[str, Any]]:
    """The aggregates of the rows that are there, by Polars."""
    v = pl.col("v")
    frame = pl.DataFrame(there, schema={"k": pl.String, "v": pl.Int64}, orient="row").group_by("k").agg(
        n=pl.len().cast(pl.Int64), filled=v.count().cast(pl.Int64), total=v.sum(), mean=v.mean(), least=v.min(),
        most=v.max(), different=v.n_unique().cast(pl.Int64), median=v.quantile(0.5), spread=v.var(),
        best=v.drop_nulls().sort(descending=True).head(2), any=(v > 5).any(), all=(v > 5).all(),
    )  # fmt: skip
    return frame.to_dicts()


@pytest.mark.parametrize("updates", ["batch", "epoch", "end"])
@pytest.mark.parametrize("budget", [64 << 20, 1])
def test_totals_are_those_of_the_rows_that_are_left(updates: Any, budget: int) -> None:
    chance, there = random.Random(3), list[Row]()
    harness = OperatorHarness(spec(), CHANGES, updates=updates, memory_budget=budget)
    for number in range(16 if budget > 1 else 12):
        pushed(harness, *changes_of(chance, there, 6))
        harness.restore(harness.snapshot(), parallelism=number % 3 + 1)
        if number % 4 == 3:
            harness.epoch()
        if updates == "batch":
            assert not difference(direct(there), final_rows(harness.output(), changing=True))
    harness.finish()
    assert not difference(direct(there), final_rows(harness.output(), changing=True))
    if updates == "end":
        assert {row[CHANGE] for row in harness.output()} == {"insert"}


@pytest.mark.parametrize(
    "of", [sf.first("v"), sf.collect_list("v"), sf.approx_n_unique("v"), reduce(max, "v")]
)
def test_an_aggregate_that_cannot_take_back_is_refused_by_name(of: Any) -> None:
    with pytest.raises(JobDefinitionError, match=f"x={of.label}.*cannot take back a record"):
        RunningAggregateSpec(("k",), (("x", of),)).output_type([CHANGES])


def test_changes_without_their_kind_are_refused() -> None:
    job = sf.Job("kinds")
    totals = job.read(sf.MemorySource([{"k": "a"}])).key_by("k").count()
    with pytest.raises(JobDefinitionError, match="the column 'change' is gone"):
        totals.drop("change").key_by("count").count()


@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
def test_totals_of_totals_of_totals(mode: Any) -> None:
    """The number of words that come so many times, and the number of such numbers."""
    job = sf.Job("histogram")
    words = [{"word": word} for word in "abacccbaabde"]
    by_word = job.read(sf.MemorySource(words, batch_rows=1)).key_by("word").aggregate(times=sf.count())
    by_times = by_word.key_by("times").aggregate(words=sf.count(), most=sf.max("word"))
    numbers = by_times.key_by(sf.col("words") > 1).aggregate(n=sf.n_unique("times"))
    out, last = by_times.collect(), numbers.collect()
    job.run(mode=mode, batch_rows=1, parallelism=2)
    wanted = [(4, 1, "a"), (3, 2, "c"), (1, 2, "e")]
    rows = [dict(zip(("times", "words", "most"), row, strict=True)) for row in wanted]
    assert not difference(rows, final_rows(out.rows(), changing=True))
    assert sorted(row["n"] for row in final_rows(last.rows(), changing=True)) == [1, 2]


def test_a_batch_costs_what_its_keys_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    gone_over = RowsGoneOver(monkeypatch)
    harness = OperatorHarness(spec("total", "most"), CHANGES)
    cost: list[int] = []
    for known in range(0, 60_000, 5_000):
        pushed(harness, *(("insert", f"k{n}", n) for n in range(known, known + 5_000)))
        for _ in range(3):  # the first look-ups sort
            gone_over.count = 0
            pushed(harness, *(("insert", f"k{n}", n) for n in range(9)))
        cost.append(gone_over.count)
    assert max(cost[-3:]) <= max(cost[:3]) + 4_000


def test_times_of_the_input_are_event_times() -> None:
    frame = pl.DataFrame({CHANGE: ["insert"], "k": ["a"], "v": [1], EVENT_TIME: [7]})
    frame = frame.with_columns(pl.col(CHANGE).cast(CHANGE_TYPE), pl.col(EVENT_TIME).cast(EVENT_TIME_TYPE))
    assert OperatorHarness(spec("n"), TIMED).push(frame).event_times() == [7]
