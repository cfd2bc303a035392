"""Arguments and results of functions: rows for any number of columns, classes that parameters are annotated with,
results checked against what was promised, functions refused that cannot work where they are put."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, make_dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple, TypedDict

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.api.stream import builder_of
from streamflow.operators.connectors.collect import Collected, CollectSink
from streamflow.operators.stateless.declared_schema import returned_schema

HERE = "test_rows.py:"
TWO = [{"k": "a", "v": 1}, {"k": "b", "v": 2}]


@dataclass
class Event:
    k: str
    v: int
    note: str = "none"


class Named(NamedTuple):
    k: str
    v: int


class Typed(TypedDict):
    k: str
    v: int


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Path:
    name: str
    points: list[Point]
    first: Point | None = None


def read(rows: list[Any], **more: Any) -> sf.Stream:
    return sf.Job("rows").read(sf.MemorySource(rows, **more))


def run(stream: sf.Stream, **settings: Any) -> list[Any]:
    out = stream.collect()
    sf.Job.run(_job(stream), **settings)
    return out.rows()


def _job(stream: sf.Stream) -> sf.Job:
    job = sf.Job("rows")
    job._builder = builder_of(stream)
    return job


def seen_by(place: Callable[[sf.Stream, Callable[..., Any]], sf.Stream], rows: list[Any]) -> list[Any]:
    """The argument that a function gets in a place."""
    seen: list[Any] = []

    def look(row: Any) -> Any:
        seen.append(row)
        return 1

    run(place(read(rows), look))
    return seen


class Looks(sf.KeyedProcess):
    def __init__(self, look: Callable[..., Any]) -> None:
        self._look = look

    def __deepcopy__(self, memo: Any) -> Looks:
        return Looks(self._look)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        self._look(event)


def asynchronous(look: Callable[..., Any]) -> Callable[..., Any]:
    async def call(row: Any) -> Any:
        return look(row)

    return call


PLACES: dict[str, Callable[[sf.Stream, Callable[..., Any]], sf.Stream]] = {
    "map": lambda s, f: s.map(f),
    "filter": lambda s, f: s.filter(f),
    "flat_map": lambda s, f: s.flat_map(lambda row: [f(row)]),
    "map_async": lambda s, f: s.map_async(asynchronous(f)),
    "key_by": lambda s, f: s.key_by(f).aggregate(n=sf.count()),
    "aggregate": lambda s, f: s.key_by("v").aggregate(n=sf.sum(f)),
    "process": lambda s, f: s.key_by("v").process(Looks(f)),
    "second function": lambda s, f: s.filter(lambda row: True).map(f),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_function_sees_a_row_however_many_columns_there_are(place: str) -> None:
    assert seen_by(PLACES[place], [{"v": 1}]) == [{"v": 1}]
    assert seen_by(PLACES[place], [{"v": 1, "w": 2}]) == [{"v": 1, "w": 2}]


@pytest.mark.parametrize("place", ["map", "filter", "flat_map", "map_async"])
def test_behind_a_scalar_a_function_sees_the_row_with_its_value(place: str) -> None:
    def double(row: Any) -> int:
        return row["v"] * 2

    seen = seen_by(lambda s, f: PLACES[place](s.map(double), f), [{"v": 1}])
    assert seen == [{"value": 2}]


def test_a_reduction_sees_rows_of_one_column_too() -> None:
    def later(left: Any, right: Any) -> Any:
        return {"v": max(left["v"], right["v"])}

    rows = run(read([{"v": 1}, {"v": 3}, {"v": 2}]).key_by(lambda row: "all").reduce(later), mode="batch")
    assert [row["value"] for row in rows] == [{"v": 3}]


def test_an_event_time_function_sees_a_row() -> None:
    job = sf.Job("rows")
    out = job.read(sf.MemorySource([{"t": "2020-01-01"}]), event_time=lambda row: row["t"]).collect()
    job.run()
    assert out.rows() == [{"t": "2020-01-01"}]


@pytest.mark.parametrize("place", ["map", "filter", "flat_map", "map_async"])
def test_on_a_stream_of_objects_it_is_the_object(place: str) -> None:
    seen: list[Any] = []

    def look(value: int) -> list[int]:
        seen.append(value)
        return [value]

    function = asynchronous(look) if place == "map_async" else look
    run(getattr(read([5], schema=sf.OBJECTS), place)(function))
    assert seen == [5]


def test_a_parameter_has_the_class_that_it_is_annotated_with() -> None:
    def on_class(event: Event) -> str:
        return f"{event.k}{event.v}{event.note}"

    def on_tuple(event: Named) -> str:
        return f"{event.k}{event.v}"

    def on_dict(event: Typed) -> str:
        return event["k"]

    def perhaps(event: Event | None) -> str:
        return event.k if event else ""

    wider = [{**row, "more": 0} for row in TWO]
    for rows in (TWO, wider):
        assert run(read(rows).map(on_class)) == [{"value": "a1none"}, {"value": "b2none"}]
        assert run(read(rows).map(on_tuple)) == [{"value": "a1"}, {"value": "b2"}]
        assert run(read(rows).map(on_dict)) == [{"value": "a"}, {"value": "b"}]
        assert run(read(rows).map(perhaps)) == [{"value": "a"}, {"value": "b"}]


def test_it_is_so_in_every_place() -> None:
    def is_late(event: Event) -> bool:
        return event.v > 1

    def twice(event: Event) -> list[Event]:
        return [event, event]

    async def ask(event: Event) -> int:
        return event.v

    def key(event: Event) -> str:
        return event.k

    def merged(left: Event, right: Event) -> Event:
        return Event(left.k, left.v + right.v, left.note)

    class Process(sf.KeyedProcess):
        def on_event(self, event: Event, ctx: sf.ProcessContext) -> None:
            ctx.emit(event.v)

    assert run(read(TWO).filter(is_late)) == [TWO[1]]
    assert run(read(TWO).flat_map(twice)) == [{**row, "note": "none"} for row in TWO for _ in range(2)]
    assert run(read(TWO).map_async(ask)) == [{"value": 1}, {"value": 2}]
    counts = run(read(TWO).key_by(key).aggregate(n=sf.sum(lambda row: row["v"])), mode="batch")
    assert {(row["key"], row["n"]) for row in counts} == {("a", 1), ("b", 2)}
    assert sorted(run(read(TWO).key_by("k").process(Process()))) == [1, 2]
    noted = [{**row, "note": "x"} for row in [*TWO, *TWO]]
    reduced = run(read(noted).key_by("k").reduce(merged), mode="batch")
    assert [row["value"]["v"] for row in sorted(reduced, key=lambda row: row["k"])] == [2, 4]


def test_classes_within_classes_are_made_too() -> None:
    rows = [{"name": "p", "points": [{"x": 1, "y": 2}, {"x": 3, "y": 4}], "first": {"x": 1, "y": 2}}]

    def longer(path: Path) -> Path:
        assert path.first == Point(1, 2)
        return Path(path.name, [*path.points, Point(5, 6)])

    assert run(read(rows).map(longer)) == [
        {"name": "p", "points": [*rows[0]["points"], {"x": 5, "y": 6}], "first": None}  # type: ignore[misc]
    ]


def test_a_row_of_which_no_instance_can_be_made_is_a_bad_record() -> None:
    @dataclass
    class Positive:
        v: int

        def __post_init__(self) -> None:
            if self.v < 2:
                raise ValueError(f"{self.v} is too small")

    def value(row: Positive) -> int:
        return row.v

    with pytest.raises(sf.RecordError, match=r"map-1, .*ValueError: 1 is too small"):
        run(read(TWO).map(value))
    assert run(read(TWO).map(value).on_error("skip")) == [{"value": 2}]


def test_a_class_that_the_columns_cannot_fill_is_refused() -> None:
    @dataclass
    class Wrong:
        k: str
        vv: int
        more: list[int] = field(default_factory=list)

    def function(row: Wrong) -> int:
        return row.vv

    with pytest.raises(sf.JobDefinitionError, match=r"Wrong: no column 'vv'.*did you mean 'v'"):
        read(TWO).map(function)


def test_a_scalar_annotation_is_refused() -> None:
    def length(line: str) -> int:
        return len(line)

    with pytest.raises(sf.JobDefinitionError, match=r"annotated as str.*row\['line'\]") as raised:
        read([{"line": "x"}]).map(length)
    assert HERE in str(raised.value)


@pytest.mark.parametrize(
    "annotation",
    [list, tuple, datetime, Decimal, Color, pl.DataFrame, list[Event], Event | Point, Event | int | None],
)
def test_an_annotation_that_is_no_row_is_refused(annotation: Any) -> None:
    def function(row: Any) -> int:
        return 1

    function.__annotations__["row"] = annotation
    for place in (read(TWO).map, read(TWO).filter, read(TWO).key_by):
        with pytest.raises(sf.JobDefinitionError, match=r"a function sees a row.*dataclass or NamedTuple"):
            place(function)


@pytest.mark.parametrize(
    "annotation", [dict, dict[str, Any], Mapping[str, Any], Any, object, Event | None, Event | dict[str, Any]]
)
def test_an_annotation_that_a_row_is_is_taken(annotation: Any) -> None:
    def function(row: Any) -> str:
        return str(row.k if isinstance(row, Event) else row["k"])

    function.__annotations__["row"] = annotation
    assert run(read(TWO).map(function)) == [{"value": "a"}, {"value": "b"}]


@dataclass
class Shape:
    corners: tuple[Point, ...]
    color: Color
    more: Iterable[Point | None] = ()


def test_tuples_of_classes_and_enums_are_made_too() -> None:
    corner = {"x": 1, "y": 2}
    rows = [
        {"corners": [corner], "color": "red", "more": [None, corner]},
        {"corners": [], "color": "green", "more": []},
        {"corners": [], "color": None, "more": None},
    ]
    shapes = read(rows).map(lambda_of(Shape), schema=sf.OBJECTS).on_error("skip")
    assert run(shapes) == [
        Shape((Point(1, 2),), Color.RED, [None, Point(1, 2)]),
        Shape((), None, None),  # type: ignore[arg-type]
    ]


def lambda_of(cls: Any) -> Callable[[Any], Any]:
    def same(row: Any) -> Any:
        return row

    same.__annotations__["row"] = cls
    return same


@pytest.mark.parametrize(
    ("name", "annotation", "wrong"),
    [
        ("point", Event, "column 'point' should become a Event: no field 'k'; there are: x, y"),
        ("points", list[Event], "the content of column 'points' should become a Event: no field 'k'"),
        ("points", tuple[Typed, ...], "the content of column 'points' should become a Typed: no field 'k'"),
        ("name", int, "takes int, and column 'name' is String; annotate the field"),
        ("name", Decimal | None, "takes Decimal, and column 'name' is String"),
        ("size", int, "takes int, and column 'size' is Float64"),
        ("size", str, "takes str, and column 'size' is Float64"),
        ("points", list[str], "takes str, and the content of column 'points' is Struct"),
        ("size", float, None),
        ("name", Any, None),
    ],
)
def test_a_class_that_the_columns_hold_other_values_for_is_refused(
    name: str, annotation: Any, wrong: str | None
) -> None:
    cls = make_dataclass("Row", [(name, annotation)])
    point = {"x": 1, "y": 2}
    stream = read([{"point": point, "points": [point], "name": "n", "size": 1.5}])
    if wrong is None:
        assert len(run(stream.map(lambda_of(cls), schema=sf.OBJECTS))) == 1
        return
    with pytest.raises(sf.JobDefinitionError, match=wrong) as raised:
        stream.map(lambda_of(cls))
    assert HERE in str(raised.value)


def test_a_row_that_may_be_none_has_the_columns_of_the_row() -> None:
    def found(row: Event) -> Event | None:
        return row if row.v == 1 else None

    events = read(TWO).map(found)
    assert list(events.schema) == ["k", "v", "note"]  # type: ignore[call-overload]
    assert run(events.on_error("skip")) == [{"k": "a", "v": 1, "note": "none"}]


# What functions give.


def misspelt(row: Any) -> Typed:
    return {"k": row["k"], "vv": 1}  # type: ignore[typeddict-item]


def incomplete(row: Any) -> Typed:
    return {"k": row["k"]}  # type: ignore[typeddict-item]


def wrong_type(row: Any) -> Typed:
    return {"k": row["k"], "v": "one"}  # type: ignore[typeddict-item]


def fraction(row: Any) -> Typed:
    return {"k": row["k"], "v": 1.5}  # type: ignore[typeddict-item]


def truth(row: Any) -> Typed:
    return {"k": row["k"], "v": True}


def nothing(row: Any) -> Typed:
    return None if row["v"] else {"k": "", "v": 0}  # type: ignore[return-value]


def other_class(row: Any) -> Event:
    return Point(1, 2)  # type: ignore[return-value]


def text(row: Any) -> int:
    return row["k"]  # type: ignore[no-any-return]


def no_number(row: Any) -> int:
    return None if row["v"] else 0  # type: ignore[return-value]


WRONG: dict[Callable[[Any], Any], str] = {
    misspelt: r"no field 'vv'; there are: k, v; did you mean 'v'\?",
    incomplete: "no field 'v'",
    wrong_type: r"'v' is 'one' \(str\), not Int64",
    fraction: r"'v' is 1.5 \(float\), not Int64",
    truth: r"'v' is True \(bool\), not Int64",
    nothing: "None, where a record",
    other_class: "no field 'x'",
    text: r"'value' is 'a' \(str\), not Int64",
    no_number: "None, where a record",
}


@pytest.mark.parametrize("mode", ["streaming", "batch"])
@pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)
@pytest.mark.parametrize("place", ["map", "flat_map", "map_async"])
def test_a_result_that_is_not_what_was_promised(
    place: str, function: Callable[[Any], Any], mode: str
) -> None:
    def build(stream: sf.Stream) -> sf.Stream:
        promised = returned_schema(function)
        match place:
            case "map":
                return stream.map(function)
            case "flat_map":
                return stream.flat_map(lambda row: [function(row)], schema=promised)
            case _:
                return stream.map_async(asynchronous(function), schema=promised)

    with pytest.raises(sf.RecordError, match=WRONG[function]) as raised:
        run(build(read(TWO)).named("mine"), mode=mode)
    assert raised.value.where.operator == "mine"
    assert HERE in (raised.value.where.code or "")
    assert "'k': 'a'" in raised.value.record

    assert run(build(read(TWO)).on_error("skip"), mode=mode) == []

    letters = Collected()
    stream = build(read(TWO)).named("mine").on_error(CollectSink(letters))
    assert run(stream, mode=mode) == []
    assert [letter["operator"] for letter in letters.rows()] == ["mine", "mine"]


def test_what_fits_is_taken() -> None:
    def number(row: Any) -> float:
        return row["v"]  # type: ignore[no-any-return]

    def perhaps(row: Any) -> int | None:
        return row["v"] if row["v"] > 1 else None

    assert run(read(TWO).map(number)) == [{"value": 1.0}, {"value": 2.0}]
    assert run(read(TWO).map(perhaps)) == [{"value": None}, {"value": 2}]
    nulls = read(TWO).map(lambda row: {"k": None, "v": 1}, schema={"k": sf.String, "v": sf.Int64})
    assert run(nulls) == [{"k": None, "v": 1}] * 2


class Total(TypedDict):
    k: str
    total: int


def test_a_process_that_emits_a_field_nobody_declared_is_told_so() -> None:
    class Totals(sf.KeyedProcess):
        output = Total

        def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
            ctx.emit({"k": event["k"], "totl" if event["v"] == 1 else "total": 1})

    with pytest.raises(sf.RecordError, match=r"operator totals.*no field 'totl'.*'total'") as raised:
        run(read(TWO).key_by("k").process(Totals()).named("totals"))
    assert HERE in (raised.value.where.code or "")
    rows = run(read(TWO).key_by("k").process(Totals()).on_error("skip"))
    assert rows == [{"k": "b", "total": 1}]


# Functions that cannot work where they are put.


async def coroutine(row: Any) -> Any:
    return row


async def two(left: Any, right: Any) -> Any:
    return left


def generator(row: Any) -> Iterator[Any]:
    yield row


async def endless(row: Any) -> AsyncIterator[Any]:
    yield row


def plain(row: Any) -> dict[str, Any]:
    return dict(row)


def forgotten(row: Any) -> Any:
    row["v"] += 1


def no_arguments() -> int:
    return 1


class Asks:
    async def __call__(self, row: Any) -> Any:
        return row

    async def method(self, row: Any) -> Any:
        return row


class Yields(sf.KeyedProcess):
    def on_event(self, event: Any, ctx: sf.ProcessContext) -> Any:
        yield event


class Awaits(sf.KeyedProcess):
    async def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:  # type: ignore[override]
        ctx.emit(event)


class Returns(sf.KeyedProcess):
    def on_event(self, event: Any, ctx: sf.ProcessContext) -> Any:
        return event


class OpensLater(sf.KeyedProcess):
    async def open(self) -> None:  # type: ignore[override]
        """Nobody would await it."""

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.emit(event)


class Forgets(sf.Aggregator):
    def create(self) -> Any:
        return []

    def add(self, accumulator: Any, value: Any) -> Any:
        accumulator.append(value)

    def merge(self, left: Any, right: Any) -> Any:
        return left + right

    def result(self, accumulator: Any) -> int:
        return len(accumulator)


REFUSED: dict[str, tuple[Callable[[sf.Stream], object], str]] = {
    "map of a coroutine function": (lambda s: s.map(coroutine), "coroutine function.*map_async"),
    "map of an object": (lambda s: s.map(Asks()), "coroutine function"),
    "map of a method": (lambda s: s.map(Asks().method), "coroutine function"),
    "map of a partial": (lambda s: s.map(functools.partial(two, 1)), "coroutine function"),
    "map of a generator": (lambda s: s.map(generator), "generator function.*flat_map"),
    "map without return": (lambda s: s.map(forgotten), "returns nothing"),
    "map of nothing": (lambda s: s.map(no_arguments), "cannot be called with one argument"),
    "map of no function": (lambda s: s.map(5), "no function"),  # type: ignore[arg-type]
    "filter of a coroutine function": (lambda s: s.filter(coroutine), "coroutine function"),
    "filter of a generator": (lambda s: s.filter(generator), "generator function"),
    "filter without return": (lambda s: s.filter(forgotten), "returns nothing"),
    "flat_map of a coroutine function": (lambda s: s.flat_map(coroutine), "coroutine function"),
    "flat_map of an asynchronous generator": (lambda s: s.flat_map(endless), "asynchronous generator"),
    "map_async of a function": (lambda s: s.map_async(plain), "plain function"),
    "map_async of a lambda": (lambda s: s.map_async(lambda row: row), "plain function"),
    "map_async of a generator": (lambda s: s.map_async(generator), "generator function"),
    "map_async of an asynchronous generator": (lambda s: s.map_async(endless), "asynchronous generator"),
    "key_by of a coroutine function": (lambda s: s.key_by(coroutine), "coroutine function"),
    "sum of a coroutine function": (
        lambda s: s.key_by("k").aggregate(n=sf.sum(coroutine)),
        "coroutine function",
    ),
    "reduce of a coroutine function": (lambda s: s.key_by("k").reduce(two), "coroutine function"),
    "reduce of one": (lambda s: s.key_by("k").reduce(plain), "cannot be called with 2 arguments"),  # type: ignore[arg-type]
    "on_event that yields": (lambda s: s.key_by("k").process(Yields()), "generator function"),
    "on_event that awaits": (lambda s: s.key_by("k").process(Awaits()), "coroutine function"),
    "on_event that returns": (lambda s: s.key_by("k").process(Returns()), "returns a value"),
    "open that awaits": (lambda s: s.key_by("k").process(OpensLater()), "coroutine function"),
    "Aggregator.add without return": (
        lambda s: s.key_by("k").aggregate(n=Forgets("v")),
        r"Forgets\.add got add, which returns nothing",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_when_the_job_is_built(what: str) -> None:
    build, why = REFUSED[what]
    with pytest.raises(sf.JobDefinitionError, match=why) as raised:
        build(read(TWO))
    if what != "map of no function":
        assert HERE in (raised.value.where.code or "")


def test_an_event_time_of_a_coroutine_function_is_refused() -> None:
    with pytest.raises(sf.JobDefinitionError, match="coroutine function"):
        sf.Job("rows").read(sf.MemorySource(TWO), event_time=coroutine)


LATER: dict[str, tuple[Callable[[sf.Stream], sf.Stream], str]] = {
    "map to a coroutine": (lambda s: s.map(lambda row: coroutine(row)), "coroutine.*map_async"),
    "map to a generator": (lambda s: s.map(lambda row: generator(row)), "generator.*flat_map"),
    "filter by a coroutine": (lambda s: s.filter(lambda row: coroutine(row)), "coroutine"),
    "flat_map to a coroutine": (lambda s: s.flat_map(lambda row: coroutine(row)), "coroutine"),  # type: ignore[arg-type,return-value]
    "flat_map to text": (lambda s: s.flat_map(lambda row: row["k"]), "one str, not a list"),
    "flat_map to a dict": (lambda s: s.flat_map(lambda row: row), "one dict, not a list"),
    "flat_map to nothing": (lambda s: s.flat_map(lambda row: None), "nothing, not a list"),  # type: ignore[arg-type,return-value]
    "map_async to a value": (lambda s: s.map_async(lambda row: dict(row)), "a dict at once.*async def"),
}


@pytest.mark.parametrize("what", LATER)
def test_what_only_the_first_record_shows_is_its_error(what: str) -> None:
    build, why = LATER[what]
    with pytest.raises(sf.RecordError, match=why) as raised:
        run(build(read(TWO)))
    assert "'k': 'a'" in raised.value.record
    assert run(build(read(TWO)).on_error("skip")) == []


# Functions that are opened and closed.


class Session:
    log: list[str] = []  # noqa: RUF012 — what all copies did

    async def open(self) -> None:
        await asyncio.sleep(0)
        self.names = {1: "one", 2: "two"}
        self.log.append("open")

    async def __call__(self, event: Event) -> str:
        return self.names[event.v]

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.log.append("close")


@pytest.mark.parametrize("parallelism", [1, 2])
def test_an_object_is_opened_before_its_first_request_and_closed_at_the_end(parallelism: int) -> None:
    Session.log = []
    rows = run(read(TWO).map_async(Session()).filter(col("value") != "x"), parallelism=parallelism)
    assert sorted(row["value"] for row in rows) == ["one", "two"]
    assert sorted(set(Session.log)) == ["close", "open"]
    assert Session.log.count("open") == Session.log.count("close")


def test_an_object_that_cannot_be_opened_ends_the_job() -> None:
    class Unreachable(Session):
        async def open(self) -> None:
            raise OSError("nobody there")

    with pytest.raises(
        sf.StreamflowError, match=r"map-async-1, .*Unreachable\.open raised OSError"
    ) as raised:
        run(read(TWO).map_async(Unreachable()).on_error("skip"))
    assert HERE in (raised.value.where.code or "")


def test_an_object_that_cannot_be_closed_fails_the_job() -> None:
    class Stuck(Session):
        async def close(self) -> None:
            raise OSError("busy")

    with pytest.raises(sf.StreamflowError, match=r"Stuck\.close raised OSError: busy"):
        run(read(TWO).map_async(Stuck()))


def test_a_request_may_change_its_row_and_is_asked_again_with_the_same() -> None:
    seen: list[Any] = []

    async def ask(row: Any) -> int:
        seen.append([*row["list"]])
        row["list"].append(9)
        if len(seen) == 1:
            raise ConnectionError
        return len(row["list"])

    rows = [{"list": [1]}]
    assert run(read(rows).map_async(ask, retries=sf.backoff(1, first="1ms"))) == [{"value": 2}]
    assert seen == [[1], [1]]


def test_a_timeout_of_the_functions_own_is_not_told_as_the_services() -> None:
    async def ask(row: Any) -> int:
        raise TimeoutError("mine")

    async def slow(row: Any) -> int:
        await asyncio.sleep(60)
        return 1

    with pytest.raises(sf.RecordError, match=r"TimeoutError: mine; retries=sf\.backoff"):
        run(read(TWO).map_async(ask))
    with pytest.raises(sf.RecordError, match=r"no answer within 0\.01 s"):
        run(read(TWO).map_async(slow, timeout="10ms"))
