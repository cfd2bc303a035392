"""What of one partition librdkafka has handed out and nobody has taken yet. No I/O in here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streamflow.errors import SourceError
from streamflow.operators.connectors.kafka.confluent_chunk import MessageChunk

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["MessageQueue"]


class MessageQueue:
    """Messages of one partition in their order: the reader fills it, `fetch` empties it.

    `reached`: the offset behind all that came. `at_end`: that is where the log ended for readers of committed records
    when it was last heard of. `paused`: librdkafka was told to fetch no more of it. `waiting`: somebody waits for it.
    """

    def __init__(self, offset: int) -> None:
        self.reached = offset
        self.at_end = False
        self.paused = False
        self.waiting = 0
        self.nbytes = 0
        self.error: SourceError | None = None
        self._given = offset
        self._messages: list[Message] = []
        self._news = asyncio.Event()

    def put(self, messages: list[Message], nbytes: int, reached: int) -> None:
        """What came next."""
        if self._messages:
            self._messages += messages
        else:
            self._messages = messages
        self.nbytes += nbytes
        self.reached = reached
        self.at_end = False
        self._news.set()

    def end_at(self, offset: int) -> None:
        """The log ends here; what is between the last message and its end is not shown to readers."""
        self.reached = max(self.reached, offset)
        self.at_end = True
        if self.reached > self._given:
            self._news.set()

    def fail(self, error: SourceError) -> None:
        """Whoever takes after what came before gets this."""
        self.error = self.error or error
        self._news.set()

    def interrupt(self) -> None:
        """Nothing more will come."""
        self._news.set()

    @property
    def ready(self) -> bool:
        """Whether there is something to take."""
        return bool(self._messages) or self.reached > self._given or self.error is not None

    async def wait(self, seconds: float) -> None:
        """Until there is something to take, but no longer than this. Cancelling takes nothing."""
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
        """All that there is, up to `most` records; None where there is nothing."""
        messages = self._messages
        if not messages and self.reached <= self._given:
            if self.error is not None:
                raise self.error
            return None
        if most is None or len(messages) <= most:
            chunk = MessageChunk(messages, self.reached, self.nbytes)
            self._messages = []
        else:
            taken, self._messages = messages[:most], messages[most:]
            last = taken[-1].offset()
            assert last is not None
            chunk = MessageChunk(taken, last + 1, sum(map(len, taken)))
        self.nbytes -= chunk.nbytes
        self._given = chunk.next_offset
        return chunk
