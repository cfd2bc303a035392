"""The rows that stand on one side of a join of changing tables, with their weights, and what a time to live forgets.

A forgotten row changes nothing any more: pairs that came out with it stay, and its withdrawal is ignored. A row of
the other side that had such a pair is settled: it has had a partner for good, whatever comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.key_join import key_join
from streamflow.core.membership import has_key_in
from streamflow.core.partition import partitioned
from streamflow.operators.joins.sides import TIMES
from streamflow.operators.joins.single_rows import net
from streamflow.operators.joins.table_rows import last_of_each
from streamflow.state.frames.merging import as_they_are
from streamflow.state.frames.store import FrameStore
from streamflow.time.timestamps import MAX_TIME

if TYPE_CHECKING:
    from streamflow.observe.registry import Metric, OperatorMetrics
    from streamflow.operators.contract.operator import OperatorContext
    from streamflow.state.keyed.owned_keys import OwnedKeys

__all__ = ["CAUSE", "ORDER", "SETTLED", "WEIGHT", "StandingRows", "added_up", "count_withdrawn"]

WEIGHT: Final = "\x1aweight"
"""The number of times that a row stands in its table, or by which a change makes it more."""
SETTLED: Final = "\x1asettled"
"""Whether a row of the other side has been forgotten that this row made a pair with."""
CAUSE: Final = "\x1acause"
"""The time of the change that made a row of the other side come or go."""
ORDER: Final = "\x1aorder"
"""The place of a row among all that came."""
_PANE: Final = "\x1apane"
_ROW: Final = "\x1arow"
_NEEDED: Final = "\x1aneeded"


class StandingRows:
    """The rows of input `port`, by key; `ttl`: forgotten so many microseconds after their event time, or never (None).

    `columns` are the rows' own, the `keys` first. `changing`: rows may go again. `settling`: it matters whether a row
    is alone, so that rows are SETTLED. `single`: each key has one row at most, and no row is forgotten.
    """

    def __init__(
        self,
        ctx: OperatorContext,
        owned: OwnedKeys,
        port: int,
        columns: Sequence[str],
        keys: Sequence[str],
        *,
        state: str,
        ttl: int | None,
        changing: bool,
        single: bool,
        settling: bool,
    ) -> None:
        self._time, self._keys, self._columns = TIMES[port], list(keys), list(columns)
        self._ttl, self._changing = ttl, changing
        self._settling = settling and ttl is not None
        self._apart = [*columns, SETTLED] if self._settling else [*columns]
        self._added_up = changing or self._settling
        self._single = single
        merge: Callable[[pl.DataFrame], pl.DataFrame] = as_they_are
        if single:
            merge = net(keys[0], WEIGHT)
        elif self._added_up:
            merge = added_up(self._apart)
        self._merge = merge
        self.store = FrameStore(
            ctx.state,
            ctx.operator_id,
            merge,
            ctx.memory_budget,
            owned,
            state=state,
        )
        self._width = max(1, (ttl or 0) // 4)
        self._forgotten = count_withdrawn(ctx.metrics)

    def net(self, changes: pl.DataFrame) -> pl.DataFrame:
        """The changes, as far as they are not taken back among them."""
        return self._merge(changes) if self._single else changes

    def placed(self, changes: pl.DataFrame) -> pl.DataFrame:
        """The changes, each where its row stands, if there is a time to live; those of forgotten rows are counted."""
        if self._ttl is None:
            return changes
        if self._changing:
            changes = added_up(self._columns)(changes)
        times = changes[self._time]
        changes = changes.hstack([(times - times % self._width).alias(_PANE)])
        if self._settling:
            changes = changes.hstack([pl.Series(SETTLED, [False]).new_from_index(0, changes.height)])
        goes = changes[WEIGHT] < 0
        if not goes.any():
            return changes
        return pl.concat([changes.filter(~goes), self._gone(changes.filter(goes))])

    def keep(self, changes: pl.DataFrame) -> None:
        """Adds changes that have been `placed`."""
        if self._ttl is None:
            self.store.append(0, changes)
            return
        for pane, part in partitioned(changes.drop(_PANE), changes[_PANE]):
            self.store.append(pane, part)

    def of(self, keys: pl.DataFrame) -> pl.DataFrame | None:
        """The rows that have these keys, each once, with its weight; None if there are none."""
        rows = self._found(self.store.panes(), keys)
        return None if rows is None else self._standing(rows)

    def slices(self) -> int:
        """The number of slices in which all rows are read."""
        return self.store.slices(self.store.panes())

    def slice(self, number: int, slices: int) -> pl.DataFrame | None:
        """The rows whose keys are in one of so many slices, each once; None if there are none."""
        rows = self.store.read_slice(self.store.panes(), number, slices)
        return None if rows is None else self._standing(rows)

    def forget(self, watermark: int, other: StandingRows) -> Iterator[None]:
        """Forgets the rows whose time is over, and settles the `other` side's rows that had them for a partner; a
        slice of the keys at a time."""
        for pane in self.store.panes():
            if self._ttl is not None and pane + self._width + self._ttl <= watermark:
                if other._settling and watermark < MAX_TIME:
                    for rows in self.store.in_slices(pane):
                        stood = rows if not self._added_up else rows.filter(rows[WEIGHT] > 0)
                        other._settle(stood[self._keys].unique())
                        yield
                self.store.drop(pane)

    def _found(self, panes: Sequence[int], keys: pl.DataFrame) -> pl.DataFrame | None:
        """All rows of these keys in some panes; None if there are none."""
        found = self.store.candidates(panes, keys) if keys.height else []
        if not found:
            return None
        rows = concatenated(found)
        rows = rows.filter(has_key_in(rows, keys, self._keys))
        return rows if rows.height else None

    def _standing(self, rows: pl.DataFrame) -> pl.DataFrame | None:
        if not self._added_up:
            return rows
        rows = last_of_each(rows, self._keys) if self._single else self._merge(rows)
        rows = rows.filter(rows[WEIGHT] > 0)
        return rows if rows.height else None

    def _by_pane(self, keys: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows of these keys that stand in each pane."""
        for pane in self.store.panes():
            rows = self._found([pane], keys)
            standing = None if rows is None else self._standing(rows)
            if standing is not None:
                yield pane, standing

    def _gone(self, goes: pl.DataFrame) -> pl.DataFrame:
        """Withdrawals of rows that stand, where they stand: the latest and those that are not settled first."""
        none = goes.clear()
        standing = [
            rows.with_columns(pl.lit(pane, pl.Int64).alias(_PANE))
            for pane, rows in self._by_pane(goes[self._keys])
        ]
        needed = goes.select(*self._columns, self._time, (-pl.col(WEIGHT)).alias(_NEEDED)).with_row_index(
            _ROW
        )
        if standing:
            rows = pl.concat([each.drop(self._time) for each in standing])
            both = key_join(rows, needed, self._columns)
            order = [SETTLED, _PANE] if self._settling else [_PANE]
            both = both.sort(order, descending=[name == _PANE for name in order])
            before = pl.col(WEIGHT).cum_sum().over(_ROW) - pl.col(WEIGHT)
            taken = pl.min_horizontal(WEIGHT, (pl.col(_NEEDED) - before).clip(0))
            none = both.with_columns((-taken).alias(WEIGHT)).filter(pl.col(WEIGHT) < 0)[goes.columns]
        self._forgotten.add(int(needed[_NEEDED].sum()) + int(none[WEIGHT].sum()))
        return none

    def _settle(self, keys: pl.DataFrame) -> None:
        """Makes rows of these keys settled."""
        for pane, rows in self._by_pane(keys):
            open_ = rows.filter(~rows[SETTLED])
            if open_.height:
                minus = open_.with_columns(-pl.col(WEIGHT))
                self.store.append(pane, pl.concat([minus, open_.with_columns(pl.lit(True).alias(SETTLED))]))


def count_withdrawn(metrics: OperatorMetrics) -> Metric:
    """The counter of withdrawals of rows that do not stand in a join."""
    return metrics.counter(
        "streamflow_withdrawals_of_forgotten_rows_total",
        "Withdrawals of rows that a join has forgotten, or that came late to it, which change nothing",
    )


def added_up(columns: Sequence[str]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """A function that makes one row of all that are equal in these columns, with the sum of their weights
    and the last of their times and places."""

    def merge(rows: pl.DataFrame) -> pl.DataFrame:
        last = [pl.col(name).max() for name in (*TIMES, CAUSE, ORDER) if name in rows.columns]
        summed = rows.group_by(columns, maintain_order=True).agg(pl.col(WEIGHT).sum(), *last)
        return summed.filter(summed[WEIGHT] != 0)[rows.columns]

    return merge
