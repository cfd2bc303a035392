"""Totals by key without a window: what comes out, at which cadence, as which change."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, RecordError
from streamflow.operators.totals.running import RunningAggregateSpec
from streamflow.windows import aggregates as sf
from tests.unit.operators.driving import RECORDS, Driven

COUNTS = (("n", sf.count()), ("top", sf.max("value")))
UNTIMED = StreamType(RECORDS.schema, timed=False)


def spec(**options: Any) -> RunningAggregateSpec:
    return RunningAggregateSpec(("key",), options.pop("aggregates", COUNTS), **options)


@pytest.fixture(params=[False, True], ids=["whole", "combined"])
def combine(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_each_batch_says_what_it_changed(combine: bool) -> None:
    driven = Driven(spec(), combine=combine).batch(("b", 1, 3), ("a", 2, 5), ("a", 1, 4))
    assert driven.take() == [("insert", "a", 2, 5, 2), ("insert", "b", 1, 3, 1)]
    driven.batch(("a", 0, 1), ("c", 9, 9))
    assert driven.take() == [
        ("update_before", "a", 2, 5, 2),
        ("update_after", "a", 3, 5, 2),
        ("insert", "c", 1, 9, 9),
    ]
    assert driven.epoch().end().take() == []


def test_a_total_that_stays_the_same_is_no_change(combine: bool) -> None:
    driven = Driven(spec(aggregates=(("top", sf.max("value")),)), combine=combine).batch(
        ("a", 1, 5), ("b", 1, 5)
    )
    driven.take()
    driven.batch(("a", 2, 3), ("b", 2, 6))
    assert driven.take() == [("update_before", "b", 5, 2), ("update_after", "b", 6, 2)]


def test_each_epoch_says_its_net_change(combine: bool) -> None:
    driven = Driven(spec(), combine=combine, updates="epoch").batch(("a", 1, 1)).batch(("a", 2, 3))
    assert driven.take() == []
    assert driven.epoch().take() == [("insert", "a", 2, 3, 2)]
    driven.batch(("a", 3, 1)).batch(("a", 1, 2), ("b", 5, 5))
    assert driven.epoch().take() == [
        ("update_before", "a", 2, 3, 3),
        ("update_after", "a", 4, 3, 3),
        ("insert", "b", 1, 5, 5),
    ]
    assert driven.epoch().take() == []
    assert driven.batch(("b", 6, 1)).end().take() == [
        ("update_before", "b", 1, 5, 6),
        ("update_after", "b", 2, 5, 6),
    ]


def test_at_the_end_each_key_comes_once(combine: bool) -> None:
    driven = (
        Driven(spec(), combine=combine, updates="end")
        .batch(("b", 1, 1), ("a", 2, 2))
        .batch(("a", 3, 4))
        .epoch()
    )
    assert driven.take() == []
    assert driven.end().take() == [("insert", "a", 2, 4, 3), ("insert", "b", 1, 1, 1)]
    driven.operator.finish(driven.out)
    assert driven.take() == []


def test_a_stream_without_event_time_will_do(combine: bool) -> None:
    driven = Driven(spec(aggregates=(("last", sf.last("value")),)), combine=combine, records=UNTIMED)
    assert not driven.type.timed
    assert driven.batch(("a", 0, 5), ("a", 0, 3)).take() == [("insert", "a", 3)]
    assert driven.batch(("a", 0, 4)).take() == [("update_before", "a", 3), ("update_after", "a", 4)]


@pytest.mark.parametrize("updates", ["batch", "epoch"])
def test_many_keys_and_batches_add_up(combine: bool, updates: Any) -> None:
    driven = Driven(spec(), combine=combine, updates=updates)
    totals: dict[str, int] = {}
    for step in range(12):
        driven.batch(*[(f"key-{number % (1_000 * (step + 1))}", step, 1) for number in range(3_000)])
        if step % 4 == 3:
            driven.epoch()
    for kind, key, n, *_ in driven.end().take():
        if kind == "update_before":
            assert totals.pop(key) == n
        else:
            assert key not in totals
            totals[key] = n
    assert sum(totals.values()) == 36_000
    assert len(totals) == 3_000


@pytest.mark.parametrize("updates", ["batch", "epoch"])
def test_recent_totals_survive_a_restart(combine: bool, updates: Any) -> None:
    driven = Driven(spec(), combine=combine, updates=updates).batch(("a", 1, 5))
    driven.take()
    after = driven.restarted().batch(("a", 2, 7)).epoch().take()
    assert after[-1] == ("update_after" if updates == "batch" else "insert", "a", 2, 7, 2)


def test_null_keys(combine: bool) -> None:
    with pytest.raises(RecordError, match="operator op-1: the key 'key' is null"):
        Driven(spec(), combine=combine).batch((None, 1, 1))
    driven = Driven(spec(null_keys="group"), combine=combine).batch((None, 1, 1))
    driven.take()
    assert driven.batch((None, 2, 4), ("a", 1, 1)).take() == [
        ("update_before", None, 1, 1, 2),
        ("update_after", None, 2, 4, 2),
        ("insert", "a", 1, 1, 1),
    ]


def test_types_of_results() -> None:
    schema = spec().output_type([RECORDS]).schema
    assert isinstance(schema, Schema)
    assert dict(schema) == {
        "change": schema["change"],
        "key": pl.String(),
        "n": pl.Int64(),
        "top": pl.Int64(),
    }
    with pytest.raises(JobDefinitionError, match="'change'"):
        spec(aggregates=(("change", sf.count()),)).output_type([RECORDS])
    with pytest.raises(JobDefinitionError, match="no column 'valeu'"):
        spec(aggregates=(("n", sf.sum("valeu")),)).output_type([RECORDS])
