"""`Extract`: keys and aggregate inputs that are Python functions, evaluated once into columns.

The operators behind work on whole columns, and decide what the columns mean.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.kinds import SettledKind, any_column
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.core.values import framed, strict_column
from streamflow.errors import RecordError, Where
from streamflow.operators.contract.error_policy import DEAD_LETTER_TYPE, Guard
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import (
    ByInput,
    Collector,
    ErrorPolicy,
    Layout,
    OnChanges,
    Operator,
    OperatorContext,
    OperatorSpec,
)
from streamflow.operators.stateless.declared_schema import returned_schema
from streamflow.operators.stateless.lone_halves import judged_batch, judges
from streamflow.operators.stateless.null_keys import null_key
from streamflow.operators.stateless.rows import calls, each_row, seen, time_columns
from streamflow.user_code import line_of_definition, raised_by_user
from streamflow.windows.aggregate import Aggregate

__all__ = ["Extract", "JoinKeys"]

_UNKNOWN = pl.Unknown()
Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Extract(OperatorSpec):
    """Columns made by functions of one row: beside a frame's own, or alone for a stream of objects."""

    kind: ClassVar[str] = "key_by"
    on_changes: ClassVar[OnChanges] = "pass"
    calls_functions: ClassVar[bool] = True
    emits: ClassVar[Layout] = Layout.FRAME
    columns: tuple[tuple[str, Callable[[Any], Any]], ...] = ()
    reads: Layout = Layout.FRAME
    """The input's layout; ROWS for a stream of objects: only frames can keep their columns beside the made ones."""
    on_error: ErrorPolicy = "fail"
    inputs: tuple[tuple[str, Aggregate], ...] = ()
    """Aggregates by input column: a value of a type that the aggregate cannot be made of is a bad record."""
    needed: tuple[str, ...] = ()
    """Made columns in which a null is a bad record: keys."""

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(self.reads)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        before = inputs[0]
        fields: dict[str, pl.DataType] = dict(before.schema) if isinstance(before.schema, Schema) else {}
        for name, function in self.columns:
            schema = returned_schema(function)
            single = isinstance(schema, Schema) and list(schema) == ["value"]
            fields[name] = schema["value"] if isinstance(schema, Schema) and single else _UNKNOWN
        return StreamType(Schema(fields), before.timed)

    def one_row_each(self, keys: tuple[str, ...], before: ByInput) -> bool | None:
        made = {name for name, _ in self.columns}
        kept = self.reads is Layout.FRAME and made.isdisjoint(keys)
        return before(0, keys) if kept else super().one_row_each(keys, before)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        output = self.output_type(inputs).schema
        assert isinstance(output, Schema)
        refusals = {name: aggregate.refusal for name, aggregate in self.inputs}
        settled = {
            name: ctx.shared.setdefault(name, SettledKind(refusals.get(name))) for name, _ in self.columns
        }
        guard = Guard(ctx.operator_id, self.on_error, ctx.metrics)
        return _ExtractOperator(self, output, settled, guard, judging=judges(inputs, self.on_error))

    def describe(self) -> str:
        return ", ".join(name for name, _ in self.columns)


@dataclass(frozen=True)
class JoinKeys(Extract):
    """The keys of a side of a join, and its records."""

    kind: ClassVar[str] = "join_keys"


class _ExtractOperator(Operator):
    def __init__(
        self,
        spec: Extract,
        output: Schema,
        settled: Mapping[str, SettledKind],
        guard: Guard,
        *,
        judging: bool,
    ) -> None:
        self._judging = judging
        self._columns = spec.columns
        self._types = {name: None if output[name] == _UNKNOWN else output[name] for name, _ in spec.columns}
        self._needed = spec.needed
        self._settled = settled
        self._guard = guard

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        batch = seen(batch, self._guard, out, changing=self._judging)
        types: list[set[type]] = [set() for _ in self._columns]
        results, failed = self._evaluate(batch, types)
        if failed:
            self._guard.bad(list(failed.values()), out)
        columns: list[pl.Series] = []
        misfits: dict[int, _Misfit] = {}
        for (name, function), values, given in zip(self._columns, results, types, strict=True):
            dtype, label = self._types[name], _label(name, function)
            if dtype is None:
                # The value of one function for a record that another function failed for is not among the values.
                known = None if failed else given
                column, unfit = any_column(label, values, self._settled[name], known)
            else:
                column, unfit = strict_column(label, values, dtype)
            columns.append(column.alias(name))
            misfits |= {index: _Misfit(why, function, values[index]) for index, why in unfit.items()}
        if misfits:
            errors = self._errors(batch, misfits)
            self._guard.bad(list(errors.values()), out)
            failed |= errors
        if isinstance(batch, FrameBatch):
            frame = batch.frame.with_columns(columns)
        else:
            frame = framed([*columns, *time_columns(batch)])
        made = FrameBatch(frame)
        for name in self._needed:
            if frame[name].null_count():
                errors = self._null_keys(batch, name, frame[name], failed)
                self._guard.bad(list(errors.values()), out)
                failed |= errors
        if failed:
            made = made.chosen([index not in failed for index in range(len(batch))])
        kept = (index for index in range(len(batch)) if index not in failed)
        out.emit(judged_batch(made, kept) if self._judging else made)

    def _evaluate(
        self, batch: AnyBatch, types: Sequence[set[type]]
    ) -> tuple[list[list[Any]], dict[int, RecordError]]:
        """Each function's value for each row (None if it raised), and the errors by row. Adds the values' types to
        each function's set."""
        results: list[list[Any]] = [[] for _ in self._columns]
        go_on = calls(batch, [function for _, function in self._columns], results, types)
        raised: dict[int, BaseException] = {}
        last = results[-1]
        while len(last) < len(batch):
            try:
                go_on()
            except BaseException as error:  # noqa: BLE001 — whatever a user's code raises is the record's error
                index = len(last)
                raised[index] = raised_by_user(error)
                for values in results:
                    del values[index:]
                    values.append(None)
        return results, {index: self._guard.error(raised[index], row) for index, row in _rows(batch, raised)}

    def _null_keys(
        self, batch: AnyBatch, name: str, column: pl.Series, failed: Mapping[int, RecordError]
    ) -> dict[int, RecordError]:
        functions = dict(self._columns)
        rows = set(column.is_null().arg_true()) - failed.keys()
        where = Where(code=line_of_definition(functions[name]))
        return {index: null_key(name, row).at(where) for index, row in _rows(batch, rows)}

    def _errors(self, batch: AnyBatch, misfits: Mapping[int, _Misfit]) -> dict[int, RecordError]:
        """The errors of rows whose values fit no column, or not the promised one."""
        return {
            index: RecordError(
                misfits[index].why,
                record=row,
                where=Where(code=line_of_definition(misfits[index].function)),
                hint=_instead(misfits[index].value),
            )
            for index, row in _rows(batch, misfits)
        }


class _Misfit(NamedTuple):
    """A value that fits no column, or not the promised one, and the function that gave it."""

    why: str
    function: Function
    value: Any


def _instead(value: Any) -> str:
    """The hint for a value that fits no column."""
    if isinstance(value, tuple):
        return 'return a dict of its parts; several keys are given one by one, like key_by("a", "b")'
    if isinstance(value, Enum):
        return "return its name or its value"
    return "return one type for every record, or annotate the result's type"


def _rows(batch: AnyBatch, chosen: Collection[int]) -> Iterable[tuple[int, Any]]:
    return ((index, row) for index, row in enumerate(each_row(batch)) if index in chosen) if chosen else ()


def _label(name: str, function: Callable[[Any], Any]) -> str:
    """The name of a column in errors: its own, or that of the function or expression behind an aggregate's input."""
    return getattr(function, "__name__", name) if name.startswith("__") else name
