"""Every kind of keyed state against plain dictionaries, under any script, with a cache that forgets all the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamflow as sf
from streamflow.core.keys import key_group_of
from streamflow.state.backends.memory import MemoryBackend
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress
from streamflow.state.backends.rocksdb.backend import RocksDBBackend
from streamflow.state.keyed import list as handles_list
from streamflow.state.keyed import map as handles_map
from streamflow.state.keyed.cache import Current, StateCache, key_bytes
from streamflow.state.keyed.descriptors import declarations

TTL = 10


@dataclass
class Basket:
    items: list[str]
    paid: bool = False


class Everything:
    number = sf.ValueState(int, default=7)
    basket = sf.ValueState(Basket)
    log = sf.ListState(str)
    scores = sf.MapState(int, list[int])
    top = sf.ReducingState(int, max)
    recent = sf.ValueState(int, ttl="10us")
    read = sf.ValueState(int, ttl="10us", ttl_refresh="read")
    lately = sf.ListState(int, ttl="10us")
    seen = sf.MapState(str, int, ttl="10us", ttl_refresh="read")


class Bound:
    """The states over a backend, with room for very little in the cache."""

    def __init__(self, backend: KeyedStateBackend) -> None:
        self.backend = backend
        self.current = Current()
        self.cache = StateCache(backend, "process-1", self.current, entries=3, dirty=2)
        for name, state in declarations(Everything).keyed.items():
            setattr(self, name, state.bind(self.cache))
        handles: list[Any] = self.cache.handles
        self.expiring = [handle for handle in handles if getattr(handle, "expiry", None) is not None]

    def enter(self, key: Any, time: int) -> None:
        self.current.slot = self.cache.slot(key, key, key_group_of(key, 128))
        self.current.time = time

    def leave(self) -> None:
        self.current.leave()
        for handle in self.expiring:
            handle.clean()
        self.cache.settle()

    def write_back(self) -> None:
        self.cache.write_back()
        for handle in self.expiring:
            handle.expiry.write_back()
            # A list has chunks beside what its age counts from.
            stored = sum(self._rows(handle.address, heads=isinstance(handle, handles_list.ListHandle)))
            assert sum(self._rows(handle.expiry.address)) == stored, "each entry has one place"

    def _rows(self, address: StateAddress, *, heads: bool = False) -> Iterator[bool]:
        known = [key_bytes(key) for key in KEYS]
        for group in self.backend.groups(address):
            yield from (not heads or key in known for key, _ in self.backend.scan(address, group))

    def recover(self) -> None:
        for handle in self.expiring:
            handle.expiry.recover()


@dataclass
class Entry:
    """Something that expires."""

    value: Any
    since: int


@dataclass
class Model:
    number: int | None = None
    basket: tuple[list[str], bool] | None = None
    log: list[str] = field(default_factory=list)
    scores: dict[int, list[int]] = field(default_factory=dict)
    top: int | None = None
    recent: Entry | None = None
    read: Entry | None = None
    lately: Entry | None = None
    seen: dict[str, Entry] = field(default_factory=dict)

    def expire(self, now: int) -> None:
        for name in ("recent", "read", "lately"):
            entry = getattr(self, name)
            if entry is not None and entry.since + TTL <= now:
                setattr(self, name, None)
        self.seen = {key: entry for key, entry in self.seen.items() if entry.since + TTL > now}


def set_entry(model: Model, name: str, value: Any, now: int) -> None:
    entry = getattr(model, name)
    setattr(model, name, Entry(value, now if entry is None else max(entry.since, now)))


def step(states: Any, model: Model, operation: str, n: int, now: int) -> tuple[Any, Any]:  # noqa: C901 — a table
    """One operation on both; what each says."""
    match operation:
        case "number.update":
            model.number = n
            return states.number.update(n), None
        case "number.clear":
            model.number = None
            return states.number.clear(), None
        case "number":
            return states.number.value(), 7 if model.number is None else model.number
        case "basket.update":
            model.basket = ([str(n)], False)
            return states.basket.update(Basket([str(n)])), None
        case "basket in place":
            basket = states.basket.value()
            if basket is None:
                return None, model.basket
            basket.items.append(str(n))
            basket.paid = not basket.paid
            assert model.basket is not None
            model.basket = ([*model.basket[0], str(n)], not model.basket[1])
            return (basket.items, basket.paid), model.basket
        case "log.add":
            model.log += [str(n)] * (n % 3)
            return states.log.add_all([str(n)] * (n % 3)), None
        case "log.update":
            model.log = [str(n)]
            return states.log.update([str(n)]), None
        case "log.clear":
            model.log = []
            return states.log.clear(), None
        case "log":
            return states.log.get(), model.log
        case "scores.put":
            model.scores[n] = [n]
            return states.scores.put(n, [n]), None
        case "scores in place":
            scores = states.scores.get(n)
            if scores is not None:
                scores.append(0)
                model.scores[n] = [*model.scores[n], 0]
            return scores, model.scores.get(n)
        case "scores.remove":
            model.scores.pop(n, None)
            return states.scores.remove(n), None
        case "scores all in place":
            for scores in states.scores.values():
                scores.append(1)
            model.scores = {key: [*value, 1] for key, value in model.scores.items()}
            return n in states.scores, n in model.scores
        case "scores":
            return sorted(states.scores.items()), sorted(model.scores.items())
        case "scores.clear":
            model.scores = {}
            states.scores.clear()
            return states.scores.is_empty(), True
        case "top.add":
            model.top = n if model.top is None else max(model.top, n)
            states.top.add(n)
            return states.top.get(), model.top
        case "recent.update" | "read.update":
            name = operation.split(".")[0]
            set_entry(model, name, n, now)
            return getattr(states, name).update(n), None
        case "recent" | "read":
            entry = getattr(model, operation)
            if operation == "read" and entry is not None:
                entry.since = max(entry.since, now)
            return getattr(states, operation).value(), None if entry is None else entry.value
        case "lately.add":
            set_entry(model, "lately", [*(model.lately.value if model.lately else []), n], now)
            return states.lately.add(n), None
        case "lately":
            return states.lately.get(), model.lately.value if model.lately else []
        case "recent.clear" | "read.clear" | "lately.clear":
            name = operation.split(".")[0]
            setattr(model, name, None)
            return getattr(states, name).clear(), None
        case "lately.update":
            model.lately = Entry([n], now)
            return states.lately.update([n]), None
        case "seen.remove":
            model.seen.pop(str(n), None)
            return states.seen.remove(str(n)), None
        case "seen.clear":
            model.seen = {}
            return states.seen.clear(), None
        case "seen.put":
            since = model.seen[str(n)].since if str(n) in model.seen else now
            model.seen[str(n)] = Entry(n, max(since, now))
            return states.seen.put(str(n), n), None
        case "seen.get":
            found = model.seen.get(str(n))
            if found is not None:
                found.since = max(found.since, now)
            return states.seen.get(str(n)), None if found is None else found.value
        case "seen":
            for entry in model.seen.values():
                entry.since = max(entry.since, now)
            expected = sorted((key, entry.value) for key, entry in model.seen.items())
            return sorted(states.seen.items()), expected
        case _:
            raise AssertionError(operation)


OPERATIONS = [
    "number.update", "number.clear", "number", "basket.update", "basket in place", "basket in place",
    "log.add", "log.add",
    "log.update", "log.clear", "log", "scores.put", "scores.put", "scores in place", "scores.remove",
    "scores all in place", "scores", "scores.clear", "top.add", "recent.update", "recent", "read.update", "read",
    "lately.add", "lately", "seen.put", "seen.put", "seen.get", "seen", "recent.clear", "read.clear", "lately.clear",
    "lately.update", "seen.remove", "seen.clear",
]  # fmt: skip
KEYS: list[Any] = ["a", 1, ("b", 2), -1, "c"]

_operations = st.tuples(
    st.sampled_from(KEYS), st.sampled_from(OPERATIONS), st.integers(0, 5), st.integers(0, 3)
)
_between = st.sampled_from(["leave", "write back", "reopen", "watermark"])
_scripts = st.lists(st.tuples(st.lists(_operations, max_size=4), _between), max_size=25)

BACKENDS: dict[str, Callable[[], KeyedStateBackend]] = {"memory": MemoryBackend, "rocksdb": RocksDBBackend}


@pytest.mark.parametrize("kind", BACKENDS)
def test_any_script_agrees_with_dictionaries(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles_map, "WHOLE", 2)
    monkeypatch.setattr(handles_list, "CHUNK", 3)

    @settings(max_examples=250 if kind == "memory" else 25, deadline=None)
    @given(_scripts)
    def agree(script: list[tuple[list[tuple[Any, str, int, int]], str]]) -> None:
        backend = BACKENDS[kind]()
        states, models, time, watermark = Bound(backend), {key: Model() for key in KEYS}, 0, 0
        for operations, then in script:
            for key, operation, n, passed in operations:
                time += passed
                states.enter(key, time)
                models[key].expire(time)
                said, expected = step(states, models[key], operation, n, time)
                assert said == expected, (key, operation, n, time)
            states.leave()
            match then:
                case "write back":
                    states.write_back()
                case "reopen":
                    states.write_back()
                    states = Bound(backend)
                    states.current.watermark = watermark
                    states.recover()
                case "watermark":
                    states.current.watermark = watermark = time
                    states.leave()
                    for model in models.values():
                        model.expire(time)
                case _:
                    assert then == "leave"
        states.current.watermark = time + 2 * TTL
        states.leave()
        states.leave()
        states.write_back()
        for handle in states.expiring:
            assert list(backend.groups(handle.address)) == []
            assert list(backend.groups(handle.expiry.address)) == []
        backend.close()

    agree()
