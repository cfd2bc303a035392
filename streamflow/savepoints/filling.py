"""Rows of DataFrames as the keyed state of a `KeyedProcess`, written through the handles that it would have itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, cast

import polars as pl

from streamflow.core.keys import key_groups
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, RecordError, unknown_name
from streamflow.operators.process.keys import KeyColumns
from streamflow.operators.process.operator import EVENT_TIMERS, PROCESSING_TIMERS
from streamflow.operators.process.process import ProcessSpec
from streamflow.savepoints.keyed import INDEX, MAP_KEY, SINCE, TIME
from streamflow.savepoints.values import VALUE, stored_form
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress
from streamflow.state.keyed.cache import Current, StateCache, key_bytes
from streamflow.state.keyed.descriptors import (
    AggregatingState,
    BroadcastState,
    KeyedDeclaration,
    ListState,
    MapState,
    ReducingState,
    ValueState,
)
from streamflow.state.keyed.timers import TimerQueue
from streamflow.state.keyed.value_types import ValueType, value_type
from streamflow.time.clock import SystemClock

__all__ = ["StateFilling"]

_TIMERS: Final = (EVENT_TIMERS, PROCESSING_TIMERS)


class StateFilling:
    """A writer of one operator's state, through the handles that its process would have."""

    def __init__(
        self,
        operator: str,
        spec: ProcessSpec,
        inputs: Sequence[StreamType],
        backend: KeyedStateBackend,
        max_parallelism: int,
    ) -> None:
        self._operator = operator
        self._spec = spec
        schema = inputs[0].schema
        self._types = {name: schema[name] for name in spec.keys} if isinstance(schema, Schema) else {}
        self._keys = KeyColumns(spec.keys, self._types)
        self._backend = backend
        self._max_parallelism = max_parallelism
        self._current = Current()
        self._cache = StateCache(backend, operator, self._current)
        self._clock = SystemClock()

    def fill(self, frames: Mapping[str, pl.DataFrame]) -> dict[str, bytes]:
        """Writes all frames; returns the broadcast states, which are no part of the backend.

        Raises JobDefinitionError and RecordError for frames that do not fit the process.
        """
        declared = self._spec.declared
        keyed = {state.name: state for state in declared.keyed.values()}
        spread = {state.name: state for state in declared.broadcast.values()}
        for name in frames:
            if name not in keyed and name not in spread and name not in _TIMERS:
                message, hint = unknown_name("state", name, [*keyed, *spread, *_TIMERS])
                raise JobDefinitionError(message, hint=hint)
        # All of them before the first key: a key's slot has a place for each.
        handles = {name: _bound(state, self._cache) for name, state in keyed.items() if name in frames}
        for name, handle in handles.items():
            self._fill_keyed(keyed[name], handle, frames[name])
        self._cache.write_back()
        for handle in self._cache.handles:
            if handle.expiry is not None:
                handle.expiry.write_back()
        for name in _TIMERS:
            if name in frames:
                self._set_timers(name, frames[name])
        return {name: _broadcast(state, frames.get(name)) for name, state in spread.items()}

    def _fill_keyed(self, state: KeyedDeclaration[Any], handle: Any, frame: pl.DataFrame) -> None:
        listed = isinstance(state, ListState)
        if listed and INDEX in frame.columns:
            frame = frame.sort(INDEX, maintain_order=True)
        beside = [*self._spec.keys, *([INDEX] if listed else []), *([SINCE] if state.ttl else [])]
        entries = _entries(state, frame, beside)
        write = _writer(state, handle)
        times = self._since(state, frame)
        for (hashed, key, group), time, (entry, value) in zip(
            self._keyed(frame), times, entries, strict=True
        ):
            self._current.slot = self._cache.slot(hashed, key, group)
            self._current.time = self._current.wall = time
            write(entry, value)
        self._current.leave()

    def _since(self, state: KeyedDeclaration[Any], frame: pl.DataFrame) -> Iterable[int]:
        if state.ttl is not None and SINCE in frame.columns:
            return _micros(frame[SINCE])
        if state.ttl is not None and state.ttl.clock == "event":
            raise JobDefinitionError(
                f"state {state.name!r} expires by event time, and its frame has no times from which it counts",
                hint=f"add the column {SINCE!r}, a time",
            )
        return repeat(self._clock.now(), frame.height)

    def _set_timers(self, name: str, frame: pl.DataFrame) -> None:
        if TIME not in frame.columns:
            raise JobDefinitionError(f"the frame of {name} has no column {TIME!r}", hint="add it, a time")
        queue = TimerQueue(self._backend, StateAddress(self._operator, name))
        for (_, key, group), time in zip(self._keyed(frame), _micros(frame[TIME]), strict=True):
            queue.add(time, key_bytes(key), group)
        queue.write_back()

    def _keyed(self, frame: pl.DataFrame) -> Iterator[tuple[Any, Any, int]]:
        """The look-up form of each row's key, the key, and its group."""
        missing = [name for name in self._spec.keys if name not in frame.columns]
        if missing:
            raise JobDefinitionError(
                f"a frame lacks the key {', '.join(missing)}",
                hint=f"its keys are {', '.join(self._spec.keys)}; it has {', '.join(frame.columns)}",
            )
        keys = frame.select(self._spec.keys)
        known = {name: dtype for name, dtype in self._types.items() if dtype != pl.Unknown()}
        try:
            keys = keys.cast(known)  # type: ignore[arg-type]
        except pl.exceptions.PolarsError as error:
            raise JobDefinitionError(f"a frame's keys are not as the job's: {error}") from error
        groups = key_groups(keys, self._spec.keys, self._max_parallelism).to_list()
        hashed, shown = self._keys.of(keys)
        return zip(hashed, shown, groups, strict=True)


def _bound(state: KeyedDeclaration[Any], cache: StateCache) -> Any:
    """A handle that sets a key's stored state directly."""
    if not isinstance(state, (ReducingState, AggregatingState)):
        return state.bind(cache)
    value = ValueState[Any](Any, name=state.name)
    value.type, value.ttl = _stored_type(state), state.ttl
    return value.bind(cache)


def _stored_type(state: Any) -> ValueType:
    return value_type(Any) if isinstance(state, AggregatingState) else state.type


def _writer(state: KeyedDeclaration[Any], handle: Any) -> Callable[[Any, Any], None]:
    match state:
        case ListState():
            return lambda _, value: handle.add(value)
        case MapState():
            return handle.put  # type: ignore[no-any-return]
        case _:
            return lambda _, value: handle.update(value)


def _broadcast(state: BroadcastState[Any, Any], frame: pl.DataFrame | None) -> bytes:
    handle = state.bind()
    handle.writable = True
    if frame is not None:
        for key, value in _entries(state, frame, []):
            handle.put(key, value)
    return handle.snapshot()


def _entries(state: Any, frame: pl.DataFrame, beside: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """The map key (for a MapState) and the value of each row; `beside` are columns that are neither."""
    type_ = _stored_type(state)
    key_type: ValueType | None = getattr(state, "key_type", None)
    others = [*beside, *([MAP_KEY] if key_type else [])]
    fields = [name for name in frame.columns if name not in others]
    record: Mapping[str, Any] | None = None
    match type_.signature:
        case {"record": declared}:
            record = cast("Mapping[str, Any]", declared)
        case _:
            pass
    _check_columns(state.name, frame, fields, record, maps=key_type is not None)
    for row in frame.iter_rows(named=True):
        plain: Any = row[VALUE] if record is None else {name: row[name] for name in fields}
        entry = None if key_type is None else _loaded(state.name, key_type, row[MAP_KEY])
        yield entry, _loaded(state.name, type_, plain)


def _check_columns(
    state: str, frame: pl.DataFrame, fields: Sequence[str], record: Mapping[str, Any] | None, *, maps: bool
) -> None:
    wanted = [VALUE] if record is None else list(record)
    for name in fields:
        if name not in wanted:
            message, hint = unknown_name("column", name, wanted)
            raise JobDefinitionError(f"state {state!r} has {message}", hint=hint)
    needed = [*([MAP_KEY] if maps else []), *([VALUE] if record is None else [])]
    for name in needed:
        if name not in frame.columns:
            raise JobDefinitionError(
                f"the frame of state {state!r} has no column {name!r}",
                hint=f"it has {', '.join(frame.columns)}",
            )


def _loaded(state: str, type_: ValueType, plain: Any) -> Any:
    """A value of a frame as the process would have it."""
    stored = stored_form(type_.signature, plain)
    if stored is None or type_.load is None:
        return stored
    try:
        return type_.load(stored)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise RecordError(
            f"state {state!r} cannot hold this: {error}",
            record=plain,
            hint="give all fields without a default",
        ) from error


def _micros(times: pl.Series) -> list[int]:
    """Moments, or microseconds since 1970, as microseconds."""
    if isinstance(times.dtype, pl.Datetime):
        times = times.dt.cast_time_unit("us").to_physical()
    if times.dtype != pl.Int64 or times.null_count():
        raise JobDefinitionError(
            f"the column {times.name!r} holds no times", hint="give datetimes, or microseconds since 1970"
        )
    return times.to_list()
