"""The join of a stream with a table: each row of the stream with the row that its key has in the table when it comes.

Without event time a table has no history: the last row of a key that came is its row. A table that has an end (files,
a frame) is read first; the stream's rows wait for that. With `broadcast` every subtask holds all of a small table, and
the stream's rows stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, ClassVar, Final

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.keys import key_group_of
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import Collector, Layout, Operator, OperatorContext
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.joins.matching import joined
from streamflow.operators.joins.sides import TIMES, Columns, How, JoinSpec
from streamflow.operators.joins.table_rows import KeyedRows, last_of_each, make_current
from streamflow.state.frames.merging import as_they_are
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME

__all__ = ["TableJoin"]

_ALL: Final = 0
"""The one pane of a store."""
_PLACE: Final = "\x1aplace"
"""A key of the subtask's own, for waiting rows that are not partitioned by theirs."""
_AT_ONCE: Final = 32_768
"""The number of waiting rows that are joined at once."""


@dataclass(frozen=True, kw_only=True)
class TableJoin(JoinSpec):
    """A join of a stream with a table's row of the same key; the event time is the stream's.

    `bounded`: the table has an end, and is read first. `how` is "inner", "left", "semi" or "anti". The table may have
    the column DELETED.
    """

    kind: ClassVar[str] = "table_join"
    bounded: bool
    broadcast: bool = False
    every_row: bool = False
    """Whether all rows of a key count, not the last one alone."""

    def needs(self, port: int) -> InputNeeds:
        if not self.broadcast:
            return replace(super().needs(port), timed=port == 0)
        return InputNeeds(Layout.FRAME, broadcast=port == 1, timed=port == 0)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return replace(super().output_type(inputs), timed=inputs[0].timed)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _TableJoining(self, ctx, self.columns(inputs))

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        # Only what comes next depends on `how`.
        signature = {
            **super().state_signature(inputs),
            "broadcast": self.broadcast,
            "every_row": self.every_row,
        }
        del signature["how"]
        return signature

    def describe(self) -> str:
        everywhere = " in every subtask" if self.broadcast else ""
        first = ", read first" if self.bounded else ""
        return f"{super().describe()} with a table{first}; keeps a row of each of its keys{everywhere}"


class _TableJoining(Operator):
    """The logic of `TableJoin` in one subtask."""

    def __init__(self, spec: TableJoin, ctx: OperatorContext, columns: Columns) -> None:
        self._columns = columns
        self._how: How = spec.how
        self._every_row = spec.every_row
        self._keyed_rows = KeyedRows(
            columns.keys, ctx.metrics, counting=not spec.broadcast or 0 in ctx.groups
        )
        keys, everyone = tuple(columns.keys), range(ctx.max_parallelism)
        groups = everyone if spec.broadcast else ctx.groups
        self._place = _number_in(ctx) if spec.broadcast else None
        self._table = FrameStore(
            ctx.state,
            ctx.operator_id,
            as_they_are if spec.every_row else lambda rows: last_of_each(rows, keys),
            ctx.memory_budget,
            OwnedKeys(keys, groups, ctx.max_parallelism),
            state="table",
            replacing=not spec.every_row,
        )
        self._waiting = FrameStore(
            ctx.state,
            ctx.operator_id,
            as_they_are,
            ctx.memory_budget,
            OwnedKeys((_PLACE,) if spec.broadcast else keys, ctx.groups, ctx.max_parallelism),
            state="waiting",
        )
        self._complete = not spec.bounded
        self._ended = False
        self._pane = 0
        self._held: int | None = None
        self._reached: int | None = None

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        rows = self._columns.rows(batch, port)
        if rows.is_empty():
            return
        if port:
            self._take(rows.drop(TIMES[1], strict=False))
        elif self._complete and not len(self._waiting):
            self._put_out(rows, out)
        else:
            self._wait(rows)

    def on_input_watermark(self, port: int, watermark: int) -> None:
        if port and watermark >= MAX_TIME:
            self._complete = True

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if watermark >= MAX_TIME:
            self._complete = self._ended = True
            self._let_go(out)
        if len(self._waiting):
            self._held = watermark
            return None
        self._reached = watermark
        return watermark

    @property
    def output_watermark(self) -> int | None:
        return self._reached

    @property
    def unfinished(self) -> bool:
        return self._ended and len(self._waiting) > 0

    def waiting(self) -> tuple[Waiting, ...]:
        rows = self._waiting.rows
        return (Waiting("the first row that waits for the whole table", MAX_TIME, rows),) if rows else ()

    def next_processing_time(self) -> int | None:
        # At once when the table has ended: no element may come that would let the rows go.
        return 0 if self._complete and len(self._waiting) else None

    def on_processing_time(self, now: int, out: Collector) -> None:
        self._let_go(out)
        if not len(self._waiting) and self._held is not None:
            self._reached = self._held

    def snapshot(self) -> OperatorSnapshot:
        table, waiting = self._table.snapshot(), self._waiting.snapshot()
        values = {**table.values, **waiting.values}
        return OperatorSnapshot(values, {**table.tables, **waiting.tables}, table.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        # Copies in every subtask are alike.
        self._table.restore(parts if self._place is None else parts[:1])
        self._waiting.restore(parts)
        self._pane = max([0, *self._waiting.panes()])

    def _take(self, rows: pl.DataFrame) -> None:
        """Makes the last row of each key the table's, or adds all rows."""
        rows = self._keyed_rows.of(rows)
        if self._every_row:
            self._table.append(_ALL, rows)
        else:
            make_current(self._table, _ALL, last_of_each(rows, self._columns.keys))

    def _wait(self, rows: pl.DataFrame) -> None:
        place = [] if self._place is None else [self._place.new_from_index(0, rows.height)]
        if self._pane in self._waiting and self._waiting.rows_in(self._pane) >= _AT_ONCE:
            self._pane += 1
        self._waiting.append(self._pane, rows.hstack(place))

    def _let_go(self, out: Collector) -> None:
        """Joins the rows of one pane of those that have waited."""
        for pane in self._waiting.panes()[:1]:
            rows = self._waiting.read(pane)
            self._waiting.drop(pane)
            self._put_out(rows if self._place is None else rows.drop(_PLACE), out)

    def _put_out(self, rows: pl.DataFrame, out: Collector) -> None:
        """Joins rows with the table as it is now."""
        current = self._table.look_up(_ALL, rows)
        for found, port in joined(rows, current, self._columns.keys, self._how):
            if found.height:
                whole = found if port is None else self._columns.alone(found, 0)
                time = whole[TIMES[0]] if TIMES[0] in whole.columns else None
                out.emit(self._columns.written(whole, time))


def _number_in(ctx: OperatorContext) -> pl.Series:
    """A number that is a key of this subtask."""
    number = next(n for n in count() if key_group_of(n, ctx.max_parallelism) in ctx.groups)
    return pl.Series(_PLACE, [number])
