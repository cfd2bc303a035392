"""The totals of all keys of a running aggregate whose input is changes: what is withdrawn is taken back.

Two stores. Sums and counts are one row per key, to which signed partials are added; a key with no more records is gone.
The other aggregates read values: a row for each different combination of them in a key, with its number. A batch costs
its keys, and where there are such aggregates the different values of its keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import CHANGE, EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.stream_type import StreamType, withdraws
from streamflow.operators.aggregates.partials import LATEST, TIME, Extra, PartialPlan
from streamflow.operators.contract.operator import Collector, OperatorContext
from streamflow.operators.stateless.columns import checked_type
from streamflow.operators.stateless.null_keys import check_keys
from streamflow.operators.totals.cadence import Said
from streamflow.operators.totals.retractable import SIGN, by_values, counts_equals, signed
from streamflow.operators.totals.total_changes import GONE, OLD, TotalChanges
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.windows.aggregate import Aggregate
from streamflow.windows.kept_values import TopK

__all__ = ["ROWS", "RetractingTotals"]

_ALL: Final = 0
"""The one pane of each store."""
ROWS: Final = "__rows"
"""The number of a key's records."""
_NUMBER: Final = "__times"
"""The number of records with these values."""
_MOST_PENDING: Final = 64
"""The number of batches of an epoch after which they are merged."""
_PENDING: Final = "pending"
_PENDING_VALUES: Final = "pending-values"


class RetractingTotals:
    """The totals of all keys, as results with these `columns`; `records` is the type of the changes."""

    def __init__(
        self,
        keys: Sequence[str],
        aggregates: Sequence[tuple[str, Aggregate]],
        records: StreamType,
        ctx: OperatorContext,
        *,
        columns: Sequence[str],
        null_keys_fail: bool,
    ) -> None:
        self._keys = list(keys)
        self._id = ctx.operator_id
        self._checked = self._keys if null_keys_fail else ()
        self._timed = records.timed
        owned = self._owned = OwnedKeys(tuple(keys), ctx.groups, ctx.max_parallelism)
        self._sums = _plan_of_sums(aggregates, records)
        self._values = _Values(self._keys, aggregates, records)
        self._store = FrameStore(
            ctx.state, ctx.operator_id, self._merged, ctx.memory_budget, owned, state="totals", replacing=True
        )
        self._value_store = FrameStore(
            ctx.state,
            ctx.operator_id,
            self._values.merged,
            ctx.memory_budget,
            owned,
            state="values",
            replacing=True,
        )
        names = [name for name, _ in aggregates]
        self._changes = TotalChanges(keys, names, columns, timed=records.timed, withdrawn=True)
        self._pending: list[pl.DataFrame] = []
        self._pending_values: list[pl.DataFrame] = []

    def add(self, batch: AnyBatch, out: Collector) -> None:
        """Takes changes whose effect goes out with the next `change`."""
        assert isinstance(batch, FrameBatch)
        check_keys(batch.frame, self._checked, self._id)
        withdrawn = withdraws(batch.frame[CHANGE])
        frame = batch.frame.with_columns((1 - 2 * withdrawn.cast(pl.Int64)).alias(SIGN))
        self._pending.append(self._sums.partial(frame, self._keys))
        if self._values.needed:
            self._pending_values.append(self._values.of(frame))
        if len(self._pending) > _MOST_PENDING:
            self._pending = [self._merged(concatenated(self._pending))]
            if self._pending_values:
                self._pending_values = [self._values.merged(concatenated(self._pending_values), whole=True)]

    def change(self, out: Collector) -> None:
        """Adds what is pending to the totals, and emits the changes."""
        totals = self._settle()
        if totals is not None:
            self._put_out(totals, out)

    def collect(self, batch: AnyBatch, out: Collector) -> None:
        """Takes changes of totals that are emitted only at the end."""
        self.add(batch, out)
        self._settle()

    def insert_all(self, out: Collector) -> None:
        """Emits all totals as inserts, and removes them."""
        if _ALL not in self._store:
            return
        for sums in self._store.in_slices(_ALL):
            if sums.height:
                values = self._value_store.look_up(_ALL, sums) if self._values.needed else None
                new = [] if values is None else [_old(values, old=False)]
                self._put_out(self._totals(_old(sums, old=False), new), out)
        self._store.clear()
        self._value_store.clear()

    def snapshot(self, said: Said) -> OperatorSnapshot:
        """The totals and their values, and what is pending."""
        sums, values = self._store.snapshot(), self._value_store.snapshot()
        pending = {
            _PENDING: [(_ALL, frame) for frame in self._pending],
            _PENDING_VALUES: [(_ALL, frame) for frame in self._pending_values],
        }
        return OperatorSnapshot(
            {"said": said, **sums.values, **values.values},
            {**sums.tables, **values.tables, **pending},
            sums.keys,
        )

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state."""
        self._store.restore(parts)
        self._value_store.restore(parts)
        self._pending += [frame for _, frame in self._owned.restored(parts, _PENDING, self._merged)]
        values = self._owned.restored(parts, _PENDING_VALUES, self._values.merged)
        self._pending_values += [frame for _, frame in values]

    def unsay(self) -> None:
        """Turns totals that were to be emitted at the end into changes."""
        for store, pending in ((self._store, self._pending), (self._value_store, self._pending_values)):
            if _ALL in store:
                pending.append(store.read(_ALL))
                store.drop(_ALL)

    def _merged(self, sums: pl.DataFrame) -> pl.DataFrame:
        """One row per key."""
        return self._sums.merge(sums, self._keys)

    def _settle(self) -> pl.DataFrame | None:
        """Adds what is pending to the totals, and gives the old and the new ones of its keys; None if nothing was."""
        if not self._pending:
            return None
        added = self._merged(concatenated(self._pending))
        old = self._store.look_up(_ALL, added)
        new = added if old is None else self._merged(concatenated([old, added]))
        _replace(self._store, old, new.filter(pl.col(ROWS) != 0))
        self._pending = []
        sums = _old(new, old=False)
        if old is not None:
            sums = concatenated([_old(old, old=True), sums])
        return self._totals(sums, self._settled_values() if self._values.needed else [])

    def _settled_values(self) -> list[pl.DataFrame]:
        """Adds pending values to those that are kept, and gives the old and the new ones of their keys."""
        added = self._values.merged(concatenated(self._pending_values), whole=True)
        self._pending_values = []
        old = self._value_store.look_up(_ALL, added)
        new = self._values.merged(added if old is None else concatenated([old, added]))
        _replace(self._value_store, old, new)
        return [_old(new, old=False), *([] if old is None else [_old(old, old=True)])]

    def _put_out(self, totals: pl.DataFrame, out: Collector) -> None:
        """Emits the changes between old totals and new ones, if there are any."""
        result = self._changes.of(totals)
        if result.height:
            out.emit(FrameBatch(result))

    def _totals(self, sums: pl.DataFrame, values: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Totals by key and by whether they are old, of which old ones come first."""
        by = [*self._keys, OLD]
        time = [pl.col(LATEST).cast(EVENT_TIME_TYPE).alias(EVENT_TIME)] if self._timed else []
        totals = self._sums.results(sums, [*by, (pl.col(ROWS) == 0).alias(GONE), *time])
        if not self._values.needed:
            return totals
        more = self._values.results(concatenated(values), by)
        return totals.join(more, on=by, how="left", nulls_equal=True, maintain_order="left")


class _Values:
    """The values that aggregates are made of which cannot be subtracted from."""

    def __init__(
        self, keys: Sequence[str], aggregates: Sequence[tuple[str, Aggregate]], records: StreamType
    ) -> None:
        chosen = [(name, aggregate) for name, aggregate in aggregates if by_values(aggregate)]
        self.needed = bool(chosen)
        self._keys = list(keys)
        self._inputs: list[pl.Expr] = []
        self._columns: list[str] = []
        over: list[tuple[str, Aggregate]] = []
        for name, aggregate in chosen:
            made = [self._column(expression) for expression in aggregate.expressions]
            aggregate = aggregate.with_input(made[0])
            over.append((name, aggregate.with_by(made[1]) if isinstance(aggregate, TopK) else aggregate))
        self._counts = any(counts_equals(aggregate) for _, aggregate in chosen)
        types = checked_type(records, *map(pl.col, keys), *self._inputs)
        self._plan = PartialPlan(over, StreamType(Schema(dict(types)), timed=False))

    def of(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The values of records with a sign, each combination once."""
        return self._grouped(frame.select(*self._keys, *self._inputs, pl.col(SIGN).alias(_NUMBER)))

    def merged(self, values: pl.DataFrame, *, whole: bool = False) -> pl.DataFrame:
        """Each combination of values once: those that are left, or with `whole` also those of which as many go as
        come."""
        grouped = self._grouped(values)
        return grouped if whole else grouped.filter(pl.col(_NUMBER) != 0)

    def results(self, values: pl.DataFrame, by: list[str]) -> pl.DataFrame:
        """The aggregates of values, for each group that has some."""
        if self._counts and values.height and int(values[_NUMBER].max()) > 1:  # type: ignore[arg-type]
            values = values.select(pl.exclude(_NUMBER).repeat_by(_NUMBER).explode())
        partial = self._plan.partial(values, by)
        return self._plan.results(partial, by)

    def _grouped(self, values: pl.DataFrame) -> pl.DataFrame:
        return values.group_by(*self._keys, *self._columns).agg(pl.col(_NUMBER).sum())

    def _column(self, expression: pl.Expr) -> str:
        name = f"__value{len(self._columns)}"
        self._inputs.append(expression.alias(name))
        self._columns.append(name)
        return name


def _plan_of_sums(aggregates: Sequence[tuple[str, Aggregate]], records: StreamType) -> PartialPlan:
    assert isinstance(records.schema, Schema)
    with_sign = StreamType(Schema({**records.schema, SIGN: pl.Int64}), records.timed)
    summed = [(name, each) for name, aggregate in aggregates if (each := signed(aggregate)) is not None]
    extras = [Extra(ROWS, pl.col(SIGN).sum(), pl.col(ROWS).sum())]
    if records.timed:
        extras.append(Extra(LATEST, TIME.max(), pl.col(LATEST).max()))
    return PartialPlan(summed, with_sign, extras)


def _old(rows: pl.DataFrame, *, old: bool) -> pl.DataFrame:
    return rows.with_columns(pl.lit(old).alias(OLD))


def _replace(store: FrameStore, old: pl.DataFrame | None, new: pl.DataFrame) -> None:
    if old is not None:
        store.remove(_ALL, old)
    store.append(_ALL, new)
