"""Seeded random numbers as Polars arithmetic.

Draw `i` of stream `s` is SplitMix64's output function on a counter, so a chunk can start anywhere, chunk
size does not change the data, and the same seed gives the same bytes wherever Polars runs. Zipf draws go
through the inverse of the cumulative distribution.
"""

from itertools import accumulate

import polars as pl

_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def uniform(start: int, length: int, *, seed: int, stream: int) -> pl.Series:
    """Draws `start … start + length − 1` of a stream: floats in [0, 1)."""
    origin = (seed * _MIX_1 + stream * _MIX_2) & _MASK
    counter = pl.int_range(start + 1, start + length + 1, dtype=pl.UInt64)
    z = counter * _u64(_GAMMA) + _u64(origin)
    z = (z ^ (z // _u64(1 << 30))) * _u64(_MIX_1)
    z = (z ^ (z // _u64(1 << 27))) * _u64(_MIX_2)
    z = z ^ (z // _u64(1 << 31))
    top_bits = z // _u64(1 << 11)  # 53 of them: what a double holds exactly
    return pl.select(top_bits.cast(pl.Float64) * 2.0**-53).to_series()


def zipf_cumulative(size: int, exponent: float) -> pl.Series:
    """Cumulative probabilities of a bounded zipf over ranks 0 … size − 1."""
    totals = list(accumulate(rank**-exponent for rank in range(1, size + 1)))
    return pl.Series([total / totals[-1] for total in totals], dtype=pl.Float64)


def zipf(cumulative: pl.Series, draws: pl.Series) -> pl.Series:
    """The rank that each uniform draw falls on."""
    return cumulative.search_sorted(draws, side="right")


def _u64(value: int) -> pl.Expr:
    return pl.lit(value, dtype=pl.UInt64)
