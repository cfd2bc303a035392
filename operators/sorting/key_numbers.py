"""Numbers of the keys in a frame: nulls equal each other, and so do NaNs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

__all__ = ["key_numbers"]

_PLACE: Final = "__place"


def key_numbers(frame: pl.DataFrame, keys: Sequence[str]) -> list[int]:
    """For each row the position of the first row with its key.

    >>> key_numbers(pl.DataFrame({"k": ["a", None, "a", None]}), ["k"])
    [0, 1, 0, 1]
    """
    place = pl.col(_PLACE).first().over(list(keys))
    return frame.with_row_index(_PLACE).select(place).to_series().to_list()
