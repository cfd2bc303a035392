"""Mistakes of a first program: a handle of state in the place of its value, fields that an object has not, answers
of functions that fit nothing. The error names the mistake, the user's line, and what to write instead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

import streamflow as sf
from streamflow.errors import JobDefinitionError, RecordError, SinkError

ROWS = [{"k": "a", "v": 3}, {"k": "b", "v": 5}, {"k": "a", "v": 7}]


def fails(process: type[sf.KeyedProcess]) -> str:
    """The error of a job with this process."""
    job = sf.Job("mistaken")
    job.read(sf.MemorySource(ROWS)).key_by("k").process(process).collect()
    with pytest.raises(RecordError) as caught:
        job.run()
    assert caught.value.where.code is not None
    assert "test_mistakes.py" in caught.value.where.code
    return caught.value.message


class Mistaken(sf.KeyedProcess):
    """A process that uses its state in a wrong way; `use` does it."""

    value = sf.ValueState(int)
    values = sf.ListState(int)
    entries = sf.MapState(str, int)
    smallest = sf.ReducingState(int, min)
    use: ClassVar[Callable[[Any, Any], object]]

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        type(self).use(self, ctx)


def emits(process: Any, ctx: sf.ProcessContext) -> None:
    ctx.emit({"n": process.value})


def puts(process: Any, ctx: sf.ProcessContext) -> None:
    process.entries["a"] = 1


VALUE, LIST, MAP = "value(), update(value)", "add(value), add_all(values)", "get(key), put(key, value)"
USES: list[tuple[Callable[[Any, Any], object], str]] = [
    (lambda process, ctx: bool(process.value), VALUE),
    (lambda process, ctx: process.value == 3, VALUE),
    (lambda process, ctx: process.value != 3, VALUE),
    (lambda process, ctx: process.value + 1, VALUE),
    (lambda process, ctx: 2 * process.value, VALUE),
    (lambda process, ctx: process.value > 2, VALUE),
    (lambda process, ctx: f"{process.value}", VALUE),
    (lambda process, ctx: process.value.get(), VALUE),
    (lambda process, ctx: process.values.append(1), LIST),
    (lambda process, ctx: len(process.values), LIST),
    (lambda process, ctx: not process.values, LIST),
    (lambda process, ctx: process.values[0], LIST),
    (lambda process, ctx: process.entries["a"], MAP),
    (lambda process, ctx: process.smallest.value(), "add(value), get()"),
    (emits, VALUE),
    (puts, MAP),
]


@pytest.mark.parametrize(("use", "instead"), USES)
def test_a_handle_is_not_its_value(use: Callable[[Any, Any], object], instead: str) -> None:
    message = fails(type("Using", (Mistaken,), {"use": use}))
    assert instead in message
    assert "State" in message


def test_handles_still_are_iterable_and_comparable_with_each_other() -> None:
    def use(process: Any, ctx: sf.ProcessContext) -> None:
        process.values.add(len(list(process.values)))
        process.entries.put("a", 1)
        same = process.values == process.values, process.values == process.entries
        ctx.emit((list(process.values), "a" in process.entries, sorted(process.entries), *same))

    job = sf.Job("iterated")
    process = type("Using", (Mistaken,), {"use": use})
    out = job.read(sf.MemorySource(ROWS)).key_by("k").process(process).collect()
    job.run()
    assert out.rows()[-1] == ([0, 1], True, ["a"], True, False)


def test_state_is_declared_in_the_class() -> None:
    class InInit(sf.KeyedProcess):
        def __init__(self) -> None:
            self.total = sf.ValueState(int)

    with pytest.raises(JobDefinitionError, match=r"self\.total = ValueState\(…\) declares no state"):
        InInit()

    def use(process: Any, ctx: sf.ProcessContext) -> None:
        total: Any = sf.ValueState(int)
        total.update(1)

    assert "declare it in the class" in fails(type("Using", (Mistaken,), {"use": use}))


def test_state_is_not_deleted_but_cleared() -> None:
    def use(process: Any, ctx: sf.ProcessContext) -> None:
        del process.value

    assert "self.value.clear()" in fails(type("Using", (Mistaken,), {"use": use}))


@pytest.mark.parametrize("name", ["open", "output", "outputs", "on_timer"])
def test_a_state_hides_nothing_of_the_process(name: str) -> None:
    with pytest.raises(JobDefinitionError, match=f"a state cannot be called '{name}'"):
        type("Hiding", (sf.KeyedProcess,), {name: sf.ValueState(int)})


@dataclass
class Payment:
    k: str
    v: int


class Named(NamedTuple):
    k: str
    v: int


@pytest.mark.parametrize("kind", [Payment, Named])
@pytest.mark.parametrize("mode", ["batch", "streaming"])
def test_fields_of_dataclasses_and_named_tuples_have_names(kind: Any, mode: Any) -> None:
    job = sf.Job("payments")
    payments = job.read(sf.MemorySource([kind(**row) for row in ROWS], schema=sf.OBJECTS))
    sums = payments.key_by("k").aggregate(total=sf.sum("v"), most=sf.top_k("v", 1)).collect()
    job.run(mode=mode)
    last = {row["k"]: (row["total"], row["most"]) for row in sums.rows()}
    assert last == {"a": (10, [7]), "b": (5, [5])}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"k": 1}, "no field 'key'; there are: k"),
        (Payment("a", 1), "no field 'key'; there are: k, v"),
        (Named("a", 1), "no field 'key'; there are: k, v"),
        (("a", 1), "no field 'key' of a tuple"),
        ("text", "no field 'key' of a str"),
        (5, "no field 'key' of a int"),
    ],
)
def test_a_field_that_an_object_has_not(record: object, message: str) -> None:
    job = sf.Job("fields")
    job.read(sf.MemorySource([record], schema=sf.OBJECTS)).key_by("key").count().collect()
    with pytest.raises(RecordError, match=message):
        job.run()


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("key", "instead"),
    [(lambda row: (row["k"], row["v"]), "one by one"), (lambda row: Colour.RED, "its name or its value")],
)
def test_keys_that_fit_no_column(key: Callable[[Any], Any], instead: str) -> None:
    job = sf.Job("keys")
    job.read(sf.MemorySource(ROWS)).key_by(key).count().collect()
    with pytest.raises(RecordError) as caught:
        job.run()
    assert instead in str(caught.value.hint)


@pytest.mark.parametrize(("key", "instead"), [(["k", "v"], "one by one"), (0, r"record\[0\]")])
def test_what_is_no_key(key: Any, instead: str) -> None:
    with pytest.raises(JobDefinitionError, match=instead):
        sf.Job("keys").read(sf.MemorySource(ROWS)).key_by(key)


class Seen(sf.Aggregator):
    """An accumulator that cannot be stored."""

    def create(self) -> Any:
        return set()

    def add(self, accumulator: Any, value: Any) -> Any:
        return accumulator | {value}

    def merge(self, left: Any, right: Any) -> Any:
        return left | right

    def result(self, accumulator: Any) -> Any:
        return accumulator


class Listed(Seen):
    """A result that no column holds."""

    def create(self) -> Any:
        return []

    def add(self, accumulator: Any, value: Any) -> Any:
        return [*accumulator, value]

    def merge(self, left: Any, right: Any) -> Any:
        return left + right

    def result(self, accumulator: Any) -> Any:
        return set(accumulator)


def test_errors_of_aggregates_name_the_line() -> None:
    for aggregate, method in ((Seen("v"), "add"), (Listed("v"), "result")):
        job = sf.Job("aggregates")
        job.read(sf.MemorySource(ROWS)).key_by("k").aggregate(n=aggregate).collect()
        with pytest.raises(RecordError, match=rf"test_mistakes.py:\d+ in {method}"):
            job.run()
    job = sf.Job("reduced")
    job.read(sf.MemorySource(ROWS)).key_by("k").reduce(lambda left, right: 1).collect()
    with pytest.raises(RecordError, match=r"test_mistakes.py:\d+ in <lambda>.*return a record"):
        job.run()


@pytest.mark.parametrize(
    ("given", "instead"),
    [(Listed, r"Listed\('value'\)"), (sf.count, r"sf.count\(…\)"), (len, "derived from sf.Aggregator")],
)
def test_what_is_no_aggregate(given: Any, instead: str) -> None:
    keyed = sf.Job("aggregates").read(sf.MemorySource(ROWS)).key_by("k")
    with pytest.raises(JobDefinitionError, match=instead):
        keyed.aggregate(n=given)


def test_a_sinks_function_has_to_be_asynchronous_though_it_is_a_lambda() -> None:
    job = sf.Job("written")
    written: Any = lambda rows: len(rows)  # noqa: E731 — such a call may give something to await
    job.read(sf.MemorySource(ROWS)).write(sf.sink(written))
    with pytest.raises(SinkError, match=r"test_mistakes.py:\d+ in <lambda>.*gave a int.*async def"):
        job.run()


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("assignTimestampsAndWatermarks", "event_time="),
        ("late", "window"),
        ("suppress", "without a trigger"),
        ("groupByKey", "key_by"),
        ("writeStream", "write"),
    ],
)
def test_names_of_other_libraries(name: str, instead: str) -> None:
    stream = sf.Job("names").read(sf.MemorySource(ROWS))
    with pytest.raises(AttributeError, match=instead):
        getattr(stream, name)


def test_the_command_is_not_the_users_line(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text('import streamflow as sf\njob = sf.Job("nothing")\n')
    command = [sys.executable, "-P", "-m", "streamflow", "run", "job.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "writes nothing" in ran.stderr
    assert "__main__" not in ran.stderr
