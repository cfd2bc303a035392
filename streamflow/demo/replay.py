"""January's flights as a source in scheduled order, paced or as fast as they are taken.

Records come in slices of scheduled time, as they would arrive: with all of January in one batch nothing would be out
of order. Pacing needs the injected clock only, so a test replays the month in no time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from streamflow.core.frame import FrameBatch
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.demo.build_data import DATA
from streamflow.operators.connectors.fixed_splits import FixedSplits
from streamflow.operators.contract.source import (
    Decoded,
    Enumerator,
    Fetch,
    Position,
    Source,
    SourceContext,
    Split,
    SplitReader,
    counted_in,
)
from streamflow.time.timestamps import Duration, parse_duration

__all__ = ["Replay"]

_HOUR: Final = 3_600_000_000


@dataclass(frozen=True)
class Replay(Source):
    """Scheduled departures, one slice of `every` at a time; `speed` in hours of January per second, None: unpaced.

    `every=None` gives them all at once, for batch mode.
    """

    speed: float | None = None
    every: Duration | None = "1h"
    path: Path = DATA

    @property
    def bounded(self) -> bool:
        return True

    def output_type(self) -> StreamType:
        return StreamType(Schema(pl.read_parquet_schema(self.path)), timed=False)

    def enumerator(self, ctx: SourceContext) -> Enumerator:
        return FixedSplits(Split(self.path.stem))

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        return _Reader(self, 0 if position is None else counted_in(position, "row"), ctx)

    def describe(self) -> str:
        pace = "unpaced" if self.speed is None else f"{self.speed:g} h/s"
        return f"{self.path.name}, {pace}"


class _Reader:
    """A reader that waits for each slice to be due."""

    def __init__(self, replay: Replay, row: int, ctx: SourceContext) -> None:
        self._replay = replay
        self._row = row
        self._ctx = ctx
        self._frame: pl.DataFrame | None = None
        self._ends: Sequence[int] = ()
        self._begun = 0.0

    async def fetch(self) -> Fetch | None:
        frame = self._frame
        if frame is None:
            frame, self._ends = await self._ctx.run_blocking(_read, self._replay)
            self._frame = frame
            self._begun = self._ctx.clock.monotonic() - self._seconds_in(frame, self._row)
        if self._row >= frame.height:
            return None
        end = self._ends[bisect_left(self._ends, self._row + 1)]
        await self._until_due(frame, end - 1)
        columns = self._ctx.columns
        wanted = [name for name in frame.columns if columns is None or name in columns]
        piece = frame[self._row : end].select(wanted)
        self._row = end
        return Fetch(lambda: Decoded(FrameBatch(piece)), {"row": end}, nbytes=int(piece.estimated_size()))

    async def close(self) -> None:
        self._frame = None

    async def _until_due(self, frame: pl.DataFrame, row: int) -> None:
        ahead = self._begun + self._seconds_in(frame, row) - self._ctx.clock.monotonic()
        if self._replay.speed is not None and ahead > 0:
            await self._ctx.clock.sleep(ahead)

    def _seconds_in(self, frame: pl.DataFrame, row: int) -> float:
        """The seconds from the first record to this one."""
        if self._replay.speed is None or not 0 < row < frame.height:
            return 0.0
        scheduled = frame["scheduled"].to_physical()
        return (int(scheduled[row]) - int(scheduled[0])) / _HOUR / self._replay.speed


def _read(replay: Replay) -> tuple[pl.DataFrame, list[int]]:
    """The rows, and the row at which each slice ends."""
    frame = pl.read_parquet(replay.path)
    if replay.every is None:
        return frame, [frame.height]
    width = parse_duration(replay.every, what="every", positive=True)
    number = frame["scheduled"].to_physical() // width
    ends = [index + 1 for index in (number != number.shift(-1)).fill_null(value=True).arg_true()]
    return frame, ends
