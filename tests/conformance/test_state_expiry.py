"""State with a time to live over every kind of backend: one place in the expiry queue for each entry, however it is
written, cleared, saved and divided, and nothing left once all has expired."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

import streamflow as sf
from streamflow.core.keys import key_group_of
from streamflow.state.backends.memory import MemoryBackend
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress
from streamflow.state.backends.rocksdb.backend import RocksDBBackend
from streamflow.state.keyed.cache import Current, StateCache
from streamflow.state.keyed.ttl import STAMP_BYTES, TtlClock, stamp

BACKENDS: dict[str, Callable[[], KeyedStateBackend]] = {"memory": MemoryBackend, "rocksdb": RocksDBBackend}
STATE, QUEUE = StateAddress("process-1", "state"), StateAddress("process-1", "ttl-state")
TTL = 1_000_000
TURNS = 10_000


@dataclass(frozen=True)
class Kind:
    """A kind of state, and how it is written and cleared."""

    declared: Callable[..., Any]
    write: Callable[[Any, int], object]
    clear: Callable[[Any, int], object]
    known: Callable[[Any], object]


KINDS: dict[str, Kind] = {
    "value": Kind(
        lambda **ttl: sf.ValueState(int, **ttl),
        lambda state, n: state.update(n),
        lambda state, n: state.clear() if n % 2 else state.update(None),
        lambda state: state.value(),
    ),
    "reducing": Kind(
        lambda **ttl: sf.ReducingState(int, max, **ttl),
        lambda state, n: state.add(n),
        lambda state, n: state.clear(),
        lambda state: state.get(),
    ),
    "aggregating": Kind(
        lambda **ttl: sf.AggregatingState(Largest(), **ttl),
        lambda state, n: state.add(n),
        lambda state, n: state.clear(),
        lambda state: state.get(),
    ),
    "list": Kind(
        lambda **ttl: sf.ListState(int, **ttl),
        lambda state, n: state.add(n) if n % 2 else state.update([n]),
        lambda state, n: state.clear() if n % 3 else state.update([]),
        lambda state: state.get(),
    ),
    "map, one by one": Kind(
        lambda **ttl: sf.MapState(int, int, **ttl),
        lambda state, n: state.put(1, n),
        lambda state, n: state.remove(1),
        lambda state: state.get(1),
    ),
    "map": Kind(
        lambda **ttl: sf.MapState(int, int, **ttl),
        lambda state, n: state.put_all({1: n, 2: n}),
        lambda state, n: state.clear(),
        lambda state: list(state.items()),
    ),
}


class Largest(sf.Aggregator):
    def create(self) -> int:
        return 0

    def add(self, accumulator: int, value: int) -> int:
        return max(accumulator, value)

    def merge(self, left: int, right: int) -> int:
        return max(left, right)

    def result(self, accumulator: int) -> int:
        return accumulator


class Subtask:
    """One state over a backend, as a subtask has it."""

    def __init__(
        self, kind: Kind, backend: KeyedStateBackend, clock: TtlClock = "event", **sizes: int
    ) -> None:
        self.backend, self.current = backend, Current()
        self.cache = StateCache(backend, "process-1", self.current, **sizes)
        declared = kind.declared(ttl=f"{TTL}us", ttl_time=clock)
        declared.name = "state"
        self.state = declared.bind(self.cache)
        handles: list[Any] = self.cache.handles
        self.handle = handles[0]
        self.handle.expiry.recover()

    def at(self, key: str, time: int) -> Any:
        self.current.slot = self.cache.slot(key, key, group_of(key))
        self.current.time = self.current.wall = time
        return self.state

    def clean(self, now: int) -> None:
        self.current.leave()
        self.current.watermark = self.current.wall = now
        self.handle.clean()
        self.cache.settle()

    def checkpoint(self) -> None:
        self.cache.write_back()
        self.handle.expiry.write_back()

    def stored(self) -> int:
        return rows(self.backend, STATE)

    def queued(self) -> int:
        return rows(self.backend, QUEUE)


@cache
def group_of(key: str) -> int:
    return key_group_of(key, 128)


def rows(backend: KeyedStateBackend, address: StateAddress) -> int:
    return sum(len(list(backend.scan(address, group))) for group in backend.groups(address))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[KeyedStateBackend]:
    made = BACKENDS[request.param]()
    yield made
    made.close()


@pytest.mark.parametrize("clock", ["event", "processing"])
@pytest.mark.parametrize("kind", KINDS)
def test_state_set_and_cleared_in_turn_leaves_nothing_in_the_queue(
    kind: str, clock: TtlClock, backend: KeyedStateBackend
) -> None:
    how, subtask = KINDS[kind], Subtask(KINDS[kind], backend, clock)
    how.write(subtask.at("stays", 0), 1)
    subtask.checkpoint()
    kept = subtask.queued()
    for turn in range(TURNS if clock == "event" else TURNS // 10):
        key = f"k{turn % 7}"
        how.write(subtask.at(key, turn), turn)
        if turn % 1_000 == 500:  # so that some are cleared that the backend and its queue have
            subtask.checkpoint()
            assert subtask.queued() == 2 * kept
        how.clear(subtask.at(key, turn), turn)
    subtask.checkpoint()
    assert subtask.queued() == kept
    subtask.clean(TURNS + 2 * TTL)
    subtask.checkpoint()
    assert (subtask.stored(), subtask.queued()) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_writing_again_and_expiring_in_turn_leave_one_place(kind: str, backend: KeyedStateBackend) -> None:
    how, subtask = KINDS[kind], Subtask(KINDS[kind], backend)
    time = 0
    for turn in range(500):
        # Refreshed three times, and expired before the watermark comes to clean up.
        for _ in range(3):
            time += TTL // 2
            how.write(subtask.at("a", time), turn)
            if turn % 50 == 0:
                subtask.checkpoint()
        time += TTL
        assert not how.known(subtask.at("a", time))
    how.write(subtask.at("a", time), 1)
    subtask.checkpoint()
    assert subtask.queued() == (2 if kind == "map" else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_leaves_the_cache_is_cleared_with_its_place(kind: str, backend: KeyedStateBackend) -> None:
    how, subtask = KINDS[kind], Subtask(KINDS[kind], backend, entries=4, dirty=2)
    for turn in range(4):
        for key in range(20):
            how.write(subtask.at(f"k{key}", 100 * turn + key), key)
    for key in range(20):
        how.clear(subtask.at(f"k{key}", 500), key)
    subtask.checkpoint()
    assert (subtask.stored(), subtask.queued()) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_expires_does_so_after_being_divided_among_other_subtasks(
    kind: str, backend: KeyedStateBackend
) -> None:
    how, old = KINDS[kind], Subtask(KINDS[kind], backend)
    keys = [f"k{number}" for number in range(30)]
    for time in (0, 400_000):
        for number, key in enumerate(keys):
            if time == 0 or number % 2:
                how.write(old.at(key, time), 7)
    old.checkpoint()
    new: list[Subtask] = []
    for groups in (range(50), range(50, 128)):
        part = type(backend)()
        part.take(backend, (STATE, QUEUE), groups)
        new.append(Subtask(how, part))
    owners = {key: new[0] if group_of(key) < 50 else new[1] for key in keys}
    assert len(set(owners.values())) == 2
    for subtask in new:
        subtask.clean(TTL)
    for number, key in enumerate(keys):
        assert bool(how.known(owners[key].at(key, TTL))) == bool(number % 2), key
    how.clear(owners["k1"].at("k1", TTL), 1)
    how.write(owners["k3"].at("k3", TTL), 8)
    for subtask in new:
        subtask.clean(TTL + 400_000)
        subtask.checkpoint()
    each = 2 if kind == "map" else 1
    assert sum(subtask.queued() for subtask in new) == each, "of k3 only"
    assert how.known(owners["k3"].at("k3", 2 * TTL - 1))
    for subtask in new:
        subtask.clean(2 * TTL)
        subtask.checkpoint()
        assert (subtask.stored(), subtask.queued()) == (0, 0)
        subtask.backend.close()


@pytest.mark.parametrize("kind", KINDS)
def test_places_as_earlier_versions_left_them_do_no_harm(kind: str, backend: KeyedStateBackend) -> None:
    """They did not move a place when an entry was written again, nor remove it when the entry was cleared."""
    how, old = KINDS[kind], Subtask(KINDS[kind], backend)
    for key in ("lives", "cleared", "untouched"):
        how.write(old.at(key, 0), 7)
    old.checkpoint()
    for group in list(backend.groups(STATE)):
        for stored, data in list(backend.scan(STATE, group)):
            if kind != "list" or not stored.endswith(bytes(4)):  # its chunks have no stamp
                backend.put(STATE, group, stored, stamp(500_000) + data[STAMP_BYTES:])
    left = old.handle.expiry
    left.add(TTL, b"\xa4gone", b"", group_of("gone"))
    left.write_back()
    subtask = Subtask(how, backend)
    how.write(subtask.at("lives", 600_000), 8)
    how.clear(subtask.at("cleared", 600_000), 8)
    subtask.clean(TTL)
    assert how.known(subtask.at("untouched", TTL + 499_999))
    assert how.known(subtask.at("lives", TTL + 599_999))
    subtask.clean(TTL + 500_000)
    subtask.checkpoint()
    assert subtask.queued() == (2 if kind == "map" else 1), "of what lives only"
    subtask.clean(TTL + 600_000)
    subtask.checkpoint()
    assert (subtask.stored(), subtask.queued()) == (0, 0)
