"""`LatestStanding`: changes as the rows of a table by another key than that which the changes are made by.

The changes of one key of the table may then come by several ways, and a row may be withdrawn after the one that takes
its place has come. So all rows that stand are kept, and the row of a key is the one that came last of those that stand
(as Flink's sink upsert materializer has it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.key_join import key_join
from streamflow.core.schema import CHANGE, EVENT_TIME, Schema
from streamflow.core.stream_type import StreamType, withdraws
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import (
    Collector,
    Layout,
    OnChanges,
    Operator,
    OperatorContext,
    OperatorSpec,
)
from streamflow.operators.joins.inner_names import inner_name
from streamflow.operators.joins.standing_rows import ORDER, WEIGHT, added_up
from streamflow.operators.joins.table_rows import DELETED, KeyedRows, last_of_each
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart

__all__ = ["LatestStanding"]

_ALL: Final = 0
"""The one pane of the store."""


@dataclass(frozen=True)
class LatestStanding(OperatorSpec):
    """The row of each key that came last of those that stand, whenever it changes; a key that has none any more is
    DELETED."""

    kind: ClassVar[str] = "latest_standing"
    emits: ClassVar[Layout] = Layout.FRAME
    on_changes: ClassVar[OnChanges] = "take"
    keys: tuple[str, ...]

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, self.keys)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return StreamType(Schema({**self.columns(inputs), DELETED: pl.Boolean()}), inputs[0].timed)

    def columns(self, inputs: Sequence[StreamType]) -> dict[str, pl.DataType]:
        """The rows' own columns."""
        schema = inputs[0].schema
        assert isinstance(schema, Schema)
        return {name: dtype for name, dtype in schema.items() if name != CHANGE}

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _Latest(self, ctx, list(self.columns(inputs)), timed=inputs[0].timed)

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        columns = {name: str(dtype) for name, dtype in self.columns(inputs).items()}
        return {"keys": list(self.keys), "columns": columns}

    def describe(self) -> str:
        return f"by {', '.join(self.keys)}; keeps all rows that stand"


class _Latest(Operator):
    """The logic of `LatestStanding` in one subtask."""

    def __init__(
        self, spec: LatestStanding, ctx: OperatorContext, columns: list[str], *, timed: bool
    ) -> None:
        self._keys = [inner_name(key) for key in spec.keys]
        self._inner = {name: inner_name(name) for name in columns}
        self._timed = timed
        self._keyed_rows = KeyedRows(self._keys, ctx.metrics)
        self._store = FrameStore(
            ctx.state,
            ctx.operator_id,
            added_up(list(self._inner.values())),
            ctx.memory_budget,
            OwnedKeys(tuple(self._keys), ctx.groups, ctx.max_parallelism),
            state="rows",
        )
        self._came = 0

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        changes = self._keyed_rows.of(batch.unmarked().frame.rename(self._inner))
        if changes.is_empty():
            return
        self._store.append(_ALL, self._weighted(changes))
        out.emit(FrameBatch(self._now(changes)))

    def snapshot(self) -> OperatorSnapshot:
        kept = self._store.snapshot()
        return OperatorSnapshot({**kept.values, "came": self._came}, kept.tables, kept.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._store.restore(parts)
        self._came = max([0, *(part.number("came") for part in parts)])

    def _weighted(self, changes: pl.DataFrame) -> pl.DataFrame:
        """The rows with their weights, and those that come with their place among all that came."""
        comes = ~withdraws(changes[CHANGE])
        place = pl.int_range(self._came + 1, self._came + 1 + changes.height, eager=True)
        self._came += changes.height
        return changes[list(self._inner.values())].with_columns(
            pl.when(comes).then(1).otherwise(-1).cast(pl.Int64).alias(WEIGHT),
            pl.when(comes).then(place).otherwise(0).alias(ORDER),
        )

    def _now(self, changes: pl.DataFrame) -> pl.DataFrame:
        """The rows of the keys of these changes as they are now."""
        time = [pl.col(EVENT_TIME).max()] if self._timed else []
        touched = changes.group_by(self._keys, maintain_order=True).agg(*time)
        rows = self._store.look_up(_ALL, touched)
        columns = [*self._inner.values()]
        if rows is None:
            rows = changes[columns].clear()
        else:
            rows = last_of_each(rows.filter(rows[WEIGHT] > 0).sort(ORDER), self._keys)[columns]
        found = rows.with_columns(pl.lit(False).alias(DELETED))
        now = key_join(touched, found, self._keys, "left").with_columns(pl.col(DELETED).fill_null(True))
        shown = now[[*columns, DELETED, *([EVENT_TIME] if self._timed else [])]]
        return shown.rename({inside: name for name, inside in self._inner.items()})
