"""User functions from hell: whatever a function raises, in every place that takes one, ends in an error that names the
operator, the record and the user's line, or is skipped or put aside as the policy says. Nothing hangs: a run that takes
too long is interrupted and fails its test.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, ClassVar

import polars as pl
import pytest

import streamflow as sf
from streamflow.operators.connectors.collect import Collected, CollectSink

MODES: list[Any] = ["streaming", "micro-batch", "batch"]
HERE = "test_user_functions_from_hell.py:"
ROWS = [{"k": "a", "v": 1, "t": 0}, {"k": "b", "v": 2, "t": 1_000}, {"k": "c", "v": 3, "t": 2_000}]
SECONDS = 20
SCHEMA = {"k": sf.String, "v": sf.Int64}

Function = Callable[[Any], Any]


class Hangs(KeyboardInterrupt):
    """Raised into a run that takes too long; nothing takes an interrupt for an error of the user's."""


@pytest.fixture(autouse=True)
def _bounded_time() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"still running after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


class Rude(BaseException):
    """An exception that no `except Exception` catches."""


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class UnpicklableError(Exception):
    def __reduce__(self) -> str:
        raise TypeError("cannot be pickled")


ERRORS: dict[str, Callable[[], BaseException]] = {
    "StopIteration": lambda: StopIteration(5),
    "StopAsyncIteration": StopAsyncIteration,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "PanicException": lambda: pl.exceptions.PanicException("index out of bounds"),
    "Rude": Rude,
    "KeyError": lambda: KeyError("k"),
    "MuteError": MuteError,
    "UnpicklableError": UnpicklableError,
    "TimeoutError": TimeoutError,
    "RecursionError": RecursionError,
}


def read(job: sf.Job, **more: Any) -> sf.Stream:
    return job.read(sf.MemorySource(ROWS), event_time=sf.epoch("t", unit="ms"), **more)


class Calls(sf.KeyedProcess):
    """Calls a function in one of its methods."""

    output = SCHEMA

    def __init__(self, method: str, function: Function) -> None:
        self._method = method
        self._function = function

    def open(self) -> None:
        if self._method == "open":
            self._function(ROWS[1])

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        if self._method == "on_event":
            self._function(event)
        if self._method == "on_timer":
            ctx.set_timer(ctx.timestamp or 0)
        else:
            ctx.emit({"k": event["k"], "v": event["v"]})

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        self._function({"v": {"a": 1, "b": 2, "c": 3}[ctx.key]})
        ctx.emit({"k": ctx.key, "v": 0})

    def close(self) -> None:
        if self._method == "close":
            self._function(ROWS[1])


class Hears(Calls):
    """The same, with a stream that every subtask hears."""

    def on_broadcast(self, event: Any, ctx: sf.ProcessContext) -> None:
        self._function(event)


def asynchronous(function: Function) -> Function:
    async def call(row: Any) -> Any:
        return function(row)

    return call


def many(function: Function) -> Function:
    def call(row: Any) -> Iterator[Any]:
        yield function(row)

    return call


# Places whose operator has an error policy. The function gives its row back, or raises for the one whose `v` is 2.
TREATED: dict[str, Callable[[sf.Stream, Function], sf.Stream]] = {
    "map": lambda s, f: s.map(f),
    "map to columns": lambda s, f: s.map(lambda row: {"k": row["k"], "v": f(row)["v"]}, schema=SCHEMA),
    "filter": lambda s, f: s.filter(f),
    "flat_map": lambda s, f: s.flat_map(lambda row: [f(row)]),
    "flat_map of a generator": lambda s, f: s.flat_map(many(f)),
    "map_async": lambda s, f: s.map_async(asynchronous(f)),
    "map_async unordered": lambda s, f: s.map_async(asynchronous(f), ordered=False),
    "on_event": lambda s, f: s.key_by("k").process(Calls("on_event", f)),
    "on_timer": lambda s, f: s.key_by("k").process(Calls("on_timer", f)),
}


class Folds(sf.Aggregator):
    """An aggregate of the user's own that calls a function in one of its methods."""

    def __init__(self, method: str, function: Function) -> None:
        super().__init__("v")
        object.__setattr__(self, "method", method)
        object.__setattr__(self, "function_", function)

    def _call(self, method: str, row: Any) -> None:
        if self.method == method:  # type: ignore[attr-defined]
            self.function_(row)  # type: ignore[attr-defined]

    def create(self) -> Any:
        self._call("create", ROWS[1])
        return 0

    def add(self, accumulator: Any, value: Any) -> Any:
        self._call("add", {"v": value})
        return accumulator + value

    def merge(self, left: Any, right: Any) -> Any:
        self._call("merge", ROWS[1])
        return left + right

    def result(self, accumulator: Any) -> int:
        self._call("result", ROWS[1])
        return int(accumulator)


def same(row: Any) -> str:
    return "all"


def frames(function: Function) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def call(frame: pl.DataFrame) -> pl.DataFrame:
        for value in frame["v"]:
            function({"v": value})
        return frame

    return call


def reducing(function: Function) -> Callable[[Any, Any], Any]:
    def call(left: Any, right: Any) -> Any:
        function(ROWS[1])
        return left

    return call


def every(s: sf.Stream) -> Any:
    return s.key_by(same).window(sf.tumbling("1h"))


# Places where an error can only end the job.
ENDING: dict[str, Callable[[sf.Stream, Function], sf.Stream]] = {
    "key_by": lambda s, f: s.key_by(lambda row: f(row)["k"]).aggregate(n=sf.count()),
    "aggregate of a function": lambda s, f: every(s).aggregate(n=sf.sum(lambda row: f(row)["v"])),
    "running aggregate of a function": lambda s, f: s.key_by("k").aggregate(n=sf.max(lambda r: f(r)["v"])),
    "top_k by a function": lambda s, f: every(s).top_k(2, by=lambda row: f(row)["v"]),
    "reduce": lambda s, f: every(s).reduce(reducing(f)),
    "running reduce": lambda s, f: s.key_by(same).reduce(reducing(f)),
    "Aggregator.create": lambda s, f: every(s).aggregate(n=Folds("create", f)),
    "Aggregator.add": lambda s, f: every(s).aggregate(n=Folds("add", f)),
    "Aggregator.result": lambda s, f: every(s).aggregate(n=Folds("result", f)),
    "map_batches": lambda s, f: s.map_batches(
        frames(f), schema={"k": sf.String, "v": sf.Int64, "t": sf.Int64}
    ),
    "open": lambda s, f: s.key_by("k").process(Calls("open", f)),
    "close": lambda s, f: s.key_by("k").process(Calls("close", f)),
    "on_broadcast": lambda s, f: s.key_by("k").process(Hears("on_broadcast", f), broadcast=s),
}


def raising(name: str) -> Function:
    def hell(row: Any) -> Any:
        if row["v"] == 2:
            raise ERRORS[name]()
        return row

    return hell


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("place", TREATED)
def test_an_error_is_its_records(place: str, name: str) -> None:
    # Each policy in another mode, and each mode under each policy over all places and errors.
    first = len(place) + len(name)
    modes = [MODES[(first + turn) % 3] for turn in range(3)]
    job = sf.Job("hell")
    out = TREATED[place](read(job), raising(name)).named("hell")
    out.collect()
    with pytest.raises(sf.RecordError) as raised:
        job.run(mode=modes[0])
    assert raised.value.where.operator == "hell"
    assert name in raised.value.message
    assert raised.value.record != ""
    assert HERE in (raised.value.where.code or "")
    assert (raised.value.where.code or "").endswith("in hell")

    job = sf.Job("hell")
    out = TREATED[place](read(job), raising(name)).named("hell").on_error("skip")
    rows = out.collect()
    result = job.run(mode=modes[1])
    assert len(rows.rows()) == 2
    assert result.errors == 1

    job = sf.Job("hell")
    letters = Collected()
    out = TREATED[place](read(job), raising(name)).named("hell").on_error(CollectSink(letters))
    rows = out.collect()
    job.run(mode=modes[2])
    assert len(rows.rows()) == 2
    (letter,) = letters.rows()
    assert letter["operator"] == "hell"
    assert name in letter["reason"]


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("place", ENDING)
def test_an_error_ends_the_job_and_is_told(place: str, name: str) -> None:
    job = sf.Job("hell")
    ENDING[place](read(job), raising(name)).collect()
    with pytest.raises(sf.StreamflowError) as raised:
        job.run(mode=MODES[(len(place) + len(name)) % 3])
    assert raised.value.where.operator
    assert name in raised.value.message
    assert HERE in (raised.value.where.code or "")


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("place", ["sink", "source", "source that waits", "timestamps", "DataGen"])
def test_an_error_of_a_connectors_function_ends_the_job(place: str, name: str) -> None:
    hell = raising(name)

    async def write(rows: list[Any]) -> None:
        for row in rows:
            hell(row)

    async def generate() -> AsyncIterator[Any]:
        for row in ROWS:
            if place.endswith("waits"):
                await asyncio.sleep(0)
            yield hell(row)

    job = sf.Job("hell")
    match place:
        case "sink":
            read(job).write(sf.sink(write))
        case "timestamps":
            job.read(sf.MemorySource(ROWS), event_time=lambda row: hell(row) and "2020-01-01").collect()
        case "DataGen":
            job.read(sf.DataGen(lambda n: hell(ROWS[n]), rows=3, schema=SCHEMA)).collect()
        case _:
            job.read(sf.source(generate, bounded=True)).collect()
    with pytest.raises(sf.StreamflowError) as raised:
        job.run()
    assert raised.value.where.operator
    assert name in raised.value.message or name in ("StopIteration", "StopAsyncIteration")


# What functions do beside raising. Each behaviour: the function, and what its record is told.


class Untrue:
    """An answer that is neither a yes nor a no."""

    def __bool__(self) -> bool:
        raise StopIteration


async def coroutine(row: Any) -> Any:
    return row


def generator(row: Any) -> Iterator[Any]:
    yield row


def mutating(row: Any) -> Any:
    row.pop("v")
    row["new"] = [row]
    return {"k": "x", "v": 0}


def printing(row: Any) -> Any:
    print("from hell")  # noqa: T201 — what users do
    return {"k": row["k"], "v": row["v"]}


def blocking(row: Any) -> Any:
    time.sleep(0.01)
    return {"k": row["k"], "v": row["v"]}


BAD: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda row: None,
    "a wrong type": lambda row: {"k": row["k"], "v": "two"},
    "a fraction": lambda row: {"k": row["k"], "v": 2.5},
    "a number beyond 64 bits": lambda row: {"k": row["k"], "v": 2**70},
    "other fields": lambda row: {"k": row["k"], "w": 2},
    "too many fields": lambda row: {**row, "k2": 1},
    "no record": lambda row: object(),
    "the class": lambda row: dict,
    "a coroutine": lambda row: coroutine(row),
    "a generator": lambda row: generator(row),
    "an endless row": lambda row: row.update(v=row) or row,
}
GOOD: dict[str, Callable[[Any], Any]] = {"mutating": mutating, "printing": printing, "blocking": blocking}
CHECKED: dict[str, Callable[[sf.Stream, Function], sf.Stream]] = {
    "map": lambda s, f: s.map(f, schema=SCHEMA),
    "flat_map": lambda s, f: s.flat_map(lambda row: [f(row)], schema=SCHEMA),
    "map_async": lambda s, f: s.map_async(asynchronous(f), schema=SCHEMA),
    "process": lambda s, f: s.key_by("k").process(Emits(f)),
}


class Emits(sf.KeyedProcess):
    output: Any = SCHEMA

    def __init__(self, function: Function) -> None:
        self._function = function

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.emit(self._function(event))


def on_two(function: Function) -> Function:
    """As the function does for the row whose `v` is 2; the others come out as they are."""

    def hell(row: Any) -> Any:
        return function(row) if row["v"] == 2 else {"k": row["k"], "v": row["v"]}

    return hell


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("place", CHECKED)
def test_a_bad_result_is_its_records_error(place: str, what: str) -> None:
    first = len(place) + len(what)
    modes = [MODES[(first + turn) % 3] for turn in range(3)]
    build = CHECKED[place]

    job = sf.Job("hell")
    build(read(job), on_two(BAD[what])).named("hell").collect()
    with pytest.raises(sf.RecordError) as raised:
        job.run(mode=modes[0])
    assert raised.value.where.operator == "hell"
    assert HERE in (raised.value.where.code or "")

    job = sf.Job("hell")
    rows = build(read(job), on_two(BAD[what])).named("hell").on_error("skip").collect()
    result = job.run(mode=modes[1])
    assert sorted(row["v"] for row in rows.rows()) == [1, 3]
    assert result.errors == 1

    job = sf.Job("hell")
    letters = Collected()
    build(read(job), on_two(BAD[what])).named("hell").on_error(CollectSink(letters)).collect()
    job.run(mode=modes[2])
    assert [letter["operator"] for letter in letters.rows()] == ["hell"]


class Undeclared(Emits):
    output: Any = None


PROMISES: dict[str, Callable[[Any], Any]] = {
    "a coroutine": coroutine,
    "a generator": generator,
    "an iterator": lambda row: iter([row]),
    "a map": lambda row: map(str, row),
}
UNDECLARED: dict[str, Callable[[sf.Stream, Function], sf.Stream]] = {
    "map": lambda s, f: s.map(f),
    "flat_map": lambda s, f: s.flat_map(lambda row: [f(row)]),
    "map_async": lambda s, f: s.map_async(asynchronous(f)),
    "process": lambda s, f: s.key_by("k").process(Undeclared(f)),
}


@pytest.mark.parametrize("what", PROMISES)
@pytest.mark.parametrize("place", UNDECLARED)
def test_an_object_that_is_no_result_yet_is_its_records_error(place: str, what: str) -> None:
    for mode in MODES:
        job = sf.Job("hell")
        rows = UNDECLARED[place](read(job), on_two(PROMISES[what])).on_error("skip").collect()
        result = job.run(mode=mode)
        assert (sorted(row["v"] for row in rows.rows()), result.errors) == ([1, 3], 1)


@pytest.mark.parametrize("what", GOOD)
@pytest.mark.parametrize("place", CHECKED)
def test_what_a_function_does_beside_its_result_changes_nothing(
    place: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for mode in MODES:
        job = sf.Job("hell")
        stream = read(job)
        untouched = stream.collect()
        rows = CHECKED[place](stream, on_two(GOOD[what])).collect()
        job.run(mode=mode)
        assert len(rows.rows()) == 3
        assert untouched.rows() == ROWS
    assert capsys.readouterr().out == ("from hell\n" * 3 if what == "printing" else "")


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_has_no_truth_is_its_records_error(mode: Any) -> None:
    def hell(row: Any) -> Any:
        return Untrue() if row["v"] == 2 else row

    job = sf.Job("hell")
    read(job).filter(hell).named("hell").collect()
    with pytest.raises(sf.RecordError, match="StopIteration"):
        job.run(mode=mode)
    job = sf.Job("hell")
    rows = read(job).filter(hell).on_error("skip").collect()
    job.run(mode=mode)
    assert [row["v"] for row in rows.rows()] == [1, 3]


# Results of classes of the user's own, which raise where they are read.


class RudeDict(dict[str, Any]):
    """A dict that nobody can look into."""

    def __iter__(self) -> Iterator[str]:
        raise Rude

    def __contains__(self, key: object) -> bool:
        raise Rude

    def get(self, *_: Any) -> Any:
        raise Rude


class RudeMapping(Mapping[str, Any]):
    """A mapping without values."""

    def __getitem__(self, key: str) -> Any:
        raise SystemExit(3)

    def __iter__(self) -> Iterator[str]:
        return iter(("k", "v"))

    def __len__(self) -> int:
        return 2


@dataclass
class RudeRecord:
    """A record with a field that cannot be read, so that it cannot be shown either."""

    k: str
    v: int

    def __getattribute__(self, name: str) -> Any:
        if name == "v":
            raise StopIteration
        return object.__getattribute__(self, name)


class RudeTuple(tuple[Any, ...]):
    """A tuple without a length."""

    __slots__ = ()

    def __len__(self) -> int:
        raise Rude


class RudeNumber:
    """A number that is none when asked."""

    def __int__(self) -> int:
        raise SystemExit(3)

    __index__ = __int__


RUDE_RESULTS: dict[str, Callable[[], Any]] = {
    "a dict": lambda: RudeDict({"k": "a", "v": 1, "w": 1}),
    "a mapping": RudeMapping,
    "a record": lambda: RudeRecord("a", 1),
    "a tuple": lambda: RudeTuple(("a", 1)),
    "a number": lambda: {"k": "a", "v": RudeNumber()},
}


class EmitsRude(sf.KeyedProcess):
    output: ClassVar = SCHEMA

    def __init__(self, make: Function) -> None:
        self.make = make

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.emit(self.make(event))


async def later(make: Function, row: Any) -> Any:
    return make(row)


READ_IN: dict[str, Callable[[sf.Stream, Function], sf.Stream]] = {
    "map": lambda s, make: s.map(make, schema=SCHEMA),
    "flat_map": lambda s, make: s.flat_map(lambda row: [make(row)], schema=SCHEMA),
    "map_async": lambda s, make: s.map_async(lambda row: later(make, row), schema=SCHEMA),
    "process": lambda s, make: s.key_by("k").process(EmitsRude(make)),
}


@pytest.mark.parametrize("what", RUDE_RESULTS)
@pytest.mark.parametrize("place", READ_IN)
def test_a_result_that_raises_when_it_is_read_is_its_records_error(place: str, what: str) -> None:
    job = sf.Job("rude")
    rows = job.read(sf.MemorySource([{"k": row["k"], "v": row["v"]} for row in ROWS]))
    make: Function = lambda row: RUDE_RESULTS[what]() if row["v"] == 2 else dict(row)  # noqa: E731
    out = READ_IN[place](rows, make).on_error("skip").collect()
    assert job.run(mode="batch").errors == 1
    assert sorted(row["v"] for row in out.rows()) == [1, 3]


@pytest.mark.parametrize("what", ["a mapping", "a record"])
def test_so_is_a_key_of_such_a_class(what: str) -> None:
    job = sf.Job("rude")
    rows = job.read(sf.MemorySource(ROWS))
    keyed = rows.key_by(lambda row: RUDE_RESULTS[what]() if row["v"] == 2 else row["k"])
    keyed.aggregate(n=sf.count()).on_error("skip").collect()
    assert job.run(mode="batch").errors == 1
