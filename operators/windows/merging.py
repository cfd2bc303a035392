"""The merging of fragments to sessions: sorted and compared as integers, all keys at once.

A fragment is a row with FIRST and LAST, the times of its earliest and latest record, known to be in one session. Two
fragments of a key are in one session if they overlap or less than `gap` lies between them; so are those that a third
one joins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.operators.aggregates.partials import FIRST, LAST

__all__ = ["SESSION", "with_sessions"]

SESSION: Final = "__session"

_LIMIT: Final = 2**62


def with_sessions(
    fragments: pl.DataFrame, keys: Sequence[str], gap: int, *, first: str = FIRST, last: str = LAST
) -> pl.DataFrame:
    """The fragments (at least one) by key and `first`, with the number of their session in SESSION. `first` and `last`
    are the columns of their bounds.

    Each key gets its own stretch of the integers, `gap` beyond the reach of the one before, so that one running
    maximum over integers finds the sessions of all keys.
    """
    low = int(fragments[first].min())  # type: ignore[arg-type]
    stretch = int(fragments[last].max()) - low + gap  # type: ignore[arg-type]
    number = pl.Int64 if fragments.height * stretch < _LIMIT else pl.Int128
    key = pl.col(keys[0]) if len(keys) == 1 else pl.struct(keys)
    base = key.rle_id().cast(number) * pl.lit(stretch, number) - low
    opens = base + pl.col(first) - (base + pl.col(last)).cum_max().shift(1) >= gap
    session = opens.fill_null(True).cum_sum().alias(SESSION)
    return fragments.sort(*keys, first).with_columns(session)
