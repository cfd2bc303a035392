"""`WindowAggregateSpec`: aggregates per key and window, as data. Its logic is by the kind of window: `sliced`,
`sessions`, `counted`, `global_`.

Results carry the keys, `window_start`, `window_end` and the aggregates; their event time is the window's last moment,
so that windows of equal size compose, unless the job wants that of the earliest or latest record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal

import polars as pl

from streamflow.core.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, Schema, shown_name
from streamflow.core.stream_type import ChangeKind, StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.aggregates.combiner import (
    CombineSpec,
    Timestamp,
    fragment_groups,
    fragment_plan,
    keyed_schema,
    keyed_signature,
    needed_inputs,
)
from streamflow.operators.aggregates.partials import END, FIRST, LAST, SLICE, START
from streamflow.operators.aggregates.state_order import in_order, keyed_differences, keyed_order
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import Layout, Operator, OperatorContext, OperatorSpec
from streamflow.operators.windows.alarms import WAIT, Alarms
from streamflow.operators.windows.counted import CountWindows
from streamflow.operators.windows.emission import PANE_COLUMNS, WINDOW_COLUMNS, FiredPanes, PaneWriter
from streamflow.operators.windows.global_ import GlobalWindows
from streamflow.operators.windows.put_away import PutAway
from streamflow.operators.windows.sessions import SessionWindows
from streamflow.operators.windows.sliced import SlicedWindows
from streamflow.operators.windows.trigger_machine import TriggerMachine
from streamflow.operators.windows.triggered import TriggeredWindows
from streamflow.operators.windows.window_parts import WindowParts
from streamflow.operators.windows.window_rows import WindowRows, window_rows
from streamflow.state.frames.store import FrameStore
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.windows.aggregate import Aggregate
from streamflow.windows.assigners import Assigner, CountWindow, GlobalWindow, Session
from streamflow.windows.own_assigner import WindowAssigner
from streamflow.windows.python_functions import any_own
from streamflow.windows.slicing import Slicing, slices_of
from streamflow.windows.triggers import DEFAULT, Trigger

__all__ = ["ALL_RECORDS", "Accumulation", "WindowAggregateSpec"]

Accumulation = Literal["accumulating", "discarding", "retracting"]

_HISTORY: Final = 3_600_000_000
"""The length of time in whose pieces the panes of windows with triggers are remembered."""
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
    timestamp: Timestamp = "end"
    trigger: Trigger | None = None
    """None: the default one, for which windows that are slices need no rows of their own."""
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
        self._check()
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
        types = fragment_plan(self.assigner, self.aggregates, records, self.timestamp).types
        shown = {name: types[name] for name in self.shown_names}
        return StreamType(Schema(fields | shown | panes), timed=True, changes=self._kinds)

    def _check(self) -> None:
        """Raises JobDefinitionError for settings that do not go together."""
        if isinstance(self.assigner, Session | CountWindow) and self.timestamp == "earliest":
            raise JobDefinitionError(
                f'{self.assigner} cannot have timestamp="earliest": nothing behind it could go on while one is open',
                hint='choose "latest" or "end"; window_start is the time of the earliest record',
            )
        if isinstance(self.assigner, CountWindow) and self.allowed_lateness:
            raise JobDefinitionError(
                f"{self.assigner} has no place for late records: they would move all that came after them",
                hint="leave out allowed_lateness, and take late records from .late",
            )
        if isinstance(self.assigner, CountWindow) and self.trigger is not None:
            raise JobDefinitionError(
                f"{self.assigner} goes out when it is full, and has no trigger of its own",
                hint="sf.global_window() with trigger=sf.repeatedly(sf.after_count(n)) counts records as they come",
            )
        if isinstance(self.assigner, WindowAssigner) and self.timestamp != "end":
            raise JobDefinitionError(
                f"{self.assigner} cannot have timestamp={self.timestamp!r}: nobody knows before where windows begin",
                hint='leave it out, or choose "end"',
            )

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
        records = self._records(inputs)
        plan = fragment_plan(self.assigner, self.aggregates, records, self.timestamp).in_run(ctx.shared)
        retracting = self.accumulation == "retracting"
        by = [*self.keys] if isinstance(self.assigner, GlobalWindow) else [*self.keys, SLICE]
        owned = OwnedKeys(self.keys, ctx.groups, ctx.max_parallelism)
        fired = None
        if retracting if self._by_rows else self.allowed_lateness and (retracting or self.pane_info):
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
                history,
                self.keys,
                self.allowed_lateness,
                growing=self._merging,
                span=_HISTORY if self._by_rows else 1,
            )
        times, event_time, before = self._event_time
        rows = window_rows(self.assigner) if self._by_rows else None
        parts = WindowParts(
            operator_id=ctx.operator_id,
            keys=list(self.keys),
            assigner=self.assigner,
            plan=plan,
            groups=fragment_groups(self.assigner, self.keys),
            times=times,
            allowed_lateness=self.allowed_lateness,
            discarding=self.accumulation == "discarding",
            null_keys_fail=self.null_keys == "fail",
            partial_input=self.partial_input,
            store=FrameStore(
                ctx.state,
                ctx.operator_id,
                (lambda frame: plan.merge(frame, by)) if rows is None else rows.merge(plan, self.keys),
                ctx.memory_budget,
                owned if rows is None else replace(owned, within=rows.within),
                replacing=rows is not None or isinstance(self.assigner, CountWindow),
                repeated=rows is not None,
            ),
            writer=PaneWriter(
                self.shown_keys,
                self.shown_names,
                retracting=retracting,
                pane_info=self.pane_info,
                allowed_lateness=self.allowed_lateness,
                fired=fired,
                event_time=event_time,
                before=before,
                marked=ctx.marks,
                triggered=rows is not None,
                bounded=not isinstance(self.assigner, GlobalWindow),
            ),
            owned=owned,
            metrics=ctx.metrics,
        )
        if rows is not None:
            return self._triggered(ctx, parts, rows)
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
                    of_last=self.timestamp == "latest",
                )
            case CountWindow(size=size, every=every):
                waiting = TimeSorted(
                    ctx.state,
                    ctx.operator_id,
                    ctx.memory_budget,
                    owned,
                    time=EVENT_TIME,
                    state="waiting",
                    ties=self._read_columns(inputs[0]),
                )
                # Windows end at the multiples of `every`.
                return CountWindows(Slicing(size, every, -size % every), parts, waiting)
            case WindowAssigner():
                raise AssertionError("windows of own assigners are rows")
            case assigner:
                return SlicedWindows(slices_of(assigner), parts)

    def _triggered(self, ctx: OperatorContext, parts: WindowParts, rows: WindowRows) -> Operator:
        owned = replace(parts.owned, within=rows.within)
        ends, alarms = (
            TimeSorted(ctx.state, ctx.operator_id, ctx.memory_budget, owned, time=WAIT, state=name)
            for name in ("ends", "alarms")
        )
        return TriggeredWindows(
            rows,
            TriggerMachine(self.trigger or DEFAULT),
            parts,
            lambda merge: FrameStore(
                ctx.state,
                ctx.operator_id,
                merge,
                ctx.memory_budget,
                owned,
                state="states",
                replacing=True,
                repeated=True,
            ),
            ends,
            Alarms(alarms, parts.keys, [*parts.keys, *rows.within]),
            ctx.clock,
            asks=ctx.updates != "end",
            holds=self.timestamp != "end" or isinstance(self.assigner, GlobalWindow),
        )

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        keyed = keyed_signature(self.keys, self.assigner, self.aggregates, self._records(inputs))
        return keyed | {
            "window": str(self.assigner),
            "allowed_lateness": self.allowed_lateness,
            "accumulation": self.accumulation,
            "pane_info": self.pane_info,
            **({} if self.timestamp == "end" else {"timestamp": self.timestamp}),
            **({} if self.trigger is None else {"trigger": str(self.trigger)}),
        }

    def check_state(self, saved: Mapping[str, Any], inputs: Sequence[StreamType]) -> list[str]:
        """Reasons why state does not fit. Windows that fire once are the same for any output. Those that may fire
        again need the kept panes, and nothing is kept of windows that are over."""
        lateness = int(saved.get("allowed_lateness", 0))
        compared = dict(saved)
        if self._by_rows:
            pass  # windows may have fired early
        elif lateness == self.allowed_lateness == 0:
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
            if self.allowed_lateness or self.trigger is not None:
                kinds |= {"update_before", "update_after"}
                if self._merging:
                    kinds.add("delete")
        return frozenset(kinds)

    @property
    def _by_rows(self) -> bool:
        """Whether each window is a row of its own."""
        return self.trigger is not None or isinstance(self.assigner, WindowAssigner)

    @property
    def _merging(self) -> bool:
        """Whether windows may become part of larger ones."""
        return isinstance(self.assigner, Session) or (
            isinstance(self.assigner, WindowAssigner) and self.assigner.merging
        )

    @property
    def calls_functions(self) -> bool:  # type: ignore[override]
        return any_own(self.aggregates)

    def split_combiner(self, inputs: Sequence[StreamType]) -> tuple[OperatorSpec, OperatorSpec] | None:
        # Late records have to come out whole; their lateness is decided where the watermark is.
        if self.late_used or self.partial_input or isinstance(self.assigner, CountWindow | WindowAssigner):
            return None
        rest = replace(self, partial_input=True, records=inputs[0])
        combiner = CombineSpec(
            self.keys, self.assigner, self.aggregates, self.null_keys, timestamp=self.timestamp
        )
        return combiner, rest

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        if self.late_used or self.partial_input:
            return None
        return needed_inputs(self.keys, self.aggregates)

    def describe(self) -> str:
        shown = ", ".join(f"{name}={aggregate}" for name, aggregate in self.aggregates)
        by = f" by {', '.join(map(shown_name, self.shown_keys))}" if self.shown_keys else ""
        trigger = "" if self.trigger is None else f", {self.trigger}"
        return f"{self.assigner}{trigger}{by}: {shown}"

    @property
    def _event_time(self) -> tuple[list[str], pl.Expr, pl.Expr]:
        """The columns that a result's event time needs beside the window's bounds, the time, and the watermark before
        it."""
        start, end = pl.col(START), pl.col(END)
        match self.timestamp, self.assigner:
            case _, CountWindow():
                return [LAST], pl.col(LAST), pl.col(LAST) - 1
            case "latest", Session(gap=gap):
                return [], end - gap, end - gap - 1
            case "earliest", _:
                return [FIRST], pl.col(FIRST), start - 1
            case "latest", assigner if not isinstance(assigner, GlobalWindow):
                return [LAST], pl.col(LAST), start - 1
            case _:
                return [], end - 1, end - 2

    def _read_columns(self, records: StreamType) -> list[str]:
        """The columns that keys and aggregates read, or all if that cannot be told; those that can be put in order."""
        read = needed_inputs(self.keys, self.aggregates)
        schema = keyed_schema(self.keys, records)
        return [
            name
            for name, dtype in schema.items()
            if (read is None or name in read) and not dtype.is_nested() and dtype != pl.Object()
        ]

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
