"""The output of window results: the columns of a pane, its change kind, its timing and index.

Results come as frames of keys, START, END and the aggregates' values. Where a window can fire more than once and the
job wants retractions or pane indices, the last pane of each key and window is remembered until the window's
clean-up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

import polars as pl

from streamflow.core.chosen_rows import chosen_rows
from streamflow.core.common_types import concatenated
from streamflow.core.frame import FrameBatch
from streamflow.core.key_join import key_join
from streamflow.core.partition import partitioned
from streamflow.core.schema import (
    CHANGE,
    CHANGE_TYPE,
    EVENT_TIME,
    EVENT_TIME_TYPE,
    WATERMARK,
    shown_name,
)
from streamflow.operators.aggregates.partials import END, START
from streamflow.operators.contract.operator import Collector
from streamflow.operators.kernels.engine import collected_as_written
from streamflow.state.operator_snapshot import EMPTY, OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

if TYPE_CHECKING:
    from streamflow.state.frames.store import FrameStore

__all__ = ["INDEX", "PANE_COLUMNS", "TIMING", "WINDOW_COLUMNS", "FiredPanes", "PaneWriter", "Timing"]

TIMING: Final = "pane_timing"
Timing = Literal["EARLY", "ON_TIME", "LATE"]

WINDOW_COLUMNS: Final[Mapping[str, pl.DataType]] = {
    "window_start": EVENT_TIME_TYPE,
    "window_end": EVENT_TIME_TYPE,
}
PANE_COLUMNS: Final[Mapping[str, pl.DataType]] = {
    TIMING: pl.String(),
    "pane_index": pl.Int64(),
    "is_first": pl.Boolean(),
    "is_last": pl.Boolean(),
}

_LITTLE: Final = 50_000
INDEX: Final = "__index"
"""The number of panes that a window has had before."""
_RESULT: Final = "\x1aresult "
_ORDER: Final = "__order"
_BY_START: Final = "__by_start"
_BY_END: Final = "__by_end"
_PLACE: Final = "__place"
_LAST_MOMENT: Final = pl.col(END) - 1


class FiredPanes:
    """The last pane of each key and window that may fire again: its values and its index, kept until clean-up.
    `growing`: windows may become part of larger ones (sessions), so windows that are over are forgotten pane by
    pane."""

    def __init__(
        self, store: FrameStore, keys: Sequence[str], allowed_lateness: int, *, growing: bool, span: int = 1
    ) -> None:
        """`span`: a length of time in which there are not too many panes."""
        self._store = store
        self._keys = list(keys)
        self._lateness = allowed_lateness
        self._growing = growing
        # Fired and not yet cleaned up are the ends of a span of `allowed_lateness`: a handful of buckets of it.
        self._bucket = max(allowed_lateness // 4, span)

    @staticmethod
    def merged(frame: pl.DataFrame) -> pl.DataFrame:
        """The merge of frames of one bucket: unchanged, since no row occurs twice."""
        return frame

    def add(self, panes: pl.DataFrame, watermark: int) -> None:
        """Remembers panes (keys, START, END, values, index) of windows that may fire again."""
        if watermark >= MAX_TIME:
            return
        last = panes[END] - 1
        lasting = last > max(watermark - self._lateness, MIN_TIME)
        if not lasting.all():
            panes, last = panes.filter(lasting), last.filter(lasting)
        for bucket, part in partitioned(panes, last - last % self._bucket):
            self._store.append(bucket, part)

    def take(self, windows: pl.DataFrame) -> pl.DataFrame | None:
        """The remembered panes of the same keys within these windows (keys, START, END), which are then forgotten.
        Each with the bounds of the window that replaces it.

        A session may have swallowed several; other windows replace only themselves, also where one lies within another.
        """
        low, high = int(windows[START].min()), int(windows[END].max())  # type: ignore[arg-type]
        taken: list[pl.DataFrame] = []
        for bucket in self._store.panes():
            # Panes within windows that have not fired yet are kept beyond their bucket.
            if bucket >= high or (not self._growing and bucket + self._bucket <= low):
                continue
            panes = self._store.look_up(bucket, windows)
            if panes is None:
                continue
            hits, rest = self._swallowed(panes, windows)
            if hits.height:
                self._store.remove(bucket, panes)
                self._store.append(bucket, rest)
                taken.append(hits)
        return concatenated(taken) if taken else None

    def snapshot(self) -> OperatorSnapshot:
        """All remembered panes."""
        return self._store.snapshot()

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state."""
        self._store.restore(parts)

    def clean_up(self, watermark: int) -> None:
        """Forgets panes that cannot fire again; if windows grow, panes that have not been taken or forgotten stay."""
        bound = max(watermark - self._lateness, MIN_TIME)
        for bucket in self._store.panes():
            if bucket + self._bucket - 1 > bound:
                return
            kept = self._store.read(bucket) if self._growing else None
            self._store.drop(bucket)
            if kept is not None and kept.height:
                self._store.append(bound // self._bucket * self._bucket, kept)

    def _swallowed(self, panes: pl.DataFrame, windows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The panes, all of keys of windows, that lie within windows of their keys, with the bounds of the window; and
        the others."""
        start, end = windows[START].alias(_BY_START), windows[END].alias(_BY_END)
        if start.min() == start.max() and end.min() == end.max():
            if self._growing:
                within = (panes[START] >= start[0]) & (panes[END] <= end[0])
            else:
                within = (panes[START] == start[0]) & (panes[END] == end[0])
            hits = chosen_rows(panes, within)
            bounds = [bound.new_from_index(0, hits.height) for bound in (start, end)]
            return hits.hstack(bounds), chosen_rows(panes, ~within)
        mine = windows[self._keys].hstack([start, end])
        after, before = pl.col(START) >= pl.col(_BY_START), pl.col(END) <= pl.col(_BY_END)
        if not self._growing:
            after, before = pl.col(START) == pl.col(_BY_START), pl.col(END) == pl.col(_BY_END)
        hits = key_join(panes.with_row_index(_PLACE), mine, self._keys).filter(after, before)
        return hits, panes.filter(~pl.int_range(pl.len()).is_in(hits[_PLACE].implode()))


class PaneWriter:
    """A writer of panes. `fired` is None if every window fires once, or if the earlier panes are not needed."""

    def __init__(
        self,
        keys: Sequence[str],
        names: Sequence[str],
        *,
        retracting: bool,
        pane_info: bool,
        allowed_lateness: int,
        fired: FiredPanes | None,
        event_time: pl.Expr = _LAST_MOMENT,
        before: pl.Expr = _LAST_MOMENT - 1,
        marked: bool = False,
        triggered: bool = False,
        bounded: bool = True,
    ) -> None:
        """`event_time`: a result's, in microseconds. `marked`: results on time carry the watermark `before`: the one
        that their windows waited for, except for its last moment. `triggered`: panes come through `write_fired`.
        `bounded`: results carry the window's bounds."""
        self._marked = [before.cast(EVENT_TIME_TYPE).alias(WATERMARK)] if marked else []
        self._keys = list(keys)
        self._retracting = retracting
        self._pane_info = pane_info
        self._lateness = allowed_lateness
        self._fired = fired
        self._ordered = [_BY_END, _BY_START, *keys, _ORDER, END, START]
        change = pl.lit("insert") if fired is None else pl.col(CHANGE)
        index = pl.lit(0, pl.Int64) if fired is None and not triggered else pl.col(INDEX)
        start, end = pl.col(START).cast(EVENT_TIME_TYPE), pl.col(END).cast(EVENT_TIME_TYPE)
        self._columns: list[pl.Expr] = [
            *([change.cast(CHANGE_TYPE).alias(CHANGE)] if retracting else []),
            *(pl.col(key).alias(shown_name(key)) for key in keys),
            *([start.alias("window_start"), end.alias("window_end")] if bounded else []),
            *(pl.col(name) for name in names),
            *(
                [pl.col(TIMING), index.alias("pane_index"), (index == 0).alias("is_first")]
                if pane_info
                else []
            ),
            *([pl.col("is_last")] if pane_info else []),
            event_time.cast(EVENT_TIME_TYPE).alias(EVENT_TIME),
        ]

    def write(
        self, panes: pl.DataFrame, timing: Timing, watermark: int, out: Collector, *, again: bool = False
    ) -> None:
        """Emits panes (keys, START, END, values) in window order, by key within a window.

        `again`: they, or sessions that became part of them, may have fired before.
        """
        info: list[pl.Expr] = []
        if self._pane_info:
            over = pl.lit(watermark >= MAX_TIME) | (
                pl.col(END) - 1 <= max(watermark - self._lateness, MIN_TIME)
            )
            if self._fired is not None:
                over &= pl.col(_ORDER)
            info = [over.alias("is_last")]
            if self._retracting and self._fired is not None:
                # Remembered with the pane, whose withdrawal says the timing that the pane had.
                panes = panes.hstack([pl.Series(TIMING, [timing]).new_from_index(0, panes.height)])
            else:
                info.append(pl.lit(timing).alias(TIMING))
        columns = [*self._columns, *self._marked] if timing == "ON_TIME" else self._columns
        self._emit(panes, watermark, info, columns, out, again=again)

    def write_fired(self, panes: pl.DataFrame, watermark: int, out: Collector) -> None:
        """Emits panes (keys, START, END, values, INDEX, `pane_timing`, `is_last`) of windows with triggers, in window
        order. Each may have fired before."""
        self._emit(panes, watermark, [], self._columns, out, again=True)

    def snapshot(self) -> OperatorSnapshot:
        """The fired panes that may fire again."""
        return EMPTY if self._fired is None else self._fired.snapshot()

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state."""
        if self._fired is not None:
            self._fired.restore(parts)

    def clean_up(self, watermark: int) -> None:
        """Forgets windows that are over (`FiredPanes.clean_up`)."""
        if self._fired is not None:
            self._fired.clean_up(watermark)

    def forget(self, windows: pl.DataFrame) -> None:
        """Forgets the panes of windows (keys, START, END) that are over, though larger ones may come."""
        if self._fired is not None and not windows.is_empty():
            self._fired.take(windows)

    def _emit(
        self,
        panes: pl.DataFrame,
        watermark: int,
        info: Sequence[pl.Expr],
        columns: Sequence[pl.Expr],
        out: Collector,
        *,
        again: bool,
    ) -> None:
        """Emits the columns `columns` of the panes in order, over `info`."""
        if self._fired is not None:
            result = self._with_history(panes, watermark, info, columns, again=again)
        else:
            one_window = all(panes[bound].min() == panes[bound].max() for bound in (START, END))
            order = self._keys if one_window and self._keys else [END, START, *self._keys]
            # One column of a window's size sorts faster on one core than Polars divides it among several.
            query = panes.lazy().sort(order, multithreaded=panes.height > _LITTLE)
            result = collected_as_written((query.with_columns(info) if info else query).select(columns))
        out.emit(FrameBatch(result))

    def _with_history(
        self,
        panes: pl.DataFrame,
        watermark: int,
        info: Sequence[pl.Expr],
        columns: Sequence[pl.Expr],
        *,
        again: bool,
    ) -> pl.DataFrame:
        """The columns `columns` of the panes in order, over their change kind, their index and `info`, each pane right
        behind the retractions of those that it replaces; remembers them."""
        assert self._fired is not None
        old = self._fired.take(panes) if again else None
        history = _HISTORY
        if INDEX in panes.columns:
            history = [expression for expression in _HISTORY if expression.meta.output_name() != INDEX]
        else:
            panes = panes.hstack([pl.Series(INDEX, [0]).new_from_index(0, panes.height)])
        names = panes.columns
        is_new = pl.Series(_ORDER, [True]).new_from_index(0, panes.height)
        panes = panes.hstack([panes[START].alias(_BY_START), panes[END].alias(_BY_END), is_new])
        if old is not None:
            is_old = pl.Series(_ORDER, [False]).new_from_index(0, old.height)
            if TIMING in names:
                old = _timed(old)
            panes = concatenated([old.hstack([is_old])[panes.columns], panes])
        query = panes.lazy().sort(self._ordered).with_columns(history)
        # In one query with what is remembered, whose columns may have the names of users'.
        shown = [column.meta.output_name() for column in columns]
        inside = [f"{_RESULT}{name}" for name in shown]
        beside = [column.alias(name) for column, name in zip(columns, inside, strict=True)]
        result = collected_as_written((query.with_columns(info) if info else query).with_columns(beside))
        new = result if old is None else chosen_rows(result, result[_ORDER])
        self._fired.add(new[names], watermark)
        results = (result if self._retracting else new)[inside]
        results.columns = shown
        return results


def _timed(panes: pl.DataFrame) -> pl.DataFrame:
    """The panes with their timing, which an earlier version did not remember: the first was most likely on time."""
    likely = pl.when(pl.col(INDEX) == 0).then(pl.lit("ON_TIME")).otherwise(pl.lit("LATE"))
    known = pl.col(TIMING) if TIMING in panes.columns else pl.lit(None, pl.String())
    missing = TIMING not in panes.columns or panes[TIMING].null_count()
    return panes.with_columns(pl.coalesce(known, likely).alias(TIMING)) if missing else panes


def _history() -> list[pl.Expr]:
    """The change kind and the index of panes, each right behind those that it replaces."""
    is_new, index = pl.col(_ORDER), pl.col(INDEX)
    replaced = ~is_new & (pl.col(START) == pl.col(_BY_START)) & (pl.col(END) == pl.col(_BY_END))
    replacing = replaced.shift(1, fill_value=False)
    # A session that has grown is another window: its index starts again, what it replaces is deleted.
    new = pl.when(replacing).then(pl.lit("update_after")).otherwise(pl.lit("insert"))
    old = pl.when(replaced).then(pl.lit("update_before")).otherwise(pl.lit("delete"))
    return [
        pl.when(is_new).then(new).otherwise(old).alias(CHANGE),
        pl.when(replacing).then(index.shift(1) + 1).otherwise(index).alias(INDEX),
    ]


_HISTORY: Final = _history()
