"""`SortRowsSpec`: all records of a bounded input in the order of some columns, once all of them are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, Where
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import Collector, Layout, Operator, OperatorContext, OperatorSpec
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.sorting.record_form import RecordForm
from streamflow.operators.sorting.sorted_runs import SortedRuns
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME

__all__ = ["SortRowsSpec"]


@dataclass(frozen=True)
class SortRowsSpec(OperatorSpec):
    """Records in the order of the columns `by`; one subtask has all. For batch mode only: raises JobDefinitionError
    when it is built in another one.

    `record_columns` are the records' own columns; None: they are objects. `shown`: `by` as the user wrote it.
    """

    kind: ClassVar[str] = "sort"
    by: tuple[str, ...]
    descending: tuple[bool, ...]
    nulls_last: bool
    record_columns: tuple[str, ...] | None
    shown: tuple[str, ...] = ()

    @property
    def emits(self) -> Layout:  # type: ignore[override]
        return Layout.ROWS if self.record_columns is None else Layout.FRAME

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, keys=())

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return self._form(inputs).type_of(inputs[0])

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        if ctx.updates != "end":
            raise JobDefinitionError(
                f"a stream has no end at which it could be sorted by {', '.join(self.shown)}",
                where=Where(operator=ctx.operator_id),
                hint='run the job with mode="batch"; on a stream, sort("event_time") puts records in order as the'
                " watermark allows, and top_k(k, by=…) keeps the first ones",
            )
        return _Sorting(self, ctx, self._form(inputs))

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        return {"by": list(self.by), "descending": list(self.descending), "nulls_last": self.nulls_last}

    def describe(self) -> str:
        directions = (" descending" if each else "" for each in self.descending)
        return "by " + ", ".join(map(str.__add__, self.shown, directions))

    def _form(self, inputs: Sequence[StreamType]) -> RecordForm:
        return RecordForm(self.record_columns, inputs[0].timed)


class _Sorting(Operator):
    """The one subtask, which has all records."""

    def __init__(self, spec: SortRowsSpec, ctx: OperatorContext, form: RecordForm) -> None:
        self._form = form
        ties = [*([EVENT_TIME] if form.timed else []), *form.content]
        self._runs = SortedRuns(ctx, spec.by, spec.descending, nulls_last=spec.nulls_last, ties=ties)
        self._left: Iterator[pl.DataFrame] | None = None

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        if len(batch):
            self._runs.add(batch.unmarked().frame)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if watermark < MAX_TIME:
            return watermark
        if self._left is None:
            self._left = self._runs.take_all()
        rows = next(self._left, None)
        if rows is None:
            self._left = None
            return watermark
        out.emit(self._form.batch(self._form.complete(rows)))
        return None

    def waiting(self) -> tuple[Waiting, ...]:
        return (Waiting("the first record of all", MAX_TIME, len(self._runs)),) if len(self._runs) else ()

    @property
    def unfinished(self) -> bool:
        return self._left is not None

    def work_at(self, watermark: int) -> int:
        return len(self._runs) if watermark == MAX_TIME else 0

    def snapshot(self) -> OperatorSnapshot:
        return self._runs.snapshot()

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._runs.restore(parts)
