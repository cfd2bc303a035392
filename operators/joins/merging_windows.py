"""The join over windows that merge: pairs of rows of one session of their key, when the session closes. So are own
windows joined that intersect.

A session is made by the rows of both sides together. Its bounds are kept apart from its rows, merged by key: a
session that goes on and on costs no look at what it holds. The ends that sessions have had wait in order of time;
when the watermark passes one, the sessions of its key are looked up, and those that are over take their rows with
them. At the end of the input all keys are gone over instead, some at a time. A row with a null key, which matches
nothing, is a session by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.membership import has_key_in
from streamflow.operators.aggregates.partials import END, START
from streamflow.operators.contract.operator import Collector, OperatorContext
from streamflow.operators.contract.waiting import LOOKED_UP, Waiting, earliest
from streamflow.operators.joins.closing_rows import ClosingRows
from streamflow.operators.joins.own_windows import in_own_windows
from streamflow.operators.joins.sides import ALONE, SIDES, TIMES, Columns
from streamflow.operators.windows.merging import SESSION
from streamflow.operators.windows.window_rows import BY_END, BY_START
from streamflow.state.frames.merging import as_they_are
from streamflow.state.frames.store import FrameStore
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.time.timestamps import MAX_TIME
from streamflow.windows.assigners import Session
from streamflow.windows.own_assigner import WindowAssigner

__all__ = ["MergingAssigner", "MergingJoining"]

MergingAssigner = Session | WindowAssigner
"""The assigners whose windows may merge."""

_PANE: Final = 0
_AT_ONCE: Final = 100_000
"""The approximate number of rows of which the sessions are looked up at once."""
_LATER: Final = "the next window, no earlier than that,"
_ROW: Final = "\x1arow"
_FROM: Final = "\x1afrom"


class MergingJoining(ClosingRows):
    """The logic of `WindowJoin` for windows that merge, in one subtask."""

    def __init__(self, assigner: MergingAssigner, ctx: OperatorContext, columns: Columns) -> None:
        super().__init__(assigner, ctx, columns)
        self._assigner = assigner
        self._keys = columns.keys
        self._bounds = [*columns.keys, START, END]
        owned = self._owned
        store = partial(FrameStore, ctx.state, ctx.operator_id, replacing=True, repeated=True)
        sorted_ = partial(TimeSorted, ctx.state, ctx.operator_id, ctx.memory_budget, owned, time=END)
        self._rows = [store(as_they_are, ctx.memory_budget, owned, state=side) for side in SIDES]
        self._sessions = store(self._merged, ctx.memory_budget, owned, state="sessions")
        self._ends = sorted_(state="ends")
        # Rows with null keys, as far as they come out.
        self._alone = [sorted_(state=f"{side}-alone") for side in SIDES]
        self._kept |= {"sessions": self._sessions, "ends": self._ends}
        for side, rows, alone in zip(SIDES, self._rows, self._alone, strict=True):
            self._kept |= {side: rows, f"{side}-alone": alone}

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        rows = self._in_windows(self._columns.rows(batch, port), port)
        keyed = self._columns.with_partner_possible(rows)
        if keyed.height < rows.height:
            self._add_alone(rows.filter(pl.any_horizontal(pl.col(self._keys).is_null())), port, out)
        rows = self._not_late(keyed, port, out)
        if rows.is_empty():
            return
        self._add(self._merged(rows[self._bounds]))
        self._rows[port].append(_PANE, rows.drop(TIMES[port]))

    def waiting(self) -> tuple[Waiting, ...]:
        ends = [(alone.earliest(), len(alone)) for alone in self._alone]
        alone = [Waiting(self._rules.named(end), end - 1, rows) for end, rows in ends if end is not None]
        return earliest(self._first(), *alone)

    def work_at(self, watermark: int) -> int:
        until = min(watermark, MAX_TIME - 1) + 1
        return self._ends.rows_by(until) * self._per_session + sum(
            alone.rows_by(until) for alone in self._alone
        )

    def _first(self) -> Waiting | None:
        """The session that ends first; other ends that wait are those of sessions that have gone on."""
        waiting, all_ = self._ends.first(LOOKED_UP)
        if waiting is None:
            return None
        sessions = self._sessions.peek(_PANE, waiting)
        if sessions is not None:
            ends = waiting.filter(has_key_in(waiting, sessions, [*self._keys, END]))[END]
            if len(ends):
                return Waiting(self._rules.named(int(ends[0])), int(ends[0]) - 1, self._held)
        return None if all_ else Waiting(_LATER, int(waiting[END][-1]) - 1, self._held)

    @property
    def _held(self) -> int:
        """The number of rows in sessions."""
        return sum(store.rows for store in self._rows)

    @property
    def _per_session(self) -> int:
        """About the number of rows of a session."""
        return 1 + self._held // max(self._sessions.rows, 1)

    def _in_windows(self, rows: pl.DataFrame, port: int) -> pl.DataFrame:
        """The rows with START and END of their windows; those that are in none are counted."""
        if isinstance(self._assigner, Session):
            times = rows[TIMES[port]]
            return rows.hstack([times.alias(START), (times + self._assigner.gap).alias(END)])
        return in_own_windows(rows, port, self._assigner, self._metrics)

    def _merged(self, bounds: pl.DataFrame) -> pl.DataFrame:
        """One row with START and END for each session."""
        merged = self._rules.numbered(bounds, self._keys).unique(SESSION, maintain_order=True)
        return merged.select(*self._keys, pl.col(BY_START).alias(START), pl.col(BY_END).alias(END))

    def _add(self, sessions: pl.DataFrame) -> None:
        """Adds sessions of rows that have come."""
        if not self._rules.spanning:
            # Their ends are those that the user's function gives for all of a key.
            old = self._sessions.look_up(_PANE, sessions)
            if old is not None:
                self._sessions.remove(_PANE, old)
                sessions = self._merged(concatenated([old, sessions]))
        self._sessions.append(_PANE, sessions)
        self._ends.add(sessions)

    def _add_alone(self, rows: pl.DataFrame, port: int, out: Collector) -> None:
        """Adds rows with null keys, each a session by itself."""
        late = rows[END] - 1 <= self._watermark
        if late.any():
            self._late.put_out(rows.filter(late), port, out)
            rows = rows.filter(~late)
        if ALONE[self._columns.how][port]:
            self._alone[port].add(rows.drop(TIMES[port]))

    def _not_late(self, rows: pl.DataFrame, port: int, out: Collector) -> pl.DataFrame:
        """The rows that are not late: whose sessions, merged with what is there and what came with them, are open."""
        doubtful = rows[END] - 1 <= self._watermark
        if not doubtful.any():
            return rows
        related = rows[self._bounds].with_row_index(_ROW)
        related = related.filter(has_key_in(related, rows.filter(doubtful), self._keys))
        found = [related]
        sessions = self._sessions.look_up(_PANE, related)
        if sessions is not None:
            found.append(sessions.select(pl.lit(None, pl.UInt32).alias(_ROW), *self._bounds))
        numbered = self._rules.numbered(concatenated(found), self._keys)
        late = numbered.filter(pl.col(BY_END) - 1 <= self._watermark)[_ROW].drop_nulls()
        if late.is_empty():
            return rows
        is_late = pl.Series([False]).new_from_index(0, rows.height).scatter(late, True)
        self._late.put_out(rows.filter(is_late), port, out)
        return rows.filter(~is_late)

    def _fired(self, out: Collector) -> Iterator[None]:
        """Emits the sessions that are over by the watermark."""
        until = min(self._watermark, MAX_TIME - 1) + 1
        for port, alone in enumerate(self._alone):
            for rows in alone.due(until):
                self._pairs.emit(None if port else rows, rows if port else None, out)
                yield
        yield from self._all(out) if self._watermark >= MAX_TIME else self._due(until, out)
        if not len(self._ends):
            for store in (*self._rows, self._sessions):
                store.clear()

    def _due(self, until: int, out: Collector) -> Iterator[None]:
        """Emits the sessions of the keys that may have one that ends by then, some thousand rows at a time."""
        keys_at_once = max(_AT_ONCE // self._per_session, 1)
        for ends in self._ends.due(until):
            for keys in ends[self._keys].unique(maintain_order=True).iter_slices(keys_at_once):
                sessions = self._sessions.look_up(_PANE, keys)
                over = None if sessions is None else sessions.filter(sessions[END] <= until)
                if sessions is None or over is None or over.is_empty():
                    continue
                sessions = sessions.filter(has_key_in(sessions, over, self._keys))
                self._sessions.remove(_PANE, over)
                self._sessions.append(_PANE, sessions.filter(sessions[END] > until))
                left, right = (self._taken(store, sessions, over) for store in self._rows)
                self._pairs.emit(left, right, out)
                yield

    def _taken(self, store: FrameStore, sessions: pl.DataFrame, over: pl.DataFrame) -> pl.DataFrame | None:
        """Takes out the rows whose sessions are over; `sessions` are all of their keys."""
        rows = store.look_up(_PANE, over)
        if rows is None:
            return None
        store.remove(_PANE, rows.unique(self._keys))
        placed = self._placed(rows, sessions)
        closed = placed[END] - 1 <= self._watermark
        if closed.all():
            return placed
        store.append(_PANE, placed.filter(~closed))
        return placed.filter(closed)

    def _placed(self, rows: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
        """The rows with the bounds of their sessions: of those of their key, the last one that begins before."""
        begin = sessions.select(
            *self._keys, START, pl.lit(None, pl.UInt32).alias(_ROW), pl.col(START).alias(_FROM), END
        )
        none = pl.lit(None, pl.Int64)
        places = rows.with_row_index(_ROW).select(
            *self._keys, START, _ROW, none.alias(_FROM), none.alias(END)
        )
        starts, ends = pl.col(_FROM).forward_fill(), pl.col(END).forward_fill()
        if not self._rules.spanning:
            # It may begin later than its rows' own windows.
            starts, ends = (each.backward_fill().over(self._keys) for each in (starts, ends))
        # The beginning of a session stands before its rows: nulls are first.
        bounds = (
            concatenated([begin, places])
            .sort(*self._keys, START, _ROW)
            .select(_ROW, starts.alias(START), ends)
            .filter(pl.col(_ROW).is_not_null())
            .sort(_ROW)
        )
        return rows.with_columns(bounds[START], bounds[END])

    def _all(self, out: Collector) -> Iterator[None]:
        """Emits all sessions at the end of the input, a slice of the keys at a time."""
        stores = [*self._rows, self._sessions]
        slices = max(store.slices(store.panes()) for store in stores)
        for number in range(slices):
            *sides, sessions = (store.read_slice(store.panes(), number, slices) for store in stores)
            if sessions is not None:
                left, right = (None if rows is None else self._placed(rows, sessions) for rows in sides)
                self._pairs.emit(left, right, out)
                yield
        self._ends.clear()
