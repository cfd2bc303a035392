"""A batch: values and event times of many records, in one of two layouts behind one protocol.

`RowBatch` (here) is a list of Python values with a parallel list of event times: what Python functions see.
`FrameBatch` (`records.frame`) is a Polars DataFrame. Batches are immutable: an operator makes a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, runtime_checkable

__all__ = ["Batch", "Layout", "RowBatch"]

_ROW_BYTES = 200


class Layout(Enum):
    """How an operator wants its batches; the planner puts a visible `Convert` between two that differ."""

    FRAME = "frame"
    ROWS = "rows"
    ANY = "any"


@runtime_checkable
class Batch(Protocol):
    """What channels, exchanges and metrics need to know of a batch."""

    @property
    def layout(self) -> Layout: ...

    @property
    def nbytes(self) -> int:
        """An estimate of its size in memory, for channel credit."""
        ...

    @property
    def max_time(self) -> int | None:
        """The largest event time in microseconds; None if it is empty or carries no event time."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Python values and their event times (microseconds, UTC; None where the stream has no event time).

    >>> batch = RowBatch(["a", "b"], [10, 20])
    >>> len(batch), batch.max_time
    (2, 20)
    """

    values: Sequence[Any]
    times: Sequence[int] | None = None
    layout: Layout = field(default=Layout.ROWS, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.times is not None and len(self.times) != len(self.values):
            raise ValueError(f"{len(self.values)} values but {len(self.times)} event times")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        return len(self.values) * _ROW_BYTES

    @property
    def max_time(self) -> int | None:
        return max(self.times) if self.times else None
