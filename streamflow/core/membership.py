"""Membership of rows' keys in another frame: a mask, cheaper than a join for the usual single key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.core.common_types import alike
from streamflow.errors import StateError

__all__ = ["has_key_in", "without_null_keys"]

_FOUND: Final = "\x1afound"


def has_key_in(rows: pl.DataFrame, others: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """A boolean Series, true for rows whose key is in `others`. Nulls equal each other.

    >>> has_key_in(pl.DataFrame({"k": ["a", "b"]}), pl.DataFrame({"k": ["b", "b"]}), ["k"]).to_list()
    [False, True]
    """
    rows, others = alike(rows, others, keys)
    for key in keys:
        one, other = rows.schema[key], others.schema[key]
        if one.is_nested() != other.is_nested():
            raise StateError(f"key {key} is a {one} in one place and a {other} in the state")
    if len(keys) == 1 and not rows.schema[keys[0]].is_nested():
        any_of = pl.lit(others[keys[0]]).implode()
        return rows.select(pl.col(keys[0]).is_in(any_of, nulls_equal=True)).to_series()
    found = others.select(keys).unique().with_columns(pl.lit(True).alias(_FOUND))
    return rows.join(found, on=list(keys), how="left", nulls_equal=True, maintain_order="left")[
        _FOUND
    ].is_not_null()


def without_null_keys(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The rows none of whose keys is null.

    >>> without_null_keys(pl.DataFrame({"k": ["a", None]}), ["k"]).rows()
    [('a',)]
    """
    if any(rows[key].null_count() for key in keys):
        return rows.filter(pl.all_horizontal(pl.col(*keys).is_not_null()))
    return rows
