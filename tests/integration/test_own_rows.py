"""Python objects: what one branch of a job does to them nobody else sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, NamedTuple, cast

import pytest

import streamflow as sf

Rows = list[Any]


@dataclass
class Reading:
    """An object of a user's own class."""

    v: int
    seen: list[str]


def marked(row: dict[str, Any]) -> dict[str, Any]:
    row["x"] = 1
    row["in"]["list"].append(2)
    return row


def fresh() -> Rows:
    return [{"v": v, "in": {"list": [1]}} for v in range(5)]


UNTOUCHED = fresh()


def objects(job: sf.Job, rows: Rows) -> sf.Stream:
    return job.read(sf.MemorySource(rows, schema=sf.OBJECTS, batch_rows=2))


def collect_before_a_map(stream: sf.Stream) -> list[sf.Collected]:
    out = stream.collect()
    stream.map(marked).collect()
    return [out]


def collect_after_a_map(stream: sf.Stream) -> list[sf.Collected]:
    stream.map(marked).collect()
    return [stream.collect()]


def two_maps(stream: sf.Stream) -> list[sf.Collected]:
    stream.map(marked).collect()
    return [stream.map(lambda row: row).collect()]


def behind_a_function(stream: sf.Stream) -> list[sf.Collected]:
    return two_maps(stream.filter(lambda row: True))


def requests(stream: sf.Stream) -> list[sf.Collected]:
    async def ask(row: dict[str, Any]) -> dict[str, Any]:
        return marked(row)

    stream.map_async(ask).collect()
    return [stream.collect()]


def a_sink(stream: sf.Stream) -> list[sf.Collected]:
    async def take(rows: Rows) -> None:
        for row in rows:
            marked(row)

    stream.write(sf.sink(take))
    return [stream.collect()]


@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
@pytest.mark.parametrize(
    "branches",
    [collect_before_a_map, collect_after_a_map, two_maps, behind_a_function, requests, a_sink],
)
def test_a_branch_does_not_see_what_another_changes(
    branches: Callable[[sf.Stream], list[sf.Collected]], mode: Any
) -> None:
    job = sf.Job("branches")
    outs = branches(objects(job, fresh()))
    job.run(mode=mode)
    assert [out.rows() for out in outs] == [UNTOUCHED] * len(outs)


@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_union_of_a_stream_with_its_own_map_has_both(parallelism: int) -> None:
    job = sf.Job("union")
    stream = objects(job, fresh())
    out = stream.union(stream.map(marked)).collect()
    job.run(parallelism=parallelism)
    assert sorted(out.rows(), key=repr) == sorted([*UNTOUCHED, *map(marked, fresh())], key=repr)


def test_the_rows_of_a_source_stay_as_they_were_for_the_next_run() -> None:
    rows = fresh()
    job = sf.Job("again")
    out = objects(job, rows).map(marked).collect()
    job.run()
    job.run()
    assert out.rows() == list(map(marked, fresh()))
    assert rows == UNTOUCHED


def test_objects_of_own_classes_are_copied_too() -> None:
    def seen(reading: Reading) -> Reading:
        reading.seen.append("here")
        return reading

    job = sf.Job("classes")
    stream = objects(job, [Reading(1, [])])
    out = stream.collect()
    stream.map(seen).collect()
    job.run()
    assert out.rows() == [Reading(1, [])]


def test_what_cannot_be_copied_is_named() -> None:
    job = sf.Job("locks")
    # A lock is made behind the source, where several read it.
    stream = objects(job, fresh()).map(lambda row: Lock()).named("locks")
    stream.collect()
    stream.map(id).collect()
    with pytest.raises(sf.RecordError, match="a lock cannot be copied") as caught:
        job.run()
    assert "locks" in str(caught.value)


@pytest.mark.parametrize("batch_rows", [1, 5])
@pytest.mark.parametrize("output", [None, {"v": sf.Int64, "list": sf.List(sf.Int64)}])
def test_a_row_that_a_process_has_put_out_does_not_grow_with_its_state(
    output: object, batch_rows: int
) -> None:
    class Growing(sf.KeyedProcess):
        last = sf.ValueState(object, default=None)

        def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
            values = cast("list[int]", self.last.value() or [])
            values.append(event["v"])
            self.last.update(values)
            ctx.emit({"v": event["v"], "list": values})
            ctx.emit_to("same", {"v": event["v"], "list": values})

    Growing.output = output
    Growing.outputs = {"same": output}
    job = sf.Job("growing")
    source = sf.MemorySource([{"k": "a", "v": v} for v in range(4)], batch_rows=batch_rows)
    results = job.read(source).key_by("k").process(Growing)
    out, side = results.collect(), results.output("same").collect()
    job.run()
    expected = [{"v": v, "list": list(range(v + 1))} for v in range(4)]
    assert out.rows() == expected
    assert side.rows() == expected


def test_an_event_that_is_changed_after_it_was_put_out_stays_as_it_was_put_out() -> None:
    class Twice(sf.KeyedProcess):
        def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
            for n in range(2):
                event["n"] = n
                ctx.emit(event)

    job = sf.Job("twice")
    out = job.read(sf.MemorySource([{"k": "a", "n": 9}])).key_by("k").process(Twice).collect()
    job.run()
    assert [row["n"] for row in out.rows()] == [0, 1]


@pytest.mark.parametrize("schema", [sf.OBJECTS, {"n": sf.Int64}])
def test_a_source_that_gives_the_same_dict_again_gives_what_it_held_each_time(schema: Any) -> None:
    row: dict[str, int] = {}

    async def numbers() -> Any:
        for n in range(3):
            row["n"] = n
            yield row

    def made(n: int) -> dict[str, int]:
        row["n"] = n
        return row

    job = sf.Job("same")
    yielded = job.read(sf.source(numbers, bounded=True, schema=schema)).collect()
    generated = job.read(sf.DataGen(made, rows=3, schema=schema)).collect()
    job.run()
    assert yielded.rows() == generated.rows() == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_rows_that_all_subtasks_get_are_each_subtask_s_own() -> None:
    class Rules(sf.KeyedProcess):
        def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
            """Only the rules matter."""

        def on_broadcast(self, event: Any, ctx: sf.ProcessContext) -> None:
            marked(event)
            ctx.emit(event)

    job = sf.Job("rules")
    rules = objects(job, fresh())
    untouched = rules.collect()
    out = job.read(sf.MemorySource([{"k": "a"}])).key_by("k").process(Rules, broadcast=rules).collect()
    job.run(parallelism=3)
    assert sorted(out.rows(), key=repr) == sorted([*map(marked, fresh() + fresh() + fresh())], key=repr)
    assert sorted(untouched.rows(), key=repr) == UNTOUCHED


def a_dict() -> Callable[[dict[str, Any]], dict[str, Any]]:
    row: dict[str, Any] = {}

    def made(record: dict[str, Any]) -> dict[str, Any]:
        row["v"], row["list"] = record["v"], [record["v"]]
        return row

    return made


def a_growing_list() -> Callable[[dict[str, Any]], dict[str, Any]]:
    seen: list[int] = []

    def made(record: dict[str, Any]) -> dict[str, Any]:
        seen[:] = [record["v"]]
        return {"v": record["v"], "list": seen}

    return made


def awaited(function: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    async def asked(record: dict[str, Any]) -> dict[str, Any]:
        return function(record)

    return asked


def in_one_list(function: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    made: Rows = []

    def listed(record: dict[str, Any]) -> Rows:
        made[:] = [function(record)]
        return made

    return listed


def one_by_one(function: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    def yielded(record: dict[str, Any]) -> Any:
        yield function(record)

    return yielded


@pytest.mark.parametrize("schema", [sf.OBJECTS, {"v": sf.Int64, "list": sf.List(sf.Int64)}])
@pytest.mark.parametrize("function", [a_dict, a_growing_list])
def test_a_function_that_returns_the_same_object_again_gives_what_it_held_each_time(
    function: Callable[[], Any], schema: Any
) -> None:
    job = sf.Job("same results")
    stream = job.read(sf.MemorySource([{"v": 1}, {"v": 2}]))
    outs = [
        stream.map(function(), schema=schema).collect(),
        stream.map_async(awaited(function()), schema=schema).collect(),
        stream.flat_map(in_one_list(function()), schema=schema).collect(),
        stream.flat_map(one_by_one(function()), schema=schema).collect(),
    ]
    job.run()
    assert [out.rows() for out in outs] == [[{"v": 1, "list": [1]}, {"v": 2, "list": [2]}]] * len(outs)


@pytest.mark.parametrize("schema", [sf.OBJECTS, {"v": sf.Int64}])
def test_a_flat_row_that_is_returned_again_is_what_it_was(schema: Any) -> None:
    row: dict[str, int] = {}

    def made(record: dict[str, Any]) -> dict[str, int]:
        row["v"] = record["v"]
        return row

    job = sf.Job("same flat rows")
    out = job.read(sf.MemorySource([{"v": 1}, {"v": 2}])).map(made, schema=schema).collect()
    job.run()
    assert out.rows() == [{"v": 1}, {"v": 2}]


def numbered(row: dict[str, Any]) -> Any:
    for copy in range(3):
        row["copy"] = copy
        yield row


def twice(row: dict[str, Any]) -> Any:
    row["copy"] = 0
    return [row, row]


def counted_up(row: dict[str, Any]) -> dict[str, Any]:
    row["copy"] += 1
    return row


@pytest.mark.parametrize("after", [sf.OBJECTS, {"v": sf.Int64, "copy": sf.Int64}])
@pytest.mark.parametrize("schema", [sf.OBJECTS, {"v": sf.Int64}])
def test_a_row_that_a_function_puts_out_several_times_is_several_rows(schema: Any, after: Any) -> None:
    job = sf.Job("several")
    rows = job.read(sf.MemorySource([{"v": 1}, {"v": 2}], schema=schema))
    yielded = rows.flat_map(numbered, schema=after).collect()
    listed = rows.flat_map(twice, schema=after).map(counted_up, schema=after).collect()
    job.run()
    assert yielded.rows() == [{"v": v, "copy": copy} for v in (1, 2) for copy in range(3)]
    assert listed.rows() == [{"v": v, "copy": 1} for v in (1, 1, 2, 2)]


def test_an_object_in_a_row_that_a_function_changes_later_is_what_it_was() -> None:
    kept = Reading(0, [])

    def read(row: dict[str, Any]) -> Any:
        kept.v = row["v"]
        kept.seen.append("again")
        return {"reading": kept, "parts": {1}}

    job = sf.Job("kept inside")
    out = job.read(sf.MemorySource([{"v": 1}, {"v": 2}])).map(read).collect()
    job.run()
    assert [row["reading"] for row in out.rows()] == [Reading(1, ["again"]), Reading(2, ["again"] * 2)]


def same_list(row: dict[str, Any], kept: list[Any] = []) -> list[Any]:  # noqa: B006 — the same list each time
    kept[:] = [row["v"] % 2]
    return kept


def same_dict(row: dict[str, Any], kept: dict[str, Any] = {}) -> dict[str, Any]:  # noqa: B006 — the same dict
    kept["odd"] = row["v"] % 2
    return kept


@pytest.mark.parametrize("mode", ["streaming", "batch"])
@pytest.mark.parametrize("schema", [sf.OBJECTS, None])
def test_keys_and_inputs_that_are_one_changing_object_are_what_it_held_each_time(
    schema: Any, mode: Any
) -> None:
    job = sf.Job("same keys")
    stream = job.read(sf.MemorySource([{"v": v} for v in range(5)], schema=schema))
    by_list = stream.key_by(same_list).aggregate(n=sf.count(), all=sf.collect_list(same_dict)).collect()
    by_dict = stream.key_by(same_dict).aggregate(n=sf.count(), kinds=sf.n_unique(same_list)).collect()
    job.run(mode=mode)
    last = {tuple(row["same_list"]): (row["n"], row["all"]) for row in by_list.rows()}
    assert last == {(0,): (3, [{"odd": 0}] * 3), (1,): (2, [{"odd": 1}] * 2)}
    assert {row["same_dict"]["odd"]: (row["n"], row["kinds"]) for row in by_dict.rows()} == {
        0: (3, 1),
        1: (2, 1),
    }


class Shares(sf.Aggregator):
    """An aggregate that begins with one list and gives out another, always the same ones."""

    def create(self, nothing: list[int] = []) -> list[int]:  # noqa: B006 — the same list each time
        return nothing

    def add(self, accumulator: list[int], value: int) -> list[int]:
        accumulator.append(value)
        return accumulator

    def merge(self, left: list[int], right: list[int]) -> list[int]:
        return left + right

    def result(self, accumulator: list[int], given: list[int] = []) -> list[int]:  # noqa: B006 — the same list
        given[:] = [sum(accumulator), len(accumulator)]
        return given


@pytest.mark.parametrize("mode", ["streaming", "batch"])
@pytest.mark.parametrize("schema", [sf.OBJECTS, None])
def test_an_aggregate_that_shares_its_lists_gives_each_key_its_own(schema: Any, mode: Any) -> None:
    job = sf.Job("shared lists")
    stream = job.read(sf.MemorySource([{"k": v % 2, "v": v} for v in range(5)], schema=schema))
    out = stream.key_by("k").aggregate(found=Shares("v")).collect()
    job.run(mode=mode)
    assert {row["k"]: row["found"] for row in out.rows()} == {0: [6, 3], 1: [4, 2]}


class Keeper:
    """A function that keeps each row that it is handed, and changes those that it has kept at each further call."""

    def __init__(self) -> None:
        self.kept: Rows = []

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        self.change()
        self.kept.append(row)
        return row

    def change(self) -> None:
        for row in self.kept:
            row["v"] = -1

    async def ask(self, row: dict[str, Any]) -> dict[str, Any]:
        return self(row)

    def at(self, row: dict[str, Any]) -> datetime:
        return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=self(row)["v"])


NUMBERS = {"k": sf.String, "v": sf.Int64}
KEEPING: dict[str, Callable[[sf.Stream, Keeper], sf.Stream]] = {
    "map": lambda stream, keeper: stream.map(keeper),
    "map to columns": lambda stream, keeper: stream.map(keeper, schema=NUMBERS),
    "filter": lambda stream, keeper: stream.filter(lambda row: bool(keeper(row))),
    "flat_map": lambda stream, keeper: stream.flat_map(lambda row: [keeper(row)]),
    "map_async": lambda stream, keeper: stream.map_async(keeper.ask),
    "a map behind a filter": lambda stream, keeper: stream.filter(lambda row: True).map(keeper),
}


@pytest.mark.parametrize("schema", [sf.OBJECTS, NUMBERS])
@pytest.mark.parametrize("batch_rows", [1, 3, 100])
@pytest.mark.parametrize("way", KEEPING)
def test_a_row_that_a_function_keeps_and_changes_later_stays_as_it_was_put_out(
    way: str, batch_rows: int, schema: Any
) -> None:
    keeper = Keeper()
    job = sf.Job("keeping")
    rows = [{"k": "a", "v": number} for number in range(7)]
    results = KEEPING[way](job.read(sf.MemorySource(rows, schema=schema)), keeper)
    out, behind = results.collect(), results.map(lambda row: dict(row)).collect()
    job.run(batch_rows=batch_rows)
    keeper.change()
    for collected in (out, behind):
        assert sorted(row["v"] for row in collected.rows()) == list(range(7))


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_so_does_one_whose_event_time_a_function_gives(batch_rows: int) -> None:
    keeper = Keeper()
    job = sf.Job("keeping")
    rows = [{"k": "a", "v": number} for number in range(7)]
    out = job.read(sf.MemorySource(rows, schema=sf.OBJECTS), event_time=keeper.at).collect()
    job.run(batch_rows=batch_rows)
    keeper.change()
    assert [row["v"] for row in out.rows()] == list(range(7))


def test_a_row_that_nobody_keeps_is_not_copied() -> None:
    seen: list[int] = []

    def first(row: dict[str, Any]) -> dict[str, Any]:
        seen.append(id(row))
        return row

    def second(row: dict[str, Any]) -> dict[str, Any]:
        assert id(row) == seen[-1]
        return row

    job = sf.Job("passing")
    rows = [{"k": "a", "v": number} for number in range(7)]
    job.read(sf.MemorySource(rows, schema=sf.OBJECTS)).map(first).map(second).filter(bool).collect()
    job.run(batch_rows=1)
    assert len(seen) == 7


class Tagged(NamedTuple):
    """A named tuple with a list."""

    v: int
    seen: list[int]


@dataclass(slots=True)
class Slotted:
    """A dataclass without a `__dict__`."""

    v: int
    seen: list[int]


class Held:
    """A class of a user's own that holds a list in a tuple."""

    def __init__(self, v: int, seen: list[int]) -> None:
        self.v = v
        self.inside = (seen,)

    @property
    def seen(self) -> list[int]:
        return self.inside[0]


@pytest.mark.parametrize("batch_rows", [1, 100])
@pytest.mark.parametrize("made", [Tagged, Slotted, Reading, Held])
def test_a_list_that_a_function_keeps_in_what_it_returns_is_what_it_was(made: Any, batch_rows: int) -> None:
    seen: list[int] = []

    def tagged(row: dict[str, Any]) -> Any:
        seen.append(row["v"])
        return made(row["v"], seen)

    job = sf.Job("kept inside objects")
    rows = job.read(sf.MemorySource([{"v": v} for v in range(3)]))
    outs = [
        rows.map(tagged).collect(),
        rows.flat_map(lambda row: [made(row["v"], list(range(row["v"] + 1)))]).collect(),
    ]
    job.run(batch_rows=batch_rows)
    for out in outs:
        assert [(each.v, each.seen) for each in out.rows()] == [(0, [0]), (1, [0, 1]), (2, [0, 1, 2])]


@pytest.mark.parametrize("schema", [sf.OBJECTS, None])
@pytest.mark.parametrize("batch_rows", [1, 100])
@pytest.mark.parametrize("way", ["map", "filter", "event time"])
def test_a_list_that_a_function_keeps_of_its_row_is_what_it_was(
    way: str, batch_rows: int, schema: Any
) -> None:
    kept: list[list[int]] = []

    def keep(row: dict[str, Any]) -> dict[str, Any]:
        for numbers in kept:
            numbers.append(99)
        kept.append(row["list"])
        return row

    job = sf.Job("kept of a row")
    source = sf.MemorySource([{"list": [v]} for v in range(3)], schema=schema)
    if way == "event time":
        out = job.read(
            source, event_time=lambda row: datetime(2024, 1, 1 + keep(row)["list"][0], tzinfo=UTC)
        ).collect()
    else:
        out = (job.read(source).map(keep) if way == "map" else job.read(source).filter(keep)).collect()
    job.run(batch_rows=batch_rows)
    assert [row["list"] for row in out.rows()] == [[0], [1], [2]]
