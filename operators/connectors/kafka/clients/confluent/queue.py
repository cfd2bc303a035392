"""Messages of one partition that librdkafka has delivered and no fetch has taken yet. No I/O in here."""

from __future__ import annotations

import asyncio

from streamflow.errors import SourceError
from streamflow.operators.connectors.kafka.clients.confluent.chunk import MessageChunk

__all__ = ["MessageQueue"]


class MessageQueue:
    """Messages of one partition in their order: the reader fills it, `fetch` empties it.

    `reached`: the offset behind all delivered messages. `at_end`: the log ended there for readers of committed
    records, as last reported. `paused`: librdkafka was told to fetch no more of it. `waiting`: a fetch waits for it.
    """

    def __init__(self, offset: int) -> None:
        self.reached: int = offset
        self.at_end = False
        self.paused = False
        self.waiting = 0
        self.error: SourceError | None = None
        self._given = offset
        self._chunk = MessageChunk(offset)
        self._news = asyncio.Event()

    @property
    def nbytes(self) -> int:
        """The bytes of the waiting messages."""
        return self._chunk.nbytes

    def put(self, chunk: MessageChunk) -> None:
        """Adds the next messages, from `reached` on."""
        if not chunk:
            return
        self.reached = chunk.next_offset
        if self._chunk:
            self._chunk.extend(chunk)
        else:
            self._chunk = chunk
        self.at_end = False
        self._news.set()

    def end_at(self, offset: int) -> None:
        """Notes the log's end; offsets between the last message and the end are not shown to readers."""
        self.reached = max(self.reached, offset)
        self.at_end = True
        if self.reached > self._given:
            self._news.set()

    def fail(self, error: SourceError) -> None:
        """Makes the `take` behind the waiting messages raise this error."""
        self.error = self.error or error
        self._news.set()

    def interrupt(self) -> None:
        """Ends waiting: no more messages will come."""
        self._news.set()

    @property
    def ready(self) -> bool:
        """Whether there is something to take."""
        return self.reached > self._given or self.error is not None

    async def wait(self, seconds: float) -> None:
        """Waits until there is a message to take, but no longer than `seconds`. Cancelling takes nothing."""
        if self.ready:
            return
        self._news.clear()
        self.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return
        finally:
            self.waiting -= 1

    def take(self, most: int | None) -> MessageChunk | None:
        """The waiting messages, up to `most`; None if there are none."""
        if self.reached <= self._given:
            if self.error is not None:
                raise self.error
            return None
        chunk = self._chunk
        if most is not None and len(chunk) > most:
            chunk = chunk.taken(most)
        else:
            chunk.next_offset = self.reached
            self._chunk = MessageChunk(self.reached)
        self._given = chunk.next_offset
        return chunk
