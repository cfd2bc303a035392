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

from streamflow.operators.base import Collector, Layout, Operator, OperatorContext, OperatorSpec, StreamType
from streamflow.operators.combine import CombineSpec, fragment_plan, keyed_schema, needed_inputs
from streamflow.operators.kernels.key_join import key_join
from streamflow.operators.kernels.membership import has_key_in
from streamflow.operators.kernels.partials import LATEST, PartialPlan, check_keys, concatenated
from streamflow.operators.windowing import check_names
from streamflow.records.elements import AnyBatch
from streamflow.records.frame import FrameBatch
from streamflow.records.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.records.serde import frame_to_ipc, ipc_to_frame
from streamflow.state.panes import PaneStore
from streamflow.windows.aggregate import Aggregate

__all__ = ["RunningAggregateSpec"]

_TOTALS: Final = 0
"""The one pane of the store: the totals, one row per key."""
_LITTLE: Final = 4_096
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
                return _AtTheEnd(totals)

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
        self.store = PaneStore(ctx.state, ctx.operator_id, self.merge, ctx.memory_budget)
        self._id = ctx.operator_id
        self._checked = spec.keys if spec.null_keys == "fail" else ()
        self._partial_input = spec.partial_input
        self._names = [name for name, _ in spec.aggregates]
        time = [pl.col(LATEST).cast(EVENT_TIME_TYPE).alias(EVENT_TIME)] if timed else []
        self._leading: list[str | pl.Expr] = [*self.keys, *time]
        self._columns = [CHANGE, *self.keys, *self._names, *([EVENT_TIME] if timed else [])]
        self._recent: pl.DataFrame | None = None

    def partials(self, batch: AnyBatch) -> pl.DataFrame:
        """A batch as partials; its keys are fit to be keys."""
        assert isinstance(batch, FrameBatch)
        check_keys(batch.frame, self._checked, self._id)
        return batch.frame if self._partial_input else self.plan.partial(batch.frame, self.keys)

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """One row per key."""
        return self.plan.merge(partials, self.keys)

    def change(self, partials: pl.DataFrame, out: Collector) -> None:
        """Add partials, one per key, to the totals, and put out which totals that changes and how."""
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
            self._put_out(None, self.store.read(_TOTALS), out)
            self.store.drop(_TOTALS)

    def snapshot(self) -> bytes | None:
        """The totals that are not in the store yet."""
        return None if self._recent is None else frame_to_ipc(self._recent)

    def restore(self, recent: bytes | None) -> None:
        """Take back what `snapshot` gave."""
        self._recent = None if recent is None else ipc_to_frame(recent)

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
            self._totals.change(self._totals.partials(batch), out)

    def on_epoch_end(self, epoch: int, out: Collector) -> None:
        self._totals.settle()

    def snapshot(self) -> Mapping[str, Any]:
        return {"recent": self._totals.snapshot()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._totals.restore(state["recent"])


class _EachEpoch(Operator):
    """Changes go out once an epoch: what is net of it."""

    def __init__(self, totals: _Totals) -> None:
        self._totals = totals
        self._pending: list[pl.DataFrame] = []
        self._rows = 0
        self._merged_rows = 0

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        if not len(batch):
            return
        self._pending.append(self._totals.partials(batch))
        self._rows += self._pending[-1].height
        if self._rows > 2 * self._merged_rows + _LITTLE:
            self._pending = [self._totals.merge(concatenated(self._pending))]
            self._rows = self._merged_rows = self._pending[0].height

    def on_epoch_end(self, epoch: int, out: Collector) -> None:
        if self._pending:
            self._totals.change(self._totals.merge(concatenated(self._pending)), out)
            self._pending, self._rows, self._merged_rows = [], 0, 0
        self._totals.settle()

    def finish(self, out: Collector) -> None:
        self.on_epoch_end(0, out)

    def snapshot(self) -> Mapping[str, Any]:
        pending = frame_to_ipc(concatenated(self._pending)) if self._pending else None
        return {"recent": self._totals.snapshot(), "pending": pending}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._totals.restore(state["recent"])
        self._pending = [] if state["pending"] is None else [ipc_to_frame(state["pending"])]
        self._rows = sum(frame.height for frame in self._pending)


class _AtTheEnd(Operator):
    """Each key goes out once, when the input has ended."""

    def __init__(self, totals: _Totals) -> None:
        self._totals = totals

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        if len(batch):
            self._totals.store.append(_TOTALS, self._totals.partials(batch))

    def finish(self, out: Collector) -> None:
        self._totals.insert_all(out)
