"""The first rows of each key in an order, as a changing result.

Of rows that only ever come, those that are not among the first of their key are of no more use. Rows that may be
withdrawn are all kept: the row that is next in order comes up in the place of one that goes. Both cost what the keys
of a batch cost: their rows are looked up, ordered together with the new ones, and put in the place of the old ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, shown_name
from streamflow.core.serde import unpack
from streamflow.core.stream_type import withdraws
from streamflow.operators.contract.error_policy import Guard
from streamflow.operators.contract.operator import Collector, OperatorContext
from streamflow.operators.process.process import WHOLE_RECORD
from streamflow.operators.sorting.duplicates import duplicates_of
from streamflow.operators.sorting.record_form import RecordForm
from streamflow.operators.stateless.null_keys import with_keys
from streamflow.operators.stateless.row_builder import row_dicts
from streamflow.operators.totals.cadence import Said
from streamflow.state.frames.merging import as_they_are
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart, Table

__all__ = ["OBJECT", "RankedRows"]

OBJECT: Final = "value"
"""The field of a result that holds a record that is an object."""

_ROWS: Final = 0
"""The one pane of the store."""
_NEW: Final = "\x1anew"
_GONE: Final = "\x1agone"
"""Whether a row withdraws an equal one."""
_WAS: Final = "\x1awas"
_IS: Final = "\x1ais"
_STAYS: Final = "\x1astays"
_LATEST: Final = "\x1alatest"
_PENDING: Final = "pending"
_MANY: Final = 65_536
"""The number of rows that wait for the end of an epoch before those that cannot be among the first are left out."""
_RUN: Final = "\x1arun"
"""The number of a row's key, among rows by key."""


class RankedRows:
    """The first `n` rows of each key in an `order`: columns, each with whether it is descending; nulls come last.

    `changing`: the input is changes, whose kind is in the column CHANGE. `shown_keys` are the keys that results show
    beside the record.
    """

    def __init__(
        self,
        ctx: OperatorContext,
        keys: OwnedKeys,
        form: RecordForm,
        *,
        n: int,
        order: Sequence[tuple[str, bool]],
        shown_keys: Sequence[str],
        changing: bool,
        checked: Sequence[str],
        guard: Guard,
        duplicates: bool,
    ) -> None:
        self._keys = list(keys.columns)
        self._form = form
        self._n = n
        self._changing = changing
        # A withdrawal has the values of what it withdraws, and a time of its own.
        decides = [(name, down) for name, down in order if not (changing and name == EVENT_TIME)]
        self._order = list(dict.fromkeys(name for name, _ in decides))
        self._descending = [dict(reversed(decides))[name] for name in self._order]
        self._shown = {shown_name(key): key for key in shown_keys}
        time = [EVENT_TIME] if form.timed else []
        self._kept = list(dict.fromkeys([*self._keys, *self._order, *form.content, *time]))
        # Rows of one key stand together: its first row is where the key changes. Grouping would cost more.
        differs = pl.any_horizontal(pl.col(key).ne_missing(pl.col(key).shift(1)) for key in self._keys)
        self._begins = (pl.int_range(pl.len()) == 0) | differs
        self._judgement = self._judge()
        self._checked = checked
        self._guard = guard
        self._duplicates = duplicates_of(ctx.metrics) if duplicates else None
        self._owned = keys
        self._store = FrameStore(
            ctx.state,
            ctx.operator_id,
            as_they_are if changing else self._first,
            ctx.memory_budget,
            keys,
            state="rows",
            replacing=changing or ctx.updates != "end",
        )
        self._pending: list[pl.DataFrame] = []
        self._pending_rows = self._ranked = 0

    def add(self, batch: AnyBatch, out: Collector) -> None:
        """Takes records whose effect goes out with the next `change`."""
        self._add(self._rows(batch, out))

    def change(self, out: Collector) -> None:
        """Emits the rows that have come among the first since the last time, and those that have left them."""
        ranked = self._settle()
        if ranked is None:
            return
        turned = ranked.filter(ranked[_WAS] != ranked[_IS])
        if turned.height:
            out.emit(self._changes(turned))

    def collect(self, batch: AnyBatch, out: Collector) -> None:
        """Takes records of a result that goes out at the end only."""
        rows = self._rows(batch, out)
        if self._changing:
            self._add(rows)
            self._settle()
        elif rows.height:
            self._store.append(_ROWS, rows)

    def insert_all(self, out: Collector) -> None:
        """Emits the first rows of all keys as inserts, and forgets them."""
        if _ROWS not in self._store:
            return
        for rows in self._store.in_slices(_ROWS):
            first = self._first(rows)
            out.emit(self._output(first.with_columns(pl.lit("insert", CHANGE_TYPE).alias(CHANGE))))
        self._store.drop(_ROWS)

    def snapshot(self, said: Said) -> OperatorSnapshot:
        """All rows kept, and the pending ones."""
        stored = self._store.snapshot()
        pending: dict[str, Table] = {_PENDING: [(_ROWS, frame) for frame in self._pending]}
        return OperatorSnapshot({"said": said, **stored.values}, {**stored.tables, **pending}, stored.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state."""
        self._store.restore(parts)
        for _, frame in self._owned.restored(parts, _PENDING, as_they_are):
            if self._changing and _GONE not in frame.columns:
                frame = frame.rename({"__gone": _GONE})  # so called in checkpoints of earlier versions
            self._add(frame)

    def unsay(self) -> None:
        """Turns a restored result of which nothing has been said into one whose changes are still to be emitted."""
        if _ROWS in self._store:
            rows = self._store.read(_ROWS)
            self._store.drop(_ROWS)
            self._add(rows.with_columns(pl.lit(False).alias(_GONE)) if self._changing else rows)

    # Taking rows.

    def _rows(self, batch: AnyBatch, out: Collector) -> pl.DataFrame:
        """A batch as rows to keep; of changes also whether they withdraw one."""
        assert isinstance(batch, FrameBatch)
        frame = with_keys(batch, self._checked, self._guard, out).frame
        if not self._changing:
            return frame[self._kept]
        gone = withdraws(frame[CHANGE]).alias(_GONE)
        return frame[self._kept].hstack([gone])

    def _add(self, rows: pl.DataFrame) -> None:
        if not rows.height:
            return
        self._pending.append(rows)
        self._pending_rows += rows.height
        if not self._changing and self._pending_rows > 2 * self._ranked + _MANY:
            self._pending = [self._first(concatenated(self._pending))]
            self._pending_rows = self._ranked = self._pending[0].height

    # Putting them in order.

    def _settle(self) -> pl.DataFrame | None:
        """Puts the pending rows in their places among the kept ones, and gives the rows of their keys, each with
        whether it was and is among the first; None if nothing was pending."""
        if not self._pending:
            return None
        new = concatenated(self._pending)
        self._pending, self._pending_rows, self._ranked = [], 0, 0
        old = self._store.look_up(_ROWS, new)
        flagged = new.with_columns(pl.lit(True).alias(_NEW))
        if old is not None:
            gone = [pl.lit(False).alias(_GONE)] if self._changing else []
            flagged = concatenated([old.with_columns(*gone, pl.lit(False).alias(_NEW)), flagged])
        ranked = self._sorted(flagged).with_columns(*self._judgement[:-1]).with_columns(self._judgement[-1])
        stays = ranked.filter(_STAYS)
        self._count(ranked.height - stays.height)
        if old is not None:
            if not self._changing and not ranked.filter(_NEW)[_IS].any():
                return ranked  # what is kept may stay as it is
            self._store.remove(_ROWS, old)
        self._store.append(_ROWS, stays[self._kept])
        return ranked

    def _sorted(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows by key and in order, with a number for each key."""
        by, descending = [*self._keys, *self._order], [*[False] * len(self._keys), *self._descending]
        ordered = rows.sort(by, descending=descending, nulls_last=True, maintain_order=True)
        return ordered.with_columns(self._begins.cum_sum().alias(_RUN))

    def _first(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The first rows of each key."""
        first = self._sorted(rows).filter(_rank(self._begins) < self._n).drop(_RUN)
        self._count(rows.height - first.height)
        return first

    def _count(self, left_out: int) -> None:
        if self._duplicates is not None and left_out:
            self._duplicates.add(left_out)

    def _judge(self) -> list[pl.Expr]:
        """Whether a row of an ordered frame was and is among the first of its key, and whether it stays; the time of
        the key's latest new row."""
        old, keys = ~pl.col(_NEW), _RUN
        time = pl.col(EVENT_TIME) if self._form.timed else pl.lit(None)
        latest = pl.when(_NEW).then(time).max().over(keys).alias(_LATEST)
        if not self._changing:
            first = _rank(self._begins) < self._n
            return [old.alias(_WAS), first.alias(_STAYS), latest, first.alias(_IS)]
        content, gone = self._form.content, pl.col(_GONE)
        was = old & (old.cum_sum().over(keys) <= self._n)
        there = ~gone
        left = there.sum().over(content).cast(pl.Int64) - gone.sum().over(content).cast(pl.Int64)
        # Of equal rows the last ones go, so that one that has been put out stays.
        stays = there & (there.cum_sum().over(content).cast(pl.Int64) <= left)
        first = pl.col(_STAYS) & (pl.col(_STAYS).cum_sum().over(keys) <= self._n)
        return [was.alias(_WAS), stays.alias(_STAYS), latest, first.alias(_IS)]

    # Putting out.

    def _changes(self, turned: pl.DataFrame) -> AnyBatch:
        """Rows that have come among the first or have left them, as changes: by key, first what has left."""
        enters = pl.col(_IS)
        replaced = (pl.len().over(_RUN) > 1) & (self._n == 1)
        after, before, insert, delete = (
            pl.lit(kind, CHANGE_TYPE) for kind in ("update_after", "update_before", "insert", "delete")
        )
        kind = (
            pl.when(enters)
            .then(pl.when(replaced).then(after).otherwise(insert))
            .otherwise(pl.when(replaced).then(before).otherwise(delete))
        )
        # A change happens when what is new does.
        own = enters & pl.col(_NEW)
        times = (
            [pl.when(own).then(EVENT_TIME).otherwise(_LATEST).alias(EVENT_TIME)] if self._form.timed else []
        )
        told = turned.with_columns(kind.alias(CHANGE), *times)
        return self._output(told.sort(_RUN, _IS, maintain_order=True))

    def _output(self, rows: pl.DataFrame) -> AnyBatch:
        """Rows with their kinds of change as results."""
        rows = self._form.complete(rows)
        keys = [pl.col(key).alias(name) for name, key in self._shown.items()]
        if self._form.columns is not None:
            own = [*self._form.columns, EVENT_TIME] if self._form.timed else self._form.columns
            return FrameBatch(rows.select(CHANGE, *keys, *own))
        heads = row_dicts(rows.select(CHANGE, *keys))
        values = [
            {**head, OBJECT: unpack(data)} for head, data in zip(heads, rows[WHOLE_RECORD], strict=True)
        ]
        return RowBatch(values, rows[EVENT_TIME].to_physical().to_list() if self._form.timed else None)


def _rank(begins: pl.Expr) -> pl.Expr:
    """The place of a row among those of its key, from 0 on."""
    place = pl.int_range(pl.len())
    return place - pl.when(begins).then(place).forward_fill()
