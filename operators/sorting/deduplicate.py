"""`DeduplicateSpec`: one record of each key, the first or the last, again when `within` has passed. See `seen_keys` for
the rule.

With event time the first is the earliest, whichever came first: records wait for the watermark, and those of one moment
are in the order of their columns' values. Without event time it is the first that comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, shown_name
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.error_policy import DEAD_LETTER_TYPE, Guard
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import (
    ERRORS,
    Collector,
    ErrorPolicy,
    Layout,
    Operator,
    OperatorContext,
    OperatorSpec,
)
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.process.keys import typed_keys
from streamflow.operators.sorting.duplicates import duplicates_of
from streamflow.operators.sorting.in_order import InOrder
from streamflow.operators.sorting.last_records import LastRecords
from streamflow.operators.sorting.record_form import RecordForm, marks_in_order
from streamflow.operators.sorting.seen_keys import SeenKeys
from streamflow.operators.stateless.null_keys import with_keys
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME, MIN_TIME, format_time

__all__ = ["DeduplicateSpec"]


@dataclass(frozen=True)
class DeduplicateSpec(OperatorSpec):
    """One record of each key. `within` in microseconds; None: a key is never forgotten. `keep="last"` needs `within`.

    `record_columns` are the records' own columns; None: they are objects.
    """

    kind: ClassVar[str] = "deduplicate"
    keys: tuple[str, ...]
    record_columns: tuple[str, ...] | None
    within: int | None = None
    keep: Literal["first", "last"] = "first"
    null_keys: Literal["fail", "group"] = "fail"
    on_error: ErrorPolicy = "fail"

    @property
    def emits(self) -> Layout:  # type: ignore[override]
        return Layout.ROWS if self.record_columns is None else Layout.FRAME

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, self.keys)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return self._form(inputs).type_of(inputs[0])

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE if output == ERRORS else self.output_type(inputs)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        form = self._form(inputs)
        if not form.timed:
            return _FirstToCome(self, ctx, form)
        return _Last(self, ctx, form) if self.keep == "last" else _First(self, ctx, form)

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        keys = typed_keys(self.keys, inputs[0])
        return {"keys": keys, "within": self.within, "keep": self.keep, "timed": inputs[0].timed}

    def keeps_partitioning(self, keys: tuple[str, ...]) -> bool:
        return keys == self.keys and set(keys) <= set(self.record_columns or ())

    def describe(self) -> str:
        within = "" if self.within is None else f" within {self.within / 1e6:g} s"
        return f"{self.keep} by {', '.join(map(shown_name, self.keys))}{within}"

    def _form(self, inputs: Sequence[StreamType]) -> RecordForm:
        return RecordForm(self.record_columns, inputs[0].timed)


class _InEventTime(InOrder):
    """The common part of both choices by event time."""

    def __init__(self, spec: DeduplicateSpec, ctx: OperatorContext, form: RecordForm) -> None:
        self._owned = OwnedKeys(spec.keys, ctx.groups, ctx.max_parallelism)
        super().__init__(ctx, form, self._owned)
        self._keys = list(spec.keys)
        self._nulls = _NullKeys(spec, ctx)
        self._marked = ctx.marks
        self._duplicates = duplicates_of(ctx.metrics)

    def accepted(self, frame: pl.DataFrame, out: Collector) -> pl.DataFrame:
        return self._nulls.left_out(FrameBatch(frame), out)

    def settled(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Records in order, those of one key and moment in the order of their columns' values."""
        tied = frame[[*self._keys, EVENT_TIME]].is_duplicated()
        if not tied.any():
            return frame
        alike = frame.filter(tied).sort(EVENT_TIME, *self._form.content)
        return concatenated([alike, frame.filter(~tied)]).sort(EVENT_TIME, maintain_order=True)


class _First(_InEventTime):
    """The first of each group: known as soon as the watermark has passed it."""

    def __init__(self, spec: DeduplicateSpec, ctx: OperatorContext, form: RecordForm) -> None:
        super().__init__(spec, ctx, form)
        self._seen = SeenKeys(ctx, self._owned, spec.within)

    def take(self, frame: pl.DataFrame | None, reached: int, out: Collector) -> None:
        if frame is not None:
            first = self._seen.beginnings(frame, reached, self.settled)
            self._duplicates.add(frame.height - first.height)
            out.emit(self._form.batch(first, marks_in_order(first[EVENT_TIME]) if self._marked else None))
        self._seen.forget(reached)

    def snapshot(self) -> OperatorSnapshot:
        return _together(super().snapshot(), self._seen.snapshot())

    def restore(self, parts: Sequence[StatePart]) -> None:
        super().restore(parts)
        self._seen.restore(parts)


class _Last(_InEventTime):
    """The last of each group: known when the watermark has passed the group's end. Its own time is up to `within`
    earlier, so the watermark is held back by as much."""

    def __init__(self, spec: DeduplicateSpec, ctx: OperatorContext, form: RecordForm) -> None:
        assert spec.within is not None
        super().__init__(spec, ctx, form)
        self._within = spec.within
        self._groups = LastRecords(ctx, self._owned, spec.within)
        self._before = MIN_TIME

    def take(self, frame: pl.DataFrame | None, reached: int, out: Collector) -> None:
        found: list[pl.DataFrame] = []
        if frame is not None:
            last, replaced = self._groups.lasting(self.settled(frame), reached)
            self._duplicates.add(replaced)
            found = [last] if last.height else []
        found += self._groups.closed(reached)
        if found:
            last = self._form.complete(concatenated(found)).sort(EVENT_TIME, maintain_order=True)
            mark = pl.Series([self._before]).new_from_index(0, last.height) if self._marked else None
            out.emit(self._form.batch(last, mark))

    def forwarded(self, watermark: int) -> int:
        self._before = watermark if watermark == MAX_TIME else max(watermark - self._within, MIN_TIME)
        return self._before

    def waiting(self) -> tuple[Waiting, ...]:
        # A record that waits is in an open group, or begins one.
        first = self._waiting.earliest()
        due, sure = self._groups.earliest()
        ends = [] if first is None else [min(first, MAX_TIME - self._within + 1) + self._within - 1]
        ends += [] if due is None else [due]
        if not ends:
            return ()
        what = f"the last record of a key up to {format_time(min(ends))}"
        if due == min(ends) and not sure:
            what += " or later"
        return (Waiting(what, min(ends), len(self._waiting) + self._groups.rows),)

    def work_at(self, watermark: int) -> int:
        return super().work_at(watermark) + self._groups.due_by(watermark)

    def snapshot(self) -> OperatorSnapshot:
        return _together(super().snapshot(), self._groups.snapshot())

    def restore(self, parts: Sequence[StatePart]) -> None:
        super().restore(parts)
        self._groups.restore(parts)


class _FirstToCome(Operator):
    """The first to come, for records without event time."""

    def __init__(self, spec: DeduplicateSpec, ctx: OperatorContext, form: RecordForm) -> None:
        owned = OwnedKeys(spec.keys, ctx.groups, ctx.max_parallelism)
        self._keys = spec.keys
        self._form = form
        self._nulls = _NullKeys(spec, ctx)
        self._seen = SeenKeys(ctx, owned, None)
        self._duplicates = duplicates_of(ctx.metrics)

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        frame = self._nulls.left_out(batch, out)
        if frame.height:
            # They are in the order in which they came.
            first = self._seen.beginnings(frame, MIN_TIME, lambda records: records)
            self._duplicates.add(frame.height - first.height)
            out.emit(self._form.batch(first))

    def finish(self, out: Collector) -> None:
        self._seen.forget(MAX_TIME)

    def snapshot(self) -> OperatorSnapshot:
        return self._seen.snapshot()

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._seen.restore(parts)


class _NullKeys:
    """The treatment of records with a null key: bad ones, unless null is a key like any other."""

    def __init__(self, spec: DeduplicateSpec, ctx: OperatorContext) -> None:
        self._checked = spec.keys if spec.null_keys == "fail" else ()
        self._guard = Guard(ctx.operator_id, spec.on_error, ctx.metrics)

    def left_out(self, batch: FrameBatch, out: Collector) -> pl.DataFrame:
        """The records of a batch without those that are bad."""
        return with_keys(batch, self._checked, self._guard, out).frame


def _together(one: OperatorSnapshot, other: OperatorSnapshot) -> OperatorSnapshot:
    return OperatorSnapshot({**one.values, **other.values}, {**one.tables, **other.tables}, one.keys)
