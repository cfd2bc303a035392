"""A source that is read slowly, so that a job lasts long enough to be killed."""

import asyncio
from dataclasses import dataclass

from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.source import (
    Enumerator,
    Fetch,
    Position,
    Source,
    SourceContext,
    Split,
    SplitReader,
)


@dataclass(eq=False)
class Pace:
    """A pause of so many seconds before each piece of each split; may be changed while the job runs."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Paced(Source):
    """Another source, at a pace."""

    source: Source
    pace: Pace

    @property
    def bounded(self) -> bool:
        return self.source.bounded

    def output_type(self) -> StreamType:
        return self.source.output_type()

    def enumerator(self, ctx: SourceContext) -> Enumerator:
        return self.source.enumerator(ctx)

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        return _PacedReader(self.source.reader(split, position, ctx), self.pace)

    def describe(self) -> str:
        return self.source.describe()


class _PacedReader:
    def __init__(self, reader: SplitReader, pace: Pace) -> None:
        self._reader = reader
        self._pace = pace

    async def fetch(self) -> Fetch | None:
        if self._pace.seconds:
            await asyncio.sleep(self._pace.seconds)
        return await self._reader.fetch()

    async def close(self) -> None:
        await self._reader.close()
