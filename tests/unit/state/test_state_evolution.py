"""Changes that are allowed between the program that wrote state and the one that reads it, and changes that are
refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict
from uuid import UUID

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow.core.schema import OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, StateError
from streamflow.operators.process.process import KeyedProcess, ProcessSpec
from streamflow.state.keyed.evolution import state_differences
from streamflow.state.keyed.value_types import value_type


@dataclass
class Point:
    x: int
    label: str | None = None


class Pair(NamedTuple):
    left: int
    right: float = 0.5


class Options(TypedDict):
    name: str
    size: NotRequired[int]


@dataclass(frozen=True)
class Nested:
    points: list[Point]
    by_name: dict[str, Pair]
    spans: tuple[Point, ...] = ()
    kind: Literal["a", "b"] = "a"
    extra: dict[str, Any] = field(default_factory=dict)


VALUES: list[tuple[Any, Any]] = [
    (str, "é"),
    (int, -(2**70)),
    (float, float("-inf")),
    (bool, True),
    (bytes, b"\x00\xff"),
    (datetime, datetime(2013, 1, 1, 5, 17, tzinfo=UTC)),
    (datetime, datetime(2013, 1, 1, 5, 17)),  # noqa: DTZ001 — naive on purpose
    (date, date(2013, 1, 1)),
    (time, time(5, 17, 0, 1)),
    (timedelta, timedelta(days=-1, microseconds=1)),
    (Decimal, Decimal("1.50")),
    (UUID, UUID(int=7)),
    (int | None, 3),
    (int | str, "x"),
    (list[Point], [Point(1), Point(2, "b")]),
    (dict[int, list[Pair]], {1: [Pair(1)], 2: []}),
    (tuple[int, str], (1, "a")),
    (tuple[Pair, ...], (Pair(1), Pair(2, 3.0))),
    (Point | None, Point(5)),
    (Options, {"name": "n"}),
    (Options, {"name": "n", "size": 1}),
    (Nested, Nested([Point(1)], {"p": Pair(1, 2.0)}, (Point(3),), "b", {"any": [1, (2, None)]})),
    (Any, {"k": [1, (2.5, None)], b"b": date(2013, 1, 1)}),
]


@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=[str(annotation) for annotation, _ in VALUES])
def test_values_come_back_as_they_were(annotation: Any, value: Any) -> None:
    type_ = value_type(annotation)
    assert type_.checked(value, "it") == value
    back = type_.decoder()(type_.encoder()(value))
    assert (back, type(back)) == (value, type(value))


@given(st.floats(allow_nan=False) | st.integers() | st.text() | st.binary() | st.booleans())
def test_any_scalar_comes_back(value: Any) -> None:
    type_ = value_type(type(value))
    back = type_.decoder()(type_.encoder()(value))
    assert (back, type(back)) == (value, type(value))


# The first format. These bytes are in checkpoints: what they read as must never change.
GOLDEN: list[tuple[Any, str, Any]] = [
    (float, "cb3ff8000000000000", 1.5),
    (int, "cd03e8", 1000),
    (str, "a34a464b", "JFK"),
    (Point, "82a17801a56c6162656ca161", Point(1, "a")),
    (Pair, "82a46c65667401a57269676874cb4000000000000000", Pair(1, 2.0)),
    (list[Pair], "9182a46c65667401a57269676874cb4000000000000000", [Pair(1, 2.0)]),
    (tuple[int, str], "d6079201a161", (1, "a")),
    (datetime, "d6ff50e27154", datetime(2013, 1, 1, 5, 17, 8, tzinfo=UTC)),
]


@pytest.mark.parametrize(("annotation", "data", "value"), GOLDEN, ids=[str(each) for each, _, _ in GOLDEN])
def test_the_first_format_is_read_and_written(annotation: Any, data: str, value: Any) -> None:
    assert value_type(annotation).encoder()(value).hex() == data
    assert value_type(annotation).decoder()(bytes.fromhex(data)) == value


def test_old_bytes_without_a_field_give_its_default() -> None:
    assert value_type(Point).decoder()(bytes.fromhex("81a17801")) == Point(1, None)
    assert value_type(Pair).decoder()(bytes.fromhex("81a46c65667401")) == Pair(1, 0.5)
    with pytest.raises(StateError, match=r"a stored value is not a record of x, label: .*required"):
        value_type(Point).decoder()(bytes.fromhex("81a56c6162656ca161"))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xa5abc", b"\x93\x01", b"\xd4\x63\x00"])
@pytest.mark.parametrize("annotation", [float, Point, list[int], Any])
def test_damaged_bytes_are_a_state_error(annotation: Any, data: bytes) -> None:
    with pytest.raises(StateError):
        value_type(annotation).decoder()(data)


@dataclass
class Loop:
    next: Loop | None = None


@pytest.mark.parametrize("annotation", [set[int], object(), complex, int | Point, Loop])
def test_types_that_state_cannot_hold_are_refused(annotation: Any) -> None:
    with pytest.raises(JobDefinitionError, match="state cannot hold"):
        value_type(annotation)


# Declarations over versions.


@dataclass
class Old:
    count: int
    last: str


@dataclass
class WithDefault:
    count: int
    last: str
    mean: float = 0.0


@dataclass
class WithoutDefault:
    count: int
    last: str
    mean: float


@dataclass
class Fewer:
    count: int


@dataclass
class Changed:
    count: float
    last: str


@dataclass
class Swapped:
    last: str
    count: int


@dataclass
class Outer:
    inner: list[Old]


@dataclass
class OuterChanged:
    inner: list[Changed]


MATRIX: list[tuple[Any, Any, list[str]]] = [
    (Old, Old, []),
    (Old, WithDefault, []),
    (Old, Swapped, []),
    (list[Old], list[WithDefault], []),
    (dict[str, Old] | None, dict[str, WithDefault] | None, []),
    (Old, WithoutDefault, ["state 'total': its type: field 'mean' is new and has no default"]),
    (Old, Fewer, ["state 'total': its type: field 'last' is gone"]),
    (Old, Changed, ["state 'total': its type: field 'count' was int and is float"]),
    (Outer, OuterChanged, ["state 'total': its type: field 'inner': field 'count' was int and is float"]),
    (int, str, ["state 'total': its type was int and is str"]),
    (list[int], list[str], ["state 'total': its type was int and is str"]),
    (int, int | None, ["state 'total': its type was int and is int | None"]),
]


@pytest.mark.parametrize(("before", "now", "problems"), MATRIX)
def test_a_field_with_a_default_may_be_added_and_nothing_else(
    before: Any, now: Any, problems: list[str]
) -> None:
    saved, mine = ({"total": sf.ValueState(each).signature()} for each in (before, now))
    assert state_differences(json.loads(json.dumps(saved)), mine) == problems


def process_of(**states: Any) -> ProcessSpec:
    return ProcessSpec(("k",), type("P", (KeyedProcess,), states)(), ("k",), OBJECTS)


def problems_of(
    before: ProcessSpec, now: ProcessSpec, types: tuple[Any, Any] = (pl.String, pl.String)
) -> list[str]:
    was, is_ = ([StreamType(Schema({"k": type_, "j": type_}), timed=True)] for type_ in types)
    return now.check_state(json.loads(json.dumps(before.state_signature(was))), is_)


BASE = process_of(total=sf.ValueState(int))


@pytest.mark.parametrize(
    ("now", "problem"),
    [
        (process_of(total=sf.ValueState(int), more=sf.ListState(str)), None),
        (process_of(total=sf.ValueState(int, default=5)), None),
        (process_of(renamed=sf.ValueState(int, name="total")), None),
        (process_of(totals=sf.ValueState(int)), "state 'total' is no longer declared (declared are: totals; did"),
        (process_of(), "state 'total' is no longer declared (declared are: none)"),
        (process_of(total=sf.ListState(int)), "state 'total': its kind of state was 'value' and is 'list'"),
        (process_of(total=sf.ValueState(int, version=2)), "state 'total': its version was 1 and is 2"),
        (process_of(total=sf.ValueState(int, ttl="1d")), "state 'total': its TTL's clock was None and is 'event'"),
        (process_of(total=sf.BroadcastState(int, int)), "state 'total': its kind of state was 'value'"),
    ],
)  # fmt: skip
def test_changed_declarations(now: ProcessSpec, problem: str | None) -> None:
    problems = problems_of(BASE, now)
    assert problems == [] if problem is None else problems[0].startswith(problem)


def test_another_length_of_life_is_welcome() -> None:
    before, now = (process_of(total=sf.ValueState(int, ttl=ttl)) for ttl in ("1d", "2d"))
    assert problems_of(before, now) == []


def test_another_map_key_type_is_refused() -> None:
    before, now = (process_of(total=sf.MapState(key, int)) for key in (str, int))
    assert problems_of(before, now) == ["state 'total': its key type was str and is int"]


def test_another_aggregator_is_refused() -> None:
    def states(name: str) -> ProcessSpec:
        methods = {name: lambda *_: 0 for name in ("create", "add", "merge", "result")}
        return process_of(total=sf.AggregatingState(type(name, (sf.Aggregator,), methods)))

    assert problems_of(states("Mean"), states("Mean")) == []
    assert problems_of(states("Mean"), states("Range")) == [
        "state 'total': its aggregator was 'Mean' and is 'Range'"
    ]


def test_other_keys_are_refused() -> None:
    assert problems_of(BASE, BASE, (pl.Int32, pl.Float64)) == []
    assert problems_of(BASE, BASE, (pl.Int32, pl.String)) == ["key 'k' was number and is text"]
    assert problems_of(BASE, BASE, (pl.Unknown, pl.String)) == []
    twice = ProcessSpec(("k", "j"), BASE.process, ("k",), OBJECTS)
    assert problems_of(BASE, twice) == ["it was keyed by k and is keyed by k, j"]
