"""The keyed state of a `KeyedProcess` in a checkpoint as frames: a row for each key, list element, map entry, timer.

The states and the types of their values are in the operator's signature; the bytes are those of the handles in
`state.keyed`, under the key's own bytes, none of which is a prefix of another's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, cast

import msgpack  # type: ignore[import-untyped]
import polars as pl

from streamflow.core.serde import unpack
from streamflow.errors import StateError
from streamflow.operators.process.operator import EVENT_TIMERS, PROCESSING_TIMERS
from streamflow.savepoints.values import column, moments, value_columns
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress
from streamflow.state.keyed.ttl import STAMP_BYTES, stamped_at
from streamflow.state.operator_snapshot import StatePart

__all__ = ["INDEX", "MAP_KEY", "SINCE", "TIME", "keyed_frame", "keyed_states"]

SINCE: Final = "since"
"""The column with the time from which a state's age counts, for time to live."""
MAP_KEY: Final = "map_key"
INDEX: Final = "index"
TIME: Final = "time"

_TIMERS: Final = (EVENT_TIMERS, PROCESSING_TIMERS)
_NUMBER_BYTES: Final = 4
_msgpack: Any = msgpack


def keyed_states(signature: Mapping[str, Any]) -> list[str]:
    """The names of an operator's states, and of its timers; none for operators of other kinds."""
    states = signature.get("states")
    return [*cast("Mapping[str, Any]", states), *_TIMERS] if isinstance(states, dict) else []


def keyed_frame(
    operator: str, state: str, signature: Mapping[str, Any], parts: Sequence[StatePart]
) -> pl.DataFrame:
    """The rows of one state, from all subtasks. Raises StateError if bytes do not fit the signature."""
    names = [str(name) for name, _ in signature["keys"]]
    address = StateAddress(operator, state)
    backends = [part.backend for part in parts if part.backend is not None]
    rows = chain.from_iterable(_rows(backend, address) for backend in backends)
    frame = _read(names, state, signature, rows, parts)
    by = [TIME] if state in _TIMERS else [name for name in names if name in frame.columns]
    by = [name for name in by if not frame[name].dtype.is_nested()]
    return frame.sort(by, maintain_order=True, nulls_last=True) if by else frame


def _read(
    names: list[str],
    state: str,
    signature: Mapping[str, Any],
    rows: Iterator[tuple[bytes, bytes]],
    parts: Sequence[StatePart],
) -> pl.DataFrame:
    if state in _TIMERS:
        return _timers(names, rows)
    declared: Mapping[str, Any] = signature["states"][state]
    expires = declared.get("ttl") is not None
    match declared["kind"]:
        case "list":
            return _lists(names, declared, rows, expires=expires)
        case "map":
            return _maps(names, declared, rows, expires=expires)
        case "broadcast":
            return _broadcast(state, declared, parts)
        case _:
            return _values(names, declared, rows, expires=expires)


def _rows(backend: KeyedStateBackend, address: StateAddress) -> Iterator[tuple[bytes, bytes]]:
    for group in backend.groups(address):
        yield from backend.scan(address, group)


def _values(
    names: list[str], declared: Mapping[str, Any], rows: Iterator[tuple[bytes, bytes]], *, expires: bool
) -> pl.DataFrame:
    keys: list[Any] = []
    values: list[Any] = []
    since: list[int] = []
    for key, data in rows:
        keys.append(unpack(key))
        if expires:
            since.append(stamped_at(data))
        values.append(unpack(data[STAMP_BYTES:] if expires else data))
    return _frame(
        [*_key_columns(names, keys), *value_columns(declared["type"], values), *_since(since, expires)]
    )


def _lists(
    names: list[str], declared: Mapping[str, Any], rows: Iterator[tuple[bytes, bytes]], *, expires: bool
) -> pl.DataFrame:
    """The elements of lists: a head says how many chunks follow it; the next key's head begins with none of its
    bytes."""
    keys: list[Any] = []
    indices: list[int] = []
    values: list[Any] = []
    since: list[int] = []
    head: bytes | None = None
    key: Any = None
    stamp = at = 0
    for stored, data in rows:
        if head is None or len(stored) != len(head) + _NUMBER_BYTES or not stored.startswith(head):
            head, key, at = stored, unpack(stored), 0
            stamp = stamped_at(data) if expires else 0
            continue
        chunk = unpack(data)
        if not isinstance(chunk, list):
            raise StateError(f"a chunk of the list of {key!r} is damaged", hint="verify the checkpoint")
        elements = cast("Sequence[Any]", chunk)
        keys += [key] * len(elements)
        indices += range(at, at + len(elements))
        values += elements
        if expires:
            since += [stamp] * len(elements)
        at += len(elements)
    index = pl.Series(INDEX, indices, dtype=pl.Int64)
    columns = value_columns(declared["type"], values)
    return _frame([*_key_columns(names, keys), index, *columns, *_since(since, expires)])


def _maps(
    names: list[str], declared: Mapping[str, Any], rows: Iterator[tuple[bytes, bytes]], *, expires: bool
) -> pl.DataFrame:
    keys: list[Any] = []
    map_keys: list[Any] = []
    values: list[Any] = []
    since: list[int] = []
    prefix: bytes | None = None
    key: Any = None
    for stored, data in rows:
        if prefix is None or not stored.startswith(prefix):
            prefix = _first_value(stored)
            key = unpack(prefix)
        keys.append(key)
        map_keys.append(unpack(stored[len(prefix) :]))
        if expires:
            since.append(stamped_at(data))
        values.append(unpack(data[STAMP_BYTES:] if expires else data))
    entry = column(MAP_KEY, declared["key"], map_keys)
    columns = value_columns(declared["type"], values)
    return _frame([*_key_columns(names, keys), entry, *columns, *_since(since, expires)])


def _broadcast(state: str, declared: Mapping[str, Any], parts: Sequence[StatePart]) -> pl.DataFrame:
    """The rows of a broadcast state, which all subtasks hold alike."""
    data = parts[0].values.get("broadcast", {}).get(state) if parts else None
    entries: list[Any] = [] if data is None else unpack(data)
    map_keys = [unpack(key) for key, _ in entries]
    values = [unpack(value) for _, value in entries]
    return _frame(
        [column(MAP_KEY, declared["key"], map_keys), *value_columns(declared["type"], values)],
    )


def _timers(names: list[str], rows: Iterator[tuple[bytes, bytes]]) -> pl.DataFrame:
    stored = [(stamped_at(key), key[STAMP_BYTES:]) for key, _ in rows]
    keys = [unpack(key) for _, key in stored]
    return _frame([*_key_columns(names, keys), moments(TIME, [time for time, _ in stored])])


def _first_value(data: bytes) -> bytes:
    """The bytes of the first of the packed values in a row."""
    unpacker = _msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(data)
    try:
        unpacker.skip()
    except (ValueError, msgpack.UnpackException) as error:
        raise StateError(
            f"the key of a map entry is damaged: {error}", hint="verify the checkpoint"
        ) from error
    return data[: unpacker.tell()]


def _key_columns(names: list[str], keys: list[Any]) -> list[pl.Series]:
    """The key columns. Numbers are stored without their type: integers and floats in one column are floats."""
    columns = [keys] if len(names) == 1 else [[key[at] for key in keys] for at in range(len(names))]
    return [_key_column(name, values) for name, values in zip(names, columns, strict=True)]


def _key_column(name: str, values: list[Any]) -> pl.Series:
    numbers = all(value is None or isinstance(value, (int, float)) for value in values)
    floats = numbers and any(isinstance(value, float) for value in values)
    return column(name, "float" if floats else "any", values)


def _since(since: list[int], expires: bool) -> list[pl.Series]:
    return [moments(SINCE, since)] if expires else []


def _frame(columns: list[pl.Series]) -> pl.DataFrame:
    """The columns side by side; of two with one name the later is renamed."""
    named: dict[str, pl.Series] = {}
    for series in columns:
        name = series.name
        while name in named:
            name += "_"
        named[name] = series
    return pl.DataFrame(named)
