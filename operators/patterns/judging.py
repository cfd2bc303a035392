"""`JudgeSpec`: the conditions of a pattern over a batch, for the source's read-ahead, before the hash exchange.

Events for which no condition holds are left out where no step is strict: they can neither be part of a match nor end
one. Most events of most patterns are of that kind, and cost nothing from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import polars as pl

from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.error_policy import Guard
from streamflow.operators.contract.inputs import FRAMES, InputNeeds
from streamflow.operators.contract.operator import (
    BatchFunction,
    ErrorPolicy,
    Layout,
    OperatorContext,
    PureSpec,
    Query,
)
from streamflow.operators.patterns.automaton import Automaton
from streamflow.operators.patterns.conditions import HOLDS, Conditions
from streamflow.operators.stateless.columns import by_query

__all__ = ["JudgeSpec", "mattering"]


def mattering(automaton: Automaton, kept: Sequence[str]) -> pl.Expr | None:
    """Whether an event that has HOLDS can make a difference, or has a null in the columns `kept`; None: any can."""
    if automaton.strict:
        return None
    matters = pl.col(HOLDS) != 0
    return pl.any_horizontal(matters, pl.col(*kept).is_null()) if kept else matters


@dataclass(frozen=True, eq=False)
class JudgeSpec(PureSpec):
    """The conditions of an automaton, over events with these keys."""

    kind: ClassVar[str] = "conditions"
    takes: ClassVar[InputNeeds] = FRAMES
    emits: ClassVar[Layout] = Layout.FRAME
    keys: tuple[str, ...]
    automaton: Automaton
    records: StreamType
    record_columns: tuple[str, ...]
    null_keys: Literal["fail", "group"]
    on_error: ErrorPolicy

    @cached_property
    def _query(self) -> Query:
        judged = Conditions(self.automaton, self.records, self.record_columns).expression
        matters = mattering(self.automaton, self.keys if self.null_keys == "fail" else ())
        if matters is None:
            return lambda frame: frame.with_columns(judged)
        return lambda frame: frame.with_columns(judged).filter(matters)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        schema = inputs[0].schema
        assert isinstance(schema, Schema)
        return StreamType(Schema({**schema, HOLDS: pl.Int64()}), inputs[0].timed)

    def function(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> BatchFunction:
        # The user has written the operator that this is a part of.
        guard = Guard(ctx.operator_id.removesuffix("-combine"), self.on_error, ctx.metrics)
        return by_query(self._query, guard)

    @property
    def is_query(self) -> bool:
        return True

    def query(self, inputs: Sequence[StreamType]) -> Query | None:
        return self._query

    def keeps_partitioning(self, keys: tuple[str, ...]) -> bool:
        return True

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        return None

    def describe(self) -> str:
        return ", ".join(condition.label for condition in self.automaton.conditions)
