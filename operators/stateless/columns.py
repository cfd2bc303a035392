"""Stateless operators on columns: filter, select, with_columns, rename, drop, explode. All pure Polars expressions.

Each is data plus one function from frame to frame; the output's columns come from running that function lazily on an
empty frame, so that a misspelt column is an error when the job is built.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar

import polars as pl
from polars.exceptions import ColumnNotFoundError, PolarsError, ShapeError

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import (
    CHANGE,
    EVENT_TIME,
    EVENT_TIME_TYPE,
    WATERMARK,
    Schema,
    check_not_reserved,
    is_shown,
)
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, cut, unknown_name
from streamflow.operators.contract.error_policy import DEAD_LETTER_TYPE, Guard
from streamflow.operators.contract.inputs import FRAMES, InputNeeds
from streamflow.operators.contract.operator import (
    BatchFunction,
    ByInput,
    Collector,
    ErrorPolicy,
    Layout,
    OperatorContext,
    OperatorSpec,
    PureSpec,
    Query,
)
from streamflow.operators.kernels.engine import collected
from streamflow.operators.stateless.fused import fused
from streamflow.operators.stateless.lone_halves import HALVES, ROW, judged, judges, with_lone
from streamflow.operators.stateless.per_row import check_per_row, written

__all__ = [
    "ColumnSpec",
    "Drop",
    "Explode",
    "Filter",
    "Rename",
    "Select",
    "WithColumns",
    "by_query",
    "checked_type",
    "chosen",
    "resolved_type",
    "roots",
    "union",
]

_UNKNOWN = pl.Unknown()


@dataclass(frozen=True, eq=False)
class ColumnSpec(PureSpec):
    """The common part of these operators: a frame goes in, `apply` makes another."""

    takes: ClassVar[InputNeeds] = FRAMES
    emits: ClassVar[Layout] = Layout.FRAME
    on_error: ErrorPolicy = "fail"
    one_each: ClassVar[bool] = False
    """Whether each record gives one."""

    @abstractmethod
    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The transformation; keeps the event-time column."""

    @property
    def is_query(self) -> bool:
        return True

    def query(self, inputs: Sequence[StreamType]) -> Query | None:
        if not self._judges(inputs):
            return self.apply
        return lambda frame: judged(self.apply(frame).with_row_index(ROW))

    def fuse(self, id: str, following: OperatorSpec, following_id: str) -> OperatorSpec | None:
        return fused(((id, self),), following, following_id)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return resolved_type(inputs[0], self.apply)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE

    def one_row_each(self, keys: tuple[str, ...], before: ByInput) -> bool | None:
        return super().one_row_each(keys, before) if any(map(self.overwrites, keys)) else before(0, keys)

    def function(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> BatchFunction:
        guard = Guard(ctx.operator_id, self.on_error, ctx.metrics)
        return by_query(self.apply, guard, judges=self._judges(inputs))

    def _judges(self, inputs: Sequence[StreamType]) -> bool:
        if not (self.one_each and judges(inputs, self.on_error)):
            return False
        made = self.output_type(inputs).schema
        return isinstance(made, Schema) and CHANGE in made


@dataclass(frozen=True, eq=False)
class Filter(ColumnSpec):
    """Keeps the rows for which a boolean expression is true (null counts as false, as in Polars)."""

    kind: ClassVar[str] = "filter"
    predicate: pl.Expr = pl.lit(True)  # noqa: RUF009 — an expression is immutable

    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.filter(self.predicate)

    def keeps_partitioning(self, keys: tuple[str, ...]) -> bool:
        return True

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        dtype = checked_type(inputs[0], self.predicate.alias("predicate"))["predicate"]
        if dtype not in (pl.Boolean(), _UNKNOWN):
            raise JobDefinitionError(
                f"filter needs a yes or no for each row, and {self.predicate} is {dtype}",
                hint='compare it with something, like col("delay") > 0',
            )
        return inputs[0]

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        return union(needed, roots(self.predicate))

    def describe(self) -> str:
        return str(self.predicate)


@dataclass(frozen=True, eq=False)
class Select(ColumnSpec):
    """These columns and no others; event time stays."""

    kind: ClassVar[str] = "select"
    one_each: ClassVar[bool] = True
    expressions: tuple[pl.Expr, ...] = ()

    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        times = _times(frame)
        if times and _several(self.expressions):
            return _beside_times(frame, times, lambda visible: visible.select(*self.expressions))
        if not times and roots(*self.expressions) == frozenset():
            # Constants alone would give one row instead of one per record, and nothing at all none.
            names = [expression.meta.output_name() for expression in self.expressions]
            made = frame.with_columns(*self.expressions)
            return made.select(names) if names else made.drop(made.collect_schema().names())
        return frame.select(*self.expressions, *times)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        _check_each(self.expressions, inputs[0])
        check_not_reserved(map(_output_name, self.expressions))
        return super().output_type(inputs)

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        return roots(*self.expressions)

    def overwrites(self, column: str) -> bool:
        return _puts_others(self.expressions, column)

    def describe(self) -> str:
        return ", ".join(_short(e) for e in self.expressions)


@dataclass(frozen=True, eq=False)
class WithColumns(ColumnSpec):
    """All columns, some of them new or replaced."""

    kind: ClassVar[str] = "with_columns"
    one_each: ClassVar[bool] = True
    expressions: tuple[pl.Expr, ...] = ()

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        _check_each(self.expressions, inputs[0])
        check_not_reserved(map(_output_name, self.expressions))
        return super().output_type(inputs)

    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        if _several(self.expressions) and (times := _times(frame)):
            return _beside_times(frame, times, lambda visible: visible.with_columns(*self.expressions))
        return frame.with_columns(*self.expressions)

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        if needed is None:
            return None
        made = {name for e in self.expressions if (name := _output_name(e)) is not None}
        return union(needed - made, roots(*self.expressions))

    def overwrites(self, column: str) -> bool:
        return _puts_others(self.expressions, column)

    def describe(self) -> str:
        return ", ".join(_short(e) for e in self.expressions)


@dataclass(frozen=True, eq=False)
class Rename(ColumnSpec):
    """Columns under other names: pairs of (old, new)."""

    kind: ClassVar[str] = "rename"
    names: tuple[tuple[str, str], ...] = ()

    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.rename(dict(self.names), strict=True)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        check_not_reserved(new for _, new in self.names)
        return super().output_type(inputs)

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        if needed is None:
            return None
        back = {new: old for old, new in self.names}
        return frozenset(back.get(name, name) for name in needed) | {old for old, _ in self.names}

    def one_row_each(self, keys: tuple[str, ...], before: ByInput) -> bool | None:
        back = {new: old for old, new in self.names}
        return before(0, tuple(back.get(name, name) for name in keys))

    def describe(self) -> str:
        return ", ".join(f"{old} → {new}" for old, new in self.names)


@dataclass(frozen=True, eq=False)
class _Named(ColumnSpec):
    """A transform of named columns, which it reads."""

    names: tuple[str, ...] = ()

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        return None if needed is None else needed | set(self.names)

    def describe(self) -> str:
        return ", ".join(self.names)


@dataclass(frozen=True, eq=False)
class Drop(_Named):
    """All columns but these."""

    kind: ClassVar[str] = "drop"

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        schema = inputs[0].schema
        if isinstance(schema, Schema):
            for name in self.names:
                schema.need(name)
        return super().output_type(inputs)

    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.drop(*self.names, strict=True)


def _puts_others(expressions: Sequence[pl.Expr], column: str) -> bool:
    """Whether one of the expressions puts something else than its values into a column."""
    own = pl.col(column)
    return any(
        _output_name(each) == column and not each.meta.undo_aliases().meta.eq(own) for each in expressions
    )


@dataclass(frozen=True, eq=False)
class Explode(_Named):
    """A row for each element of the lists in these columns."""

    kind: ClassVar[str] = "explode"
    changing: bool = False
    """Whether the records are changes: those of the two halves of an update may differ in number."""

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        schema = inputs[0].schema
        for name in self.names:
            dtype = schema.need(name) if isinstance(schema, Schema) else _UNKNOWN
            if not isinstance(dtype, (pl.List, pl.Array)) and dtype != _UNKNOWN:
                raise JobDefinitionError(
                    f"column {name!r} ({dtype}) holds no lists", hint="name columns that do"
                )
        made = super().output_type(inputs)
        return replace(made, changes=HALVES) if self.changing else made

    def one_row_each(self, keys: tuple[str, ...], before: ByInput) -> bool | None:
        return None

    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        if len(self.names) > 1:
            frame = frame.map_batches(self._checked, projection_pushdown=False)
        return (with_lone(frame) if self.changing else frame).explode(*self.names)

    def _checked(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame, if the lists of each record have one length; raises ShapeError otherwise.

        Polars compares the sums over all records, and mixes the records up where an empty list, which gives no row,
        and a null one, which gives one, make up for each other.
        """
        lengths = frame.select(_length(name, frame.schema[name]) for name in self.names)
        if not lengths.filter(pl.any_horizontal(pl.nth(0) != pl.exclude(self.names[0]))).is_empty():
            raise ShapeError(f"the lists of {', '.join(self.names)} differ in length")
        return frame


def by_query(query: Query, guard: Guard, *, judges: bool = False) -> BatchFunction:
    """A function that puts the frame of each batch through a query; the guard's policy treats bad records. `judges`:
    they are changes, each gives one, and what a bad one leaves of an update stands alone."""

    def collect(frame: pl.DataFrame) -> pl.DataFrame:
        return collected(query(frame.lazy()), frame.height)

    def numbered(frame: pl.DataFrame) -> pl.DataFrame:
        return collect(frame.drop(ROW)).hstack([frame[ROW]])

    def run(batch: AnyBatch, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        if judges:
            made = judged(guard.frame(batch.frame.with_row_index(ROW), numbered, out))
        else:
            made = guard.frame(batch.frame, collect, out)
        out.emit(FrameBatch(made))

    return run


def _length(name: str, dtype: pl.DataType) -> pl.Expr:
    """The lengths of a column's lists; null, which matches null alone, is -1."""
    column = pl.col(name)
    length = pl.lit(dtype.size) if isinstance(dtype, pl.Array) else column.list.len().cast(pl.Int64)
    return pl.when(column.is_null()).then(-1).otherwise(length).alias(name)


def chosen(selector: pl.Expr, columns: Mapping[str, pl.DataType]) -> list[str]:
    """The columns that a selector chooses; none for any other expression.

    >>> chosen(pl.col("a", "b"), {"a": pl.Int64(), "b": pl.String(), "c": pl.Date()})
    ['a', 'b']
    """
    if not selector.meta.is_column_selection():
        return []
    try:
        return pl.LazyFrame(schema=dict(columns)).select(selector).collect_schema().names()
    except PolarsError:
        return []


def roots(*expressions: pl.Expr) -> frozenset[str] | None:
    """The columns that expressions read; None if they cannot be told (selectors, all columns)."""
    names: set[str] = set()
    for expression in expressions:
        if expression.meta.has_multiple_outputs() or expression.meta.is_regex_projection():
            return None
        names.update(expression.meta.root_names())
    return frozenset(names)


def union(*columns: frozenset[str] | None) -> frozenset[str] | None:
    """The union of sets of columns; None (all columns) if one of them is None."""
    joined: frozenset[str] = frozenset()
    for some in columns:
        if some is None:
            return None
        joined |= some
    return joined


def checked_type(before: StreamType, *expressions: pl.Expr) -> Schema:
    """The columns that expressions make of records of this type.

    Raises JobDefinitionError as `resolved_type` does, and for an expression that depends on other records.
    """
    return _checked_type(before, _Written("\n".join(map(written, expressions)), expressions))


@dataclass(frozen=True)
class _Written:
    """Expressions, equal to others that are written alike."""

    text: str
    expressions: tuple[pl.Expr, ...] = field(compare=False)

    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.select(*self.expressions)


# Each subtask asks again for what was known when the job was built, and a query on no rows takes half a millisecond.
@lru_cache(maxsize=1024)
def _checked_type(before: StreamType, these: _Written) -> Schema:
    _check_each(these.expressions, before)
    made = resolved_type(before, these.apply).schema
    assert isinstance(made, Schema)
    return made


def _check_each(expressions: Sequence[pl.Expr], before: StreamType) -> None:
    check_per_row(*expressions, columns=before.schema if isinstance(before.schema, Schema) else None)


@lru_cache(maxsize=256)
def resolved_type(before: StreamType, apply: Callable[[pl.LazyFrame], pl.LazyFrame]) -> StreamType:
    """The type after a transformation, tried on no rows.

    Raises JobDefinitionError naming the column and the nearest one.

    A column whose type is known only when the job runs makes dependent columns' types unknown, too.
    """
    schema = before.schema
    if not isinstance(schema, Schema):
        raise JobDefinitionError(
            "this stream holds Python objects, and columns were asked for",
            hint="give the source a schema=, or the function before a return annotation or schema=",
        )
    unknown = {name for name, dtype in schema.items() if dtype == _UNKNOWN}
    fields: dict[str, pl.DataType] = {name: pl.Null() if name in unknown else d for name, d in schema.items()}
    if before.timed:
        fields[EVENT_TIME] = EVENT_TIME_TYPE
    try:
        after = apply(pl.LazyFrame(schema=fields)).collect().schema
    except ColumnNotFoundError as error:
        name = str(error).splitlines()[0].strip().strip('"').removeprefix("unable to find column ").strip('"')
        name = name.split('"')[0]
        message, hint = unknown_name("column", name, filter(is_shown, schema))
        raise JobDefinitionError(message, hint=hint) from error
    except PolarsError as error:
        raise JobDefinitionError(cut(str(error).splitlines()[0])) from error
    timed = EVENT_TIME in after.names()
    return StreamType(
        Schema(
            {
                name: _UNKNOWN if dtype == pl.Null() and unknown else dtype
                for name, dtype in after.items()
                if name != EVENT_TIME
            }
        ),
        timed=timed,
    )


def _output_name(expression: pl.Expr) -> str | None:
    if expression.meta.has_multiple_outputs():
        return None
    return expression.meta.output_name(raise_if_undetermined=False)


def _several(expressions: Sequence[pl.Expr]) -> bool:
    """Whether some expression stands for columns that it does not name: `pl.all()`, a selector, a pattern."""
    return any(expression.meta.has_multiple_outputs() for expression in expressions)


def _times(frame: pl.LazyFrame) -> list[str]:
    """The reserved columns of a frame that accompany any selection."""
    names = frame.collect_schema().names()
    return [name for name in (EVENT_TIME, WATERMARK) if name in names]


def _beside_times(
    frame: pl.LazyFrame, times: list[str], apply: Callable[[pl.LazyFrame], pl.LazyFrame]
) -> pl.LazyFrame:
    """The result of a transformation that does not see event times, so that no selector can change or select them."""
    return pl.concat([apply(frame.drop(times)), frame.select(times)], how="horizontal")


def _short(expression: pl.Expr) -> str:
    return cut(str(expression), 60)
