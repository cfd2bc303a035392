"""Bounded channels between subtasks, and the inbox that reads several of them.

A channel holds so many rows and so many bytes, and so do all channels of a process together; a sender waits until
there is room, so that a slow reader slows its source down and memory stays bounded. Everything runs on one event loop:
no locks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from streamflow.core.batch import RowBatch
from streamflow.core.elements import EndOfInput, Idle, StreamElement, Watermark
from streamflow.core.frame import FrameBatch
from streamflow.runtime.exchange.channel_memory import ChannelMemory
from streamflow.runtime.exchange.merging import kind_of, merged

__all__ = ["Channel", "Inbox"]

_FRAME_BYTES: Final = 2_400
"""The bytes of a frame beside its data, measured with frames of one row and two columns."""
_CROWDED: Final = 16
"""The number of waiting elements from which on consecutive watermarks become one, since they must not pile up."""
_SMALL: Final = 256
"""Rows of a small batch."""
_TOGETHER: Final = 4_096
"""Rows up to which small batches are read as one."""


class Channel:
    """One sender, one reader, in order. `port` is the input of the reader that it feeds; it shares `memory` with other
    channels. `merges`: small batches that wait are read as one."""

    # There are as many as pairs of subtasks.
    __slots__ = (
        "_bytes",
        "_max_bytes",
        "_max_rows",
        "_memory",
        "_merges",
        "_queue",
        "_room",
        "_rows",
        "inbox",
        "number",
        "port",
        "sender",
    )

    def __init__(
        self,
        *,
        port: int = 0,
        max_rows: int = 262_144,
        max_bytes: int = 64 << 20,
        memory: ChannelMemory | None = None,
        merges: bool = True,
        sender: str = "",
    ) -> None:
        """`sender` names the operator that sends."""
        self.port = port
        self.sender = sender
        self._merges = merges
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._memory = ChannelMemory(max_bytes) if memory is None else memory
        self._queue: deque[tuple[StreamElement, int, int]] = deque()
        self._rows = 0
        self._bytes = 0
        self._room: asyncio.Future[None] | None = None
        self.inbox: Inbox | None = None
        self.number = 0
        """The channel's number in its inbox."""

    @property
    def rows(self) -> int:
        """Rows waiting to be read."""
        return self._rows

    async def send(self, element: StreamElement) -> None:
        """Puts an element in, waiting for room; one larger than the channel goes in once the channel is empty."""
        while not self.send_nowait(element):
            self._room = asyncio.get_running_loop().create_future()
            self._memory.tell(self._room)
            await self._room

    def send_nowait(self, element: StreamElement) -> bool:
        """Puts an element in if there is room, as in `send`, and says whether there was."""
        rows, size = 0, 0
        if isinstance(element, (FrameBatch, RowBatch)):
            rows, size = len(element), _size(element)
            if self._queue and not self._fits(rows, size):
                return False
        elif isinstance(element, Watermark) and len(self._queue) >= _CROWDED:
            last = self._queue[-1][0]
            if isinstance(last, Watermark) and last.end is None:
                # Nothing has come between the two: the second says all that the first does.
                self._queue.pop()
        self._queue.append((element, rows, size))
        self._rows += rows
        self._bytes += size
        self._memory.take(size)
        if self.inbox is not None:
            self.inbox.wake(self.number)
        return True

    @property
    def head(self) -> StreamElement | None:
        """The next element, which stays where it is."""
        return self._queue[0][0] if self._queue else None

    def receive_nowait(self) -> StreamElement | None:
        """The next element, or None if there is none now. Small batches that wait one behind the other are one."""
        if not self._queue:
            return None
        number, batches, passed = self._together()
        elements = [self._taken() for _ in range(number)]
        if passed is not None and not (self._queue and isinstance(self._queue[0][0], Watermark)):
            self._queue.appendleft((passed, 0, 0))
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return merged(batches) if number > 1 else elements[0]

    def _fits(self, rows: int, size: int) -> bool:
        within = self._rows + rows <= self._max_rows and self._bytes + size <= self._max_bytes
        return within and self._memory.fits(size)

    def _taken(self) -> StreamElement:
        element, rows, size = self._queue.popleft()
        self._rows -= rows
        self._bytes -= size
        if size:
            self._memory.release(size)
        return element

    def _together(self) -> tuple[int, list[FrameBatch | RowBatch], Watermark | None]:
        """The number of elements to be read at once, the batches among them, and the last watermark among them.

        A reader that is behind pays for each batch, however small. A watermark between two batches may as well come
        behind both if all records of the second are later: no window, timer or row that it lets go sees them.
        """
        batches = list[FrameBatch | RowBatch]()
        number, rows, passed = 1, 0, None
        if not self._merges or len(self._queue) == 1:
            return number, batches, passed
        watermark: Watermark | None = None
        kind: object = None
        for at, (element, height, _) in enumerate(self._queue, start=1):
            if isinstance(element, Watermark) and batches and element.end is None:
                watermark = element
                continue
            if not isinstance(element, (FrameBatch, RowBatch)) or not 0 < height <= _SMALL:
                break
            if watermark is not None and (element.marked or not element.all_later_than(watermark.time)):
                break
            if not batches:
                kind = kind_of(element)
            elif rows + height > _TOGETHER or kind_of(element) != kind:
                break
            batches.append(element)
            number, rows, passed = at, rows + height, watermark
        return number, batches, passed


class Inbox:
    """Reads several channels in turn; a blocked channel is not read until it is unblocked."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.channels = list(channels)
        self._readable = 0
        """Bit n stands for channel n: there is something to read."""
        self._blocked = 0
        self._next = 0
        self._waiting: asyncio.Future[None] | None = None
        for number, channel in enumerate(self.channels):
            channel.inbox, channel.number = self, number
            self._readable |= (channel.head is not None) << number

    def wake(self, channel: int) -> None:
        """Notes that there is something to read in a channel."""
        self._readable |= 1 << channel
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def rows(self) -> int:
        """Rows waiting to be read in all channels."""
        return sum(channel.rows for channel in self.channels)

    def block(self, channel: int) -> None:
        """Stops reading this channel: its barrier has come and others' have not."""
        self._blocked |= 1 << channel

    def unblock_all(self) -> None:
        """Reads every channel again."""
        self._blocked = 0

    def receive_nowait(self) -> tuple[int, StreamElement] | None:
        """The next element and the number of its channel, or None if no channel can be read now."""
        readable = self._readable & ~self._blocked
        if not readable:
            return None
        index = _first(readable >> self._next << self._next or readable)
        if _marked(self.channels[index].head):
            told = self._told(readable)
            index = index if told is None else told
        channel = self.channels[index]
        element = channel.receive_nowait()
        if channel.head is None:
            self._readable &= ~(1 << index)
        assert element is not None
        self._next = (index + 1) % len(self.channels)
        return index, element

    def _told(self, readable: int) -> int | None:
        """A channel whose next element is about event time. Records that carry watermarks wait for it, or the timers
        between them would depend on which of two channels is read first."""
        while readable:
            index = _first(readable)
            if isinstance(self.channels[index].head, (Watermark, Idle, EndOfInput)):
                return index
            readable &= readable - 1
        return None

    def news(self) -> asyncio.Future[None]:
        """A future that is done once a channel may be readable."""
        self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting


def _size(batch: FrameBatch | RowBatch) -> int:
    """Returns the bytes that a batch takes."""
    return batch.nbytes + (_FRAME_BYTES if isinstance(batch, FrameBatch) else 0)


def _marked(element: StreamElement | None) -> bool:
    return isinstance(element, (FrameBatch, RowBatch)) and element.marked


def _first(channels: int) -> int:
    """The smallest number among channels that are given as bits."""
    return (channels & -channels).bit_length() - 1
