"""A frame divided by a number that each row has: its pane, its part, its subtask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

__all__ = ["partitioned"]

_NUMBER: Final = "\x1anumber"


def partitioned(frame: pl.DataFrame, numbers: pl.Series) -> Iterator[tuple[int, pl.DataFrame]]:
    """(number, its rows in order) for each of the rows' numbers.

    >>> frame = pl.DataFrame({"k": ["a", "b", "c"]})
    >>> [(number, part.rows()) for number, part in partitioned(frame, pl.Series([5, 0, 5]))]
    [(5, [('a',), ('c',)]), (0, [('b',)])]
    """
    if numbers.min() == numbers.max():
        if frame.height:
            yield int(numbers[0]), frame
        return
    columns = frame.columns
    for part in frame.hstack([numbers.alias(_NUMBER)]).partition_by(_NUMBER, maintain_order=True):
        yield int(part.item(0, _NUMBER)), part[columns]
