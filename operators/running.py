"""Aggregates by key without a window: totals that change as records come.

Results carry a change kind, the keys and the aggregates. When they come out is the mode's matter: after each batch and
at each epoch's end as what has changed since (`update_before`, `update_after`, or `insert` for a new key), or once at
the end as inserts only. A total that comes out as it was is no change.

Totals are in two levels, the recent ones few and overriding the rest, so that a small batch does not rewrite them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal

import polars as pl

from streamflow.errors import StateError, Where
from streamflow.operators.base import Collector, Layout, Operator, OperatorContext, OperatorSpec, StreamType
from streamflow.operators.combine import (
    CombineSpec,
    fragment_plan,
    keyed_schema,
    keyed_signature,
    needed_inputs,
)
from streamflow.operators.kernels.key_join import key_join
from streamflow.operators.kernels.membership import has_key_in
from streamflow.operators.kernels.partials import LATEST, PartialPlan, check_keys, concatenated
from streamflow.operators.windowing import check_names
from streamflow.records.elements import AnyBatch
from streamflow.records.frame import FrameBatch
from streamflow.records.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.state.owned_keys import OwnedKeys
from streamflow.state.panes import PaneStore
from streamflow.state.parts import OperatorSnapshot, StatePart, Table
from streamflow.windows.aggregate import Aggregate

__all__ = ["RunningAggregateSpec"]

_TOTALS: Final = 0
"""The one pane of the store: the totals, one row per key."""
_LITTLE: Final = 4_096
Said = Literal["changes", "nothing"]
"""What has been put out of the totals so far."""
_SEEN: Final = "__seen"
_BEFORE: Final = "__before"


@dataclass(frozen=True)
class RunningAggregateSpec(OperatorSpec):
    """Aggregates per key over all records so far. `records`, with `partial_input`: the type of what was combined."""

    kind: ClassVar[str] = "aggregate"
    accepts: ClassVar[Layout] = Layout.FRAME
    emits: ClassVar[Layout] = Layout.FRAME
    keys: tuple[str, ...]
    aggregates: tuple[tuple[str, Aggregate], ...]
    null_keys: Literal["fail", "group"] = "fail"
    partial_input: bool = False
    records: StreamType | None = None

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        records = self._records(inputs)
        schema = keyed_schema(self.keys, records)
        check_names(self.keys, [CHANGE], [name for name, _ in self.aggregates])
        types = fragment_plan(None, self.aggregates, records).types
        keys = {key: schema[key] for key in self.keys}
        return StreamType(Schema({CHANGE: CHANGE_TYPE} | keys | types), records.timed)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        records = self._records(inputs)
        plan = fragment_plan(None, self.aggregates, records)
        totals = _Totals(self, plan, ctx, timed=records.timed)
        match ctx.updates:
            case "batch":
                return _EachBatch(totals)
            case "epoch":
                return _EachEpoch(totals)
            case "end":
                return _AtTheEnd(totals, ctx.operator_id)

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        return keyed_signature(self.keys, None, self.aggregates, self._records(inputs))

    @property
    def partition_by(self) -> tuple[str, ...]:
        return self.keys

    def split_combiner(self, inputs: Sequence[StreamType]) -> tuple[OperatorSpec, OperatorSpec] | None:
        if self.partial_input:
            return None
        rest = replace(self, partial_input=True, records=inputs[0])
        return CombineSpec(self.keys, None, self.aggregates, self.null_keys), rest

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        return None if self.partial_input else needed_inputs(self.keys, self.aggregates)

    def describe(self) -> str:
        shown = ", ".join(f"{name}={aggregate}" for name, aggregate in self.aggregates)
        return f"by {', '.join(self.keys)}: {shown}"

    def _records(self, inputs: Sequence[StreamType]) -> StreamType:
        return inputs[0] if self.records is None else self.records


class _Totals:
    """The totals of all keys, and how changes to them go out."""

    def __init__(
        self, spec: RunningAggregateSpec, plan: PartialPlan, ctx: OperatorContext, *, timed: bool
    ) -> None:
        self.keys = list(spec.keys)
        self.plan = plan
        self._owned = OwnedKeys(spec.keys, ctx.groups, ctx.max_parallelism)
        self.store = PaneStore(ctx.state, ctx.operator_id, self.merge, ctx.memory_budget, self._owned)
        self._id = ctx.operator_id
        self._checked = spec.keys if spec.null_keys == "fail" else ()
        self._partial_input = spec.partial_input
        self._names = [name for name, _ in spec.aggregates]
        time = [pl.col(LATEST).cast(EVENT_TIME_TYPE).alias(EVENT_TIME)] if timed else []
        self._leading: list[str | pl.Expr] = [*self.keys, *time]
        self._columns = [CHANGE, *self.keys, *self._names, *([EVENT_TIME] if timed else [])]
        self._recent: pl.DataFrame | None = None
        self._pending: list[pl.DataFrame] = []
        self._pending_rows = 0
        self._merged_rows = 0

    def partials(self, batch: AnyBatch) -> pl.DataFrame:
        """A batch as partials; its keys are fit to be keys."""
        assert isinstance(batch, FrameBatch)
        check_keys(batch.frame, self._checked, self._id)
        return batch.frame if self._partial_input else self.plan.partial(batch.frame, self.keys)

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """One row per key."""
        return self.plan.merge(partials, self.keys)

    def add(self, partials: pl.DataFrame) -> None:
        """Add partials to what the totals do not have yet."""
        self._pending.append(partials)
        self._pending_rows += partials.height
        if len(self._pending) > 1 and self._pending_rows > 2 * self._merged_rows + _LITTLE:
            self._pending = [self.merge(concatenated(self._pending))]
            self._pending_rows = self._merged_rows = self._pending[0].height

    def change(self, out: Collector) -> None:
        """Bring what is pending into the totals, and put out which totals that changes and how."""
        if not self._pending:
            return
        partials = self._pending[0] if len(self._pending) == 1 else self.merge(concatenated(self._pending))
        self._pending, self._pending_rows, self._merged_rows = [], 0, 0
        old, others = self._taken(partials)
        new = partials if old is None else self.merge(concatenated([old, partials]))
        self._recent = new if others is None else concatenated([others, new])
        self._put_out(old, new, out)
        stored = self.store.read(_TOTALS).height if _TOTALS in self.store else 0
        if self._recent.height > stored // 2 + _LITTLE:
            self.settle()

    def settle(self) -> None:
        """Bring the recent totals into the store."""
        if self._recent is None:
            return
        recent, self._recent = self._recent, None
        if _TOTALS in self.store:
            stored = self.store.read(_TOTALS)
            recent = concatenated([stored.filter(~has_key_in(stored, recent, self.keys)), recent])
        self.store.replace(_TOTALS, recent)

    def insert_all(self, out: Collector) -> None:
        """Put out all totals as inserts, and forget them."""
        if _TOTALS in self.store:
            slices = self.store.slices([_TOTALS])
            for number in range(slices):
                totals = self.store.read_slice(_TOTALS, number, slices)
                if totals is not None:
                    self._put_out(None, totals, out)
            self.store.drop(_TOTALS)

    def snapshot(self, said: Said) -> OperatorSnapshot:
        """The totals, and what is pending."""
        stored = self.store.snapshot()
        recent = [] if self._recent is None else [(_TOTALS, self._recent)]
        more: dict[str, Table] = {
            "recent": recent,
            "pending": [(_TOTALS, frame) for frame in self._pending],
        }
        return OperatorSnapshot({"said": said, **stored.values}, {**stored.tables, **more}, stored.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Take back what `snapshot` gave."""
        self.store.restore(parts)
        recent = [frame for _, frame in self._owned.restored(parts, "recent")]
        self._recent = concatenated(recent) if recent else None
        for _, frame in self._owned.restored(parts, "pending"):
            self.add(frame)

    def unsay(self) -> None:
        """What was collected to be said at the end is to be said as changes."""
        if _TOTALS in self.store:
            self.add(self.store.read(_TOTALS))
            self.store.drop(_TOTALS)

    def _taken(self, delta: pl.DataFrame) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
        """The totals of the keys in `delta`, and the recent totals of other keys."""
        others, unseen = None, delta
        old: list[pl.DataFrame] = []
        if self._recent is not None:
            touched = has_key_in(self._recent, delta, self.keys)
            old.append(self._recent.filter(touched))
            others = self._recent.filter(~touched)
            unseen = delta.filter(~has_key_in(delta, old[0], self.keys))
        if _TOTALS in self.store and not unseen.is_empty():
            stored = self.store.read(_TOTALS)
            old.append(stored.filter(has_key_in(stored, unseen, self.keys)))
        old = [frame for frame in old if not frame.is_empty()]
        return (concatenated(old) if old else None), others

    def _put_out(self, old: pl.DataFrame | None, new: pl.DataFrame, out: Collector) -> None:
        after = self.plan.results(new, self._leading)
        if old is None:
            inserted = after.with_columns(pl.lit("insert").cast(CHANGE_TYPE).alias(CHANGE))
            out.emit(FrameBatch(inserted.sort(self.keys).select(self._columns)))
            return
        before = self.plan.results(old, self._leading).with_columns(pl.lit(True).alias(_SEEN))
        both = key_join(after, before, self.keys, how="left", suffix=_BEFORE)
        same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name + _BEFORE)) for name in self._names)
        changed = both.filter(pl.col(_SEEN).is_null() | ~same)
        if changed.is_empty():
            return
        values = [name for name in after.columns if name not in self.keys]
        kind = (
            pl.when(_SEEN).then(pl.lit("update_after", CHANGE_TYPE)).otherwise(pl.lit("insert", CHANGE_TYPE))
        )
        now = changed.select(kind.alias(CHANGE), *self.keys, *values)
        was = changed.filter(pl.col(_SEEN)).select(
            pl.lit("update_before", CHANGE_TYPE).alias(CHANGE),
            *self.keys,
            *(pl.col(name + _BEFORE).alias(name) for name in values),
        )
        # Sorting keeps the order of equal keys: what was stands before what is.
        result = concatenated([was, now]).sort(self.keys, maintain_order=True)
        out.emit(FrameBatch(result.select(self._columns)))


class _EachBatch(Operator):
    """Changes go out after each batch."""

    def __init__(self, totals: _Totals) -> None:
        self._totals = totals

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        if len(batch):
            self._totals.add(self._totals.partials(batch))
            self._totals.change(out)

    def on_epoch_end(self, epoch: int, out: Collector) -> None:
        self._totals.change(out)
        self._totals.settle()

    def finish(self, out: Collector) -> None:
        self._totals.change(out)

    def snapshot(self) -> OperatorSnapshot:
        return self._totals.snapshot("changes")

    def restore(self, parts: Sequence[StatePart]) -> None:
        _restore_changes(self._totals, parts)


class _EachEpoch(Operator):
    """Changes go out once an epoch: what is net of it."""

    def __init__(self, totals: _Totals) -> None:
        self._totals = totals

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        if len(batch):
            self._totals.add(self._totals.partials(batch))

    def on_epoch_end(self, epoch: int, out: Collector) -> None:
        self._totals.change(out)
        self._totals.settle()

    def finish(self, out: Collector) -> None:
        self.on_epoch_end(0, out)

    def snapshot(self) -> OperatorSnapshot:
        return self._totals.snapshot("changes")

    def restore(self, parts: Sequence[StatePart]) -> None:
        _restore_changes(self._totals, parts)


class _AtTheEnd(Operator):
    """Each key goes out once, when the input has ended."""

    def __init__(self, totals: _Totals, operator_id: str) -> None:
        self._totals = totals
        self._id = operator_id

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        if len(batch):
            self._totals.store.append(_TOTALS, self._totals.partials(batch))

    def finish(self, out: Collector) -> None:
        self._totals.insert_all(out)

    def snapshot(self) -> OperatorSnapshot:
        return self._totals.snapshot("nothing")

    def restore(self, parts: Sequence[StatePart]) -> None:
        if any(part.values["said"] != "nothing" for part in parts):
            raise StateError(
                "totals that have been put out as changes cannot be put out as inserts at the end",
                where=Where(operator=self._id),
                hint='go on with mode="streaming" or "micro-batch", or start anew with restore="none"',
            )
        self._totals.restore(parts)


def _restore_changes(totals: _Totals, parts: Sequence[StatePart]) -> None:
    """Each batch or each epoch: either goes on where the other was, and where a batch job was."""
    totals.restore(parts)
    if any(part.values["said"] == "nothing" for part in parts):
        totals.unsay()
