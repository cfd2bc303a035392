"""`EventTimeSortSpec`: all records in order of event time, each as soon as the watermark has passed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from streamflow.core.schema import EVENT_TIME
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import Collector, Layout, Operator, OperatorContext, OperatorSpec
from streamflow.operators.sorting.in_order import InOrder
from streamflow.operators.sorting.record_form import RecordForm, marks_in_order
from streamflow.state.keyed.owned_keys import OwnedKeys

__all__ = ["EventTimeSortSpec"]


@dataclass(frozen=True)
class EventTimeSortSpec(OperatorSpec):
    """Records in order of event time, those of one moment in the order of their columns' values; one subtask has all.

    `record_columns` are the records' own columns; None: they are objects.
    """

    kind: ClassVar[str] = "sort"
    record_columns: tuple[str, ...] | None

    @property
    def emits(self) -> Layout:  # type: ignore[override]
        return Layout.ROWS if self.record_columns is None else Layout.FRAME

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, keys=())

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return RecordForm(self.record_columns, timed=True).type_of(inputs[0])

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return self.output_type(inputs)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _Sorted(ctx, RecordForm(self.record_columns, timed=True))

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        return {"by": "event time"}

    def describe(self) -> str:
        return "by event time"


class _Sorted(InOrder):
    """The one subtask, which has all records."""

    def __init__(self, ctx: OperatorContext, form: RecordForm) -> None:
        # Divided by time where there are too many of them for one frame.
        keys = OwnedKeys((EVENT_TIME,), ctx.groups, ctx.max_parallelism)
        super().__init__(ctx, form, keys, ties=form.content)
        self._marked = ctx.marks

    def take(self, frame: pl.DataFrame | None, reached: int, out: Collector) -> None:
        if frame is not None:
            marks = marks_in_order(frame[EVENT_TIME]) if self._marked else None
            out.emit(self._form.batch(frame, marks))
