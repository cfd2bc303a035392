"""Routing: every record to exactly one subtask (or all, for broadcast), the same one in every process and version."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.keys import key_groups, subtask_of
from streamflow.errors import JobDefinitionError
from streamflow.graph.logical import Input
from streamflow.graph.physical import ExchangeKind, PhysicalEdge
from streamflow.runtime.exchange.routes import Route, route_for


def route(kind: ExchangeKind, *, keys: tuple[str, ...] = (), subtask: int = 0, lower: int = 3) -> Route:
    edge = PhysicalEdge("up", Input("up"), "down", 0, kind, keys)
    return route_for(edge, subtask=subtask, lower=lower, max_parallelism=128)


def keyed(*keys: str | None) -> FrameBatch:
    return FrameBatch(
        pl.DataFrame({"k": list(keys), "n": range(len(keys))}, schema={"k": pl.String, "n": pl.Int64})
    )


def column(parts: list[tuple[int, AnyBatch]], name: str) -> dict[int, list[object]]:
    return {target: part.frame[name].to_list() for target, part in parts if isinstance(part, FrameBatch)}


def test_forward_stays_on_its_own_subtask() -> None:
    batch = RowBatch([1, 2])
    assert route(ExchangeKind.FORWARD, subtask=2)(batch) == [(2, batch)]


def test_broadcast_goes_to_all() -> None:
    batch = RowBatch([1])
    assert route(ExchangeKind.BROADCAST)(batch) == [(0, batch), (1, batch), (2, batch)]


def test_broadcast_gives_other_processes_one_batch_before_anyone_here_can_change_it() -> None:
    edge = PhysicalEdge("up", Input("up"), "down", 0, ExchangeKind.BROADCAST)
    batch = RowBatch([{"n": 1}])
    routed = route_for(edge, subtask=0, lower=4, max_parallelism=128, elsewhere=(1, 3))(batch)
    assert [target for target, _ in routed] == [1, 3, 0, 2]
    rows = [part.values[0] for _, part in routed if isinstance(part, RowBatch)]
    assert [row is batch.values[0] for row in rows] == [True, True, True, False]


def test_rebalance_takes_turns_and_senders_start_apart() -> None:
    batch = RowBatch([1])
    turns = route(ExchangeKind.REBALANCE, subtask=1)
    assert [turns(batch)[0][0] for _ in range(4)] == [1, 2, 0, 1]
    assert route(ExchangeKind.REBALANCE, subtask=2)(batch)[0][0] == 2


@pytest.mark.parametrize("lower", [2, 3, 64])
def test_hash_keeps_the_order_of_records_in_large_batches_and_small(lower: int) -> None:
    """A batch is filtered or divided, whichever costs less: 10,000 rows are filtered for two subtasks only."""
    batch = keyed(*(f"key-{n * 7919 % 500}" for n in range(10_000)))
    parts = column(route(ExchangeKind.HASH, keys=("k",), lower=lower)(batch), "n")
    assert all(numbers == sorted(numbers) for numbers in parts.values())  # type: ignore[type-var]
    assert sorted(number for numbers in parts.values() for number in numbers) == list(range(10_000))  # type: ignore[type-var]
    owners = subtask_of(key_groups(batch.frame, ("k",), 128), lower, 128)
    assert all(set(owners.gather(numbers)) == {target} for target, numbers in parts.items())  # type: ignore[arg-type]


def test_hash_routes_as_it_always_has() -> None:
    """Golden: state on disk is found again only where its keys go. A change here breaks every stored job."""
    airports = ["JFK", "LGA", "EWR", "ATL", "ORD", "LAX", "", "Zürich", None]
    assert column(route(ExchangeKind.HASH, keys=("k",))(keyed(*airports)), "k") == {
        0: ["JFK", "EWR", "", None],
        1: ["LAX"],
        2: ["LGA", "ATL", "ORD", "Zürich"],
    }
    numbers = FrameBatch(pl.DataFrame({"k": [-1, 0, 1, 2, 1000, 2**40], "j": ["a", "b", "a", "b", "a", "b"]}))
    assert column(route(ExchangeKind.HASH, keys=("k", "j"), lower=2)(numbers), "k") == {
        0: [0, 1, 1000],
        1: [-1, 2, 1099511627776],
    }


def test_hash_keeps_the_order_of_each_key() -> None:
    parts = route(ExchangeKind.HASH, keys=("k",))(keyed("JFK", "LGA", "JFK", "EWR", "JFK", "LGA"))
    for _, part in parts:
        assert isinstance(part, FrameBatch)
        assert part.frame["n"].is_sorted()


def test_one_subtask_gets_the_batch_as_it_is() -> None:
    batch = keyed("JFK", "LGA")
    assert route(ExchangeKind.HASH, keys=("k",), lower=1)(batch) == [(0, batch)]


def test_hash_needs_columns() -> None:
    with pytest.raises(JobDefinitionError, match="a hash exchange needs columns"):
        route(ExchangeKind.HASH, keys=("k",))(RowBatch([{"k": 1}]))


@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=30), st.integers(2, 7))
def test_hash_sends_every_record_to_one_place_and_a_key_to_one_place(
    keys: list[str | None], lower: int
) -> None:
    parts = route(ExchangeKind.HASH, keys=("k",), lower=lower)(keyed(*keys))
    numbers = [n for part in column(parts, "n").values() for n in part]
    assert sorted(numbers, key=repr) == sorted(range(len(keys)), key=repr)
    homes: dict[object, set[int]] = {}
    for target, seen in column(parts, "k").items():
        for key in seen:
            homes.setdefault(key, set()).add(target)
    assert all(len(places) == 1 for places in homes.values())
    assert all(len(part) for _, part in parts)


@given(st.lists(st.text(max_size=5), max_size=30))
def test_hash_of_a_part_is_the_part_of_the_hash(keys: list[str]) -> None:
    """Routing does not depend on how records are batched."""
    whole = column(route(ExchangeKind.HASH, keys=("k",))(keyed(*keys)), "k")
    apart: dict[int, list[object]] = {}
    for key in keys:
        for target, seen in column(route(ExchangeKind.HASH, keys=("k",))(keyed(key)), "k").items():
            apart.setdefault(target, []).extend(seen)
    assert whole == apart
