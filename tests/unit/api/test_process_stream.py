"""`KeyedStream.process`: what a job says and what it plans; streams of columns and of objects, at any parallelism."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.api.physical import physical_plan
from streamflow.config import Settings
from streamflow.core.schema import OBJECTS, Schema
from streamflow.errors import JobDefinitionError
from streamflow.graph.physical import ExchangeKind

ROWS: list[dict[str, Any]] = [
    {"k": key, "j": number % 2, "v": number} for number, key in enumerate("abacabadabacaba")
]


class Sums(sf.KeyedProcess):
    total = sf.ValueState(int, default=0)
    outputs: ClassVar[Mapping[str, object]] = {"even": {"v": sf.Int64}, "any": None}

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        value: Any = event["v"] if isinstance(event, dict) else event
        self.total.update(self.total.value() + value)
        ctx.emit({"key": ctx.key, "total": self.total.value()})
        if value % 2 == 0:
            ctx.emit_to("even", {"v": value})
        ctx.emit_to("any", event)


def expected(key: Any) -> dict[Any, int]:
    totals: dict[Any, int] = {}
    for row in ROWS:
        totals[key(row)] = totals.get(key(row), 0) + row["v"]
    return totals


def final(rows: list[Any]) -> dict[Any, int]:
    totals: dict[Any, int] = {}
    for row in rows:
        totals[row["key"]] = max(row["total"], totals.get(row["key"], 0))
    return totals


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize(
    ("keys", "key"),
    [
        (["k"], lambda row: row["k"]),
        (["k", "j"], lambda row: (row["k"], row["j"])),
        ([lambda row: row["k"] + "!"], lambda row: row["k"] + "!"),
        (["j", lambda row: row["v"] % 3], lambda row: (row["j"], row["v"] % 3)),
    ],
)
def test_events_are_whole_records_whatever_they_are_keyed_by(
    objects: bool, parallelism: int, keys: list[Any], key: Any
) -> None:
    job = sf.Job("sums")
    stream = job.read(sf.MemorySource(ROWS, schema=sf.OBJECTS) if objects else sf.MemorySource(ROWS))
    sums = stream.key_by(*keys).process(Sums)
    out, events = sums.collect(), sums.output("any").collect()
    even = sums.output("even").collect()
    job.run(parallelism=parallelism)
    assert final(out.rows()) == expected(key)
    assert sorted(events.rows(), key=lambda row: row["v"]) == ROWS
    assert sorted(even.frame()["v"].to_list()) == list(range(0, 15, 2))


def test_a_function_may_give_lists_and_numbers_of_two_types_as_keys() -> None:
    for key in (lambda row: [row["v"] % 2, 1], lambda row: 1 if row["v"] % 2 else 1.0):
        job = sf.Job("sums")
        out = job.read(sf.MemorySource(ROWS, schema=sf.OBJECTS)).key_by(key).process(Sums).collect()
        job.run()
        assert max(row["total"] for row in out.rows()) == (56 if isinstance(key(ROWS[0]), list) else 105)


def test_a_key_that_is_an_expression_is_no_part_of_the_event() -> None:
    job = sf.Job("sums")
    sums = job.read(sf.MemorySource(ROWS)).key_by((col("v") % 3).alias("third")).process(Sums)
    out, events = sums.collect(), sums.output("any").collect()
    job.run()
    assert final(out.rows()) == expected(lambda row: row["v"] % 3)
    assert sorted(events.rows(), key=lambda row: row["v"]) == ROWS


def test_a_stream_of_one_column_gives_bare_values() -> None:
    job = sf.Job("sums")
    out = job.read(sf.MemorySource([{"v": 1}, {"v": 2}, {"v": 1}])).key_by("v").process(Sums()).collect()
    job.run()
    assert final(out.rows()) == {1: 2, 2: 2}


@dataclass
class Total:
    key: str
    total: int


class Typed(Sums):
    output = Total


def test_what_it_emits_has_columns_where_they_are_declared() -> None:
    keyed = sf.Job("sums").read(sf.MemorySource(ROWS)).key_by("k")
    columns = Schema({"key": sf.String, "total": sf.Int64})
    assert keyed.process(Sums).schema is OBJECTS
    assert keyed.process(Typed).schema == columns
    assert keyed.process(Sums, schema={"key": sf.String, "total": sf.Int64}).schema == columns
    assert keyed.process(Typed, schema=sf.OBJECTS).schema is OBJECTS
    assert keyed.process(Sums).output("even").schema == Schema({"v": sf.Int64})


def test_results_are_exchanged_anew_since_a_process_may_emit_any_key() -> None:
    job = sf.Job("sums")
    keyed = job.read(sf.MemorySource(ROWS)).key_by("k")
    sums = keyed.process(Sums, schema={"k": sf.String, "total": sf.Int64})
    sums.key_by("k").aggregate(n=sf.count()).collect()
    plan = physical_plan(job.graph, Settings.resolve({"parallelism": 2}, environ={}))
    assert [edge.exchange for edge in plan.edges].count(ExchangeKind.HASH) == 2


class Rules(sf.KeyedProcess):
    factor = sf.BroadcastState(str, int)
    seen = sf.ValueState(int, default=0)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.emit((ctx.key, event["v"], self.factor.get("all", 0)))

    def on_broadcast(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.factor.put(event["name"], event["value"])
        ctx.emit(("rule", event["name"]))


@pytest.mark.parametrize("objects", [False, True])
def test_a_broadcast_input_goes_to_every_subtask(objects: bool) -> None:
    job = sf.Job("rules")
    rules = [{"name": "all", "value": 3}]
    read = job.read(sf.MemorySource(rules, schema=sf.OBJECTS) if objects else sf.MemorySource(rules))
    out = job.read(sf.MemorySource(ROWS)).key_by("k").process(Rules, broadcast=read).collect()
    plan = physical_plan(job.graph, Settings.resolve({"parallelism": 3}, environ={}))
    assert [edge.exchange for edge in plan.edges if edge.port == 1] == [ExchangeKind.BROADCAST]
    job.run(parallelism=3)
    assert out.rows().count(("rule", "all")) == 3
    assert len(out.rows()) == 3 + len(ROWS)


def test_mistakes_are_told_when_the_job_is_built() -> None:
    job = sf.Job("sums")
    keyed = job.read(sf.MemorySource(ROWS)).key_by("k")
    with pytest.raises(JobDefinitionError, match="is no process; derive a class"):
        keyed.process(print)  # type: ignore[arg-type]
    with pytest.raises(JobDefinitionError, match=r"no output 'odd'; there are: any, even"):
        keyed.process(Sums).output("odd")
    with pytest.raises(JobDefinitionError, match="streams of two jobs"):
        keyed.process(Rules, broadcast=sf.Job("other").read(sf.MemorySource(ROWS)))
    with pytest.raises(JobDefinitionError, match="Rules has on_broadcast, and no stream is broadcast to it"):
        keyed.process(Rules)
    with pytest.raises(JobDefinitionError, match="Sums has no on_broadcast, and a stream"):
        keyed.process(Sums, broadcast=job.read(sf.MemorySource(ROWS)))
    with pytest.raises(JobDefinitionError, match="broadcast is 5, and no stream"):
        keyed.process(Rules, broadcast=5)  # type: ignore[arg-type]
    with pytest.raises(JobDefinitionError, match="cannot be made without arguments"):
        keyed.process(type("Needs", (Sums,), {"__init__": lambda self, x: None}))


def no_result(total: int, value: int) -> Any:
    _ = total + value


async def later(total: int, value: int) -> int:
    return total + value


class NoResult(sf.Aggregator):
    def create(self) -> int:
        return 0

    def add(self, accumulator: int, value: int) -> Any:
        _ = accumulator + value

    def merge(self, left: int, right: int) -> int:
        return left + right

    def result(self, accumulator: int) -> int:
        return accumulator


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda: sf.ReducingState(int, no_result), r"Sums.own got no_result, which returns nothing"),
        (lambda: sf.ReducingState(int, later), r"Sums.own got later, a coroutine function"),
        (lambda: sf.ReducingState(int, cast("Any", None)), r"Sums.own got None, which is no function"),
        (lambda: sf.ReducingState(int, cast("Any", lambda one: one)), r"cannot be called with"),
        (lambda: sf.AggregatingState(NoResult), r"add, which returns nothing"),
    ],
)
def test_functions_of_states_are_looked_at_when_the_job_is_built(state: Any, message: str) -> None:
    keyed = sf.Job("sums").read(sf.MemorySource(ROWS)).key_by("k")
    with pytest.raises(JobDefinitionError, match=message):
        keyed.process(type("Sums", (Sums,), {"own": state()}))
    keyed.process(type("Sums", (Sums,), {"own": sf.ReducingState(int, max)}))


def test_errors_go_where_on_error_says() -> None:
    class Fails(Sums):
        def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
            ctx.emit(100 // event["v"])

    job = sf.Job("fails")
    out = job.read(sf.MemorySource(ROWS[:3])).key_by("k").process(Fails).on_error("skip").collect()
    job.run()
    assert sorted(out.rows()) == [50, 100]


@pytest.mark.parametrize("method", ["on_event", "on_timer", "on_broadcast"])
def test_a_row_that_does_not_fit_is_charged_to_the_method_that_emitted_it(method: str) -> None:
    class Emits(sf.KeyedProcess):
        def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
            ctx.set_timer(ctx.timestamp or 0)
            ctx.emit({"n": "text" if method == "on_event" else 1})

        def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
            ctx.emit({"n": "text" if method == "on_timer" else 1})

        def on_broadcast(self, event: Any, ctx: sf.ProcessContext) -> None:
            ctx.emit({"n": "text" if method == "on_broadcast" else 1})

    job = sf.Job("lines")
    rules = job.read(sf.MemorySource([{"rule": "all"}]))
    stream = job.read(
        sf.MemorySource([{"k": "a", "t": t} for t in range(3)]), event_time=sf.epoch("t", unit="s")
    )
    stream.key_by("k").process(Emits, broadcast=rules, schema={"n": sf.Int64}).collect()
    with pytest.raises(sf.RecordError, match=rf"in {method}: 'n' is 'text'"):
        job.run()


FAR = 400_000_000_000_000_000
"""Microseconds from 1970 to the year 14645."""


@pytest.mark.parametrize("mode", ["streaming", "batch"])
@pytest.mark.parametrize("key", ["k", "at"])
def test_a_record_with_a_time_that_python_cannot_hold_is_a_bad_one(key: str, mode: Any) -> None:
    class Passes(sf.KeyedProcess):
        output: ClassVar[object] = {"at": sf.Datetime}

        def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
            ctx.emit({"at": event["at"]})

        def on_broadcast(self, event: Any, ctx: sf.ProcessContext) -> None:
            assert event["at"].year == 1970

    job = sf.Job("far")
    rows = job.read(sf.MemorySource([{"k": "a", "at": at} for at in (0, FAR, 1)]))
    timed = rows.with_columns(at=col("at").cast(pl.Datetime("us", "UTC")))
    out = timed.key_by(key).process(Passes, broadcast=timed).on_error("skip").collect()
    result = job.run(mode=mode)
    assert (len(out.rows()), result.errors) == (2, 2)


@pytest.mark.parametrize(
    "method", ["set_timer", "delete_timer", "set_processing_timer", "delete_processing_timer"]
)
def test_a_timer_for_what_is_no_time_is_its_records_error(method: str) -> None:
    class Due(sf.KeyedProcess):
        output: ClassVar[object] = {"due": sf.String}

        def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
            getattr(ctx, method)(event["due"] if method != "set_processing_timer" else event["after"])
            ctx.emit({"due": event["due"]})

        def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
            pass

    rows = [
        {"k": "a", "t": 1, "due": "2024-01-01", "after": "1h"},
        {"k": "a", "t": 2, "due": "soon", "after": "soon"},
    ]
    job = sf.Job("due")
    read = job.read(sf.MemorySource(rows), event_time=sf.epoch("t", unit="s"))
    out = read.key_by("k").process(Due).on_error("skip").collect()
    result = job.run(mode="streaming")
    assert (out.rows(), result.errors) == ([{"due": "2024-01-01"}], 1)
    job = sf.Job("due")
    job.read(sf.MemorySource(rows), event_time=sf.epoch("t", unit="s")).key_by("k").process(Due).collect()
    with pytest.raises(sf.RecordError, match=r"process-1, .*test_process_stream.py(.|\n)*soon"):
        job.run(mode="streaming")


def test_outputs_may_be_called_like_an_operators_own() -> None:
    class Named(sf.KeyedProcess):
        output: ClassVar[object] = {"v": sf.Int64}
        outputs: ClassVar[Mapping[str, object]] = {
            name: {"v": sf.Int64} for name in ("late", "errors", "main")
        }

        def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
            if event["v"] < 3:
                ctx.emit_to(("late", "errors", "main")[event["v"]], {"v": event["v"]})
            else:
                ctx.emit({"v": event["v"] // (event["v"] - 4)})

    job = sf.Job("named")
    made = job.read(sf.MemorySource([{"v": v} for v in range(6)])).key_by("v").process(Named)
    made.on_error("skip")
    outs = [made.collect(), *(made.output(name).collect() for name in ("late", "errors", "main"))]
    result = job.run(mode="streaming")
    assert [sorted(row["v"] for row in out.rows()) for out in outs] == [[-3, 5], [0], [1], [2]]
    assert (result.late, result.errors) == (0, 1)
