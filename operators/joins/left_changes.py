"""The left rows of an as-of join that are changes: each withdrawal takes back exactly what its row gave.

A row is joined at its time, and stays with that version, whatever versions come later, until it is withdrawn. A
withdrawal is told by its content which row it means, when it comes. So its own event time does not matter: some
operators give it the time of what comes in its place, databases that of the old row. It goes out at its time, the
halves of an update together; where its row is not joined by then, nothing comes of both. It is never late; one without
a row, since that was late itself, is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import CHANGE
from streamflow.core.stream_type import withdraws
from streamflow.operators.joins.sides import TIMES, Columns, with_nulls
from streamflow.operators.joins.standing_rows import count_withdrawn
from streamflow.operators.stateless.lone_halves import ROW, judged, updated
from streamflow.state.frames.merging import as_they_are
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys

if TYPE_CHECKING:
    from streamflow.core.elements import AnyBatch
    from streamflow.operators.contract.operator import OperatorContext

__all__ = ["DUE", "FOUND", "GOES", "LeftChanges"]

DUE: Final = "\x1adue"
"""The time at which a change goes out."""
FOUND: Final = "\x1afound"
"""Whether a row has been joined with a version (true) or with none (false); null: it waits."""
GOES: Final = "\x1agoes"
"""Whether a change withdraws a row."""
_KIND: Final = "\x1akind"
_OVER: Final = "\x1aover"
"""Whether a row that waits is to be withdrawn after it has been joined."""
_SINCE: Final = "\x1asince"
"""The event time of the row that is withdrawn."""
_ALL: Final = 0
_LEFT: Final = TIMES[0]
_PLACE: Final = "\x1aplace"
_TAKES: Final = "\x1atakes"
_GROUP: Final = "\x1agroup"
_NUMBER: Final = "\x1anumber"
_SHORT: Final = "\x1ashort"


class LeftChanges:
    """The rows of the left that stand, in one subtask, each with what it was joined with."""

    def __init__(self, columns: Columns, ctx: OperatorContext) -> None:
        self._columns = columns
        self._content = list(columns.kept[0])
        others = {name: dtype for name, dtype in columns.kept[1].items() if name not in columns.keys}
        self.others = {name: dtype for name, dtype in others.items() if name in columns.result}
        self._kept = [*self._content, _LEFT, FOUND, _OVER, *self.others]
        self._at_end = ctx.updates == "end"
        # So that few rows are looked up, however many a key has.
        told_apart = tuple(
            name
            for name, dtype in columns.kept[0].items()
            if name not in columns.keys and not dtype.is_nested() and dtype != pl.Unknown()
        )
        owned = OwnedKeys(tuple(columns.keys), ctx.groups, ctx.max_parallelism, told_apart)
        self.store = FrameStore(
            ctx.state, ctx.operator_id, as_they_are, ctx.memory_budget, owned, state="left", replacing=True
        )
        self._withdrawn = count_withdrawn(ctx.metrics)

    def rows(self, batch: AnyBatch) -> pl.DataFrame:
        """A batch's changes as rows of the left with their kind, and whether each GOES."""
        assert isinstance(batch, FrameBatch)
        kinds = batch.frame[CHANGE].cast(pl.String)
        return self._columns.rows(batch, 0).hstack([kinds.alias(_KIND), withdraws(kinds).alias(GOES)])

    def taken(self, rows: pl.DataFrame, late: pl.Series) -> pl.DataFrame:
        """Takes changes but those that are `late`, and gives those that wait until they are DUE: rows to be joined, and
        withdrawals."""
        placed = with_nulls(rows, {FOUND: pl.Boolean(), **self.others, _SINCE: pl.Int64()})
        placed = placed.with_columns(pl.lit(False).alias(_OVER), _due(late)).filter(~late)
        stored = self.store.look_up(_ALL, placed.filter(GOES)) if placed[GOES].any() else None
        pool, stood = placed, 0
        if stored is not None:
            standing = stored.filter(~stored[_OVER])
            stood = standing.height
            standing = with_nulls(standing, {_KIND: pl.String(), DUE: pl.Int64(), _SINCE: pl.Int64()})
            pool = concatenated([standing.with_columns(pl.lit(False).alias(GOES))[placed.columns], placed])
        pairs = self._pairs(pool)
        self._withdrawn.add(int(pool[GOES].sum()) - pairs.height)
        gone, rows = pool[pairs[_PLACE]], pool[pairs[_TAKES]]
        joined = rows[FOUND].is_not_null()
        follows = ~joined & (gone[DUE] > rows[_LEFT]) & (not self._at_end)
        # Rows that stay are those that nobody withdraws, or later.
        place = pl.int_range(pool.height, eager=True)
        over = place.is_in(pairs[_TAKES].filter(follows).implode())
        stays = ~pool[GOES] & (~place.is_in(pairs[_TAKES].implode()) | over)
        pool = pool.with_columns(over.alias(_OVER))
        if stored is not None and (pairs[_TAKES] < stood).any():
            self.store.remove(_ALL, stored)
            kept = [stored.filter(stored[_OVER]), pool[:stood].filter(stays[:stood])]
            self.store.append(_ALL, concatenated([each[self._kept] for each in kept]))
        comes = pool[stood:].hstack([place[stood:].alias(_PLACE)]).filter(stays[stood:])
        if comes.height:
            self.store.append(_ALL, comes[self._kept])
        back = rows.select(FOUND, *self.others, pl.col(_LEFT).alias(_SINCE))
        goes = gone.drop(back.columns).hstack([*back, pairs[_PLACE]]).filter(joined | follows)
        return concatenated([comes, goes[comes.columns]]).sort(_PLACE).drop(_PLACE)

    def due(self, changes: pl.DataFrame, join: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
        """Changes that are due, in their order and with their number in ROW: rows, which `join` has joined and which
        stand from now on, and withdrawals with what their rows were joined with. A row that has been withdrawn before
        is left out."""
        changes = changes.with_row_index(ROW)
        comes, goes = changes.filter(~changes[GOES]), changes.filter(changes[GOES])
        follows = goes[FOUND].is_null()
        sought = concatenated([comes, goes.filter(follows)])
        stored = self.store.look_up(_ALL, sought) if sought.height else None
        if stored is None:
            return goes.filter(~follows)
        by = [*self._content, _LEFT]
        waits = stored[FOUND].is_null()
        waiting = stored.filter(waits)
        pairs, free = _taking(comes, waiting, by)
        fresh = comes[pairs[_PLACE]].drop(_OVER, FOUND, *self.others)
        joined = join(fresh.hstack([waiting[pairs[_TAKES]][_OVER]]))
        standing = concatenated([stored.filter(~waits)[self._kept], joined[self._kept]])
        over = standing.filter(_OVER)
        withdrawn = goes.filter(follows)
        pairs, stays = _taking(withdrawn.with_columns(pl.col(_SINCE).alias(_LEFT)), over, by)
        back = over[pairs[_TAKES]][[FOUND, *self.others]]
        withdrawn = withdrawn[pairs[_PLACE]].drop(back.columns).hstack(back)
        self.store.remove(_ALL, stored)
        kept = [standing.filter(~standing[_OVER]), over.filter(stays), waiting.filter(free)[self._kept]]
        self.store.append(_ALL, concatenated(kept))
        whole = [goes.filter(~follows), withdrawn[goes.columns], joined[goes.columns]]
        return concatenated(whole).sort(ROW)

    def written(self, rows: pl.DataFrame) -> FrameBatch:
        """The result's rows, with their kind of change: what is left of an update is a delete or an insert."""
        frame = self._columns.written(rows, rows[_LEFT]).frame
        return FrameBatch(judged(frame.insert_column(0, rows[_KIND].alias(CHANGE)).hstack([rows[ROW]])))

    def _pairs(self, pool: pl.DataFrame) -> pl.DataFrame:
        """The withdrawals in _PLACE, and the rows that they take in _TAKES: of equal rows that of their own time, else
        the first."""
        numbered = pool[[*self._content, _LEFT, GOES]].with_row_index(_PLACE)
        same = _matched(numbered, [*self._content, _LEFT])
        if same.height == int(pool[GOES].sum()):
            return same
        rest = numbered
        if same.height:
            known = concatenated([same[_PLACE].to_frame(), same.select(pl.col(_TAKES).alias(_PLACE))])
            rest = numbered.filter(~numbered[_PLACE].is_in(known[_PLACE].implode()))
        return concatenated([same, _matched(rest, self._content)])


def _taking(rows: pl.DataFrame, others: pl.DataFrame, by: Sequence[str]) -> tuple[pl.DataFrame, pl.Series]:
    """The rows (_PLACE) that find one among the others that is equal in these columns (_TAKES), each another, in order;
    and the others that none has found."""
    both = [
        others[by].with_columns(pl.lit(False).alias(GOES)),
        rows[by].with_columns(pl.lit(True).alias(GOES)),
    ]
    pairs = _matched(concatenated(both).with_row_index(_PLACE), by)
    free = ~pl.int_range(others.height, eager=True).is_in(pairs[_TAKES].implode())
    return pairs.with_columns(pl.col(_PLACE) - others.height).sort(_PLACE), free


def _due(late: pl.Series) -> pl.Expr:
    """The time of a change; of the old half of an update, that of the new one, if it is not late."""
    kind, time = pl.col(_KIND), pl.col(_LEFT)
    half = updated(kind) & ~pl.lit(late).shift(-1)
    return pl.when(half).then(time.shift(-1)).otherwise(time).alias(DUE)


def _matched(rows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """The pairs of withdrawals and earlier rows equal in these columns that they take (_TAKES), by their _PLACE, each
    once and in order; a withdrawal before which there are not enough rows has none.

    >>> rows = pl.DataFrame({"k": ["a", "a", "b", "a", "a", "a"], GOES: [True, False, False, True, True, False]})
    >>> _matched(rows.with_row_index(_PLACE), ["k"]).rows()
    [(3, 1)]
    """
    none = pl.DataFrame(schema={_PLACE: pl.Int64, _TAKES: pl.Int64})
    if not rows[GOES].any():
        return none
    place = pl.col(_PLACE).cast(pl.Int64)
    # How many more withdrawals there have been than rows.
    missing = -pl.when(GOES).then(-1).otherwise(1).cum_sum()
    numbered = rows.select(
        place,
        pl.col(GOES),
        place.first().over(by).alias(_GROUP),
        missing.clip(lower_bound=0).cum_max().over(by).alias(_SHORT),
    )
    lacks = pl.col(_SHORT) > pl.col(_SHORT).shift(1, fill_value=0).over(_GROUP)
    numbered = numbered.filter(~lacks).with_columns(pl.int_range(pl.len()).over(_GROUP, GOES).alias(_NUMBER))
    gone = numbered.filter(pl.col(GOES))
    stands = numbered.filter(~pl.col(GOES)).rename({_PLACE: _TAKES})
    return gone.join(stands, on=[_GROUP, _NUMBER], maintain_order="left").select(_PLACE, _TAKES)
