"""A list or dict that holds itself is the error of its record, by policy, wherever it cannot be kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import streamflow as sf

ROWS = [{"k": "a", "v": number} for number in range(3)]


def ring() -> list[Any]:
    made: list[Any] = [1]
    made.append(made)
    return made


def tree() -> list[Any]:
    """Twice in itself: walking through it to any depth takes for ever."""
    made: list[Any] = []
    made += [made, made]
    return made


def record() -> dict[str, Any]:
    made: dict[str, Any] = {"k": "a", "v": 1}
    made["itself"] = made
    return made


MAKERS = [ring, tree, record]


class Adds(sf.KeyedProcess):
    """Adds what it is given to a list in state."""

    several = sf.ListState(Any)

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.several.add(self.make() if event["v"] == 1 else event["v"])
        ctx.emit({"v": event["v"]})


class Sees(sf.KeyedProcess):
    """Puts out what came."""

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.emit({"v": event["v"]})


def bad(make: Callable[[], Any]) -> Callable[[Any], Any]:
    return lambda row: make() if row["v"] == 1 else 1


def first(row: Any) -> str:
    return "a"


PLACES: dict[str, Callable[[sf.Stream, Any, Callable[[], Any]], sf.Stream]] = {
    "a key": lambda rows, _, make: rows.key_by(bad(make)).aggregate(n=sf.count()),
    "one of two keys": lambda rows, _, make: rows.key_by(bad(make), first).aggregate(n=sf.count()),
    "a sum": lambda rows, key, make: rows.key_by(key).aggregate(n=sf.sum(bad(make))),
    "a list": lambda rows, key, make: rows.key_by(key).aggregate(n=sf.collect_list(bad(make))),
    "distinct values": lambda rows, key, make: rows.key_by(key).aggregate(n=sf.n_unique(bad(make))),
    "state": lambda rows, key, make: rows.key_by(key).process(Adds(make)),
}


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("place", PLACES)
def test_it_is_its_records_error(place: str, make: Callable[[], Any], objects: bool) -> None:
    job = sf.Job("rings")
    rows = job.read(sf.MemorySource(ROWS, schema=sf.OBJECTS if objects else None))
    key: Any = (lambda row: row["k"]) if objects else "k"
    results = PLACES[place](rows, key, make).on_error("skip").collect()
    result = job.run(mode="batch")
    assert result.errors == 1
    assert "1" not in str([row.get("v") for row in results.rows()])


@pytest.mark.parametrize("keep", ["reduce", "process"])
def test_an_object_that_cannot_travel_to_its_key_is_its_own_error(keep: str) -> None:
    job = sf.Job("rings")
    rows = job.read(sf.MemorySource(ROWS, schema=sf.OBJECTS))
    keyed = rows.map(lambda row: record() if row["v"] == 1 else row).key_by(lambda row: row["k"])
    kept = keyed.process(Sees()) if keep == "process" else keyed.reduce(lambda _, new: new)
    kept.on_error("skip").collect()
    assert job.run(parallelism=2).errors == 1


@pytest.mark.parametrize("parallelism", [1, 2])
def test_one_that_goes_straight_to_a_sink_is_as_good_as_any(parallelism: int) -> None:
    job = sf.Job("rings")
    rows = job.read(sf.MemorySource(ROWS, schema=sf.OBJECTS)).map(lambda row: record())
    both = [rows.collect(), rows.map(lambda row: row).collect()]
    job.run(parallelism=parallelism)
    for collected in both:
        assert all(row["itself"] is row for row in collected.rows())
