"""The fetched and not yet taken batches of one partition, and the offset to fetch next. No I/O in here."""

from __future__ import annotations

import asyncio
from collections import deque

from streamflow.errors import SourceError
from streamflow.operators.connectors.kafka.clients.aiokafka.chunk import FetchedBatch, RecordChunk
from streamflow.operators.connectors.kafka.clients.port import UNPACKED_BYTES, TopicPartition

__all__ = ["FetchBuffer"]


class FetchBuffer:
    """Batches of one partition in their order: the reader fills it, `fetch` empties it.

    `ask`: the offset to ask the broker for next. `end`: the end that readers of committed records can reach, as the
    broker last said, `appended` that of all records. `failing_since`: the loop's time at which asking began to fail.
    `error` is raised by the next `take`.
    """

    def __init__(self, partition: TopicPartition, offset: int, unpacked_bytes: int = UNPACKED_BYTES) -> None:
        self.partition = partition
        self._unpacked_bytes = unpacked_bytes
        self.ask = offset
        self.end: int | None = None
        self.appended: int | None = None
        self.failing_since: float | None = None
        self.error: SourceError | None = None
        self.nbytes = 0
        self._given = offset
        self._batches: deque[FetchedBatch] = deque()
        self._news = asyncio.Event()

    def put(self, batches: list[FetchedBatch], next_offset: int) -> None:
        """Adds batches fetched at `ask`, and moves `ask` to `next_offset`."""
        self._batches += batches
        self.nbytes += sum(len(batch.content) for batch in batches)
        self.ask = max(self.ask, next_offset)
        self._news.set()

    def fail(self, error: SourceError) -> None:
        """Makes the next or waiting `take` raise this error."""
        self.error = error
        self._news.set()

    def interrupt(self) -> None:
        """Ends waiting: no more batches will come."""
        self._news.set()

    async def wait(self, seconds: float) -> None:
        """Waits until there is a batch to take, but no longer than `seconds`. Cancelling takes nothing."""
        if self._batches or self.ask > self._given or self.error is not None:
            return
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def take(self, most: int | None) -> RecordChunk | None:
        """The waiting batches, up to `most` records; None if there are none. An error is raised after the batches
        before it."""
        if not self._batches:
            if self.ask > self._given:
                self._given = self.ask
                return RecordChunk(str(self.partition), (), self._given, self._given)
            if self.error is not None:
                raise self.error
            return None
        start = reached = self._given
        taken: list[FetchedBatch] = []
        room = most
        while self._batches:
            batch = self._batches[0]
            begin = max(batch.start, start)
            # No more records than offsets: some may have been compacted away.
            count = batch.next_offset - begin
            if room is not None and count > room:
                if not taken:
                    taken.append(batch)
                    reached = begin + room
                break
            taken.append(self._batches.popleft())
            self.nbytes -= len(batch.content)
            reached = batch.next_offset
            room = None if room is None else room - count
        if not self._batches:
            reached = max(reached, self.ask)
        self._given = reached
        return RecordChunk(str(self.partition), taken, start, reached, self._unpacked_bytes)
