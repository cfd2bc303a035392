"""Operators' shares of a checkpoint.

An operator's share has three parts: values about the whole subtask, tables of rows by key, and the content of its
keyed backend. After a restore at another parallelism a subtask gets the shares of all subtasks whose key groups meet
its own, and keeps the rows of its own key groups: rescaling is arithmetic on key groups (Carbone et al., VLDB 2017).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from streamflow.core.keys import key_groups
from streamflow.errors import DamagedError
from streamflow.state.backends.protocol import SLICE, KeyedStateBackend, StateAddress

__all__ = ["EMPTY", "OperatorSnapshot", "StatePart", "Table", "copy_groups", "rows_within", "whole"]

Table = Sequence[tuple[int, pl.DataFrame]]
"""Rows by key as (pane, frame), in order; frames of one table may differ in the width of a type."""


@dataclass(frozen=True, slots=True)
class OperatorSnapshot:
    """The state of one subtask's operator beside its backend, between two elements.

    `values` can be packed as msgpack. Each frame of `tables` has the key columns `keys`. The content never changes
    while the operator goes on: it is written later, on another thread.
    """

    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tables: Mapping[str, Table] = field(default_factory=dict[str, Table])
    keys: tuple[str, ...] = ()


EMPTY: Final = OperatorSnapshot()


@dataclass(frozen=True, slots=True)
class StatePart:
    """The share of one subtask of the run that took the checkpoint.

    `adopted`: it had the same key groups as the restored subtask, whose own backend already has the content.
    Otherwise `backend` is the old one, read-only; None if there was none.
    """

    groups: range
    values: Mapping[str, Any]
    tables: Mapping[str, Table]
    backend: KeyedStateBackend | None = None
    adopted: bool = False

    def number(self, name: str) -> int:
        """A whole number out of its values; raises DamagedError if it is missing.

        >>> StatePart(range(128), {"watermark": 7}, {}).number("watermark")
        7
        """
        return whole(self.values.get(name), name)


def whole(value: object, what: str) -> int:
    """A value that has to be a whole number; raises DamagedError otherwise."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise DamagedError(f"{what} is {value!r}, which is no whole number")


def copy_groups(
    source: KeyedStateBackend, target: KeyedStateBackend, address: StateAddress, groups: range
) -> int:
    """Copies the keys of one state that lie in `groups`; returns their number.

    >>> from streamflow.state.backends.memory import MemoryBackend
    >>> old, new, address = MemoryBackend(), MemoryBackend(), StateAddress("count-1", "totals")
    >>> old.put(address, 3, b"a", b"1"); old.put(address, 90, b"b", b"2")
    >>> copy_groups(old, new, address, range(0, 64)), list(new.groups(address))
    (1, [3])
    """
    copied = 0
    for group in source.groups(address):
        if group in groups:
            for rows in _slices(source.scan(address, group)):
                target.write(address, [(group, key, value) for key, value in rows])
                copied += len(rows)
    return copied


def _slices(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    part: list[tuple[bytes, bytes]] = []
    for row in rows:
        part.append(row)
        if len(part) == SLICE:
            yield part
            part = []
    if part:
        yield part


def rows_within(
    frame: pl.DataFrame, keys: Sequence[str], groups: range, max_parallelism: int
) -> pl.DataFrame:
    """The rows whose key lies in `groups`, in order.

    >>> frame = pl.DataFrame({"k": ["JFK", "LGA"], "n": [1, 2]})  # in the groups 36 and 109 of 128
    >>> rows_within(frame, ["k"], range(0, 64), 128).rows()
    [('JFK', 1)]
    """
    if len(groups) == max_parallelism or frame.is_empty():
        return frame
    return frame.filter(key_groups(frame, keys, max_parallelism).is_between(groups.start, groups.stop - 1))
