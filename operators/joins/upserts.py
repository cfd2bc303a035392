"""The changes of a table: rows that come replace the row of their key, or delete it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.key_join import key_join
from streamflow.core.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, Schema, shown_name
from streamflow.core.stream_type import ChangeKind, StreamType
from streamflow.errors import JobDefinitionError, StateError, Where
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import Collector, Layout, Operator, OperatorContext, OperatorSpec
from streamflow.operators.joins.sides import DELETED
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME

__all__ = ["Upserts"]

_ALL: Final = 0
_NEW: Final = "\x1anew"
_SAME: Final = "\x1asame"
_KINDS: Final[frozenset[ChangeKind]] = frozenset({"insert", "update_before", "update_after", "delete"})


@dataclass(frozen=True)
class Upserts(OperatorSpec):
    """The latest row of each key as a changing result. `versioned`: the latest by event time, else by arrival.

    In batch mode each key's last row comes once, at the end. The input may have the column DELETED.
    """

    kind: ClassVar[str] = "table"
    emits: ClassVar[Layout] = Layout.FRAME
    keys: tuple[str, ...]
    versioned: bool = False

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, self.keys)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        columns = self.columns(inputs)
        if CHANGE in columns:
            raise JobDefinitionError(
                f"a column of the table is named {CHANGE!r}, which its changes have",
                hint=f"rename({{{CHANGE!r}: …}}) first",
            )
        return StreamType(Schema({CHANGE: CHANGE_TYPE} | columns), inputs[0].timed, _KINDS)

    def columns(self, inputs: Sequence[StreamType]) -> dict[str, pl.DataType]:
        """The table's own columns."""
        schema = inputs[0].schema
        assert isinstance(schema, Schema)
        return {name: dtype for name, dtype in schema.items() if name != DELETED}

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _Upserting(self, ctx, list(self.columns(inputs)))

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        columns = {name: str(dtype) for name, dtype in self.columns(inputs).items()}
        return {"keys": list(self.keys), "columns": columns, "versioned": self.versioned}

    def describe(self) -> str:
        return f"by {', '.join(map(shown_name, self.keys))}"


class _Upserting(Operator):
    """The logic of `Upserts` in one subtask."""

    def __init__(self, spec: Upserts, ctx: OperatorContext, columns: list[str]) -> None:
        self._id = ctx.operator_id
        self._keys = list(spec.keys)
        self._columns = columns
        self._versioned = spec.versioned
        self._at_end = ctx.updates == "end"
        self._keyless = ctx.metrics.counter(
            "streamflow_table_rows_without_key_total",
            "Rows of a table that have no key, which is no row of it",
        )
        self._store = FrameStore(
            ctx.state,
            ctx.operator_id,
            self._last,
            ctx.memory_budget,
            OwnedKeys(spec.keys, ctx.groups, ctx.max_parallelism),
            state="rows",
            replacing=True,
        )

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        rows = batch.unmarked().frame
        if any(rows[key].null_count() for key in self._keys):
            keyed = rows.filter(pl.all_horizontal(pl.col(*self._keys).is_not_null()))
            self._keyless.add(rows.height - keyed.height)
            rows = keyed
        if rows.is_empty():
            return
        new = self._last(rows)
        if self._at_end and not self._versioned and DELETED not in new.columns:
            self._replace(new)
            return
        old = self._store.look_up(_ALL, new)
        if self._versioned and old is not None:
            new = self._last(concatenated([old, new]))
        self._replace(new)
        if not self._at_end:
            self._put_out(old, new, out)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if watermark >= MAX_TIME:
            self.finish(out)
        return watermark

    def finish(self, out: Collector) -> None:
        if self._at_end and _ALL in self._store:
            slices = self._store.slices([_ALL])
            for number in range(slices):
                rows = self._store.read_slice(_ALL, number, slices)
                if rows is not None:
                    self._put_out(None, rows, out)
            self._store.drop(_ALL)

    def snapshot(self) -> OperatorSnapshot:
        kept = self._store.snapshot()
        return OperatorSnapshot({**kept.values, "said": not self._at_end}, kept.tables, kept.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        if {bool(part.values["said"]) for part in parts} != {not self._at_end}:
            raise StateError(
                "the rows of a table are put out as they change in one mode, and at the end in the other",
                where=Where(operator=self._id),
                hint='go on in the mode of the checkpoint, or start over with restore="none"',
            )
        self._store.restore(parts)

    def _last(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The last row of each key: by event time, if versioned, then by arrival."""
        if self._versioned and EVENT_TIME in rows.columns:
            rows = rows.sort(EVENT_TIME, maintain_order=True)
        return rows.unique(self._keys, keep="last", maintain_order=True)

    def _replace(self, rows: pl.DataFrame) -> None:
        self._store.remove(_ALL, rows)
        # Of a version that deletes, the time counts.
        kept = rows if self._versioned else _standing(rows)
        if kept.height:
            self._store.append(_ALL, kept)

    def _put_out(self, old: pl.DataFrame | None, new: pl.DataFrame, out: Collector) -> None:
        """Emits the changes from the old rows of some keys to the new ones."""
        times = [EVENT_TIME] if EVENT_TIME in new.columns else []
        sides = [_standing(new)[[*self._columns, *times]].with_columns(pl.lit(True).alias(_NEW))]
        if old is not None:
            gone = _standing(old)[self._columns]
            # A change happens when what is new does, a retraction too.
            gone = key_join(gone, new[[*self._keys, *times]], self._keys) if times else gone
            sides.append(gone.with_columns(pl.lit(False).alias(_NEW))[sides[0].columns])
        rows = concatenated(sides).sort([*self._keys, _NEW], maintain_order=True)
        paired = rows[self._keys].is_duplicated()
        # By key a new row stands right behind the old one that it replaces.
        as_next = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(-1)) for name in self._columns)
        replaced_alike = as_next & paired & ~pl.col(_NEW)
        same = replaced_alike | replaced_alike.shift(1, fill_value=False)
        before, after, gone_, came = (
            pl.lit(kind, CHANGE_TYPE) for kind in ("update_before", "update_after", "delete", "insert")
        )
        replaced, alone = (
            pl.when(_NEW).then(after).otherwise(before),
            pl.when(_NEW).then(came).otherwise(gone_),
        )
        kind = pl.when(paired).then(replaced).otherwise(alone)
        changes = rows.with_columns(kind.alias(CHANGE), same.alias(_SAME)).filter(~pl.col(_SAME))
        if changes.height:
            out.emit(FrameBatch(changes[[CHANGE, *self._columns, *times]]))


def _standing(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that are not deletions."""
    return rows.filter(~rows[DELETED].fill_null(False)) if DELETED in rows.columns else rows
