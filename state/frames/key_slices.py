"""Slices of a large pane: its rows by a hash of their key, so that a part of them can be worked on at a time.

The hash is that of the key groups, by another modulus: the keys of one subtask, which are in few groups, spread over
all slices. Slices are powers of two in number, so each of few is the union of some of many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from streamflow.core.keys import key_hashes
from streamflow.state.frames.partition import partitioned

__all__ = ["in_slices", "rows_in_slice", "slice_of_hash"]

_MODULUS: Final = 32_749
"""A prime, so that it has no factor in common with any number of key groups."""


def in_slices(frame: pl.DataFrame, keys: Sequence[str], slices: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """(slice, its rows in order) for each slice that has any.

    >>> frame = pl.DataFrame({"k": ["JFK", "LGA", "EWR", "JFK"], "n": [1, 2, 3, 4]})
    >>> [(number, part.rows()) for number, part in sorted(in_slices(frame, ["k"], 2))]
    [(0, [('EWR', 3)]), (1, [('JFK', 1), ('LGA', 2), ('JFK', 4)])]
    """
    return partitioned(frame, _slice_of(frame, keys, slices))


def rows_in_slice(frame: pl.DataFrame, keys: Sequence[str], number: int, slices: int) -> pl.DataFrame:
    """The rows of one slice, in order."""
    return frame.filter(_slice_of(frame, keys, slices) == number)


def slice_of_hash(key_hash: int, slices: int) -> int:
    """The slice of a key with this hash."""
    return key_hash % _MODULUS % slices


def _slice_of(frame: pl.DataFrame, keys: Sequence[str], slices: int) -> pl.Series:
    return key_hashes(frame, keys) % _MODULUS % slices
