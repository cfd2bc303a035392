"""`MatchSpec`: a pattern looked for in the events of each key, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Final, Literal

import polars as pl

from streamflow.core.schema import EVENT_TIME_TYPE, Schema, shown_name
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.aggregates.state_order import state_order
from streamflow.operators.contract.error_policy import DEAD_LETTER_TYPE
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import (
    ERRORS,
    LATE,
    ErrorPolicy,
    Layout,
    Operator,
    OperatorContext,
    OperatorSpec,
)
from streamflow.operators.patterns.after_match import NO_SKIP, AfterMatch
from streamflow.operators.patterns.automaton import Automaton, TakingStep
from streamflow.operators.patterns.compiling import compiled
from streamflow.operators.patterns.conditions import Conditions
from streamflow.operators.patterns.judging import JudgeSpec
from streamflow.operators.patterns.pattern import Pattern
from streamflow.operators.process.keys import key_class
from streamflow.operators.process.process import WHOLE_RECORD

__all__ = ["MATCH_END", "MATCH_START", "TIMED_OUT", "TIMED_OUT_AT", "MatchSpec"]

TIMED_OUT: Final = "timed out"
"""The side output of partial matches whose time is over."""
MATCH_START: Final = "match_start"
MATCH_END: Final = "match_end"
TIMED_OUT_AT: Final = "timed_out_at"


@dataclass(frozen=True, eq=False)
class MatchSpec(OperatorSpec):
    """A pattern over records partitioned by `keys`.

    `record_columns` are the columns of an event, without made key columns; the packed object alone (WHOLE_RECORD) for a
    stream of objects. `records`, once the conditions are judged at the source: the type of the events there.
    """

    kind: ClassVar[str] = "match"
    emits: ClassVar[Layout] = Layout.FRAME
    keys: tuple[str, ...]
    pattern: Pattern
    record_columns: tuple[str, ...]
    after_match: AfterMatch = NO_SKIP
    null_keys: Literal["fail", "group"] = "fail"
    on_error: ErrorPolicy = "fail"
    shown_keys: tuple[str, ...] | None = None
    """The keys in the users' order, if a checkpoint has another order."""
    late_used: bool = False
    """Whether the late output is read: events then come one and all to where the watermark is."""
    records: StreamType | None = None

    @cached_property
    def automaton(self) -> Automaton:
        """The pattern as an automaton."""
        return compiled(self.pattern)

    def records_of(self, inputs: Sequence[StreamType]) -> StreamType:
        """The type of the events before their conditions are judged."""
        return inputs[0] if self.records is None else self.records

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        records = self.records_of(inputs)
        if not records.timed:
            raise JobDefinitionError(
                "a pattern needs event time, and this stream has none",
                hint='give it when reading: job.read(source, event_time="column")',
            )
        last = self.pattern.steps[-1]
        if last.absent and last.follows == "then" and self.pattern.time is None and last.within is None:
            raise JobDefinitionError(
                f"the pattern ends with the absence of {last.name!r}, and for how long?",
                hint='add within="10m" to it, or .within("10m") to the whole: it is certain when that time is over',
            )
        if all(step.optional for step in self.pattern.steps):
            raise JobDefinitionError(
                "all steps of the pattern are optional",
                hint="leave one as it is, so that a match has an event",
            )
        Conditions(self.automaton, records, self.record_columns)
        return StreamType(Schema(self._columns(records, (MATCH_START, MATCH_END))), timed=True)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        if output == ERRORS:
            return DEAD_LETTER_TYPE
        records = self.records_of(inputs)
        if output == LATE:
            return records
        return StreamType(Schema(self._columns(records, (MATCH_START, TIMED_OUT_AT))), timed=True)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        from streamflow.operators.patterns.operator import MatchOperator

        return MatchOperator(self, ctx, self.records_of(inputs))

    def split_combiner(self, inputs: Sequence[StreamType]) -> tuple[OperatorSpec, OperatorSpec] | None:
        # The errors of an operator that the planner made have no output.
        if self.records is not None or self.late_used or self.on_error == "dead_letter":
            return None
        judge = JudgeSpec(
            self.keys, self.automaton, inputs[0], self.record_columns, self.null_keys, self.on_error
        )
        return judge, replace(self, records=inputs[0])

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        schema = self._schema(self.records_of(inputs))
        return {
            "keys": [[key, key_class(schema[key])] for key in self.keys],
            "pattern": self.pattern.sequence,
            "within": self.pattern.time,
            "after_match": str(self.after_match),
            "columns": [[name, str(schema[name])] for name in self.record_columns],
        }

    def laid_out_as(self, saved: Mapping[str, Any]) -> OperatorSpec:
        keys = state_order(self.keys, (name for name, _ in saved.get("keys", ())))
        return self if keys == self.keys else replace(self, keys=keys, shown_keys=self.keys)

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, self.keys)

    def describe(self) -> str:
        by = ", ".join(map(shown_name, self.shown_keys or self.keys))
        rule = f", {self.after_match}" if self.after_match.skips else ""
        endless = "" if self.automaton.bounded else "; partial matches wait for ever, as it has no within(…)"
        return f"{self.pattern} by {by}{rule}{endless}"

    def _schema(self, records: StreamType) -> Schema:
        assert isinstance(records.schema, Schema)
        return records.schema

    def _columns(self, records: StreamType, times: tuple[str, str]) -> dict[str, pl.DataType]:
        """The columns of an output: keys, steps, times."""
        schema = self._schema(records)
        for key in self.keys:
            schema.need(key)
        keys = {shown_name(key): schema[key] for key in self.shown_keys or self.keys}
        event = self._event_type(schema)
        steps = {step.name: _column_type(step, event) for step in self.automaton.steps}
        for name in steps:
            if name in keys or name in (MATCH_START, MATCH_END, TIMED_OUT_AT):
                what = "a key" if name in keys else "a column that every match has"
                raise JobDefinitionError(
                    f"a step cannot be called {name!r}: that is {what}", hint="call it otherwise"
                )
        for key in keys:
            if key in times:
                raise JobDefinitionError(
                    f"a key cannot be named {key!r}: every match has that column",
                    hint="rename the column first",
                )
        return keys | steps | dict.fromkeys(times, EVENT_TIME_TYPE)

    def _event_type(self, schema: Schema) -> pl.DataType:
        if self.record_columns == (WHOLE_RECORD,):
            return pl.Binary()
        fields = {name: schema[name] for name in self.record_columns}
        return pl.Unknown() if pl.Unknown() in fields.values() else pl.Struct(fields)


def _column_type(step: TakingStep, event: pl.DataType) -> pl.DataType:
    return pl.List(event) if step.repeated and event != pl.Unknown() else event
