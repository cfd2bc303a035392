"""The keys of one subtask: tells its own rows among those that an earlier run kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from streamflow.errors import DamagedError
from streamflow.state.keyed.key_hashes import KeyHashes
from streamflow.state.operator_snapshot import StatePart, rows_within

__all__ = ["OwnedKeys"]


@dataclass(frozen=True, slots=True)
class OwnedKeys:
    """The key columns of an operator, and the key groups of the subtask. `within`: further columns by which rows of a
    key are told apart when they are looked up.

    >>> frame = pl.DataFrame({"k": ["JFK", "LGA"], "n": [1, 2]})  # in the groups 36 and 109 of 128
    >>> OwnedKeys(("k",), range(64, 128), 128).rows(frame).rows()
    [('LGA', 2)]
    """

    columns: tuple[str, ...]
    groups: range
    max_parallelism: int
    within: tuple[str, ...] = ()
    hashes: KeyHashes = field(init=False, compare=False, repr=False)
    """The hashes by which rows are looked up."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hashes", KeyHashes(self.looked_up))

    @property
    def looked_up(self) -> tuple[str, ...]:
        """The columns by which rows are looked up."""
        return (*self.columns, *self.within)

    def rows(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows of a frame that are its own."""
        return rows_within(frame, self.columns, self.groups, self.max_parallelism)

    def restored(
        self, parts: Sequence[StatePart], table: str, merge: Callable[[pl.DataFrame], pl.DataFrame]
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """Its own rows of a table in the parts; no empty frames.

        Raises DamagedError for a frame that `merge`, which makes one frame of several, cannot handle or changes in
        columns.
        """
        known: set[tuple[object, ...]] = set()
        for part in parts:
            for pane, frame in part.tables.get(table, ()):
                schema = tuple(frame.schema.items())
                if frame.height and schema not in known:
                    self._check(frame, table, merge)
                    known.add(schema)
                own = frame if part.adopted else self.rows(frame)
                if own.height:
                    yield pane, own

    def _check(self, frame: pl.DataFrame, table: str, merge: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        keyed = set(self.columns) <= set(frame.columns)
        # Twice: merges leave alone what stands once.
        if not keyed or set(merge(pl.concat([frame.head(1)] * 2)).columns) != set(frame.columns):
            raise DamagedError(f"table {table} has other columns than it needs: {', '.join(frame.columns)}")
