"""A source that gives recorded records in an order, in pieces and at a pace that a simulation chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from streamflow.core.copies import copied_batch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME
from streamflow.core.stream_type import StreamType
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
from streamflow.testing.simulation.chance import Chance

__all__ = ["Arrivals", "SimSource"]

_ROW_BYTES = 100


@dataclass(slots=True)
class Arrivals:
    """The records of one source in one run: those of each split in order; up to `most` at a time, every `pace`
    seconds of virtual time on average, and once in each split none for `quiet` seconds. `chance` decides numbers and
    times; every process has its own."""

    splits: Sequence[AnyBatch] = ()
    most: int = 1
    pace: float = 0.0
    quiet: float = 0.0
    chance: Chance = field(default_factory=lambda: Chance(0))


@dataclass(frozen=True, eq=False)
class SimSource(Source):
    """A stand-in for a job's own source: same type, same text in plans."""

    type_: StreamType
    arrivals: Arrivals
    text: str

    @property
    def bounded(self) -> bool:
        return True

    def output_type(self) -> StreamType:
        return self.type_

    def enumerator(self, ctx: SourceContext) -> Enumerator:
        return FixedSplits(*(Split(f"split-{n}", {"number": n}) for n in range(len(self.arrivals.splits))))

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        row = 0 if position is None else counted_in(position, "row")
        return _SimReader(int(split.payload["number"]), row, self.arrivals, ctx)

    def describe(self) -> str:
        return self.text


class _SimReader:
    def __init__(self, number: int, row: int, arrivals: Arrivals, ctx: SourceContext) -> None:
        self._arrivals = arrivals
        self._row = row
        self._ctx = ctx
        self._chance = arrivals.chance.split(f"split-{number}")
        batch = arrivals.splits[number]
        if isinstance(batch, FrameBatch) and ctx.columns is not None:
            wanted = [name for name in batch.frame.columns if name in ctx.columns or name == EVENT_TIME]
            batch = FrameBatch(batch.frame.select(wanted))
        self._batch = batch
        self._quiet_at = self._chance.between(row, len(batch)) if arrivals.quiet else len(batch) + 1

    async def fetch(self) -> Fetch | None:
        if self._arrivals.pace:
            await self._ctx.clock.sleep(self._chance.wait(self._arrivals.pace))
        if self._row >= self._quiet_at:
            self._quiet_at = len(self._batch) + 1
            await self._ctx.clock.sleep(self._arrivals.quiet)
        start = self._row
        end = min(start + self._chance.between(1, self._arrivals.most), len(self._batch))
        if start >= end:
            return None
        self._row = end
        part = self._batch.part(start, end)
        return Fetch(lambda: Decoded(copied_batch(part)), {"row": end}, (end - start) * _ROW_BYTES)

    async def close(self) -> None:
        """Closes nothing."""
