"""The live figures of the demo, fed by `sf.sink(board.show)` with panes as they come.

Such a sink is called at once, ahead of any commit: a table on a screen shows the present figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypedDict

from streamflow.time.timestamps import to_micros

__all__ = ["AirportNow", "Board", "Pane"]

_HOUR: Final = 3_600_000_000
_DAY: Final = 24 * _HOUR
_NEW_YORK: Final = -5 * _HOUR
"""January's offset from UTC at all three airports."""


class Pane(TypedDict):
    """One result of the delays."""

    origin: str
    window_start: datetime
    window_end: datetime
    flights: int
    cancelled: int
    mean_delay: float | None
    worst: int | None


@dataclass(slots=True)
class AirportNow:
    """One airport: its newest window, and per local day the delays and departures of its windows on the hour."""

    newest: Pane
    days: dict[int, tuple[float, int]] = field(default_factory=dict[int, tuple[float, int]])

    def daily_means(self) -> list[float]:
        """The mean delays in minutes, in the order of the days."""
        return [total / departed for _, (total, departed) in sorted(self.days.items()) if departed]


@dataclass(slots=True)
class Board:
    """The newest window of each airport, and the numbers of windows and of corrections to them."""

    airports: dict[str, AirportNow] = field(default_factory=dict[str, AirportNow])
    windows: int = 0
    corrections: int = 0
    _known: dict[tuple[str, int], tuple[float, int]] = field(
        default_factory=dict[tuple[str, int], tuple[float, int]]
    )

    async def show(self, panes: Sequence[Pane]) -> None:
        """Takes in panes in the order in which they came."""
        for pane in panes:
            self._take(pane)

    def _take(self, pane: Pane) -> None:
        airport = self.airports.setdefault(pane["origin"], AirportNow(pane))
        if pane["window_end"] >= airport.newest["window_end"]:
            airport.newest = pane
        end = to_micros(pane["window_end"])
        departed = pane["flights"] - pane["cancelled"]
        total = (pane["mean_delay"] or 0.0) * departed
        before = self._known.get((pane["origin"], end))
        self._known[pane["origin"], end] = (total, departed)
        self.windows += before is None
        self.corrections += before is not None
        if end % _HOUR == 0:
            # Windows on the hour lie side by side: each flight counts once in its day, and a correction replaces.
            day = (end - 1 + _NEW_YORK) // _DAY
            sums, known = airport.days.get(day, (0.0, 0)), before or (0.0, 0)
            airport.days[day] = (sums[0] + total - known[0], sums[1] + departed - known[1])
