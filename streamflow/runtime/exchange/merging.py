"""Makes one batch of several small ones: each takes some time and memory beside its records."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch

__all__ = ["kind_of", "merged"]


def kind_of(batch: AnyBatch) -> object:
    """The layout, columns and times of a batch: only batches of which they are equal become one.

    >>> kind_of(RowBatch([1], [10])) == kind_of(RowBatch([2]))
    False
    """
    return batch.frame.schema if isinstance(batch, FrameBatch) else (batch.times is None, batch.marks is None)


def merged(batches: Sequence[AnyBatch]) -> AnyBatch:
    """The records of all batches, which are of one kind, as one batch, in order.

    >>> merged([RowBatch([1], [10]), RowBatch([2, 3], [11, 12])])
    RowBatch(values=[1, 2, 3], times=[10, 11, 12], marks=None)
    """
    frames = [batch.frame for batch in batches if isinstance(batch, FrameBatch)]
    if frames:
        return FrameBatch(pl.concat(frames, rechunk=True))
    rows = [batch for batch in batches if isinstance(batch, RowBatch)]
    return RowBatch(
        list(chain.from_iterable(batch.values for batch in rows)),
        None if rows[0].times is None else [time for batch in rows for time in batch.times or ()],
        None if rows[0].marks is None else [mark for batch in rows for mark in batch.marks or ()],
    )
