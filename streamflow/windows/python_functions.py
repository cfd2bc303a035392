"""Aggregates in Python: a user's `Aggregator`, and `reduce` by a function of two values.

Accumulators are msgpack bytes between batches (`windows.accumulators` says which values can be packed). Records of
one group are folded within a batch, and the batches' accumulators merged, in no promised order: the result must not
depend on it.
"""

from __future__ import annotations

import typing
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Final

import polars as pl

from streamflow.core.copies import own_result
from streamflow.core.kinds import SettledKind, any_column
from streamflow.core.schema import annotated_type
from streamflow.core.values import strict_column
from streamflow.errors import RecordError, StreamflowError, Where
from streamflow.user_code import line_of_definition, user_error
from streamflow.windows.accumulators import pack, unpack
from streamflow.windows.aggregate import Aggregate, FoldedAggregate, is_known

__all__ = ["Aggregator", "Reduce", "any_own"]

_OF_SEVERAL: Final = (
    "it sees several records, so on_error cannot leave out the bad one: filter or map them before"
)


@dataclass(frozen=True, eq=False)
class Aggregator(FoldedAggregate):
    """The base class of own aggregates: methods that begin, add a value, merge two accumulators, and give the result.

    The input is a column, an expression or a function of one row; nulls arrive as None, and a struct of columns as a
    dict, or as the dataclass or NamedTuple that `add`'s parameter is annotated with. An accumulator is anything
    that `windows.accumulators.pack` can keep; `add` and `merge` may change and return the one they were given. The
    return annotation of `result` (bool, int, float, str, bytes, datetime, date, time, timedelta, lists of such, each
    also `| None`) is the column's type; without one it is taken from the values when the job runs.

    >>> class Range(Aggregator):
    ...     def create(self) -> list[float]:
    ...         return []
    ...     def add(self, accumulator, value):
    ...         return [min([*accumulator, value]), max([*accumulator, value])]
    ...     def merge(self, left, right):
    ...         return [min(left + right), max(left + right)]
    ...     def result(self, accumulator) -> float:
    ...         return accumulator[1] - accumulator[0]
    >>> Range("delay").output(pl.Float64())
    Float64
    """

    @abstractmethod
    def create(self) -> Any:
        """A new accumulator without values."""

    @abstractmethod
    def add(self, accumulator: Any, value: Any) -> Any:
        """The accumulator with one more value."""

    @abstractmethod
    def merge(self, left: Any, right: Any) -> Any:
        """Two accumulators of different records as one."""

    @abstractmethod
    def result(self, accumulator: Any) -> Any:
        """The result of an accumulator."""

    @property
    def label(self) -> str:  # type: ignore[override]
        return type(self).__name__

    def output(self, dtype: pl.DataType) -> pl.DataType:
        try:
            hint = typing.get_type_hints(type(self).result).get("return")
        except (NameError, TypeError):
            return pl.Unknown()
        known = annotated_type(hint)
        return pl.Unknown() if known is None else known

    def fold(
        self,
        values: pl.Series,
        groups: Sequence[Sequence[int]],
        make: Callable[[Any], Any] | None = None,
    ) -> list[bytes]:
        items = values.to_list()
        folded: list[bytes] = []
        for positions in groups:
            accumulator, item = self._created(), None
            try:
                for position in positions:
                    item = items[position]
                    value = item if make is None or item is None else make(item)
                    before, accumulator = accumulator, self.add(accumulator, value)
                    if accumulator is None and before is not None:
                        raise StreamflowError(f"{self.label}.add returned nothing: return the accumulator")
            except BaseException as raised:
                raise user_error(f"{self.label}.add", raised, record=item) from raised
            folded.append(self._packed(accumulator, self.add))
        return folded

    def _created(self) -> Any:
        try:
            return own_result(self.create())
        except BaseException as raised:
            raise user_error(f"{self.label}.create", raised) from raised

    def combine(self, accumulators: Sequence[bytes]) -> bytes:
        unpacked = [unpack(accumulator) for accumulator in accumulators]
        try:
            merged = reduce(self.merge, unpacked)
        except BaseException as raised:
            raise user_error(f"{self.label}.merge", raised, record=unpacked, hint=_OF_SEVERAL) from raised
        return self._packed(merged, self.merge)

    def _packed(self, accumulator: Any, made_by: Callable[..., Any]) -> bytes:
        return pack(accumulator, what=f"the accumulator of {self.label}", where=_of(made_by))

    def finish(
        self, accumulators: pl.Series, dtype: pl.DataType, settled: SettledKind | None = None
    ) -> pl.Series:
        found: list[Any] = []
        for packed in accumulators:
            accumulator = unpack(packed)
            try:
                found.append(own_result(self.result(accumulator), accumulator))
            except BaseException as raised:
                raise user_error(f"{self.label}.result", raised, record=accumulator) from raised
        of, dtype = (self.label, self.result), self.output(dtype)
        return _series(
            accumulators.name, found, dtype, of, settled, "annotate the result's type, and return that"
        )


@dataclass(frozen=True, eq=False)
class Reduce(FoldedAggregate):
    """Values reduced pairwise by a function; a single value is its own result.

    The value is what the input column holds: a dict for a struct of columns, else the bare value. With `packed` the
    column holds values that `windows.accumulators.pack` made bytes of (streams of objects), and so does the result.
    """

    label: ClassVar[str] = "reduce"
    reducer: Callable[[Any, Any], Any] = max
    packed: bool = False

    def output(self, dtype: pl.DataType) -> pl.DataType:
        if self.packed:
            return pl.Binary()
        return dtype if is_known(dtype) else pl.Unknown()

    def fold(
        self,
        values: pl.Series,
        groups: Sequence[Sequence[int]],
        make: Callable[[Any], Any] | None = None,
    ) -> list[bytes]:
        items = values.to_list()
        if self.packed:
            items = [unpack(item) for item in items]
        return [self._reduced([items[position] for position in positions]) for positions in groups]

    def combine(self, accumulators: Sequence[bytes]) -> bytes:
        return self._reduced([unpack(accumulator) for accumulator in accumulators])

    def finish(
        self, accumulators: pl.Series, dtype: pl.DataType, settled: SettledKind | None = None
    ) -> pl.Series:
        if self.packed:
            return accumulators
        values = [unpack(accumulator) for accumulator in accumulators]
        of, dtype = (f"reduce with {_name(self.reducer)}", self.reducer), self.output(dtype)
        return _series(
            accumulators.name, values, dtype, of, settled, "return a record like the two that it is given"
        )

    def _shown(self) -> list[str]:
        return [*([] if self.packed else super()._shown()[:1]), _name(self.reducer)]

    def _reduced(self, items: list[Any]) -> bytes:
        value = items[0] if items else None
        for item in items[1:]:
            try:
                value = self.reducer(value, item)
            except BaseException as raised:
                raise user_error(
                    _name(self.reducer), raised, record=(value, item), hint=_OF_SEVERAL
                ) from raised
        return pack(value, what=f"the value of {_name(self.reducer)}", where=_of(self.reducer))


def any_own(aggregates: Iterable[tuple[str, Aggregate]]) -> bool:
    """Whether any of the named aggregates calls functions of the user's."""
    return any(isinstance(aggregate, (Aggregator, Reduce)) for _, aggregate in aggregates)


def _series(
    name: str,
    values: list[Any],
    dtype: pl.DataType,
    of: tuple[str, Callable[..., Any]],
    settled: SettledKind | None,
    hint: str,
) -> pl.Series:
    """The results of a function, `of` by what it is called, as a column."""
    column, misfits = (
        strict_column(name, values, dtype, whole=True)
        if is_known(dtype)
        else any_column(name, values, settled)
    )
    what, function = of
    for index, why in misfits.items():
        message = f"results of {what} do not fit one column: {why}"
        raise RecordError(message, record=values[index], where=_of(function), hint=hint)
    return column


def _of(function: Callable[..., Any]) -> Where:
    return Where(code=line_of_definition(function))


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "reduce")
