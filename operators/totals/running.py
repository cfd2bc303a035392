"""Aggregates by key without a window: totals that change as records come.

Results carry a change kind, the keys and the aggregates: `update_before`, `update_after`, or `insert` for a new key;
at the end of a batch job inserts only (`cadence`). A total that comes out as it was is no change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal

from streamflow.core.schema import CHANGE, CHANGE_TYPE, Schema, shown_name
from streamflow.core.stream_type import EVERY_CHANGE, ChangeKind, StreamType, lack_of_kinds
from streamflow.errors import JobDefinitionError
from streamflow.operators.aggregates.combiner import (
    CombineSpec,
    fragment_plan,
    keyed_schema,
    keyed_signature,
    needed_inputs,
)
from streamflow.operators.aggregates.state_order import in_order, keyed_differences, keyed_order
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import (
    ByInput,
    Layout,
    OnChanges,
    Operator,
    OperatorContext,
    OperatorSpec,
)
from streamflow.operators.totals.cadence import in_cadence
from streamflow.operators.totals.retractable import RETRACTABLE, can_retract
from streamflow.operators.totals.retracting_totals import RetractingTotals
from streamflow.operators.totals.running_totals import RunningTotals
from streamflow.operators.windows.windowing import check_names
from streamflow.windows.aggregate import Aggregate
from streamflow.windows.python_functions import any_own

__all__ = ["RunningAggregateSpec"]

_KINDS: Final[frozenset[ChangeKind]] = frozenset({"insert", "update_before", "update_after"})


@dataclass(frozen=True)
class RunningAggregateSpec(OperatorSpec):
    """Aggregates per key over all records so far. `records`, with `partial_input`: the type of the combined records."""

    kind: ClassVar[str] = "aggregate"
    emits: ClassVar[Layout] = Layout.FRAME
    on_changes: ClassVar[OnChanges] = "take"
    keys: tuple[str, ...]
    aggregates: tuple[tuple[str, Aggregate], ...]
    null_keys: Literal["fail", "group"] = "fail"
    partial_input: bool = False
    records: StreamType | None = None
    shown: tuple[str, ...] | None = None
    """Keys and aggregates in the order of output, if a checkpoint has them in another order."""

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        records = self._records(inputs)
        if records.changes:
            self._check_changes(records)
        schema = keyed_schema(self.keys, records)
        check_names(tuple(map(shown_name, self.keys)), [CHANGE], [name for name, _ in self.aggregates])
        types = fragment_plan(None, self.aggregates, records).types
        keys = {shown_name(key): schema[key] for key in in_order(self.keys, self.shown)}
        shown = {name: types[name] for name in in_order(tuple(types), self.shown)}
        kinds = EVERY_CHANGE if records.changes else _KINDS
        return StreamType(Schema({CHANGE: CHANGE_TYPE} | keys | shown), records.timed, kinds)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        records = self._records(inputs)
        schema = self.output_type(inputs).schema
        assert isinstance(schema, Schema)
        columns, null_keys_fail = list(schema), self.null_keys == "fail"
        if records.changes:
            retracting = RetractingTotals(
                self.keys, self.aggregates, records, ctx, columns=columns, null_keys_fail=null_keys_fail
            )
            return in_cadence(retracting, ctx)
        result = RunningTotals(
            self.keys,
            fragment_plan(None, self.aggregates, records).in_run(ctx.shared),
            ctx,
            columns=columns,
            timed=records.timed,
            null_keys_fail=null_keys_fail,
            partial_input=self.partial_input,
        )
        return in_cadence(result, ctx)

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        records = self._records(inputs)
        signature = keyed_signature(self.keys, None, self.aggregates, records)
        return signature | {"changes": True} if records.changes else signature

    def check_state(self, saved: Mapping[str, Any], inputs: Sequence[StreamType]) -> list[str]:
        mine = self.state_signature(inputs)
        before, now = ("changes" if signature.get("changes") else "records" for signature in (saved, mine))
        if before != now:
            return [f"its input was {before} and is {now}"]
        return keyed_differences(saved, mine)

    def laid_out_as(self, saved: Mapping[str, Any]) -> OperatorSpec:
        changed = keyed_order(self.keys, self.aggregates, saved)
        return replace(self, **changed) if changed else self

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, self.keys)

    @property
    def calls_functions(self) -> bool:  # type: ignore[override]
        return any_own(self.aggregates)

    def split_combiner(self, inputs: Sequence[StreamType]) -> tuple[OperatorSpec, OperatorSpec] | None:
        if self.partial_input or inputs[0].changes:
            return None
        rest = replace(self, partial_input=True, records=inputs[0])
        return CombineSpec(self.keys, None, self.aggregates, self.null_keys), rest

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        read = None if self.partial_input else needed_inputs(self.keys, self.aggregates)
        return read | {CHANGE} if read is not None and inputs[0].changes else read

    def one_row_each(self, keys: tuple[str, ...], before: ByInput) -> bool | None:
        return set(keys) == set(map(shown_name, self.keys))

    def describe(self) -> str:
        shown = ", ".join(f"{name}={aggregate}" for name, aggregate in self.aggregates)
        return f"by {', '.join(map(shown_name, self.keys))}: {shown}"

    def _records(self, inputs: Sequence[StreamType]) -> StreamType:
        return inputs[0] if self.records is None else self.records

    def _check_changes(self, records: StreamType) -> None:
        """Raises JobDefinitionError if changes cannot be told, or not be taken back."""
        if not isinstance(records.schema, Schema) or CHANGE not in records.schema:
            raise lack_of_kinds(
                "the records", "keep that column, or aggregate the records that the result is made of"
            )
        for name, aggregate in self.aggregates:
            if not can_retract(aggregate):
                raise JobDefinitionError(
                    f"{name}={aggregate} cannot take back a record, and the records are changes of a result",
                    hint=f"use one of {', '.join(RETRACTABLE)}, or aggregate the records that the result is made of",
                )
