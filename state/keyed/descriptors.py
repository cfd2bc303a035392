"""Declarations of state as a process's class attributes: kind, types, time to live and version.

    class Totals(sf.KeyedProcess):
        total = sf.ValueState(float, default=0.0, ttl="1d")

A declaration is immutable data: the planner reads its signature, and each subtask binds it to a handle, found as
`self.total`: the state of the current key. Flink's StateDescriptor is the model.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Never, Self, TypedDict, TypeVar, Unpack, overload

from streamflow.errors import JobDefinitionError
from streamflow.state.keyed.broadcast import BroadcastHandle
from streamflow.state.keyed.cache import StateCache
from streamflow.state.keyed.list import ListHandle
from streamflow.state.keyed.map import MapHandle
from streamflow.state.keyed.ttl import TimeToLive, TtlClock, TtlRefresh, time_to_live
from streamflow.state.keyed.value import AggregatingHandle, ExpiringValueHandle, ReducingHandle, ValueHandle
from streamflow.state.keyed.value_types import ValueType, value_type
from streamflow.time.timestamps import Duration
from streamflow.windows.python_functions import Aggregator

__all__ = [
    "AggregatingState",
    "BroadcastState",
    "Declaration",
    "Declared",
    "KeyedDeclaration",
    "ListState",
    "MapState",
    "ReducingState",
    "ValueState",
    "declarations",
]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")
H = TypeVar("H")

_IN_THE_BODY: Final = "declare it in the class, beside on_event, and use it there as self.name"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,49}")


class Declaration(ABC, Generic[H]):
    """One declared state; `name` is its name in checkpoints, the attribute's name unless given. In a running process
    the attribute is a handle, H."""

    kind: str
    name: str

    def __init__(self, name: str | None, version: int) -> None:
        self.name = name or ""
        self.version = version

    def __set_name__(self, owner: type, name: str) -> None:
        if not self.name:
            self.name = name

    if not TYPE_CHECKING:  # type checkers find these mistakes by themselves

        def __getattr__(self, name: str) -> Never:
            told = "" if name.startswith("_") else f": {_IN_THE_BODY}"
            raise AttributeError(f"{type(self).__name__} has no {name!r}{told}")

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> H: ...
    def __get__(self, instance: object | None, owner: type) -> Self | H:
        if instance is None:
            return self
        raise JobDefinitionError(
            f"state {self.name!r} of {owner.__name__} was used outside of a running job",
            hint="use it in on_event, on_timer or on_broadcast",
        )

    @abstractmethod
    def signature(self) -> dict[str, Any]:
        """The facts that must stay the same for stored state to fit, as plain data."""

    def check(self, process: str) -> None:
        """Raises JobDefinitionError for a name that cannot stand in checkpoints."""
        if not _NAME.fullmatch(self.name):
            raise JobDefinitionError(
                f"{process}: a state cannot be named {self.name!r}",
                hint='use lower-case letters, digits and _, at most 50, or name it: name="total"',
            )


class StateOptions(TypedDict, total=False):
    """Options of each state by key. With `ttl` a value expires that long after its last write (`ttl_refresh="read"`: or
    read), by event time or `ttl_time="processing"`. State of another `version` is refused. `name` is the state's name
    in checkpoints, by default the attribute's."""

    ttl: Duration | None
    ttl_time: TtlClock
    ttl_refresh: TtlRefresh
    version: int
    name: str | None


class KeyedDeclaration(Declaration[H]):
    """One state by key."""

    ttl: TimeToLive | None = None
    type: ValueType

    def __init__(
        self,
        *,
        ttl: Duration | None = None,
        ttl_time: TtlClock = "event",
        ttl_refresh: TtlRefresh = "write",
        version: int = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(name, version)
        self.ttl = time_to_live(ttl, ttl_time, ttl_refresh)

    @abstractmethod
    def bind(self, cache: StateCache) -> H:
        """The handle over a subtask's state."""

    def signature(self) -> dict[str, Any]:
        clock = None if self.ttl is None else self.ttl.clock
        return {"kind": self.kind, "version": self.version, "ttl": clock, "type": self.type.signature}

    def _value_handle(self, cache: StateCache, default: Any) -> ValueHandle[Any]:
        if self.ttl is None:
            return ValueHandle(cache, self.name, self.type, default)
        return ExpiringValueHandle(cache, self.name, self.type, default, self.ttl)


class ValueState(KeyedDeclaration[ValueHandle[T]], Generic[T]):
    """One value per key: `value()`, `update(value)`, `clear()`. Without a value `value()` gives `default`.

    `type` is a class or annotation (str, int, float, bool, bytes, dates and times, Decimal, UUID, a dataclass,
    TypedDict or NamedTuple, lists, dicts and tuples of those, Any). With `ttl` a value expires that long after it was
    last written (`ttl_refresh="read"`: or read), by event time or `ttl_time="processing"`. Another `version` refuses
    state of the former one. Raises JobDefinitionError for a type that state cannot hold.

    >>> ValueState(float, default=0.0, ttl="1d").signature()
    {'kind': 'value', 'version': 1, 'ttl': 'event', 'type': 'float'}
    """

    kind = "value"

    @overload
    def __init__(self: ValueState[D], type: type[D], default: D, **options: Unpack[StateOptions]) -> None: ...
    @overload
    def __init__(
        self: ValueState[D | None], type: type[D], default: None = None, **options: Unpack[StateOptions]
    ) -> None: ...
    @overload
    def __init__(
        self: ValueState[Any], type: object, default: Any = None, **options: Unpack[StateOptions]
    ) -> None: ...
    def __init__(self, type: object, default: Any = None, **options: Unpack[StateOptions]) -> None:
        super().__init__(**options)
        self.type = value_type(type)
        if default is not None:
            default = self.type.checked(default, "the default: the state")
        self.default = default

    def bind(self, cache: StateCache) -> ValueHandle[T]:
        return self._value_handle(cache, self.default)


class ListState(KeyedDeclaration[ListHandle[T]], Generic[T]):
    """A list per key: `add`, `add_all`, `get`, `update`, `clear`. A TTL counts for the whole list.

    >>> ListState(int).signature()["type"]
    'int'
    """

    kind = "list"

    def __init__(self, type: type[T], **options: Unpack[StateOptions]) -> None:
        super().__init__(**options)
        self.type = value_type(type)

    def bind(self, cache: StateCache) -> ListHandle[T]:
        return ListHandle(cache, self.name, self.type, self.ttl)


class MapState(KeyedDeclaration[MapHandle[K, V]], Generic[K, V]):
    """A map per key: `get`, `put`, `remove`, `contains`, `items`, `clear`. Each entry has its own time to live. Equal
    times are one map key, whatever their zones; it comes back in UTC.

    >>> MapState(str, float).signature()["key"]
    'str'
    """

    kind = "map"

    def __init__(self, key_type: type[K], value_type_: type[V], **options: Unpack[StateOptions]) -> None:
        super().__init__(**options)
        self.key_type = value_type(key_type)
        self.type = value_type(value_type_)

    def signature(self) -> dict[str, Any]:
        return {**super().signature(), "key": self.key_type.signature}

    def bind(self, cache: StateCache) -> MapHandle[K, V]:
        return MapHandle(cache, self.name, self.key_type, self.type, self.ttl)


class ReducingState(KeyedDeclaration[ReducingHandle[T]], Generic[T]):
    """The values added for a key, combined two by two by a function: `add`, `get`, `clear`.

    >>> ReducingState(int, max).signature()["kind"]
    'reducing'
    """

    kind = "reducing"

    def __init__(self, type: type[T], function: Callable[[T, T], T], **options: Unpack[StateOptions]) -> None:
        super().__init__(**options)
        self.type = value_type(type)
        self.function = function

    def bind(self, cache: StateCache) -> ReducingHandle[T]:
        return ReducingHandle(self._value_handle(cache, None), self.function)


class AggregatingState(KeyedDeclaration[AggregatingHandle]):
    """The values added for a key, folded by an `Aggregator` (a class or an instance): `add`, `get`, `clear`.

    The aggregator's input is not used. Accumulators are stored as they are: lists, dicts, tuples and plain values.
    """

    kind = "aggregating"

    def __init__(self, aggregator: Aggregator | type[Aggregator], **options: Unpack[StateOptions]) -> None:
        super().__init__(**options)
        if isinstance(aggregator, type):
            aggregator = aggregator("value")
        if not isinstance(aggregator, Aggregator):
            raise JobDefinitionError(
                f"{aggregator!r} is no aggregator", hint="give a subclass of sf.Aggregator, or one of it"
            )
        self.aggregator = aggregator
        self.type = value_type(Any)

    def signature(self) -> dict[str, Any]:
        return {**super().signature(), "aggregator": self.aggregator.label}

    def bind(self, cache: StateCache) -> AggregatingHandle:
        return AggregatingHandle(self._value_handle(cache, None), self.aggregator)


class BroadcastState(Declaration[BroadcastHandle[K, V]], Generic[K, V]):
    """A map that every subtask has whole, written in `on_broadcast`, read anywhere: `get`, `put`, `remove`, `items`.

    >>> BroadcastState(str, float).signature()["kind"]
    'broadcast'
    """

    kind = "broadcast"

    def __init__(
        self, key_type: type[K], value_type_: type[V], *, version: int = 1, name: str | None = None
    ) -> None:
        super().__init__(name, version)
        self.key_type = value_type(key_type)
        self.type = value_type(value_type_)

    def signature(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "version": self.version,
            "key": self.key_type.signature,
            "type": self.type.signature,
        }

    def bind(self) -> BroadcastHandle[K, V]:
        """The map of one subtask, empty."""
        return BroadcastHandle(self.name, self.key_type, self.type)


@dataclass(frozen=True, slots=True)
class Declared:
    """All states that a class declares, by attribute."""

    keyed: Mapping[str, KeyedDeclaration[Any]]
    broadcast: Mapping[str, BroadcastState[Any, Any]]

    @property
    def attributes(self) -> frozenset[str]:
        """The attributes that are states."""
        return frozenset({*self.keyed, *self.broadcast})

    def signature(self) -> dict[str, Any]:
        """The signatures of all states, by name."""
        states = [*self.keyed.values(), *self.broadcast.values()]
        return {state.name: state.signature() for state in sorted(states, key=lambda state: state.name)}


def declarations(cls: type) -> Declared:
    """The declarations of a class and its bases; raises JobDefinitionError for names that do not work."""
    found: dict[str, Declaration[Any]] = {}
    for base in reversed(cls.__mro__):
        for attribute, value in vars(base).items():
            if isinstance(value, Declaration):
                found[attribute] = value
            else:
                found.pop(attribute, None)
    taken: dict[str, str] = {}
    for attribute, state in found.items():
        state.check(cls.__name__)
        if state.name in taken:
            raise JobDefinitionError(
                f"{cls.__name__}: {taken[state.name]} and {attribute} are states of one name, {state.name!r}",
                hint="give each its own name",
            )
        taken[state.name] = attribute
    keyed = {name: state for name, state in found.items() if isinstance(state, KeyedDeclaration)}
    broadcast: dict[str, BroadcastState[Any, Any]] = {
        name: state for name, state in found.items() if isinstance(state, BroadcastState)
    }
    return Declared(keyed, broadcast)
