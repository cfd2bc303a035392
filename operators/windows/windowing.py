"""`WindowAggregateSpec`: aggregates per key and window, as data. Its logic is by the kind of window: slices for
tumbling and sliding ones, `sessions`, `global_windows`.

Results carry the keys, `window_start`, `window_end` and the aggregates; their event time is the window's last moment,
so that windows of equal size compose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal

import polars as pl

from streamflow.core.schema import CHANGE, CHANGE_TYPE, Schema, shown_name
from streamflow.core.stream_type import ChangeKind, StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.aggregates.combiner import (
    CombineSpec,
    fragment_groups,
    fragment_plan,
    keyed_schema,
    keyed_signature,
    needed_inputs,
)
from streamflow.operators.aggregates.partials import SLICE
from streamflow.operators.aggregates.state_order import in_order, keyed_differences, keyed_order
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import Layout, Operator, OperatorContext, OperatorSpec
from streamflow.operators.windows.emission import PANE_COLUMNS, WINDOW_COLUMNS, FiredPanes, PaneWriter
from streamflow.operators.windows.global_ import GlobalWindows
from streamflow.operators.windows.put_away import PutAway
from streamflow.operators.windows.sessions import SessionWindows
from streamflow.operators.windows.sliced import SlicedWindows
from streamflow.operators.windows.window_parts import WindowParts
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.windows.aggregate import Aggregate
from streamflow.windows.assigners import Assigner, GlobalWindow, Session, Sliding, Tumbling
from streamflow.windows.python_functions import any_own
from streamflow.windows.slicing import Slicing

__all__ = ["ALL_RECORDS", "Accumulation", "WindowAggregateSpec"]

Accumulation = Literal["accumulating", "discarding", "retracting"]

ALL_RECORDS: Final = "__all_records"
"""The key of windows without a key: a column that is the same in all records, and in no result."""


@dataclass(frozen=True)
class WindowAggregateSpec(OperatorSpec):
    """Aggregates per key and window.

    `allowed_lateness` in microseconds. `late_used`: the late output is read, so records come one by one and not
    pre-aggregated. `records`, with `partial_input`: the type of the records that a combiner has aggregated.
    """

    kind: ClassVar[str] = "window"
    emits: ClassVar[Layout] = Layout.FRAME
    keys: tuple[str, ...]
    assigner: Assigner
    aggregates: tuple[tuple[str, Aggregate], ...]
    allowed_lateness: int = 0
    accumulation: Accumulation = "accumulating"
    late_used: bool = False
    null_keys: Literal["fail", "group"] = "fail"
    pane_info: bool = False
    partial_input: bool = False
    records: StreamType | None = None
    shown: tuple[str, ...] | None = None
    """Keys and aggregates in the order of output, if a checkpoint has them in another order."""

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        records = self._records(inputs)
        if not records.timed:
            raise JobDefinitionError(
                "a window needs event time, and this stream has none",
                hint='give it when reading: job.read(source, event_time="column")',
            )
        schema = keyed_schema(self.keys, records)
        bounds = {} if isinstance(self.assigner, GlobalWindow) else dict(WINDOW_COLUMNS)
        change: dict[str, pl.DataType] = {CHANGE: CHANGE_TYPE} if self.accumulation == "retracting" else {}
        fields = change | {shown_name(key): schema[key] for key in self.shown_keys} | bounds
        panes = dict(PANE_COLUMNS) if self.pane_info else {}
        check_names(
            tuple(map(shown_name, self.keys)),
            [*change, *bounds, *panes],
            [name for name, _ in self.aggregates],
        )
        types = fragment_plan(self.assigner, self.aggregates, records).types
        shown = {name: types[name] for name in self.shown_names}
        return StreamType(Schema(fields | shown | panes), timed=True, changes=self._kinds)

    @property
    def shown_keys(self) -> tuple[str, ...]:
        """The keys in the order of output; none for windows of all records."""
        return tuple(key for key in in_order(self.keys, self.shown) if key != ALL_RECORDS)

    @property
    def shown_names(self) -> tuple[str, ...]:
        """The aggregates in the order of output."""
        return in_order([name for name, _ in self.aggregates], self.shown)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return self._records(inputs)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        plan = fragment_plan(self.assigner, self.aggregates, self._records(inputs)).in_run(ctx.shared)
        retracting = self.accumulation == "retracting"
        by = [*self.keys] if isinstance(self.assigner, GlobalWindow) else [*self.keys, SLICE]
        owned = OwnedKeys(self.keys, ctx.groups, ctx.max_parallelism)
        fired = None
        if self.allowed_lateness and (retracting or self.pane_info):
            history = FrameStore(
                ctx.state,
                ctx.operator_id,
                FiredPanes.merged,
                ctx.memory_budget,
                owned,
                state="fired",
                replacing=True,
            )
            fired = FiredPanes(
                history, self.keys, self.allowed_lateness, growing=isinstance(self.assigner, Session)
            )
        parts = WindowParts(
            operator_id=ctx.operator_id,
            keys=list(self.keys),
            plan=plan,
            groups=fragment_groups(self.assigner, self.keys),
            allowed_lateness=self.allowed_lateness,
            discarding=self.accumulation == "discarding",
            null_keys_fail=self.null_keys == "fail",
            partial_input=self.partial_input,
            store=FrameStore(
                ctx.state, ctx.operator_id, lambda frame: plan.merge(frame, by), ctx.memory_budget, owned
            ),
            writer=PaneWriter(
                self.shown_keys,
                self.shown_names,
                retracting=retracting,
                pane_info=self.pane_info,
                allowed_lateness=self.allowed_lateness,
                fired=fired,
                marked=ctx.marks,
            ),
            owned=owned,
            metrics=ctx.metrics,
        )
        match self.assigner:
            case GlobalWindow():
                return GlobalWindows(
                    parts, self._columns(inputs), retracting=retracting, pane_info=self.pane_info
                )
            case Session(gap=gap):
                return SessionWindows(
                    gap,
                    parts,
                    ctx.memory_budget,
                    lambda merge: PutAway(ctx.state, ctx.operator_id, ctx.memory_budget, owned, merge),
                )
            case Tumbling() | Sliding() as assigner:
                return SlicedWindows(Slicing.of(assigner), parts)

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        keyed = keyed_signature(self.keys, self.assigner, self.aggregates, self._records(inputs))
        return keyed | {
            "window": str(self.assigner),
            "allowed_lateness": self.allowed_lateness,
            "accumulation": self.accumulation,
            "pane_info": self.pane_info,
        }

    def check_state(self, saved: Mapping[str, Any], inputs: Sequence[StreamType]) -> list[str]:
        """Reasons why state does not fit. Windows that fire once are the same for any output. Those that may fire
        again need the kept panes, and nothing is kept of windows that are over."""
        lateness = int(saved.get("allowed_lateness", 0))
        compared = dict(saved)
        if lateness == self.allowed_lateness == 0:
            compared |= {"accumulation": self.accumulation, "pane_info": self.pane_info}
        elif lateness > self.allowed_lateness and self.accumulation != "retracting" and not self.pane_info:
            compared["allowed_lateness"] = self.allowed_lateness
        mine = self.state_signature(inputs)
        keyed = {"keys": mine["keys"], "aggregates": mine["aggregates"]}
        return [*keyed_differences(saved, mine), *super().check_state(compared | keyed, inputs)]

    def laid_out_as(self, saved: Mapping[str, Any]) -> OperatorSpec:
        changed = keyed_order(self.keys, self.aggregates, saved)
        return replace(self, **changed) if changed else self

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, self.keys)

    @property
    def _kinds(self) -> frozenset[ChangeKind]:
        """The kinds of change of its results: with late records a pane is replaced, and sessions merge."""
        kinds = set[ChangeKind]()
        if self.accumulation == "retracting":
            kinds.add("insert")
            if self.allowed_lateness:
                kinds |= {"update_before", "update_after"}
                if isinstance(self.assigner, Session):
                    kinds.add("delete")
        return frozenset(kinds)

    @property
    def calls_functions(self) -> bool:  # type: ignore[override]
        return any_own(self.aggregates)

    def split_combiner(self, inputs: Sequence[StreamType]) -> tuple[OperatorSpec, OperatorSpec] | None:
        # Late records have to come out whole; their lateness is decided where the watermark is.
        if self.late_used or self.partial_input:
            return None
        rest = replace(self, partial_input=True, records=inputs[0])
        return CombineSpec(self.keys, self.assigner, self.aggregates, self.null_keys), rest

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        if self.late_used or self.partial_input:
            return None
        return needed_inputs(self.keys, self.aggregates)

    def describe(self) -> str:
        shown = ", ".join(f"{name}={aggregate}" for name, aggregate in self.aggregates)
        by = f" by {', '.join(map(shown_name, self.shown_keys))}" if self.shown_keys else ""
        return f"{self.assigner}{by}: {shown}"

    def _columns(self, inputs: Sequence[StreamType]) -> list[str]:
        schema = self.output_type(inputs).schema
        assert isinstance(schema, Schema)
        return list(schema)

    def _records(self, inputs: Sequence[StreamType]) -> StreamType:
        return inputs[0] if self.records is None else self.records


def check_names(keys: Sequence[str], fixed: Sequence[str], names: Sequence[str]) -> None:
    """Raises JobDefinitionError for results in which two columns would have one name."""
    for name in names:
        if name in keys or name in fixed or name.startswith("__"):
            what = (
                "a key" if name in keys else "a column that every result has" if name in fixed else "reserved"
            )
            raise JobDefinitionError(
                f"an aggregate cannot be named {name!r}: that is {what}", hint="name it otherwise"
            )
    for key in keys:
        if key in fixed:
            raise JobDefinitionError(
                f"a key cannot be named {key!r}: every result has that column", hint="rename the column first"
            )
