"""A process's events: keys of every kind, rows out, side outputs, errors, broadcast, copies per subtask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, cast

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.schema import OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, RecordError, StateError
from streamflow.operators.process.process import KeyedProcess, ProcessSpec
from streamflow.testing.harness import OperatorHarness, check_batchings

UNTIMED = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=False)
TIMED = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)


def spec(process: KeyedProcess, keys: tuple[str, ...] = ("k",), **changes: Any) -> ProcessSpec:
    columns = changes.pop("columns", ("k", "v"))
    return ProcessSpec(keys, process, columns, changes.pop("schema", OBJECTS), **changes)


class Sum(KeyedProcess):
    total = sf.ValueState(int, default=0)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.total.update(self.total.value() + event["v"])
        ctx.emit((ctx.key, self.total.value()))


def rows(*pairs: tuple[Any, int]) -> list[dict[str, Any]]:
    return [{"k": key, "v": value} for key, value in pairs]


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("parallelism", [1, 3])
def test_state_is_by_key(backend: Any, parallelism: int) -> None:
    harness = OperatorHarness(spec(Sum()), UNTIMED, backend=backend, parallelism=parallelism)
    harness.push(rows(("a", 1), ("b", 10), ("a", 2))).push(rows(("b", 20), ("a", 3)))
    assert sorted(harness.output()) == [("a", 1), ("a", 3), ("a", 6), ("b", 10), ("b", 30)]


def test_batches_do_not_matter() -> None:
    pushed = rows(*[(f"k{i % 7}", i) for i in range(50)])
    check_batchings(spec(Sum()), UNTIMED, script=lambda harness: harness.push(pushed))


NAN = float("nan")
NEW_YEAR = datetime(2013, 1, 1, tzinfo=UTC)
SHOWN_TWICE = [datetime(2024, 10, 27, hour, 30, tzinfo=UTC) for hour in (0, 1)]
"""Half past two in Berlin, when the clock is put back from three."""
KEYS: list[tuple[pl.DataType, list[Any]]] = [
    (pl.Int32(), [1, 2, 1, None]),
    (pl.Float64(), [1.5, NAN, NAN, -0.0]),
    (pl.Boolean(), [True, False, True, True]),
    (pl.Decimal(10, 2), [Decimal("1.50"), Decimal(2), Decimal("1.5"), None]),
    (pl.Datetime("us", "Europe/Berlin"), [NEW_YEAR] * 4),
    (pl.Datetime("us"), [NEW_YEAR.replace(tzinfo=None)] * 4),
    (pl.Date(), [NEW_YEAR.date()] * 4),
    (pl.List(pl.Int64()), [[1, 2], [3], [1, 2], []]),
    (pl.Struct({"a": pl.Int64(), "b": pl.String()}), [{"a": 1, "b": "x"}] * 3 + [{"a": 2, "b": "x"}]),
    (pl.List(pl.String()), [None, ["a"], None, ["a", None]]),
    (pl.Binary(), [b"a", b"", b"a", b"\xff"]),
    (pl.Datetime("us", "Europe/Berlin"), [*SHOWN_TWICE, *SHOWN_TWICE]),
    (pl.List(pl.Float64), [[0.0, NAN], [-0.0, -NAN], [1.0], [None]]),
    (pl.Struct({"a": pl.Float64()}), [{"a": -0.0}, {"a": 0.0}, {"a": NAN}, {"a": -NAN}]),
]


def told(key: Any) -> Any:
    """A key as something that dictionaries find."""
    if isinstance(key, datetime) and key.tzinfo is not None:
        return key.astimezone(UTC), str(key.tzinfo)
    return "NaN" if key != key else repr(key).replace("-0.0", "0.0") if isinstance(key, (list, dict)) else key


class Remember(KeyedProcess):
    """Emits how often the key has been seen and, by a timer, what the key is."""

    seen = sf.ValueState(int, default=0)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.seen.update(self.seen.value() + 1)
        ctx.emit(("event", ctx.key, self.seen.value()))
        ctx.set_timer(100)

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        ctx.emit(("timer", ctx.key, self.seen.value()))


@pytest.mark.parametrize(("dtype", "keys"), KEYS, ids=[str(dtype) for dtype, _ in KEYS])
def test_keys_of_every_type_are_told_apart_and_come_back(dtype: pl.DataType, keys: list[Any]) -> None:
    frame = pl.DataFrame({"k": pl.Series(keys, dtype=dtype), "v": [0] * 4})
    type_ = StreamType(Schema({"k": dtype, "v": pl.Int64}), timed=True)
    harness = OperatorHarness(spec(Remember(), null_keys="group"), type_)
    seen: dict[Any, int] = {}
    expected = []
    for key in frame["k"].to_list():
        seen[told(key)] = seen.get(told(key), 0) + 1
        expected.append(("event", told(key), seen[told(key)]))
    harness.push(frame, times=[1, 2, 3, 4])
    harness.restore(harness.snapshot()).watermark(100)
    found = [(kind, told(key), count) for kind, key, count in harness.output()]
    assert found[:4] == expected
    assert {key: count for _, key, count in found[4:]} == seen
    assert len(found) == 4 + len(seen)
    assert {type(key) for _, key, _ in harness.output()[4:]} == {type(key) for key in frame["k"].to_list()}


def test_several_key_columns_are_a_tuple() -> None:
    harness = OperatorHarness(spec(Sum(), ("k", "v")), UNTIMED)
    harness.push(rows(("a", 1), ("a", 2), ("a", 1)))
    assert harness.output() == [(("a", 1), 1), (("a", 2), 2), (("a", 1), 2)]


def test_nan_in_one_of_several_keys_is_found_again() -> None:
    type_ = StreamType(Schema({"k": pl.Float64, "j": pl.Float64, "v": pl.Int64}), timed=False)
    harness = OperatorHarness(spec(Sum(), ("k", "j"), columns=("k", "v")), type_)
    for _ in range(2):
        harness.push([{"k": math.nan, "j": 1.0, "v": 1}])
    harness.restore(harness.snapshot()).push([{"k": math.nan, "j": 1.0, "v": 1}])
    assert [total for _, total in harness.output()] == [1, 2, 3]


def test_null_keys_are_refused_unless_they_are_a_group() -> None:
    with pytest.raises(RecordError, match="the key 'k' is null"):
        OperatorHarness(spec(Sum()), UNTIMED).push(rows((None, 1)))
    harness = OperatorHarness(spec(Sum(), null_keys="group"), UNTIMED).push(rows((None, 1), (None, 2)))
    assert harness.output() == [(None, 1), (None, 3)]


class Routes(KeyedProcess):
    outputs: ClassVar[Mapping[str, object]] = {"large": {"k": sf.String, "v": sf.Int64}, "odd": None}

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        if event["v"] > 10:
            ctx.emit_to("large", event)
        if event["v"] % 2:
            ctx.emit_to("odd", (event["v"], ctx.timestamp))
        if event["v"] == 99:
            ctx.emit_to("lage", event)


def test_side_outputs_have_their_types_and_times() -> None:
    side = (("large", Schema({"k": pl.String, "v": pl.Int64})), ("odd", OBJECTS))
    harness = OperatorHarness(spec(Routes(), side=side), TIMED, reads=("large", "odd"))
    harness.push(rows(("a", 1), ("a", 12), ("a", 13)), times=[5, 6, 7])
    assert harness.output() == []
    assert harness.output("large") == rows(("a", 12), ("a", 13))
    assert harness.event_times("large") == [6, 7]
    second = datetime(1970, 1, 1, 0, 0, 0, 5, tzinfo=UTC)
    assert harness.output("odd")[0] == (1, second)
    with pytest.raises(JobDefinitionError, match=r"no output 'lage'.*large.*mean 'large'"):
        harness.push(rows(("a", 99)), times=[8])


class Fails(KeyedProcess):
    total = sf.ValueState(int, default=0)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.emit(event["v"])
        self.total.update(self.total.value() + 1)
        ctx.emit(100 // event["v"])
        ctx.set_timer(10)

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        ctx.emit("never seen")
        raise ValueError(f"after {self.total.value()}")


def test_a_record_that_fails_stops_the_job_and_is_shown() -> None:
    with pytest.raises(
        RecordError, match=r"operator operator, \S+ in on_event: ZeroDivisionError.*\n.*'v': 0"
    ):
        OperatorHarness(spec(Fails()), TIMED).push(rows(("a", 1), ("a", 0)), times=[1, 2])


def test_a_record_that_fails_is_skipped_with_what_it_put_out() -> None:
    harness = OperatorHarness(spec(Fails(), on_error="skip"), TIMED)
    harness.push(rows(("a", 1), ("a", 0), ("b", 0), ("a", 5)), times=[1, 2, 3, 4])
    assert harness.output() == [1, 100, 5, 20]
    assert harness.event_times() == [1, 1, 4, 4]
    assert harness.metrics.errors.value == 2


def test_failures_go_to_dead_letters_also_those_of_timers() -> None:
    harness = OperatorHarness(spec(Fails(), on_error="dead_letter"), TIMED)
    harness.push(rows(("a", 1), ("a", 0)), times=[1, 2]).watermark(10)
    letters = harness.output("errors")
    assert ["ZeroDivisionError" in letters[0]["reason"], letters[1]["reason"]] == [
        True,
        "ValueError: after 2",
    ]
    assert harness.output() == [1, 100]


class Typed(KeyedProcess):
    total = sf.ValueState(int, default=0)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.total.update(event["k"])


def test_a_value_of_another_type_is_the_records_error() -> None:
    with pytest.raises(RecordError, match="state 'total' holds int, not str: 'a'"):
        OperatorHarness(spec(Typed()), UNTIMED).push(rows(("a", 1)))


class Broken(KeyedProcess):
    total = sf.ValueState(int)
    items = sf.ListState(int)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        match event["v"]:
            case 1:
                self.total.update(event["k"])
            case 2:
                self.items.add(event["k"])
            case 3:
                ctx.set_processing_timer("soon")
            case 4:
                ctx.set_processing_timer(cast("Any", None))
            case _:
                raise RecordError("a bad one")


def test_dead_letters_hold_the_event_whatever_the_error_is() -> None:
    harness = OperatorHarness(spec(Broken(), on_error="dead_letter"), UNTIMED)
    events = [("a", at) for at in range(1, 6)]
    harness.push(rows(*events))
    letters = harness.output("errors")
    assert [letter["record"] for letter in letters] == [str({"k": key, "v": value}) for key, value in events]


class Scaled(KeyedProcess):
    total = sf.ValueState(int, default=0)
    factors = sf.BroadcastState(str, int)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        factor = self.factors.get(ctx.key, 1)
        self.total.update(self.total.value() + event["v"] * factor)
        ctx.emit((ctx.key, self.total.value()))
        if event["v"] < 0:
            self.factors.put("a", 0)

    def on_broadcast(self, event: Any, ctx: sf.ProcessContext) -> None:
        if event["v"] == 0:
            self.total.update(1)
        self.factors.put(event["k"], event["v"])


def broadcasting(**options: Any) -> OperatorHarness:
    return OperatorHarness(spec(Scaled(), broadcast_columns=("k", "v")), UNTIMED, UNTIMED, **options)


def test_a_broadcast_record_reaches_all_subtasks_and_outlives_them() -> None:
    harness = broadcasting(parallelism=3)
    harness.push(rows(("a", 2), ("b", 3), ("c", 5)), port=1)
    harness.push(rows(("a", 1), ("b", 1), ("c", 1), ("d", 1)))
    assert sorted(harness.output()) == [("a", 2), ("b", 3), ("c", 5), ("d", 1)]
    for parallelism in (2, 5):
        harness.restore(harness.snapshot(), parallelism=parallelism)
        harness.push(rows(("a", 1), ("b", 1), ("c", 1), ("d", 1)))
    assert [row for row in harness.output() if row[0] in "ad"] == [
        ("a", 2), ("d", 1), ("a", 4), ("d", 2), ("a", 6), ("d", 3)
    ]  # fmt: skip


@pytest.mark.parametrize("restored", [False, True])
def test_in_order_of_event_time_a_broadcast_record_comes_before_the_events_of_its_moment(
    restored: bool,
) -> None:
    def go_on(parallelism: int) -> None:
        if restored:
            harness.restore(harness.snapshot(), parallelism=parallelism)

    ordered = spec(Scaled(), broadcast_columns=("k", "v"), order="event_time")
    harness = OperatorHarness(ordered, TIMED, TIMED, parallelism=2)
    harness.push(rows(("a", 1), ("a", 1), ("b", 1), ("a", 1)), times=[20, 10, 4, 30])
    harness.push(rows(("a", 100), ("b", 7), ("a", 10)), times=[30, 5, 20], port=1)
    go_on(3)
    for watermark in (9, 25, 40):
        harness.watermark(watermark, port=0).watermark(watermark, port=1)
        go_on(1)
    assert sorted(harness.output()) == [("a", 1), ("a", 11), ("a", 111), ("b", 1)]
    harness.push(rows(("a", 1_000)), times=[40], port=1).push(
        rows(("a", 1), ("b", 1)), times=[50, 50]
    ).finish()
    assert sorted(harness.output())[3:] == [("a", 1_111), ("b", 1), ("b", 8)]


def test_broadcast_state_can_be_changed_by_broadcast_records_only_and_keyed_state_not_by_them() -> None:
    with pytest.raises(StateError, match="'factors' was changed outside of on_broadcast"):
        broadcasting().push(rows(("a", -1)))
    with pytest.raises(StateError, match="no current key"):
        broadcasting().push(rows(("a", 0)), port=1)


class Counting(KeyedProcess):
    def __init__(self) -> None:
        self.events: list[int] = []

    def open(self) -> None:
        self.opened = True

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        assert self.opened
        self.events.append(event["v"])
        ctx.emit(len(self.events))


def test_each_subtask_has_its_own_copy() -> None:
    process = Counting()
    harness = OperatorHarness(spec(process), UNTIMED, parallelism=2)
    harness.push(rows(("a", 1), ("b", 2), ("c", 3), ("d", 4)))
    assert process.events == []
    assert max(harness.output()) < 4


def test_state_cannot_be_assigned_or_used_outside() -> None:
    process = Sum()
    with pytest.raises(AttributeError, match=r"use self\.total\.update"):
        process.total = 5  # type: ignore[assignment]
    with pytest.raises(JobDefinitionError, match="used outside of a running job"):
        Sum().total.value()


def test_what_is_declared_wrongly_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(JobDefinitionError, match="cannot be named 'Total'"):
        type("Bad", (KeyedProcess,), {"Total": sf.ValueState(int)})
    with pytest.raises(JobDefinitionError, match="one name, 'n'"):
        type("Bad", (KeyedProcess,), {"n": sf.ValueState(int), "m": sf.ValueState(int, name="n")})
    with pytest.raises(JobDefinitionError, match="state cannot hold set"):
        sf.ValueState(set)
    expiring = spec(type("Ttl", (Sum,), {"total": sf.ValueState(int, default=0, ttl="1d")})())
    with pytest.raises(JobDefinitionError, match="expires by event time, and this stream has none"):
        expiring.output_type([UNTIMED])
