"""Queries over few rows, on Polars' in-memory engine, which has less to set up than the streaming one.

The result is the same on both. In streaming mode a batch may hold a hundred rows, and setting up was most of its
time.
"""

from __future__ import annotations

from typing import Final

import polars as pl

__all__ = ["collected", "collected_as_written"]

_AS_WRITTEN: Final = pl.QueryOptFlags.none()
_FEW: Final = 4_096


def collected(query: pl.LazyFrame, rows: int) -> pl.DataFrame:
    """The result of a query over a frame of so many rows. Raises Polars' own errors.

    >>> collected(pl.LazyFrame({"n": [1, 2]}).filter(pl.col("n") > 1), 2).rows()
    [(2,)]
    """
    return query.collect(engine="in-memory") if rows <= _FEW else query.collect()


def collected_as_written(query: pl.LazyFrame) -> pl.DataFrame:
    """The result of a query in which there is nothing to optimize, over few rows: looking for it takes as long as the
    query."""
    return query.collect(engine="in-memory", optimizations=_AS_WRITTEN)
