"""Python functions on rows: map, flat_map, filter. Several in a row are fused into one operator.

If a function's schema names columns, its results are checked against them before any other code sees them.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from sys import getrefcount
from typing import Any, ClassVar, Final, Literal

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.copies import held_by, kept_inside, own_result, own_results, own_value
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import Schema, StreamSchema
from streamflow.core.stream_type import StreamType
from streamflow.errors import RecordError, StreamflowError, Where
from streamflow.operators.contract.error_policy import DEAD_LETTER_TYPE, Guard
from streamflow.operators.contract.operator import (
    Collector,
    ErrorPolicy,
    Layout,
    OnChanges,
    Operator,
    OperatorContext,
    OperatorSpec,
)
from streamflow.operators.stateless.lone_halves import HALVES, judged_batch, judges
from streamflow.operators.stateless.rows import calls, columns_of, each_row, seen, times_of
from streamflow.operators.stateless.user_functions import unfit_results
from streamflow.user_code import line_of_definition, raised_by_user

__all__ = ["Functions", "Step"]


@dataclass(frozen=True)
class Step:
    """One function; `schema` is that of its results, None for a filter."""

    kind: Literal["map", "flat_map", "filter"]
    function: Callable[[Any], Any]
    schema: StreamSchema | None = None
    on_error: ErrorPolicy = "fail"
    name: str = ""


@dataclass(frozen=True)
class Functions(OperatorSpec):
    """Functions applied one after the other to each row. Results of one with a schema are columns again, checked
    under its own policy."""

    on_changes: ClassVar[OnChanges] = "pass"
    calls_functions: ClassVar[bool] = True
    steps: tuple[Step, ...] = ()

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self.steps[0].kind if len(self.steps) == 1 else "functions"

    @property
    def emits(self) -> Layout:  # type: ignore[override]
        for step in reversed(self.steps):
            if step.schema is not None:
                return StreamType(step.schema, timed=False).layout
        return Layout.ANY

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        schema = inputs[0].schema
        for step in self.steps:
            if step.schema is not None:
                schema = step.schema
        apart = inputs[0].changes and any(step.kind == "flat_map" for step in self.steps)
        return StreamType(schema, inputs[0].timed, HALVES if apart else frozenset())

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE

    def fuse(self, id: str, following: OperatorSpec, following_id: str) -> OperatorSpec | None:
        if not isinstance(following, Functions):
            return None
        return Functions((*self._steps_of(id), *following._steps_of(following_id)))

    def _steps_of(self, id: str) -> tuple[Step, ...]:
        """The steps with their operators' ids: an error names the operator that the user wrote."""
        return tuple(replace(step, name=step.name or id) for step in self.steps)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _FunctionsOperator(self.steps, ctx, inputs)

    def describe(self) -> str:
        return " → ".join(getattr(step.function, "__name__", step.kind) for step in self.steps)


class _FunctionsOperator(Operator):
    def __init__(self, steps: tuple[Step, ...], ctx: OperatorContext, inputs: Sequence[StreamType]) -> None:
        guards = [Guard(step.name or ctx.operator_id, step.on_error, ctx.metrics) for step in steps]
        apart = [judges(inputs, step.on_error) for step in steps]
        self._steps = [*zip(steps, guards, apart, strict=True)]

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        for step, guard, judging in self._steps:
            if len(batch):
                batch = _Call(step, guard, out, judging).over(batch)
        out.emit(batch)


class _Call:
    """One function over one batch. `judging`: it is of changes, and bad ones are left out."""

    def __init__(self, step: Step, guard: Guard, out: Collector, judging: bool) -> None:
        self._judging = judging
        self._step = step
        self._guard = guard
        self._out = out
        self._errors: dict[int, RecordError] = {}

    def over(self, batch: AnyBatch) -> AnyBatch:
        self._batch = batch = seen(batch, self._guard, self._out, changing=self._judging)
        results = self._results()
        made: AnyBatch
        match self._step.kind:
            case "filter":
                made = self._kept(self._batch, results)
            case "map":
                # Times that are a column, and stay one, are not made Python values in between.
                stay = isinstance(batch, FrameBatch) and isinstance(self._step.schema, Schema)
                values = RowBatch(results) if stay else RowBatch(results, *times_of(batch))
                made = self._records(values, range(len(results)), batch if stay else None)
            case "flat_map":
                owners = [index for index, items in enumerate(results) for _ in items]
                flat = [item for items in results for item in items]
                times, marks = (_of_owners(each, owners) for each in times_of(batch))
                made = self._records(RowBatch(flat, times, marks), owners)
        self._guard.bad([self._errors[index] for index in sorted(self._errors)], self._out)
        return made

    def _results(self) -> list[Any]:
        """The function's result for each record, called once; None for an error."""
        kind = self._step.kind
        results: list[Any] = []
        function = _called(self._step, made=isinstance(self._batch, FrameBatch))
        if kind == "filter" and isinstance(self._batch, RowBatch):
            values = list(self._batch.values)
            self._batch = RowBatch(values, *times_of(self._batch))
            function = _asked(function, values, results)
        go_on = calls(self._batch, [function], [results])
        while len(results) < len(self._batch):
            try:
                go_on()
            except BaseException as raised:  # noqa: BLE001 — whatever a user's code raises is the record's error
                self._failed(len(results), raised_by_user(raised))
                results.append(() if kind == "flat_map" else None)
        return results

    def _failed(self, index: int, cause: BaseException) -> None:
        error = self._guard.error(cause, next(iter(each_row(self._batch, index, index + 1))))
        error.at(Where(code=line_of_definition(self._step.function)))
        self._errors.setdefault(index, error)
        if self._step.on_error == "fail":
            self._guard.bad([error], self._out)

    def _kept(self, batch: AnyBatch, answers: list[Any]) -> AnyBatch:
        """The records for which the answer is true; the truth of an answer may call a user's class."""
        if set(map(type, answers)) == {bool}:
            return batch if all(answers) else batch.chosen(answers)
        truths: list[bool] = []
        for index, why in unfit_results(answers).items():
            self._failed(index, StreamflowError(why))
            answers[index] = False
        for index, answer in enumerate(answers):
            try:
                truths.append(answer is True or (answer is not False and bool(answer)))
            except BaseException as raised:  # noqa: BLE001 — whatever a user's code raises is the record's error
                self._failed(index, raised_by_user(raised))
                truths.append(False)
        return batch.chosen(truths)

    def _records(
        self, results: RowBatch, owners: Sequence[int], timed_as: AnyBatch | None = None
    ) -> AnyBatch:
        """The results as records: columns if there is a schema.

        A record whose function failed, or whose result does not fit, puts out nothing; `owners` are the records of
        the results.
        """
        schema = self._step.schema
        batch: AnyBatch = results
        misfits = unfit_results(results.values)
        if isinstance(schema, Schema):
            batch, others = columns_of(results, schema, timed_as)
            misfits = {**others, **misfits}
        for position, why in misfits.items():
            if owners[position] not in self._errors:
                self._failed(owners[position], StreamflowError(why))
        if self._errors:
            batch = batch.chosen([owner not in self._errors for owner in owners])
        if not self._judging or self._step.kind == "flat_map":
            return batch
        return judged_batch(batch, [owner for owner in owners if owner not in self._errors])


def _of_owners(times: Sequence[int] | None, owners: Sequence[int]) -> list[int] | None:
    return None if times is None else [times[owner] for owner in owners]


def _called(step: Step, *, made: bool) -> Callable[[Any], Any]:
    """The step's function, wrapped for calling. `made`: rows are built for the calls, one at a time."""
    match step.kind:
        case "map":
            columns = step.schema.values() if isinstance(step.schema, Schema) else ()
            flat = bool(columns) and not any(dtype.is_nested() for dtype in columns)
            return _mapped(step.function, flat, made)
        case "flat_map":
            return _listed(step.function)
        case "filter":
            return step.function


def _listed(function: Callable[[Any], Iterable[Any]]) -> Callable[[Any], list[Any]]:
    """A function that returns a list of the iterable that `function` returns: a generator's errors then belong to its
    record."""

    def listed(value: Any) -> list[Any]:
        given: Any = function(value)
        if isinstance(given, _RECORDS) or not isinstance(given, Iterable):
            unfit_results([given])
            name = "nothing" if given is None else f"one {type(given).__name__}"
            raise StreamflowError(f"it gave {name}, not a list of records")
        return own_results(given)

    return listed


def _mapped(function: Callable[[Any], Any], flat: bool, made: bool) -> Callable[[Any], Any]:
    """A function whose results are safe from it: it may return one object each time, changed, or keep its argument."""
    held = _held_when_made()

    def mapped_row(value: Any) -> Any:
        return own_result(function(value), value, flat, held)

    def mapped(value: Any) -> Any:
        held = held_by(value)
        return own_result(function(value), value, flat, held)

    return mapped_row if made else mapped


@cache
def _held_when_made() -> int:
    """The number of references to a row that has just been built for a call."""
    found: list[Any] = []
    calls(FrameBatch(pl.DataFrame({"n": [1]})), [lambda row: held_by(row)], [found])()
    return found[0]  # type: ignore[no-any-return]


def _asked(function: Callable[[Any], Any], values: list[Any], answers: Sequence[Any]) -> Callable[[Any], Any]:
    """A function called with each of the `values`, in order; a value that it keeps is replaced by a copy. `answers`
    are its answers so far."""

    def asked(value: Any) -> Any:
        held = getrefcount(value)
        answer = function(value)
        if getrefcount(value) > held or kept_inside(value):
            values[len(answers)] = own_value(value)
        return answer

    return asked


_RECORDS: Final = (str, bytes, bytearray, Mapping)
"""Iterable types that are one record all the same."""
