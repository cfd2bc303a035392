"""Hashes of the keys that one subtask looks up.

A key is often looked up in several places for one batch, and again when its row is due: a query that hashes ten keys
costs as much as all that is then done with the hashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from streamflow.core.keys import key_hashes
from streamflow.core.plain_keys import are_plain, keys_as_objects

__all__ = ["KeyHashes", "Sought", "distinct_keys"]

_MOST: Final = 2_048
"""The number of hashes that are remembered."""
_FEW: Final = 64
"""The number of keys up to which it takes less time to remember their hashes than to compute them."""


def distinct_keys(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.DataFrame, list[int]]:
    """The keys of a frame, each once, and their hashes, ascending."""
    sought = _sought(frame[list(columns)], columns)
    return sought.keys, sought.hashes


@dataclass(frozen=True, slots=True)
class Sought:
    """Keys that are looked up, and their hashes, each once and ascending. `values` has the value of each hash where
    there are few keys of one plain column."""

    rows: pl.DataFrame
    hashes: list[int]
    values: Mapping[int, object] = field(default_factory=dict[int, object])

    @property
    def keys(self) -> pl.DataFrame:
        """The keys, each once."""
        return self.rows if len(self.hashes) == self.rows.height else self.rows.unique()


def _sought(keys: pl.DataFrame, columns: Sequence[str]) -> Sought:
    return Sought(keys, sorted(set(key_hashes(keys, columns).to_list())))


class KeyHashes:
    """The hashes of keys in these columns; remembers some.

    >>> sought = KeyHashes(("k",)).sought(pl.DataFrame({"k": ["JFK", "LGA", "JFK"], "n": [1, 2, 3]}))
    >>> sought.keys.rows(), {value: key_hash % 128 for key_hash, value in sought.values.items()}
    ([('JFK',), ('LGA',)], {'JFK': 36, 'LGA': 109})
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._known: dict[Any, int] = {}

    def sought(self, frame: pl.DataFrame) -> Sought:
        """The keys of a frame."""
        keys = frame[self._columns]
        if keys.height > _FEW or not are_plain(keys.dtypes):
            return _sought(keys, self._columns)
        objects = keys_as_objects(keys, self._columns)
        known = self._known
        if any(key not in known for key in objects):
            if len(known) > _MOST:
                known.clear()
            known.update(zip(objects, key_hashes(keys, self._columns).to_list(), strict=True))
        places = {key: place for place, key in reversed(list(enumerate(objects)))}
        if len(places) < len(objects):
            keys = keys[sorted(places.values())]
        values = {known[key]: key for key in places}
        single = len(self._columns) == 1 and len(values) == len(places)
        return Sought(keys, sorted(values), values if single else {})
