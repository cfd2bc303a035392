"""The aggregate contract: how one value per key and window is made of partial results.

An aggregate is immutable data. In columns it has three steps, all of them Polars expressions for a `group_by`:
`partials` (records to partial columns), `merges` (partial columns to fewer), `value` (to the result). Merging is
associative and commutative, so batches, splits and panes may be combined in any grouping. Partial columns have
reserved names, given by the `Slot`.

`FoldedAggregate` is the contract for aggregates that Polars expressions cannot compute (sketches, Python classes and
functions): its one partial column holds bytes, and Python folds each group.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import polars as pl

from streamflow.core.schema import is_pattern
from streamflow.errors import JobDefinitionError, cut

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

    from streamflow.core.kinds import SettledKind

__all__ = ["Aggregate", "AggregateInput", "FoldedAggregate", "Slot", "checked_input", "is_known"]

AggregateInput = str | pl.Expr | Callable[[Any], Any] | None
"""A column's name, an expression, a function of one row, or None for aggregates of whole records."""

_UNKNOWN = pl.Unknown()


def is_known(dtype: pl.DataType) -> bool:
    """Whether a type is known when the job is built; columns made by Python functions may get theirs only at run
    time."""
    match dtype:
        case pl.Struct():
            return all(is_known(_instance(field.dtype)) for field in dtype.fields)
        case pl.List() | pl.Array():
            return is_known(_instance(dtype.inner))
        case _:
            return dtype not in (_UNKNOWN, pl.Null())


def _filled(dtype: pl.DataType) -> pl.DataType:
    """A type in which what is not known is a whole number."""
    match dtype:
        case pl.Struct():
            return pl.Struct({field.name: _filled(_instance(field.dtype)) for field in dtype.fields})
        case pl.List() | pl.Array():
            return pl.List(_filled(_instance(dtype.inner)))
        case _:
            return dtype if is_known(dtype) else pl.Int64()


def _instance(dtype: PolarsDataType) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one aggregate's partial columns, and what the aggregate reads: its input's type, event time if
    there is any.

    If the input's type is known only when the job runs, `dtype` is Unknown until then, and the type of a batch's
    input (in `partials`) or of the partial column (in `value`) afterwards.

    >>> Slot(2, pl.Float64()).column(1)
    '__p2_1'
    """

    index: int
    dtype: pl.DataType = _UNKNOWN
    time: pl.Expr | None = None

    def column(self, part: int = 0) -> str:
        """The name of a partial column."""
        return f"__p{self.index}_{part}"


@dataclass(frozen=True, eq=False)
class Aggregate(ABC):
    """One aggregate of a window, made by `sf.count`, `sf.sum`, …; compared and rendered by its fields."""

    input: AggregateInput = None
    label: ClassVar[str] = "aggregate"
    constant_type: ClassVar[pl.DataType | None] = None
    """The type of the value if it is the same for all inputs."""

    @property
    def function(self) -> Callable[[Any], Any] | None:
        """The Python function that makes the input of a row; None where the input is a column or an expression."""
        return self.input if callable(self.input) and not isinstance(self.input, pl.Expr) else None

    @property
    def expression(self) -> pl.Expr:
        """The input as an expression; raises JobDefinitionError if it is still a Python function."""
        match self.input:
            case pl.Expr():
                return self.input
            case str():
                return pl.col(self.input)
            case None:
                return pl.lit(None)
            case _:
                raise JobDefinitionError(
                    f"{self} has a Python function as its input where a column is needed",
                    hint="evaluate it into a column first and hand that over with with_input()",
                )

    @property
    def expressions(self) -> tuple[pl.Expr, ...]:
        """All expressions that the aggregate reads of a record."""
        return () if self.input is None else (self.expression,)

    def with_input(self, expression: str | pl.Expr) -> Self:
        """The same aggregate over another input."""
        other = copy(self)  # not replace(): subclasses by users may have constructors of their own
        object.__setattr__(other, "input", expression)
        return other

    @abstractmethod
    def partials(self, slot: Slot) -> list[pl.Expr]:
        """Expressions from the records of a group to partial columns."""

    @abstractmethod
    def merges(self, slot: Slot) -> list[pl.Expr]:
        """Expressions from several partial rows of a group to one row."""

    @abstractmethod
    def value(self, slot: Slot) -> pl.Expr:
        """The expression from the partial columns of one row to the value."""

    def fits(self, dtype: pl.DataType) -> bool:
        """Whether the aggregate can be made of values of this (known) type."""
        return dtype != pl.Object()

    def most(self, dtype: pl.DataType) -> float | None:
        """The largest sum of partials of this type that does not wrap around; None if sums cannot wrap."""
        return None

    def outgrown(self, slot: Slot) -> pl.Expr | None:
        """An expression that is true if the value of a row does not fit its type; None if it always fits."""
        return None

    def output(self, dtype: pl.DataType) -> pl.DataType:
        """The type of the value for an input of type `dtype`; Unknown if it is known only when the job runs.

        Found by running the aggregate over no rows; raises JobDefinitionError if the input's type does not fit.
        """
        if self.input is not None and not is_known(dtype):
            if dtype.is_nested():
                self._check_nested(dtype)
            return self.constant_type or _UNKNOWN
        if self.input is not None and not self.fits(dtype):
            raise self.unfit(dtype, "it needs other values")
        slot = Slot(0, dtype, pl.col("time"))
        over = self if self.input is None else self.with_input("value")
        empty = pl.DataFrame(schema={"key": pl.Int8(), "value": dtype, "time": pl.Int64()})
        try:
            partial = empty.group_by("key").agg(over.partials(slot))
            merged = partial.group_by("key").agg(over.merges(slot))
            return merged.select(over.value(slot).alias("value")).schema["value"]
        except pl.exceptions.PolarsError as error:
            raise self.unfit(dtype, cut(str(error).splitlines()[0])) from error

    def _check_nested(self, dtype: pl.DataType) -> None:
        """Raises JobDefinitionError for a list or struct that does not fit, whatever is inside."""
        try:
            self.output(_filled(dtype))
        except JobDefinitionError as error:
            raise self.unfit(dtype, "it needs other values") from error

    def refusal(self, dtype: pl.DataType) -> str | None:
        """The reason why the aggregate cannot be made of values of a type seen at run time; None if it can."""
        try:
            found = self.output(dtype)
        except JobDefinitionError:
            return f"which {self.label} does not work on"
        if self.constant_type is not None and found != self.constant_type:
            return f"and {self.label} of such needs a type that is declared"
        return None

    def unfit(self, dtype: pl.DataType, reason: str) -> JobDefinitionError:
        """The error for values of a type that the aggregate cannot be made of."""
        return JobDefinitionError(
            f"{self} does not work on {dtype}: {reason}", hint="cast the input, or choose another aggregate"
        )

    def __str__(self) -> str:
        return f"{self.label}({', '.join(self._shown())})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Aggregate)
            and type(self) is type(other)
            and self._identity() == other._identity()
        )

    def __hash__(self) -> int:
        return hash((type(self), str(self)))

    def _parameters(self) -> dict[str, Any]:
        """The parameters that distinguish the aggregate beside its input."""
        return {name: value for name, value in vars(self).items() if name != "input"}

    def _identity(self) -> tuple[Any, ...]:
        return (_key(self.input), *((name, _key(value)) for name, value in self._parameters().items()))

    def _shown(self) -> list[str]:
        shown = [] if self.input is None else [_text(self.input)]
        return shown + [
            f"{name}={_text(value)}" for name, value in self._parameters().items() if value is not None
        ]


@dataclass(frozen=True, eq=False)
class FoldedAggregate(Aggregate):
    """An aggregate whose accumulators Python folds, one group at a time; accumulators travel as bytes."""

    @abstractmethod
    def fold(
        self,
        values: pl.Series,
        groups: Sequence[Sequence[int]],
        make: Callable[[Any], Any] | None = None,
    ) -> list[bytes]:
        """An accumulator for each group; a group is the positions of its records in `values`.

        `make` turns a value into the type that the user's method is annotated with.
        """

    @abstractmethod
    def combine(self, accumulators: Sequence[bytes]) -> bytes:
        """At least two accumulators of one group merged into one."""

    @abstractmethod
    def finish(
        self, accumulators: pl.Series, dtype: pl.DataType, settled: SettledKind | None = None
    ) -> pl.Series:
        """The values of finished groups.

        `dtype` is the input's type if it is known, `settled` the kind of the values given so far.
        """

    def partials(self, slot: Slot) -> list[pl.Expr]:
        return []

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [pl.col(slot.column())]

    def value(self, slot: Slot) -> pl.Expr:
        return pl.col(slot.column())

    @abstractmethod
    def output(self, dtype: pl.DataType) -> pl.DataType: ...


def checked_input(label: str, value: Any) -> AggregateInput:
    """An aggregate's input, checked; raises JobDefinitionError if it is not an input.

    >>> checked_input("sum", "value")
    'value'
    """
    if isinstance(value, str) and is_pattern(value):
        raise JobDefinitionError(
            f"{label}({value!r}) names no column: that is a pattern of names for Polars",
            hint="aggregate each column under a name of its own",
        )
    if isinstance(value, (str, pl.Expr)) or callable(value):
        return value  # type: ignore[no-any-return]
    raise JobDefinitionError(
        f"{label}({value!r}) has no input",
        hint="name a column, or give an expression or a function of one row",
    )


def _key(value: Any) -> Any:
    return ("expression", str(value)) if isinstance(value, pl.Expr) else value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return getattr(value, "__name__", None) or str(value)
