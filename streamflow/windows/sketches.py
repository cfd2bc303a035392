"""Approximate aggregates in bounded memory, by Apache DataSketches.

`approx_n_unique` is a CPC sketch (Lang 2017): about 1.5 % standard error in at most a kilobyte or two; the estimate
depends only on the set of values, not on their order or on how they were split. `approx_quantile` is a t-digest
(Dunning 2019): exact for few values, sharp at the tails, and without randomness (KLL draws random bits, so that a
replay would not repeat its results); its answers may differ in the last digits when the input is split differently.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Final

import polars as pl

from streamflow.core.kinds import SettledKind
from streamflow.core.one_zero import with_one_zero
from streamflow.windows.aggregate import FoldedAggregate, is_known
from streamflow.windows.kept_values import check_quantile

__all__ = ["ApproxDistinct", "ApproxQuantile"]

_LG_K: Final = 11
_T_DIGEST_K: Final = 200


@dataclass(frozen=True, eq=False)
class ApproxDistinct(FoldedAggregate):
    """The approximate number of distinct values, null being one of them; Int64."""

    label: ClassVar[str] = "approx_n_unique"
    constant_type: ClassVar[pl.DataType | None] = pl.Int64()

    def output(self, dtype: pl.DataType) -> pl.DataType:
        return pl.Int64()

    def fold(
        self,
        values: pl.Series,
        groups: Sequence[Sequence[int]],
        make: Callable[[Any], Any] | None = None,
    ) -> list[bytes]:
        sketches = _library()
        hashable = _hashable(values)
        folded: list[bytes] = []
        for positions in groups:
            sketch = sketches.cpc_sketch(_LG_K)
            for value in {hashable[position] for position in positions}:
                sketch.update(value)
            folded.append(bytes(sketch.serialize()))
        return folded

    def combine(self, accumulators: Sequence[bytes]) -> bytes:
        return bytes(_united(accumulators).serialize())

    def finish(
        self, accumulators: pl.Series, dtype: pl.DataType, settled: SettledKind | None = None
    ) -> pl.Series:
        # Always through a union: a sketch that was never merged estimates by the history of its updates.
        estimates = [round(_united([accumulator]).get_estimate()) for accumulator in accumulators]
        return pl.Series(accumulators.name, estimates, dtype=pl.Int64)


@dataclass(frozen=True, eq=False)
class ApproxQuantile(FoldedAggregate):
    """The approximate quantile of the values that are numbers (null and NaN are left out); Float64."""

    label: ClassVar[str] = "approx_quantile"
    constant_type: ClassVar[pl.DataType | None] = pl.Float64()
    q: float = 0.5

    def __post_init__(self) -> None:
        check_quantile(self.label, self.q)

    def fits(self, dtype: pl.DataType) -> bool:
        return dtype.is_numeric()

    def output(self, dtype: pl.DataType) -> pl.DataType:
        if (is_known(dtype) or dtype.is_nested()) and not self.fits(dtype):
            raise self.unfit(dtype, "it needs numbers")
        return pl.Float64()

    def fold(
        self,
        values: pl.Series,
        groups: Sequence[Sequence[int]],
        make: Callable[[Any], Any] | None = None,
    ) -> list[bytes]:
        sketches = _library()
        numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        folded: list[bytes] = []
        for positions in groups:
            digest = sketches.tdigest_double(_T_DIGEST_K)
            group = numbers[positions]
            # Sorted, so that one batch gives the same whatever its order is.
            group = group[group == group]  # NaN is the one number that differs from itself
            group.sort()
            digest.update(group)
            folded.append(digest.serialize())
        return folded

    def combine(self, accumulators: Sequence[bytes]) -> bytes:
        sketches = _library()
        digest = sketches.tdigest_double.deserialize(accumulators[0])
        for accumulator in accumulators[1:]:
            digest.merge(sketches.tdigest_double.deserialize(accumulator))
        return bytes(digest.serialize())

    def finish(
        self, accumulators: pl.Series, dtype: pl.DataType, settled: SettledKind | None = None
    ) -> pl.Series:
        sketches = _library()
        digests = map(sketches.tdigest_double.deserialize, accumulators)
        found = [None if digest.is_empty() else digest.get_quantile(self.q) for digest in digests]
        return pl.Series(accumulators.name, found, dtype=pl.Float64)


@cache
def _library() -> Any:
    """The DataSketches library, imported at first use because it imports numpy. It has no types."""
    return importlib.import_module("datasketches")


def _united(accumulators: Sequence[bytes]) -> Any:
    sketches = _library()
    union = sketches.cpc_union(_LG_K)
    for accumulator in accumulators:
        union.update(sketches.cpc_sketch.deserialize(accumulator))
    return union.get_result()


def _hashable(values: pl.Series) -> list[Any]:
    """Values as sketches take them: numbers, or texts with a letter put first (sketches ignore the empty text)."""
    dtype = values.dtype
    if dtype.is_temporal():
        values = values.to_physical()
    if dtype == pl.UInt64():
        values = values.reinterpret(signed=True)
    if values.dtype.is_float() or (values.dtype.is_integer() and values.dtype != pl.Int128()):
        return ["null" if value is None else value for value in values.to_list()]
    if dtype in (pl.String(), pl.Categorical()) or isinstance(dtype, pl.Enum):
        return ["null" if value is None else f"v{value}" for value in values.to_list()]
    return ["null" if value is None else f"v{with_one_zero(value)!r}" for value in values.to_list()]
