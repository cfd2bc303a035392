"""What the live table shows of the delays so far, and the sink that fills it as panes come.

The sink writes at once, ahead of any commit: a table on a screen shows what is known now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from streamflow.operators.base import StreamType
from streamflow.operators.sink import Committable, Sink, SinkContext, SinkWriter
from streamflow.records.elements import AnyBatch
from streamflow.records.frame import FrameBatch

__all__ = ["AirportNow", "Board", "BoardSink"]

_DAY = 86_400_000_000
_NEW_YORK = -5 * 3_600_000_000
"""January's offset from UTC at all three airports."""


@dataclass(slots=True)
class AirportNow:
    """One airport: its newest window, and per local day the delays and departures of its windows on the hour."""

    window_end: int
    flights: int
    cancelled: int
    mean_delay: float | None
    worst: int | None
    days: dict[int, tuple[float, int]] = field(default_factory=dict[int, tuple[float, int]])


@dataclass(slots=True)
class Board:
    """The newest window of each airport, and how many windows there were and how many corrections to them."""

    airports: dict[str, AirportNow] = field(default_factory=dict[str, AirportNow])
    windows: int = 0
    corrections: int = 0
    _seen: dict[tuple[str, int], tuple[float, int]] = field(
        default_factory=dict[tuple[str, int], tuple[float, int]]
    )

    def take(self, panes: pl.DataFrame) -> None:
        """Panes of the delays, in the order in which they came."""
        ends = pl.col("window_end").dt.epoch("us")
        for row in panes.with_columns(ends).iter_rows(named=True):
            self._pane(row["origin"], row["window_end"], row)

    def _pane(self, origin: str, end: int, row: dict[str, object]) -> None:
        flights, cancelled, mean, worst = (
            row[name] for name in ("flights", "cancelled", "mean_delay", "worst")
        )
        assert isinstance(flights, int)
        assert isinstance(cancelled, int)
        assert mean is None or isinstance(mean, float)
        assert worst is None or isinstance(worst, int)
        departed = flights - cancelled
        total = (mean or 0.0) * departed
        before = self._seen.get((origin, end))
        self._seen[origin, end] = (total, departed)
        self.windows += before is None
        self.corrections += before is not None
        airport = self.airports.get(origin)
        if airport is None or end >= airport.window_end:
            days = {} if airport is None else airport.days
            airport = self.airports[origin] = AirportNow(end, flights, cancelled, mean, worst, days)
        if (end + _NEW_YORK) % 3_600_000_000 == 0:
            day = (end - 1 + _NEW_YORK) // _DAY
            sums = airport.days.get(day, (0.0, 0))
            known = before or (0.0, 0)
            airport.days[day] = (sums[0] + total - known[0], sums[1] + departed - known[1])


@dataclass(frozen=True)
class BoardSink(Sink):
    """Shows panes to a board."""

    board: Board

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        return _Writer(self.board)


class _Writer:
    def __init__(self, board: Board) -> None:
        self._board = board

    async def write(self, batch: AnyBatch) -> None:
        assert isinstance(batch, FrameBatch)
        self._board.take(batch.user_frame())

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        return ()

    async def close(self) -> None:
        """Nothing to release."""
