"""Operators' shares of a checkpoint.

An operator's share has three parts: values about the whole subtask, tables of rows by key, and the content of its
keyed backend. After a restore at another parallelism a subtask gets the shares of all subtasks whose key groups meet
its own, and keeps the rows of its own key groups: rescaling is arithmetic on key groups (Carbone et al., VLDB 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from streamflow.core.keys import key_groups
from streamflow.errors import DamagedError
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress

__all__ = ["EMPTY", "OperatorSnapshot", "StatePart", "Table", "rows_within", "take_groups", "whole"]

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


def take_groups(
    parts: Sequence[StatePart], target: KeyedStateBackend, states: Sequence[StateAddress], groups: range
) -> int:
    """Gives `target` what the parts have of these states in these key groups, where it is not adopted; returns how many
    keys were copied. The part that has most comes first: its files can be linked.

    >>> from streamflow.state.backends.memory import MemoryBackend
    >>> old, new, address = MemoryBackend(), MemoryBackend(), StateAddress("count-1", "totals")
    >>> old.put(address, 3, b"a", b"1"); old.put(address, 90, b"b", b"2")
    >>> take_groups([StatePart(range(128), {}, {}, old)], new, [address], range(0, 64)), list(new.groups(address))
    (1, [3])
    """
    foreign = [(part.groups, part.backend) for part in parts if part.backend is not None and not part.adopted]
    foreign.sort(
        key=lambda each: len(range(max(each[0].start, groups.start), min(each[0].stop, groups.stop)))
    )
    return sum(target.take(backend, states, groups) for _, backend in reversed(foreign))


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
