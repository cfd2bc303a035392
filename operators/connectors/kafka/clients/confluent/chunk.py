"""Messages of confluent-kafka as columns: the port's `Chunk`.

They are taken apart at once. As objects they would be gone through again and again by Python's garbage collector: a
third of the time of reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, Any

from streamflow.operators.connectors.kafka.clients.port import Headers

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["MessageChunk"]


class MessageChunk:
    """Messages of one partition from an offset on, in their order, none of them an event. `nbytes` is the size of
    their values."""

    __slots__ = ("_headers", "_keys", "_offsets", "_times", "_values", "nbytes", "next_offset")

    def __init__(self, offset: int) -> None:
        self.next_offset = offset
        self.nbytes = 0
        self._values: list[bytes | None] = []
        self._keys: list[bytes | None] = []
        self._offsets: list[int] = []
        self._times: list[int] = []
        self._headers: list[Any] = []

    def __len__(self) -> int:
        return len(self._values)

    def add(self, messages: Sequence[Message]) -> None:
        """Adds the next messages. librdkafka may deliver some again, as when a topic's leader has changed: those are
        left out."""
        from confluent_kafka import Message

        offsets: list[Any] = list(map(Message.offset, messages))
        if offsets[0] < self.next_offset or not all(map(lt, offsets, islice(offsets, 1, None))):
            new: dict[int, Message] = {}
            reached = self.next_offset
            for offset, message in zip(offsets, messages, strict=True):
                if offset >= reached:
                    new[offset] = message
                    reached = offset + 1
            offsets, messages = list(new), list(new.values())
            if not messages:
                return
        values: list[Any] = list(map(Message.value, messages))
        keys: list[Any] = list(map(Message.key, messages))
        self._values += values
        self._keys += keys
        self._offsets += offsets
        # Without a timestamp, in the oldest message format too, librdkafka says -1.
        self._times += [time for _, time in map(Message.timestamp, messages)]
        rest = iter(messages)
        while len(self._headers) < len(self._values):
            try:
                self._headers += map(Message.headers, rest)
            except (UnicodeDecodeError, SystemError) as error:
                # Of a message with a header name that is not UTF-8 the library tells no more. Asked again, it would
                # crash.
                self._headers.append(_bad_name(error))
        self.nbytes += _size(values)
        self.next_offset = offsets[-1] + 1

    def extend(self, other: MessageChunk) -> None:
        """Appends messages that came after these."""
        for mine, others in zip(self._columns, other._columns, strict=True):
            mine += others
        self.nbytes += other.nbytes
        self.next_offset = other.next_offset

    def taken(self, count: int) -> MessageChunk:
        """Takes out the first `count` messages."""
        first = MessageChunk(self._offsets[count - 1] + 1)
        for column, mine in zip(first._columns, self._columns, strict=True):
            column += mine[:count]
            del mine[:count]
        first.nbytes = _size(first._values)
        self.nbytes -= first.nbytes
        return first

    def values(self) -> list[bytes | None]:
        return self._values

    def keys(self) -> list[bytes | None]:
        return self._keys

    def offsets(self) -> list[int]:
        return self._offsets

    def milliseconds(self) -> list[int]:
        return self._times

    def timestamps(self) -> list[int]:
        return [1000 * time for time in self._times]

    def headers(self) -> list[Headers]:
        return [() if headers is None else tuple(headers) for headers in self._headers]

    def flaws(self) -> Mapping[int, str]:
        """The flaws of the messages: librdkafka gives the readable part, and an error for the rest."""
        return {}

    @property
    def _columns(self) -> tuple[list[Any], ...]:
        return self._values, self._keys, self._offsets, self._times, self._headers


def _bad_name(error: Exception) -> Headers:
    cause = error if isinstance(error, UnicodeDecodeError) else error.__cause__
    name = bytes(cause.object) if isinstance(cause, UnicodeDecodeError) else b"\xff"
    return [(name.decode(errors="surrogateescape"), None)]


def _size(values: list[bytes | None]) -> int:
    return sum(map(len, filter(None, values)))
