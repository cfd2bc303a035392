"""Session windows: fragments of sessions by key, merged when the watermark may close one.

A batch comes in as fragments (records of a key in one slice of the gap's width are in one session whatever else
comes). Before the first watermark they only collect in the pane store. From then on the open ones are at hand in
memory, one frame: a watermark picks the keys that have a fragment old enough to close, and merges the fragments of
those keys only. Fragments that no watermark will touch for a while are put away by key (`PutAway`), so that this
frame stays about as large as the fragments that come and go.

With allowed lateness a session that has fired stays until clean-up, so that late records can extend it or join two;
the merged session then fires as a new window. In discarding mode only its bounds stay meaningful: its values are not
emitted again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.membership import has_key_in
from streamflow.core.plain_keys import FEW, occur_once
from streamflow.operators.aggregates.partials import COUNT, END, FIRST, LAST, SLICE, START
from streamflow.operators.contract.operator import LATE, Collector, Operator
from streamflow.operators.contract.waiting import Waiting, session_that_ends
from streamflow.operators.windows.buckets import Buckets
from streamflow.operators.windows.emission import Timing
from streamflow.operators.windows.merging import SESSION, with_sessions
from streamflow.operators.windows.put_away import Merge, PutAway
from streamflow.operators.windows.window_parts import WindowParts
from streamflow.state.frames.parts import FrameSizes
from streamflow.state.memory_share import MemoryShare
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

__all__ = ["SessionWindows"]

_FIRED: Final = "__fired"
"""A flag of a row that is a session exactly as it has fired."""
_AGAIN: Final = "__again"
"""A flag of a row of which some records have fired."""
_OPEN: Final = 0
"""The pane of the table of open fragments, which has no pane."""
_CHUNK_ROWS: Final = 400_000
_LITTLE: Final = 4_096
_MOST_CHUNKS: Final = 16
_MANY: Final = 8
"""The number of rows per row that is old enough to close, below which all are merged instead of picking."""
_FEW: Final = 64
"""The number of rows of which the keys are looked at first, to tell which session ends first."""
_MANY_OPEN: Final = 131_072
"""With no more open rows, going over all of them costs less than looking some up."""
_AT_HAND: Final = 16_384
"""The number of rows that stay at hand in any case once some are put away."""
_PUT_AWAY: Final = 196_608
"""The number of rows that one watermark puts away at most: it takes a moment to sort them in."""
_AHEAD: Final = 8
"""The number of steps of the watermark for which due rows stay at hand; all rows if that is a gap or more."""


class SessionWindows(Operator):
    """The logic of `WindowAggregateSpec` for session windows in one subtask."""

    def __init__(
        self,
        gap: int,
        parts: WindowParts,
        memory: MemoryShare,
        away: Callable[[Merge], PutAway],
        *,
        of_last: bool = False,
    ) -> None:
        """`away` makes the store of rows put away, given the function that merges them. `of_last`: a result has the
        time of its last record, instead of its window's last moment."""
        self._gap = gap
        self._of_last = of_last
        self._parts = parts
        self._keys = parts.keys
        self._lateness = parts.allowed_lateness
        self._memory = memory
        self._sizes = FrameSizes()
        self._nbytes = 0
        self._away = away(self._merged)
        self._ahead = 0
        # Up to when what was put away has been taken back.
        self._taken = MIN_TIME
        self._stored = Buckets(parts.store, gap, low=FIRST)
        self._open: list[pl.DataFrame] = []
        self._rows = 0
        self._merged_rows = 0
        self._watermark = MIN_TIME
        self._leading: list[str | pl.Expr] = [
            *self._keys,
            pl.col(FIRST).alias(START),
            (pl.col(LAST) + gap).alias(END),
        ]

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        frame = self._parts.checked(batch)
        if frame.is_empty():
            return
        fragments = self._parts.partials(frame)
        if self._watermark == MIN_TIME:
            self._stored.append(fragments)
            return
        fragments = self._not_late(fragments, frame, out)
        if fragments.is_empty():
            return
        self._add(fragments)
        if self._lateness and int(fragments[LAST].min()) <= self._closing(self._watermark):  # type: ignore[arg-type]
            self._close(self._watermark, "LATE", out)
        elif self._rows > 2 * self._merged_rows + _LITTLE:
            self._compact()

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if watermark > self._watermark:
            ahead = _AHEAD * (watermark - self._watermark)
            # Where all of it will be due soon, nothing is put away.
            puts_away = ahead <= self._gap
            self._ahead = ahead if puts_away else 0
            self._watermark = watermark
            complete = False
            while not complete:
                reached, complete = self._fetch(watermark)
                self._close(reached, "ON_TIME", out)
                if puts_away and self._rows > (_AT_HAND if len(self._away) else _MANY_OPEN):
                    self._put_away(self._closing(reached) + self._ahead, _PUT_AWAY)
            self._parts.writer.clean_up(watermark)
        # A session that is still open has a record after this.
        return self._closing(watermark) if self._of_last and watermark < MAX_TIME else watermark

    def waiting(self) -> tuple[Waiting, ...]:
        spans = self._stored.spans
        # Of those that no watermark has reached only the beginning of the first is at hand.
        begun = min((span.low for span in spans.values()), default=None)
        known = [last for last in (self._first_last(), self._away.earliest(), begun) if last is not None]
        if not known:
            return ()
        end = min(known) + self._gap
        held = self._rows + len(self._away) + sum(map(self._stored.rows, spans))
        return (Waiting(session_that_ends(end), end - 1, held),)

    def work_at(self, watermark: int) -> int:
        return self._rows + self._away.due_by(self._closing(watermark))

    def snapshot(self) -> OperatorSnapshot:
        away = self._away.snapshot()
        values = {
            "watermark": self._watermark,
            "stored": self._stored.snapshot(),
            "lateness": self._lateness,
            **away.values,
        }
        return self._parts.snapshot(values, {"open": [(_OPEN, frame) for frame in self._open], **away.tables})

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._parts.restore(parts)
        self._stored.restore([part.values["stored"] for part in parts])
        self._away.restore(parts)
        self._watermark = min(part.number("watermark") for part in parts)
        lateness = {part.values.get("lateness", self._lateness) for part in parts}
        saved = [frame for _, frame in self._parts.owned.restored(parts, "open", self._merged)]
        if lateness != {self._lateness}:
            # What has been put away is due at other times, and may lack flags or have some that are needed no more.
            away = self._away.take_all()
            saved += [] if away is None else [away]
        if not self._lateness and any(_FIRED in frame.columns for frame in saved):
            # What has fired is over, except where a session that has not fired continues it.
            saved = [self._merged(concatenated(saved)).filter(~pl.col(_FIRED)).drop(_FIRED, _AGAIN)]
        self._keep([self._flagged(frame) for frame in saved])

    def _flagged(self, fragments: pl.DataFrame) -> pl.DataFrame:
        """Fragments with the columns that allowed lateness needs."""
        if _FIRED not in fragments.columns and self._lateness:
            return fragments.with_columns(pl.lit(False).alias(_FIRED), pl.lit(False).alias(_AGAIN))
        return fragments

    def _closing(self, watermark: int) -> int:
        """The time of the last record of the latest session that this watermark closes."""
        return watermark - self._gap + 1

    def _not_late(self, fragments: pl.DataFrame, records: pl.DataFrame, out: Collector) -> pl.DataFrame:
        """The fragments that are not late, judged after merging them with what is open and with each other."""
        bound = self._closing(self._watermark) - self._lateness
        if int(fragments[LAST].min()) > bound:  # type: ignore[arg-type]
            return fragments
        doubtful = fragments.filter(pl.col(LAST) <= bound)
        self._take_back(doubtful)
        bounds = [*self._keys, FIRST, LAST]
        numbered = fragments.with_row_index("__fragment")
        related = [numbered.select(*bounds, "__fragment")]
        related += [f.select(*bounds, pl.lit(None, pl.UInt32).alias("__fragment")) for f in self._open]
        merged = with_sessions(
            concatenated([frame.filter(has_key_in(frame, doubtful, self._keys)) for frame in related]),
            self._keys,
            self._gap,
        )
        late = merged.filter(pl.col(LAST).max().over(SESSION) <= bound)["__fragment"].drop_nulls()
        if late.is_empty():
            return fragments
        is_late = pl.col("__fragment").is_in(late.implode())
        dropped = numbered.filter(is_late)
        if not self._parts.partial_input and out.connected(LATE):
            out.emit_to(LATE, FrameBatch(self._parts.records_of(dropped, records)))
        else:
            self._parts.metrics.late_dropped.add(int(dropped[COUNT].sum()))
        return numbered.filter(~is_late).drop("__fragment")

    def _close(self, watermark: int, timing: Timing, out: Collector) -> None:
        """Emits the sessions that end by the watermark, and forgets those that are over."""
        rows = self._ended(self._closing(watermark))
        if rows is None:
            return
        fires = self._fires(rows, watermark)
        if fires.any():
            due = rows.filter(fires)
            if self._take_back(due):
                rows = concatenated(self._open)
            related, rest = self._related(rows, due)
            sessions = self._merged(related)
            fires = self._fires(sessions, watermark)
            closed = sessions if fires.all() else sessions.filter(fires)
            if closed.height:
                again = bool(self._lateness) and bool(closed[_AGAIN].any())
                results = self._parts.plan.results(closed, self._leading)
                self._parts.writer.write(results, timing, self._watermark, out, again=again)
            kept = [rest] if closed is sessions else [rest, sessions.filter(~fires)]
            if self._lateness:
                kept.append(closed.with_columns(pl.lit(True).alias(_FIRED), pl.lit(True).alias(_AGAIN)))
            self._keep(kept)
        if self._lateness:
            self._forget(self._closing(watermark) - self._lateness)

    def _fires(self, rows: pl.DataFrame, watermark: int) -> pl.Series:
        """Whether a row has to fire by this watermark."""
        ended = rows[LAST] <= self._closing(watermark)
        return ended & ~rows[_FIRED] if self._lateness else ended

    def _forget(self, bound: int) -> None:
        """Drops fired sessions that are over: the last record is not later than `bound`, nor is that of any fragment
        that continues the session."""
        rows = self._ended(bound)
        if rows is None:
            return
        over = pl.col(_FIRED) & (pl.col(LAST) <= bound)
        gone = rows.filter(over)
        if gone.is_empty():
            return
        if self._take_back(gone):
            rows = concatenated(self._open)
        kept = [rows.filter(~over)]
        # All that ends by the watermark has fired by now: a session with a fragment that has not is not over.
        doubtful = gone.filter(has_key_in(gone, kept[0].filter(~pl.col(_FIRED)), self._keys))
        if not doubtful.is_empty():
            related = rows.filter(has_key_in(rows, doubtful, self._keys))
            sessions = with_sessions(related, self._keys, self._gap)
            continued = sessions.filter(over, pl.col(LAST).max().over(SESSION) > bound).drop(SESSION)
            kept.append(continued)
            gone = gone.join(continued, on=[*self._keys, FIRST, LAST], how="anti", nulls_equal=True)
        self._keep(kept)
        self._parts.writer.forget(gone.select(self._leading))

    def _related(self, rows: pl.DataFrame, due: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows of the keys that are due, and the others."""
        if due.height * _MANY > rows.height:
            return rows, rows.clear()
        chosen = has_key_in(rows, due, self._keys)
        return due if chosen.sum() == due.height else rows.filter(chosen), rows.filter(~chosen)

    def _merged(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row per session; in discarding mode its values leave out fired records."""
        if rows.height <= FEW and occur_once(rows, self._keys):
            return rows
        numbered = with_sessions(rows, self._keys, self._gap)
        first_key = [pl.col(key).first() for key in self._keys]
        if _FIRED not in rows.columns:
            return _beside(rows, self._parts.plan.merge(numbered, [SESSION], first_key))
        whole = (pl.len() == 1) & pl.col(_FIRED).first()
        flags = [whole.alias(_FIRED), pl.col(_AGAIN).any()]
        if not (self._parts.discarding and rows[_FIRED].any()):
            return _beside(rows, self._parts.plan.merge(numbered, [SESSION], [*first_key, *flags]))
        bounds = numbered.group_by(SESSION).agg(*first_key, pl.col(FIRST).min(), pl.col(LAST).max(), *flags)
        unsaid = numbered.filter(~pl.col(_FIRED) | (pl.len().over(SESSION) == 1))
        values = self._parts.plan.merge(unsaid, [SESSION]).drop(FIRST, LAST)
        return _beside(rows, bounds.join(values, on=SESSION))

    def _all(self) -> pl.DataFrame | None:
        """All open fragments, as one frame."""
        if not self._open:
            return None
        if len(self._open) > 1:
            frame = concatenated(self._open)
            self._open = [frame.rechunk() if frame.n_chunks() > _MOST_CHUNKS else frame]
        return self._open[0]

    def _ended(self, bound: int) -> pl.DataFrame | None:
        """All open fragments, if some end by `bound`."""
        rows = self._all()
        return None if rows is None or int(rows[LAST].min()) > bound else rows  # type: ignore[arg-type]

    def _first_last(self) -> int | None:
        """The last record's time of the open session that ends first; only keys that may have it are merged."""
        rows = self._all()
        if rows is None:
            return None
        unfired = rows.filter(~rows[_FIRED]) if _FIRED in rows.columns else rows
        few = _FEW
        while unfired.height:
            firsts = unfired.bottom_k(few, by=LAST)
            sessions = self._merged(rows.filter(has_key_in(rows, firsts, self._keys)))
            if _FIRED in sessions.columns:
                sessions = sessions.filter(~sessions[_FIRED])
            last = int(sessions[LAST].min())  # type: ignore[arg-type]
            # Keys that are not among them have no session that ends before.
            if firsts.height == unfired.height or last <= int(firsts[LAST].max()):  # type: ignore[arg-type]
                return last
            few *= _MANY
        return None

    def _keep(self, frames: list[pl.DataFrame]) -> None:
        self._open = [frame for frame in frames if not frame.is_empty()]
        self._rows = sum(frame.height for frame in self._open)
        self._merged_rows = min(self._merged_rows, self._rows)
        self._hold(sum(map(self._sizes.of, self._open)))

    def _add(self, fragments: pl.DataFrame) -> None:
        if SLICE in fragments.columns:
            fragments = fragments[[name for name in fragments.columns if name != SLICE]]
        self._open.append(self._flagged(fragments))
        self._rows += fragments.height
        self._hold(self._nbytes + self._sizes.of(self._open[-1]))

    def _hold(self, nbytes: int) -> None:
        """Notes the bytes of open fragments; what is put away has to leave them room."""
        more, self._nbytes = nbytes - self._nbytes, nbytes
        self._memory.hold(more)

    def _compact(self) -> None:
        """Merges all open fragments, so that a session that never closes does not grow; puts away the ones that are not
        due where they do not fit in memory."""
        rows = self._all()
        assert rows is not None
        merged = self._merged(rows)
        self._keep([merged])
        self._merged_rows = self._rows
        if self._nbytes > self._memory.limit // 2:
            self._put_away(self._closing(self._watermark), self._rows)

    def _take_back(self, keys: pl.DataFrame) -> bool:
        """Brings the rows of these keys to hand; returns whether some had been put away."""
        rows = self._away.take(keys)
        if rows is not None:
            self._add(rows)
        return rows is not None

    def _put_away(self, near: int, most: int) -> None:
        """Puts away `most` of the rows that are due after `near`, if that is the greater part."""
        rows = self._all()
        if rows is None:
            return
        last = pl.col(LAST)
        due = pl.when(_FIRED).then(last + self._lateness).otherwise(last) if self._lateness else last
        far = due > max(near, self._taken)
        away = rows.filter(far)
        if away.height * 2 > rows.height:
            self._away.add(away.head(most), due)
            self._keep([rows.filter(~far), away[most:]])

    def _fetch(self, watermark: int) -> tuple[int, bool]:
        """Fetches from the store the fragments that the watermark can touch, at most about a chunk of them.

        Returns the watermark up to which everything is at hand, and whether that is all of it.
        """
        closing, reached, fetched = self._closing(watermark), watermark, 0
        while self._taken < closing and fetched < _CHUNK_ROWS:
            # Some steps ahead, so that not every watermark has to.
            rows, self._taken = self._away.take_due(min(closing + self._ahead, MAX_TIME))
            if rows is not None:
                self._add(rows)
                fetched += rows.height
        if self._taken < closing:
            reached = self._taken + self._gap - 1
        spans, fetched = self._stored.spans, 0
        for low, bucket in sorted(
            (span.low, bucket) for bucket, span in spans.items() if span.low <= reached
        ):
            if fetched >= _CHUNK_ROWS:
                return low - 1, False
            fragments = self._stored.read(bucket)
            self._add(fragments)
            fetched += fragments.height
            self._stored.drop(bucket)
        return reached, reached == watermark


def _beside(rows: pl.DataFrame, merged: pl.DataFrame) -> pl.DataFrame:
    """Merged rows with their columns in the order of those that they were made of; a column that these lack is last."""
    more = [name for name in merged.columns if name != SESSION and name not in rows.columns]
    return merged.select(*rows.columns, *more)
