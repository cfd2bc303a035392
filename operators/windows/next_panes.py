"""The panes that come next of windows that are looked at one by one, for people who ask why they have not come: the
first end that the watermark lets go, noted for each pane of the store, and the first window that the clock makes fire.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.key_join import key_join
from streamflow.core.membership import has_key_in
from streamflow.core.partition import partitioned
from streamflow.operators.aggregates.partials import END, START
from streamflow.operators.contract.waiting import LOOKED_UP, Waiting, earliest
from streamflow.operators.windows.alarms import WAIT, Alarms
from streamflow.operators.windows.trigger_machine import DONE, NOW, PASSED, TriggerMachine
from streamflow.operators.windows.window_rows import WindowRows
from streamflow.operators.windows.window_states import WindowStates, constant
from streamflow.state.frames.store import FrameStore
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.time.timestamps import MAX_TIME

__all__ = ["NextPanes"]

_PANE: Final = 0
"""The pane of windows that merge."""
_LATER: Final = "the next pane, no earlier than that,"


class NextPanes:
    """The panes that come next in one subtask. `states` and `rules` are the windows' own, `ends` those that wait for
    the watermark one by one because they merge, `alarms` those that wait for the clock. `asks`: whether triggers are
    asked."""

    def __init__(
        self,
        rows: WindowRows,
        machine: TriggerMachine,
        rules: WindowStates,
        keys: list[str],
        states: FrameStore,
        ends: TimeSorted,
        alarms: Alarms,
        *,
        lateness: int,
        asks: bool,
    ) -> None:
        self._rows = rows
        self._machine = machine
        self._rules = rules
        self._keys = keys
        self._bounds = [*keys, START, END]
        self._states = states
        self._windows = ends
        self._alarms = alarms
        self._lateness = lateness
        self._asks = asks
        self._by_end = asks and machine.watches_end
        # The end of the first window of a pane that the watermark lets go.
        self._ends: dict[int, int] = {}

    @property
    def ends(self) -> list[int]:
        """The ends that are noted."""
        return [*self._ends.values()]

    def note(self, ends: Iterable[int], width: int, *, only: Collection[int] | None = None) -> None:
        """Notes ends of windows that the watermark lets go, in panes of this width; if they are in these `only`."""
        for end in ends:
            pane = end - end % width
            if only is None or pane in only:
                self._ends[pane] = min(self._ends.get(pane, end), end)

    def note_windows(self, windows: pl.DataFrame, watermark: int, width: int) -> None:
        """Notes the first of these windows that a later watermark lets go."""
        ends = windows[END]
        if self._by_end:
            ends = ends.filter(ends - 1 > watermark)
        if not ends.is_empty():
            self.note([int(ends.min())], width)  # type: ignore[arg-type]

    def divide_again(self, width: int) -> None:
        """Panes have another width from now on."""
        ends = self.ends
        self._ends.clear()
        self.note(ends, width)

    def forget(self, pane: int) -> None:
        """Forgets what is noted of a pane."""
        self._ends.pop(pane, None)

    def clear(self) -> None:
        """Forgets everything."""
        self._ends.clear()

    def waiting(self, watermark: int, width: int, held: int) -> tuple[Waiting, ...]:
        """The pane that comes next by the watermark, which is here now, and the one by the clock, with the number of
        rows that are `held`."""
        return earliest(self._by_watermark(held), self._by_clock(watermark, width, held))

    def _by_watermark(self, held: int) -> Waiting | None:
        if not (self._machine.waits or self._by_end):
            return None
        if self._rows.merging:
            return self._first_merging(held)
        end = min(self._ends.values(), default=None)
        return None if end is None else self._at_end(end, held)

    def _at_end(self, end: int, held: int) -> Waiting:
        until, what = end - 1, self._rows.named(end)
        if not self._by_end:
            until = min(until, MAX_TIME - self._lateness) + self._lateness
            what = f"the last pane of {what}, if anything is new in it" if self._asks else what
        elif not self._machine.fires_at_end:
            what = f"{what}, if its trigger fires then"
        return Waiting(what, until if end < MAX_TIME else MAX_TIME, held)

    def _first_merging(self, held: int) -> Waiting | None:
        """The first window that waits for the watermark; others that wait have become part of one."""
        waiting, all_ = self._windows.first(LOOKED_UP)
        if waiting is None:
            return None
        # The others have had their pane, and wait until they are over.
        alive = waiting.filter(pl.col(WAIT) < pl.col(END)) if self._by_end else waiting
        states = self._states.peek(_PANE, alive) if alive.height else None
        if states is not None:
            alive = alive.filter(has_key_in(alive, states.filter(~pl.col(DONE)), self._bounds))
            if alive.height:
                return self._at_end(int(alive[END][0]), held)
        return None if all_ else Waiting(_LATER, int(waiting[WAIT][-1]), held)

    def _by_clock(self, watermark: int, width: int, held: int) -> Waiting | None:
        """The first window that the clock makes fire; others that wait have fired since."""
        if not (self._asks and self._machine.clocks):
            return None
        waiting, all_ = self._alarms.first(LOOKED_UP)
        if waiting is None:
            return None
        merging = self._rows.merging
        on = self._keys if merging else self._bounds
        ends = waiting[END]
        panes = constant(END, _PANE, waiting) if merging else ends - ends % width
        found = [waiting[[*self._bounds, WAIT]].clear().with_columns(pl.lit(False).alias(PASSED))]
        for pane, part in partitioned(waiting, panes):
            states = self._states.peek(pane, part)
            if states is not None:
                asked = key_join(part[[*on, WAIT]], states, on).with_columns(pl.col(WAIT).alias(NOW))
                found.append(self._rules.firing(asked, watermark)[[*self._bounds, WAIT, PASSED]])
        fires = concatenated(found).bottom_k(1, by=WAIT)
        if fires.height:
            kind = "a late" if fires[PASSED][0] else "an early"
            what = f"{kind} pane of {self._rows.named(int(fires[END][0]))}"
            return Waiting(what, int(fires[WAIT][0]), held, by_clock=True)
        return None if all_ else Waiting(_LATER, int(waiting[WAIT][-1]), held, by_clock=True)
