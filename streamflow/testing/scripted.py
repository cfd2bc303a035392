"""A source scripted by a test: records, watermarks, idleness, the end, split by split."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

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

__all__ = ["ScriptedSource", "ScriptedSplit"]


@dataclass(slots=True)
class ScriptedSplit:
    """The script of one split so far; it can be read again from any piece."""

    ended: bool = False
    _pieces: list[Decoded] = field(default_factory=list[Decoded])
    _reading: asyncio.Future[None] | None = None

    def tell(self, piece: Decoded) -> None:
        """Appends the next piece."""
        self._pieces.append(piece)
        self._wake()

    def end(self) -> None:
        """Ends the split."""
        self.ended = True
        self._wake()

    async def piece(self, number: int) -> Decoded | None:
        """The piece of that number, from 0, once it exists; None behind the end."""
        while number >= len(self._pieces) and not self.ended:
            self._reading = asyncio.get_running_loop().create_future()
            await self._reading
        return self._pieces[number] if number < len(self._pieces) else None

    def _wake(self) -> None:
        if self._reading is not None and not self._reading.done():
            self._reading.set_result(None)


@dataclass(frozen=True, eq=False)
class ScriptedSource(Source):
    """A stand-in for a job's own source: same type, same text in plans, but a test decides the records and their
    times."""

    type_: StreamType
    splits: tuple[ScriptedSplit, ...]
    text: str = "script"
    ends: bool = False

    @property
    def bounded(self) -> bool:
        return self.ends

    def output_type(self) -> StreamType:
        return self.type_

    def enumerator(self, ctx: SourceContext) -> Enumerator:
        return FixedSplits(*(Split(f"split-{n}", {"number": n}) for n in range(len(self.splits))))

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        given = 0 if position is None else counted_in(position, "piece")
        return _ScriptReader(self.splits[int(split.payload["number"])], ctx, given)

    def describe(self) -> str:
        return self.text


@dataclass(slots=True)
class _ScriptReader:
    split: ScriptedSplit
    ctx: SourceContext
    given: int = 0

    async def fetch(self) -> Fetch | None:
        piece = await self.split.piece(self.given)
        if piece is None:
            return None
        self.given += 1
        projected = self._projected(piece)
        return Fetch(lambda: projected, {"piece": self.given}, nbytes=piece.batch.nbytes)

    async def close(self) -> None:
        """Closes nothing: a script outlives its readers."""

    def _projected(self, piece: Decoded) -> Decoded:
        if self.ctx.columns is None or not isinstance(piece.batch, FrameBatch):
            return piece
        wanted = [
            name for name in piece.batch.frame.columns if name in self.ctx.columns or name == EVENT_TIME
        ]
        return replace(piece, batch=FrameBatch(piece.batch.frame.select(wanted)))
