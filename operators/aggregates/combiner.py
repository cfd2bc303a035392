"""`CombineSpec`: the partial aggregate of one batch, for the source's read-ahead, before the hash exchange.

It decides nothing about windows or lateness: all records of a key in one slice are in the same windows, so the
operator behind needs only a row per key and slice. For sessions a slice is as wide as the gap: records of a key
within it are in one session whatever else comes. Without windows it is a row per key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.python_times import shown_record
from streamflow.core.schema import EVENT_TIME, Schema, shown_name
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, RecordError, Where
from streamflow.operators.aggregates.partials import (
    END,
    FIRST,
    LAST,
    LATEST,
    SLICE,
    START,
    TIME,
    Extra,
    PartialPlan,
)
from streamflow.operators.contract.inputs import FRAMES, InputNeeds
from streamflow.operators.contract.operator import (
    BatchFunction,
    Collector,
    Layout,
    OperatorContext,
    PureSpec,
    Query,
)
from streamflow.operators.stateless.columns import roots
from streamflow.operators.stateless.null_keys import check_keys
from streamflow.windows.aggregate import Aggregate, FoldedAggregate
from streamflow.windows.assigners import Assigner, CountWindow, Session
from streamflow.windows.own_assigner import WindowAssigner, assigned
from streamflow.windows.python_functions import any_own
from streamflow.windows.slicing import SlicedAssigner, slice_expression, slice_function

__all__ = [
    "RECORD_END",
    "RECORD_SLICE",
    "RECORD_START",
    "CombineSpec",
    "Timestamp",
    "fragment_groups",
    "fragment_plan",
    "keyed_schema",
    "keyed_signature",
    "needed_inputs",
    "with_fragments",
]

NullKeys = Literal["fail", "group"]
Timestamp = Literal["end", "earliest", "latest"]
"""The event time of a result: its window's last moment, or that of its earliest or latest record."""
Aggregates = tuple[tuple[str, Aggregate], ...]

RECORD_SLICE: Final = "\x1aslice"
RECORD_START: Final = "\x1astart"
RECORD_END: Final = "\x1aend"
"""The start of a record's slice, or the bounds of its window, beside the whole record, which may have any columns."""

_plans: dict[tuple[int, int, str, Timestamp], tuple[Assigner | None, Aggregates, PartialPlan]] = {}
"""The cached plans with the objects that they were made for: while those are held, their identities are not used
again."""
_MOST_PLANS: Final = 256


def fragment_plan(
    assigner: Assigner | None, aggregates: Aggregates, records: StreamType, timestamp: Timestamp = "end"
) -> PartialPlan:
    """The plan for aggregates over records, with the extra columns that windows of this kind need.

    Made once: a plan keeps nothing, each subtask asks for it several times, and compiling it takes milliseconds.
    """
    key = (id(assigner), id(aggregates), repr(records), timestamp)
    known = _plans.get(key)
    if known is None:
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        extras = _extras(assigner, timestamp) if records.timed else []
        known = _plans[key] = (assigner, aggregates, PartialPlan(aggregates, records, extras))
    return known[2]


def _extras(assigner: Assigner | None, timestamp: Timestamp) -> list[Extra]:
    """The columns that windows of this kind need beside the aggregates'."""
    first = Extra(FIRST, TIME.min(), pl.col(FIRST).min())
    last = Extra(LAST, TIME.max(), pl.col(LAST).max())
    wanted: dict[Timestamp, list[Extra]] = {"end": [], "earliest": [first], "latest": [last]}
    match assigner:
        case Session() | CountWindow():
            return [first, last]
        case _ if isinstance(assigner, SlicedAssigner | WindowAssigner):
            return wanted[timestamp]
        case _:
            latest = Extra(LATEST, TIME.max(), pl.col(LATEST).max())
            return [latest, first] if timestamp == "earliest" else [latest]


def fragment_groups(assigner: Assigner | None, keys: Sequence[str]) -> list[str | pl.Expr]:
    """The grouping of a batch: the keys and, if windows are bounded, the slice."""
    match assigner:
        case Session(gap=gap):
            return [*keys, (TIME - TIME % gap).alias(SLICE)]
        case CountWindow():
            return [*keys, pl.col(RECORD_SLICE).alias(SLICE)]
        case WindowAssigner():
            return [*keys, pl.col(RECORD_START).alias(START), pl.col(RECORD_END).alias(END)]
        case _ if isinstance(assigner, SlicedAssigner):
            start = slice_expression(assigner, TIME)
            return [*keys, (pl.col(RECORD_SLICE) if start is None else start).alias(SLICE)]
        case _:
            return list(keys)


def with_fragments(assigner: Assigner | None, frame: pl.DataFrame) -> pl.DataFrame:
    """The records with the columns that the expressions of `fragment_groups` read beside them: the starts of their
    slices, or the bounds of their windows, null for those in none."""
    if isinstance(assigner, WindowAssigner):
        begin, end = assigned(assigner, frame[EVENT_TIME], lambda place: shown_record(frame, place))
        return frame.hstack([begin.alias(RECORD_START), end.alias(RECORD_END)])
    starts = slice_function(assigner)
    return (
        frame
        if starts is None
        else frame.hstack([starts(frame[EVENT_TIME].to_physical()).alias(RECORD_SLICE)])
    )


@dataclass(frozen=True)
class CombineSpec(PureSpec):
    """The reduction of one batch to a row per key and slice. `assigner` None: totals without windows."""

    kind: ClassVar[str] = "combine"
    takes: ClassVar[InputNeeds] = FRAMES
    emits: ClassVar[Layout] = Layout.FRAME
    keys: tuple[str, ...]
    assigner: Assigner | None
    aggregates: Aggregates
    null_keys: NullKeys = "fail"
    timestamp: Timestamp = "end"

    @property
    def pure(self) -> bool:  # type: ignore[override]
        return not self.calls_functions

    @property
    def calls_functions(self) -> bool:  # type: ignore[override]
        return any_own(self.aggregates)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        schema = keyed_schema(self.keys, inputs[0])
        plan = fragment_plan(self.assigner, self.aggregates, inputs[0], self.timestamp)
        fields = {key: schema[key] for key in self.keys}
        if isinstance(self.assigner, Session | SlicedAssigner):
            fields[SLICE] = pl.Int64()
        return StreamType(Schema(fields | plan.partial_columns()), timed=False)

    def function(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> BatchFunction:
        plan = fragment_plan(self.assigner, self.aggregates, inputs[0], self.timestamp)
        groups = fragment_groups(self.assigner, self.keys)
        checked = self.keys if self.null_keys == "fail" else ()
        # The user has written the operator that this is a part of.
        operator = ctx.operator_id.removesuffix("-combine")

        def run(batch: AnyBatch, out: Collector) -> None:
            assert isinstance(batch, FrameBatch)
            try:
                check_keys(batch.frame, checked, operator)
                out.emit(FrameBatch(plan.partial(with_fragments(self.assigner, batch.frame), groups)))
            except RecordError as error:
                raise error.at(Where(operator=operator)) from error.__cause__

        return run

    def keeps_partitioning(self, keys: tuple[str, ...]) -> bool:
        return keys == self.keys

    @property
    def is_query(self) -> bool:
        folded = any(isinstance(aggregate, FoldedAggregate) for _, aggregate in self.aggregates)
        return not folded and slice_function(self.assigner) is None

    def query(self, inputs: Sequence[StreamType]) -> Query | None:
        plan = fragment_plan(self.assigner, self.aggregates, inputs[0], self.timestamp)
        groups = fragment_groups(self.assigner, self.keys)
        if not plan.vectorised or slice_function(self.assigner) is not None:
            return None
        return lambda frame: plan.partial_query(frame, groups)

    def stands(self, result: pl.DataFrame) -> bool:
        return self.null_keys != "fail" or not any(result[key].null_count() for key in self.keys)

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        return needed_inputs(self.keys, self.aggregates)

    def describe(self) -> str:
        shown = ", ".join(str(aggregate) for _, aggregate in self.aggregates)
        return f"{shown} by {', '.join(map(shown_name, self.keys))}" + (
            "" if self.assigner is None else f", {self.assigner}"
        )


def keyed_schema(keys: Sequence[str], records: StreamType) -> Schema:
    """The columns of a keyed stream; raises JobDefinitionError if a key is missing."""
    schema = records.schema
    if not isinstance(schema, Schema):
        raise JobDefinitionError(
            "this stream holds Python objects, and aggregates need columns",
            hint="give the source a schema=, or the function before a return annotation or schema=",
        )
    for key in keys:
        schema.need(key)
    return schema


def keyed_signature(
    keys: Sequence[str], assigner: Assigner | None, aggregates: Aggregates, records: StreamType
) -> dict[str, Any]:
    """The facts that partials by key depend on: keys and their types, and each aggregate with its type."""
    schema, types = keyed_schema(keys, records), fragment_plan(assigner, aggregates, records).types
    return {
        "keys": {key: str(schema[key]) for key in keys},
        "aggregates": {name: f"{aggregate} as {types[name]}" for name, aggregate in aggregates},
    }


def needed_inputs(keys: Sequence[str], aggregates: Aggregates) -> frozenset[str] | None:
    """The columns that keys and aggregates read; None if they cannot be told."""
    read = roots(*(expression for _, aggregate in aggregates for expression in aggregate.expressions))
    return None if read is None else read | set(keys)
