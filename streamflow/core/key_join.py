"""Joins of frames on keys, compared as keys: nulls equal each other, and so do NaNs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import polars as pl

from streamflow.core.common_types import alike

__all__ = ["key_join"]

_ONE: Final = "\x1aone"


def key_join(
    left: pl.DataFrame, right: pl.DataFrame, keys: Sequence[str], how: Literal["inner", "left"] = "inner"
) -> pl.DataFrame:
    """The join `left.join(right, on=keys)` in the order of `left`, with keys compared as `group_by` does.

    Polars joins on one column of floats without matching NaN, and on several as `group_by` compares them.

    >>> one = pl.DataFrame({"k": [float("nan")], "n": [1]})
    >>> key_join(one, one.rename({"n": "m"}), ["k"]).rows()
    [(nan, 1, 1)]
    """
    left, right = alike(left, right, keys)
    if len(keys) > 1 or not left.schema[keys[0]].is_float():
        return left.join(right, on=list(keys), how=how, nulls_equal=True, maintain_order="left")
    one = pl.lit(0, pl.Int8).alias(_ONE)
    on = [*keys, _ONE]
    both = left.with_columns(one).join(
        right.with_columns(one), on=on, how=how, nulls_equal=True, maintain_order="left"
    )
    return both.drop(_ONE)
