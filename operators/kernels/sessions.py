"""Which fragments are one session: sorted and compared as integers, all keys at once.

A fragment is a row with FIRST and LAST, the times of its earliest and latest record, known to be in one session. Two
fragments of a key are in one session if they overlap or less than `gap` lies between them; so are those that a third
one joins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.operators.kernels.partials import FIRST, LAST

__all__ = ["SESSION", "with_sessions"]

SESSION: Final = "__session"

_CODE: Final = "__code"
_FROM: Final = "__from"
_TO: Final = "__to"
_LIMIT: Final = 2**62


def with_sessions(fragments: pl.DataFrame, keys: Sequence[str], gap: int) -> pl.DataFrame:
    """The fragments (at least one), in another order, with the number of their session in SESSION.

    Each key gets its own stretch of the integers, `gap` beyond the next one's reach, so that one sort and one
    running maximum over integers find the sessions of all keys.
    """
    codes = fragments.select(keys).unique().with_row_index(_CODE)
    low = int(fragments[FIRST].min())  # type: ignore[arg-type]
    stretch = int(fragments[LAST].max()) - low + gap  # type: ignore[arg-type]
    number = pl.Int64 if codes.height * stretch < _LIMIT else pl.Int128
    base = pl.col(_CODE).cast(number) * pl.lit(stretch, number)
    placed = (
        fragments.join(codes, on=list(keys), nulls_equal=True)
        .with_columns((base + (pl.col(FIRST) - low)).alias(_FROM), (base + (pl.col(LAST) - low)).alias(_TO))
        .sort(_FROM)
    )
    opens = placed[_FROM] - placed[_TO].cum_max().shift(1) >= gap
    session = opens.fill_null(True).cum_sum().alias(SESSION)
    return placed.drop(_CODE, _FROM, _TO).with_columns(session)
