"""The totals of all keys of a running aggregate, and how changes to them go out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.plain_keys import occur_once
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE
from streamflow.operators.aggregates.partials import LATEST, PartialPlan
from streamflow.operators.contract.operator import Collector, OperatorContext
from streamflow.operators.stateless.null_keys import check_keys
from streamflow.operators.totals.cadence import Said
from streamflow.operators.totals.total_changes import OLD, TotalChanges
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart, Table

__all__ = ["RunningTotals"]

_TOTALS: Final = 0
"""The one pane of the store: the totals, one row per key."""
_LITTLE: Final = 4_096


class RunningTotals:
    """The totals of all keys, and how changes to them go out, with these `columns`."""

    def __init__(
        self,
        keys: Sequence[str],
        plan: PartialPlan,
        ctx: OperatorContext,
        *,
        columns: Sequence[str],
        timed: bool,
        null_keys_fail: bool,
        partial_input: bool,
    ) -> None:
        self._keys = list(keys)
        self._plan = plan
        self._owned = OwnedKeys(tuple(keys), ctx.groups, ctx.max_parallelism)
        self._store = FrameStore(
            ctx.state,
            ctx.operator_id,
            self._merge,
            ctx.memory_budget,
            self._owned,
            replacing=ctx.updates != "end",
        )
        self._id = ctx.operator_id
        self._checked = self._keys if null_keys_fail else ()
        self._partial_input = partial_input
        time = [pl.col(LATEST).cast(EVENT_TIME_TYPE).alias(EVENT_TIME)] if timed else []
        self._leading: list[str | pl.Expr] = [*self._keys, *time]
        self._changes = TotalChanges(keys, list(plan.types), columns, timed=timed)
        self._pending: list[pl.DataFrame] = []
        self._pending_rows = 0
        self._merged_rows = 0

    def add(self, batch: AnyBatch, out: Collector) -> None:
        """Takes records whose effect goes out with the next `change`."""
        self._add(self._partials(batch))

    def change(self, out: Collector) -> None:
        """Merges pending partials into the totals, and emits the changes."""
        if not self._pending:
            return
        partials = self._pending[0] if len(self._pending) == 1 else self._merge(concatenated(self._pending))
        self._pending, self._pending_rows, self._merged_rows = [], 0, 0
        old = self._store.look_up(_TOTALS, partials)
        new = partials if old is None else self._merge(concatenated([old, partials]))
        self._replace(old, new)
        self._put_out(old, new, out)

    def collect(self, batch: AnyBatch, out: Collector) -> None:
        """Takes records of totals that are emitted only at the end."""
        self._store.append(_TOTALS, self._partials(batch))

    def insert_all(self, out: Collector) -> None:
        """Emits all totals as inserts, and removes them."""
        if _TOTALS in self._store:
            for totals in self._store.in_slices(_TOTALS):
                self._put_out(None, totals, out)
            self._store.drop(_TOTALS)

    def snapshot(self, said: Said) -> OperatorSnapshot:
        """The totals, and the pending partials."""
        stored = self._store.snapshot()
        more: dict[str, Table] = {"pending": [(_TOTALS, frame) for frame in self._pending]}
        return OperatorSnapshot({"said": said, **stored.values}, {**stored.tables, **more}, stored.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state, of this version or of those in which recent totals were apart."""
        self._store.restore(parts)
        for _, recent in self._owned.restored(parts, "recent", self._merge):
            self._replace(self._store.look_up(_TOTALS, recent), recent)
        for _, frame in self._owned.restored(parts, "pending", self._merge):
            self._add(frame)

    def unsay(self) -> None:
        """Turns totals that were to be emitted at the end into changes."""
        if _TOTALS in self._store:
            self._add(self._store.read(_TOTALS))
            self._store.drop(_TOTALS)

    def _add(self, partials: pl.DataFrame) -> None:
        """Adds partials to those that are not in the totals yet."""
        self._pending.append(partials)
        self._pending_rows += partials.height
        if len(self._pending) > 1 and self._pending_rows > 2 * self._merged_rows + _LITTLE:
            self._pending = [self._merge(concatenated(self._pending))]
            self._pending_rows = self._merged_rows = self._pending[0].height

    def _partials(self, batch: AnyBatch) -> pl.DataFrame:
        """A batch as partials, one per key; its keys are fit to be keys."""
        assert isinstance(batch, FrameBatch)
        check_keys(batch.frame, self._checked, self._id)
        if not self._partial_input:
            return self._plan.partial(batch.frame, self._keys)
        # A channel may have made one batch of several.
        return batch.frame if occur_once(batch.frame, self._keys) else self._merge(batch.frame)

    def _merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """One row per key."""
        return self._plan.merge(partials, self._keys)

    def _replace(self, old: pl.DataFrame | None, new: pl.DataFrame) -> None:
        if old is not None:
            self._store.remove(_TOTALS, old)
        self._store.append(_TOTALS, new)

    def _put_out(self, old: pl.DataFrame | None, new: pl.DataFrame, out: Collector) -> None:
        """Emits what new totals change; `old` are the earlier ones of their keys."""
        olds = 0 if old is None else old.height
        both = new if old is None else concatenated([old, new])
        is_old = (pl.int_range(pl.len()) < olds).alias(OLD)
        result = self._changes.of(self._plan.results(both, [*self._leading, is_old]))
        if result.height:
            out.emit(FrameBatch(result))
