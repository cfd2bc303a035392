"""Makes one batch of several small ones: each takes some memory beside its records."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch

__all__ = ["merged"]


def merged(batches: Sequence[AnyBatch]) -> AnyBatch | None:
    """Returns the records of all batches as one, in order; None if they are not of one kind.

    >>> merged([RowBatch([1], [10]), RowBatch([2, 3], [11, 12])])
    RowBatch(values=[1, 2, 3], times=[10, 11, 12], marks=None)
    >>> merged([RowBatch([1], [10]), RowBatch([2])]) is None
    True
    """
    frames = [batch.frame for batch in batches if isinstance(batch, FrameBatch)]
    rows = [batch for batch in batches if isinstance(batch, RowBatch)]
    if not rows:
        alike = all(frame.schema == frames[0].schema for frame in frames)
        return FrameBatch(pl.concat(frames, rechunk=True)) if alike else None
    kinds = {(batch.times is None, batch.marks is None) for batch in rows}
    if frames or len(kinds) > 1:
        return None
    return RowBatch(
        list(chain.from_iterable(batch.values for batch in rows)),
        None if rows[0].times is None else [time for batch in rows for time in batch.times or ()],
        None if rows[0].marks is None else [mark for batch in rows for mark in batch.marks or ()],
    )
