"""The first rows of each key as changes: what enters, what leaves, what comes up again; cadences, snapshots, cost."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import polars as pl
import pytest

from streamflow.core.schema import CHANGE, CHANGE_TYPE, OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.sorting.top_rows import LastOfEachSpec, TopRowsSpec
from streamflow.testing.harness import OperatorHarness
from streamflow.testing.results import final_rows
from tests.every_pair import every_pair
from tests.unit.operators.rows_gone_over import RowsGoneOver

TYPE = Schema({"k": pl.String, "v": pl.Int64})
TIMED, UNTIMED = StreamType(TYPE, timed=True), StreamType(TYPE, timed=False)
CHANGES = StreamType(
    Schema({CHANGE: CHANGE_TYPE, "k": pl.String, "v": pl.Int64}),
    timed=False,
    changes=frozenset({"insert", "update_before", "update_after", "delete"}),
)
Change = tuple[str, str, int | None]


def top(n: int = 2, *, columns: tuple[str, ...] = ("k", "v"), **more: Any) -> TopRowsSpec:
    return TopRowsSpec(("k",), n, (("v", True),), columns, shown=("v",), **more)


def pushed(harness: OperatorHarness, *records: tuple[str, int | None], times: Any = None) -> OperatorHarness:
    return harness.push([{"k": key, "v": value} for key, value in records], times=times)


def said(harness: OperatorHarness) -> list[Change]:
    """The changes put out since the last call."""
    rows = harness.output()[harness.__dict__.get("told", 0) :]
    harness.__dict__["told"] = len(harness.output())
    return [(row["change"], row["k"], row["v"]) for row in rows]


def test_a_row_that_enters_displaces_the_last() -> None:
    harness = pushed(OperatorHarness(top(), UNTIMED), ("a", 5), ("a", 7), ("a", 6))
    assert said(harness) == [("insert", "a", 7), ("insert", "a", 6)]
    pushed(harness, ("a", 6), ("a", 1))
    assert said(harness) == []
    pushed(harness, ("a", 8), ("b", 0))
    assert said(harness) == [("delete", "a", 6), ("insert", "a", 8), ("insert", "b", 0)]
    pushed(harness, ("b", None), ("b", None))
    assert said(harness) == [("insert", "b", None)]
    pushed(harness, ("b", -5))
    assert said(harness) == [("delete", "b", None), ("insert", "b", -5)]


def test_one_row_of_a_key_is_updated() -> None:
    harness = pushed(OperatorHarness(top(1), UNTIMED), ("a", 5), ("b", 1))
    assert said(harness) == [("insert", "a", 5), ("insert", "b", 1)]
    pushed(harness, ("b", 3), ("a", 4), ("a", 9))
    assert Counter(said(harness)) == Counter(
        [
            ("update_before", "a", 5),
            ("update_after", "a", 9),
            ("update_before", "b", 1),
            ("update_after", "b", 3),
        ]
    )
    kinds = [row["change"] for row in harness.output()[2:]]
    assert kinds == ["update_before", "update_after"] * 2


def test_a_change_has_the_time_of_what_is_new() -> None:
    harness = pushed(OperatorHarness(top(), TIMED), ("a", 5), ("a", 6), times=[1, 2])
    pushed(harness, ("a", 7), ("a", 8), times=[4, 3])
    assert said(harness)[2:] == [
        ("delete", "a", 6),
        ("delete", "a", 5),
        ("insert", "a", 8),
        ("insert", "a", 7),
    ]
    assert harness.event_times() == [2, 1, 4, 4, 3, 4]


def test_of_equal_rows_the_earlier_is_first() -> None:
    spec = TopRowsSpec(("k",), 1, (("v", True),), ("k", "v", "w"), shown=("v",))
    type_ = StreamType(Schema({"k": pl.String, "v": pl.Int64, "w": pl.Int64}), timed=True)
    harness = OperatorHarness(spec, type_, updates="epoch")
    harness.push(
        [{"k": "a", "v": 1, "w": 1}, {"k": "a", "v": 1, "w": 2}, {"k": "a", "v": 1, "w": 3}], times=[5, 4, 4]
    )
    assert [row["w"] for row in harness.epoch().output()] == [2]


def change(harness: OperatorHarness, *changes: Change) -> OperatorHarness:
    return harness.push([{"change": kind, "k": key, "v": value} for kind, key, value in changes])


def changing(n: int = 2, **more: Any) -> OperatorHarness:
    return OperatorHarness(top(n, columns=(CHANGE, "k", "v")), CHANGES, **more)


def test_a_withdrawn_row_lets_the_next_one_up() -> None:
    harness = change(changing(), *(("insert", "a", value) for value in (5, 7, 6, 4)))
    assert said(harness) == [("insert", "a", 7), ("insert", "a", 6)]
    change(harness, ("delete", "a", 4))
    assert said(harness) == []
    change(harness, ("update_before", "a", 7), ("update_after", "a", 1))
    assert said(harness) == [("delete", "a", 7), ("insert", "a", 5)]
    change(harness, ("delete", "a", 5), ("delete", "a", 6))
    assert said(harness) == [("delete", "a", 6), ("delete", "a", 5), ("insert", "a", 1)]
    change(harness, ("delete", "a", 1), ("insert", "a", 1))
    assert said(harness) == []


def test_equal_rows_are_as_many_as_there_are() -> None:
    harness = change(changing(3), *[("insert", "a", 5)] * 3, ("insert", "a", 4))
    assert said(harness) == [("insert", "a", 5)] * 3
    change(harness, ("delete", "a", 5))
    assert said(harness) == [("delete", "a", 5), ("insert", "a", 4)]


def test_the_row_of_a_key_may_go() -> None:
    harness = change(changing(1), ("insert", "a", 5))
    change(harness, ("delete", "a", 5))
    assert said(harness) == [("insert", "a", 5), ("delete", "a", 5)]


def table(records: list[Any], n: int) -> list[dict[str, Any]]:
    """The first rows of each key."""
    kept: list[dict[str, Any]] = []
    for key in {key for key, _ in records}:
        values = sorted((value for each, value in records if each == key), reverse=True)
        kept += [{"k": key, "v": value} for value in values[:n]]
    return kept


def same(one: list[Any], other: list[Any]) -> bool:
    return Counter(map(repr, one)) == Counter(map(repr, other))


@every_pair(updates=["batch", "epoch", "end"], n=[1, 3], budget=[64 << 20, 1])
def test_changes_leave_the_first_rows_over_restores_at_any_parallelism(
    updates: Any, n: int, budget: int
) -> None:
    chance = random.Random(n)
    records = [(chance.choice("abcd"), chance.randint(0, 40)) for _ in range(200)]
    harness = OperatorHarness(top(n), UNTIMED, updates=updates, memory_budget=budget)
    for number, start in enumerate(range(0, 200, 10)):
        pushed(harness, *records[start : start + 10])
        harness.restore(harness.snapshot(), parallelism=number % 3 + 1)
        if number % 4 == 3:
            harness.epoch()
    harness.finish()
    assert same(final_rows(harness.output(), changing=True), table(records, n))
    if updates == "end":
        assert {row["change"] for row in harness.output()} == {"insert"}


@pytest.mark.parametrize("updates", ["batch", "epoch", "end"])
@pytest.mark.parametrize("n", [1, 2])
def test_withdrawals_leave_the_first_of_the_rows_that_are_left(updates: Any, n: int) -> None:
    chance = random.Random(n)
    harness, there = changing(n, updates=updates), list[tuple[str, int]]()
    for number in range(40):
        changes: list[Change] = []
        for _ in range(5):
            if there and chance.random() < 0.45:
                key, value = there.pop(chance.randrange(len(there)))
                changes.append((chance.choice(["delete", "update_before"]), key, value))
            else:
                there.append((chance.choice("ab"), chance.randint(0, 9)))
                changes.append((chance.choice(["insert", "update_after"]), *there[-1]))
        change(harness, *changes)
        if number % 2:
            harness.restore(harness.snapshot(), parallelism=number // 2 % 2 + 1)
        if updates == "batch":
            assert same(final_rows(harness.output(), changing=True), table(there, n))
    assert same(final_rows(harness.finish().output(), changing=True), table(there, n))


def test_a_batch_job_goes_on_as_a_stream() -> None:
    batch = pushed(OperatorHarness(top(), UNTIMED, updates="end"), ("a", 1), ("a", 2), ("a", 3))
    harness = OperatorHarness(top(), UNTIMED).restore(batch.snapshot())
    pushed(harness, ("a", 4))
    assert final_rows(harness.output(), changing=True) == [{"k": "a", "v": 4}, {"k": "a", "v": 3}]


def test_the_last_of_each_key_replaces_the_one_before() -> None:
    spec = LastOfEachSpec(("k",), 1, (), ("k", "v"))
    harness = OperatorHarness(spec, TIMED)
    pushed(harness, ("a", 1), ("a", 2), times=[5, 3])
    pushed(harness, ("a", 3), times=[4])
    assert said(harness) == [("insert", "a", 1)]
    pushed(harness, ("a", 4), ("a", 9), times=[6, 6])
    assert said(harness) == [("update_before", "a", 1), ("update_after", "a", 9)]
    assert harness.metrics.value_of("streamflow_records_duplicate_total") == 4


@pytest.mark.parametrize("updates", ["batch", "epoch", "end"])
def test_each_record_is_kept_or_counted_as_a_duplicate(updates: Any) -> None:
    harness = OperatorHarness(LastOfEachSpec(("k",), 1, (), ("k", "v")), TIMED, updates=updates)
    for start in range(0, 100, 7):
        records = [(f"k{n % 10}", n) for n in range(start, start + 7)]
        pushed(harness, *records, times=[n for _, n in records])
    harness.finish()
    assert harness.metrics.value_of("streamflow_records_duplicate_total") == 105 - 10


def test_what_does_not_fit_is_refused() -> None:
    named_change = StreamType(Schema({CHANGE: pl.String, "k": pl.String}), timed=False)
    objects = StreamType(OBJECTS, False, frozenset({"insert"}))
    for spec, type_, message in (
        (top(columns=("k", "v")), CHANGES, "the column 'change' is gone"),
        (top(columns=(CHANGE, "k")), named_change, "named 'change'"),
        (TopRowsSpec(("k",), 1, (("v", True),), None), objects, "are objects"),
    ):
        with pytest.raises(JobDefinitionError, match=message):
            spec.output_type([type_])


@pytest.mark.parametrize("withdraws", [False, True])
def test_a_batch_costs_what_its_keys_cost(withdraws: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    gone_over = RowsGoneOver(monkeypatch)
    harness = changing() if withdraws else OperatorHarness(top(), UNTIMED)
    cost: list[int] = []
    for known in range(0, 60_000, 5_000):
        keys = range(known, known + 5_000)
        harness.push([{**({"change": "insert"} if withdraws else {}), "k": f"k{n}", "v": n} for n in keys])
        for again in range(4):  # the first look-ups sort
            gone_over.count = 0
            kind = {"change": "delete" if again % 2 else "insert"} if withdraws else {}
            harness.push([{**kind, "k": f"k{n}", "v": -1} for n in range(9)])
        cost.append(gone_over.count)
    assert max(cost[-3:]) <= max(cost[:3]) + 2_000
