"""Slices of a large pane: its rows by a hash of their key, so that a part of them can be worked on at a time.

The hash is that of the key groups, by another modulus: the keys of one subtask, which are in few groups, spread over
all slices. Slices are powers of two in number, so each of few is the union of some of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.core.keys import key_hashes

__all__ = ["slice_of_hash", "slices_of", "slices_of_hashes"]

_MODULUS: Final = 32_749
"""A prime, so that it has no factor in common with any number of key groups."""


def slices_of(frame: pl.DataFrame, keys: Sequence[str], slices: int) -> pl.Series:
    """The slice of each row.

    >>> slices_of(pl.DataFrame({"k": ["JFK", "LGA", "EWR", "JFK"]}), ["k"], 2).to_list()
    [1, 1, 0, 1]
    """
    return slices_of_hashes(key_hashes(frame, keys), slices)


def slices_of_hashes(hashes: pl.Series, slices: int) -> pl.Series:
    """The slices of keys with these hashes."""
    return hashes % _MODULUS % slices


def slice_of_hash(key_hash: int, slices: int) -> int:
    """The slice of a key with this hash."""
    return key_hash % _MODULUS % slices
