"""Keyed state's handles where random scripts get seldom: write-back, changes in place, chunks, large maps, sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

import streamflow as sf
from streamflow.errors import RecordError, StateError
from streamflow.state.backends.memory import MemoryBackend
from streamflow.state.backends.protocol import StateAddress
from streamflow.state.keyed import list as handles_list
from streamflow.state.keyed import map as handles_map
from streamflow.state.keyed.cache import Current, StateCache


@dataclass
class Basket:
    items: list[str] = field(default_factory=list)


class Counted(MemoryBackend):
    """Counts what is read and written."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = self.scans = 0
        self.writes: list[int] = []

    def get(self, address: StateAddress, group: int, key: bytes) -> bytes | None:
        self.reads += 1
        return super().get(address, group, key)

    def scan(
        self, address: StateAddress, group: int, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        self.scans += 1
        return super().scan(address, group, start, end)

    def write(self, address: StateAddress, changes: Any) -> None:
        listed = list(changes)
        self.writes.append(len(listed))
        super().write(address, listed)

    def rows(self, name: str) -> int:
        address = StateAddress("process-1", name)
        return sum(len(list(super(Counted, self).scan(address, group))) for group in self.groups(address))


class Bench:
    """One state over a counting backend."""

    def __init__(self, state: Any, backend: Counted | None = None, **sizes: int) -> None:
        self.backend = backend or Counted()
        self.current = Current()
        self.cache = StateCache(self.backend, "process-1", self.current, **sizes)
        state.name = "state"
        self.state = state.bind(self.cache)

    def key(self, key: str, time: int = 0) -> Any:
        self.current.slot = self.cache.slot(key, key, 5)
        self.current.time = time
        return self.state

    def again(self, state: Any) -> Bench:
        self.cache.write_back()
        return Bench(state, self.backend)


def test_a_value_changed_in_place_is_kept_although_others_are_written_back_while_it_is_out() -> None:
    bench = Bench(sf.ValueState(Basket), dirty=2)
    for key in "abc":
        bench.key(key).update(Basket())
    bench.cache.write_back()
    for key in "abc":  # each reading may write back what was handed out before, never what it hands out
        bench.key(key).value().items.append(key)
    again = bench.again(sf.ValueState(Basket))
    assert [again.key(key).value().items for key in "abc"] == [["a"], ["b"], ["c"]]


def test_reading_what_cannot_change_writes_nothing() -> None:
    bench = Bench(sf.ValueState(tuple[int, str]))
    bench.key("a").update((1, "x"))
    bench.cache.write_back()
    bench.backend.writes.clear()
    assert bench.key("a").value() == (1, "x")
    bench.cache.write_back()
    assert bench.backend.writes == []


def test_a_default_is_a_copy_for_each_and_is_not_stored() -> None:
    bench = Bench(sf.ValueState(list[int], default=[1]))
    bench.key("a").value().append(2)
    assert bench.key("a").value() == [1]
    bench.cache.write_back()
    assert bench.backend.rows("state") == 0


def test_an_absent_key_is_asked_for_once_and_a_cached_one_not_at_all() -> None:
    bench = Bench(sf.ValueState(int, default=0))
    for _ in range(10):
        bench.key("a").update(bench.key("a").value() + 1)
    assert (bench.backend.reads, bench.backend.writes) == (1, [])
    assert bench.key("a").value() == 10


def test_changes_are_written_in_slices_and_no_more_than_so_many_wait() -> None:
    bench = Bench(sf.ValueState(int))
    most = 0
    for number in range(10_000):
        bench.key(f"k{number}").update(number)
        most = max(most, bench.cache.dirty)
    assert most <= 4_096
    bench.cache.write_back()
    assert max(bench.backend.writes) <= 2_000
    assert sum(bench.backend.writes) == 10_000


def test_none_clears() -> None:
    bench = Bench(sf.ValueState(str))
    bench.key("a").update("x")
    bench.cache.write_back()
    bench.key("a").update(None)
    bench.cache.write_back()
    assert (bench.key("a").value(), bench.backend.rows("state")) == (None, 0)


def test_a_float_state_takes_ints_and_gives_floats() -> None:
    bench = Bench(sf.ValueState(float))
    bench.key("a").update(3)
    value = bench.again(sf.ValueState(float)).key("a").value()
    assert (value, type(value)) == (3.0, float)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**200])
def test_large_integers_are_kept(number: int) -> None:
    bench = Bench(sf.ValueState(int))
    bench.key("a").update(number)
    assert bench.again(sf.ValueState(int)).key("a").value() == number


def test_what_cannot_be_stored_names_state_and_key() -> None:
    bench = Bench(sf.ValueState(Basket))
    bench.key("my key").update(Basket([object()]))  # type: ignore[list-item]
    with pytest.raises(StateError, match="state 'state' of the key my key"):
        bench.cache.write_back()


def test_wrong_types_are_refused_where_they_are_handed_over() -> None:
    with pytest.raises(RecordError, match="state 'state' holds a record of items, not dict"):
        Bench(sf.ValueState(Basket)).key("a").update({})
    with pytest.raises(RecordError, match="state 'state' holds int, not str"):
        Bench(sf.ListState(int)).key("a").add("x")
    with pytest.raises(RecordError, match="state 'state' by key holds str, not int"):
        Bench(sf.MapState(str, int)).key("a").put(1, 1)
    with pytest.raises(RecordError, match="holds int, not bool"):
        Bench(sf.ValueState(int)).key("a").update(True)


# Lists.


def test_adding_to_a_long_list_writes_its_last_chunk_only() -> None:
    bench = Bench(sf.ListState(int))
    bench.key("a").add_all(range(10 * handles_list.CHUNK + 5))
    bench.cache.write_back()
    bench = bench.again(sf.ListState(int))
    bench.backend.reads, bench.backend.writes = 0, []
    bench.key("a").add(1)
    bench.cache.write_back()
    assert bench.backend.reads <= 2
    assert bench.backend.writes == [2]
    assert bench.key("a").get() == [*range(10 * handles_list.CHUNK + 5), 1]


@pytest.mark.parametrize("written", [False, True])
def test_nothing_is_left_of_a_list_that_was_cleared(written: bool) -> None:
    bench = Bench(sf.ListState(int))
    bench.key("a").add_all(range(2 * handles_list.CHUNK + 5))
    bench.cache.write_back()
    bench.key("a").add_all(range(handles_list.CHUNK if written else 0))
    bench.key("a").clear()
    bench.cache.write_back()
    assert bench.backend.rows("state") == 0
    assert bench.key("a").get() == []


def test_elements_are_what_they_were_when_they_were_added() -> None:
    bench = Bench(sf.ListState(Basket))
    basket = Basket(["x"])
    bench.key("a").add(basket)
    basket.items.append("y")
    bench.key("a").get()[0].items.append("z")
    assert bench.key("a").get() == [Basket(["x"])]
    assert bench.again(sf.ListState(Basket)).key("a").get() == [Basket(["x"])]


# Maps.


def test_an_entry_of_a_large_map_is_read_and_written_alone() -> None:
    state = sf.MapState(int, int)
    bench = Bench(state)
    for number in range(5_000):
        bench.key("a").put(number, number)
    bench = bench.again(state)
    bench.backend.reads, bench.backend.writes = 0, []
    bench.key("a").put(17, bench.key("a").get(17) + 1)
    bench.cache.write_back()
    assert (bench.backend.reads, bench.backend.scans, bench.backend.writes) == (1, 0, [1])
    assert bench.key("a").get(17) == 18
    assert sum(bench.key("a").values()) == sum(range(5_000)) + 1


def test_a_small_map_is_walked_through_without_the_backend() -> None:
    bench = Bench(sf.MapState(str, int))
    bench.key("a").put_all({"x": 1, "y": 2})
    for _ in range(5):
        assert dict(bench.key("a").items()) == {"x": 1, "y": 2}
    assert bench.backend.scans == 1


def test_values_of_a_map_changed_in_place_are_kept_also_when_it_is_large() -> None:
    state = sf.MapState(int, Basket)
    size = 2 * handles_map.WHOLE
    bench = Bench(state)
    for number in range(size):
        bench.key("a").put(number, Basket())
    bench = bench.again(state)
    held = bench.key("a").get(3)
    for basket in bench.key("a").values():
        basket.items.append("seen")
    held.items.append("held")
    bench.cache.settle()
    again = bench.again(state)
    assert again.key("a").get(3).items == ["seen", "held"]
    assert sum(len(basket.items) for basket in again.key("a").values()) == size + 1


def test_entries_of_neighbouring_keys_are_told_apart() -> None:
    bench = Bench(sf.MapState(str, int))
    for key in ("a", "ab", "", "b"):
        bench.key(key).put("x", len(key))
    bench.cache.write_back()
    bench.key("a").clear()
    assert [dict(bench.key(key).items()) for key in ("a", "ab", "", "b")] == [
        {},
        {"x": 2},
        {"x": 0},
        {"x": 1},
    ]


# Time to live.


def test_a_late_write_does_not_shorten_life() -> None:
    bench = Bench(sf.ValueState(int, ttl="10us"))
    bench.key("a", 100).update(1)
    bench.key("a", 95).update(2)
    assert bench.key("a", 109).value() == 2
    assert bench.key("a", 110).value() is None


def test_event_time_is_the_later_of_the_events_own_and_the_watermark() -> None:
    bench = Bench(sf.ValueState(int, ttl="10us"))
    bench.key("a", 100).update(1)
    bench.current.watermark = 110
    assert bench.key("a", 50).value() is None


def test_processing_time_counts_by_the_clock() -> None:
    bench = Bench(sf.ValueState(int, ttl="10us", ttl_time="processing"))
    bench.current.wall = 1_000
    bench.key("a", 5).update(1)
    bench.current.wall = 1_009
    assert bench.key("a", 5_000).value() == 1
    bench.current.wall = 1_010
    assert bench.key("a", 5).value() is None


def test_cleaning_up_looks_at_a_bounded_number_and_writes_nothing_for_what_lives() -> None:
    bench = Bench(sf.ValueState(int, ttl="10us"), entries=4)
    for number in range(2_000):
        bench.key(f"k{number}", 0).update(number)
    bench.key("k7", 15).update(7)
    bench.cache.write_back()
    bench.current.leave()
    bench.current.watermark = 20
    bench.state.clean()
    assert 2_000 - 512 <= bench.backend.rows("state") < 2_000
    for _ in range(4):
        bench.state.clean()
    bench.cache.write_back()
    assert bench.backend.rows("state") == 1
    assert bench.key("k7", 16).value() == 7
