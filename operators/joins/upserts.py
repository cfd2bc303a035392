"""The changes of a table: rows that come replace the row of their key, or delete it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, Schema, shown_name
from streamflow.core.stream_type import EVERY_CHANGE, StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import (
    ByInput,
    Collector,
    Layout,
    Operator,
    OperatorContext,
    OperatorSpec,
)
from streamflow.operators.joins.inner_names import inner_name, other_inside
from streamflow.operators.joins.table_rows import (
    DELETED,
    KeyedRows,
    deleted,
    last_of_each,
    make_current,
    standing,
)
from streamflow.operators.totals.cadence import Said, in_cadence
from streamflow.operators.totals.total_changes import GONE, OLD, TotalChanges
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart

__all__ = ["Upserts"]

_ALL: Final = 0


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
        return StreamType(Schema({CHANGE: CHANGE_TYPE} | columns), inputs[0].timed, EVERY_CHANGE)

    def columns(self, inputs: Sequence[StreamType]) -> dict[str, pl.DataType]:
        """The table's own columns."""
        schema = inputs[0].schema
        assert isinstance(schema, Schema)
        return {name: dtype for name, dtype in schema.items() if name != DELETED}

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        rows = _TableRows(self, ctx, list(self.columns(inputs)), timed=inputs[0].timed)
        return in_cadence(rows, ctx)

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        columns = {name: str(dtype) for name, dtype in self.columns(inputs).items()}
        return {"keys": list(self.keys), "columns": columns, "versioned": self.versioned}

    def one_row_each(self, keys: tuple[str, ...], before: ByInput) -> bool | None:
        return set(keys) == set(self.keys)

    def describe(self) -> str:
        return f"by {', '.join(map(shown_name, self.keys))}"


class _TableRows:
    """The rows of one subtask's keys: a `ChangingResult`."""

    def __init__(self, spec: Upserts, ctx: OperatorContext, columns: list[str], *, timed: bool) -> None:
        self._keys = keys = [inner_name(key) for key in spec.keys]
        inner = [inner_name(name) for name in columns]
        self._inner = other_inside(columns)
        self._shown = [*inner, *([EVENT_TIME] if timed else [])]
        self._versioned = spec.versioned
        others = [name for name in inner if name not in keys]
        self._changes = TotalChanges(keys, others, [CHANGE, *inner], timed=timed, withdrawn=True)
        self._keyed_rows = KeyedRows(self._keys, ctx.metrics)
        self._store = FrameStore(
            ctx.state,
            ctx.operator_id,
            self._last,
            ctx.memory_budget,
            OwnedKeys(tuple(keys), ctx.groups, ctx.max_parallelism),
            state="rows",
            replacing=True,
            repeated=True,
        )
        self._pending: list[pl.DataFrame] = []

    def add(self, batch: AnyBatch, out: Collector) -> None:
        """Takes rows that count with the next `change`."""
        self._pending += self._keyed(batch)

    def change(self, out: Collector) -> None:
        """Emits the changes since the last time, if there are any."""
        pending, self._pending = self._pending, []
        if pending:
            self._put_out(*self._taken(concatenated(pending)), out)

    def collect(self, batch: AnyBatch, out: Collector) -> None:
        """Takes rows of a table that goes out at the end only."""
        for rows in self._keyed(batch):
            self._taken(rows)

    def insert_all(self, out: Collector) -> None:
        """Emits all rows as inserts, and forgets them."""
        for rows in self._all():
            self._put_out(None, rows, out)

    def snapshot(self, said: Said) -> OperatorSnapshot:
        """The rows; pending ones have gone out before."""
        kept = self._store.snapshot()
        return OperatorSnapshot({**kept.values, "said": said}, kept.tables, kept.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state."""
        self._store.restore(parts)

    def unsay(self) -> None:
        """Makes all rows pending."""
        self._pending += list(self._all())

    def _all(self) -> Iterator[pl.DataFrame]:
        """Takes out all rows, a slice of the keys at a time."""
        if _ALL in self._store:
            yield from self._store.in_slices(_ALL)
            self._store.drop(_ALL)

    def _keyed(self, batch: AnyBatch) -> list[pl.DataFrame]:
        """The rows of a batch that have a key, if there are any."""
        assert isinstance(batch, FrameBatch)
        frame = batch.unmarked().frame
        keyed = self._keyed_rows.of(frame.rename(self._inner) if self._inner else frame)
        return [keyed] if keyed.height else []

    def _taken(self, rows: pl.DataFrame) -> tuple[pl.DataFrame | None, pl.DataFrame]:
        """Makes the last row of each key the table's; the rows before (None: none), and the new ones."""
        new = self._last(rows)
        old = self._store.look_up(_ALL, new)
        if self._versioned and old is not None:
            new = self._last(concatenated([old, new]))
        if self._versioned:
            self._store.append(_ALL, new)  # of a version that deletes, the time counts
        else:
            make_current(self._store, _ALL, new)
        return old, new

    def _last(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The last row of each key: by event time, if versioned, then by arrival."""
        if self._versioned and EVENT_TIME in rows.columns:
            rows = rows.sort(EVENT_TIME, maintain_order=True)
        return last_of_each(rows, self._keys)

    def _put_out(self, old: pl.DataFrame | None, new: pl.DataFrame, out: Collector) -> None:
        """Emits the changes from the old rows of some keys to the new ones."""
        sides = [new[self._shown].with_columns(deleted(new).alias(GONE), pl.lit(False).alias(OLD))]
        if old is not None:
            stood = standing(old)[self._shown]
            sides.insert(0, stood.with_columns(pl.lit(False).alias(GONE), pl.lit(True).alias(OLD)))
        changes = self._changes.of(concatenated(sides))
        if changes.height:
            if self._inner:
                changes = changes.rename({inside: name for name, inside in self._inner.items()})
            out.emit(FrameBatch(changes))
