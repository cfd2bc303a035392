"""Messages of confluent-kafka as columns, and as the port's `Chunk`.

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

__all__ = ["MessageChunk", "MessageColumns"]


class MessageColumns:
    """Messages of one partition in their order, none of them an event: a list for each part. `nbytes` is the size of
    their values."""

    __slots__ = ("_headers", "_keys", "_offsets", "_times", "_values", "nbytes")

    def __init__(self) -> None:
        self._values: list[bytes | None] = []
        self._keys: list[bytes | None] = []
        self._offsets: list[int] = []
        self._times: list[int] = []
        self._headers: list[Any] = []
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def add(self, messages: Sequence[Message]) -> None:
        """Appends the next messages."""
        from confluent_kafka import Message

        values: list[Any] = list(map(Message.value, messages))
        offsets: list[Any] = list(map(Message.offset, messages))
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

    def extend(self, other: MessageColumns) -> None:
        """Appends messages that came after these."""
        for mine, others in zip(self._columns, other._columns, strict=True):
            mine += others
        self.nbytes += other.nbytes

    def taken(self, count: int) -> MessageColumns:
        """Takes out the first `count` messages."""
        first = MessageColumns()
        for column, mine in zip(first._columns, self._columns, strict=True):
            column += mine[:count]
            del mine[:count]
        first.nbytes = _size(first._values)
        self.nbytes -= first.nbytes
        return first

    def behind(self, reached: int) -> MessageColumns:
        """The messages from offset `reached` on, each once; itself if that is all of them."""
        offsets = self._offsets
        if offsets and offsets[0] >= reached and all(map(lt, offsets, islice(offsets, 1, None))):
            return self
        kept: list[int] = []
        for place, offset in enumerate(offsets):
            if offset >= reached:
                kept.append(place)
                reached = offset + 1
        chosen = MessageColumns()
        for column, mine in zip(chosen._columns, self._columns, strict=True):
            column += [mine[place] for place in kept]
        chosen.nbytes = _size(chosen._values)
        return chosen

    @property
    def _columns(self) -> tuple[list[Any], ...]:
        return self._values, self._keys, self._offsets, self._times, self._headers

    @property
    def next_offset(self) -> int:
        """The offset behind the last message."""
        return self._offsets[-1] + 1

    def values(self) -> list[bytes | None]:
        return self._values

    def keys(self) -> list[bytes | None]:
        return self._keys

    def offsets(self) -> list[int]:
        return self._offsets

    def milliseconds(self) -> list[int]:
        """Timestamps in milliseconds since 1970; -1 for none."""
        return self._times

    def headers(self) -> list[Headers]:
        return [() if headers is None else tuple(headers) for headers in self._headers]


class MessageChunk:
    """Messages of one partition, up to `next_offset`."""

    __slots__ = ("_columns", "nbytes", "next_offset")

    def __init__(self, columns: MessageColumns, next_offset: int) -> None:
        self._columns = columns
        self.next_offset = next_offset
        self.nbytes = columns.nbytes

    def __len__(self) -> int:
        return len(self._columns)

    def values(self) -> list[bytes | None]:
        return self._columns.values()

    def keys(self) -> list[bytes | None]:
        return self._columns.keys()

    def offsets(self) -> list[int]:
        return self._columns.offsets()

    def milliseconds(self) -> list[int]:
        return self._columns.milliseconds()

    def timestamps(self) -> list[int]:
        return [1000 * time for time in self._columns.milliseconds()]

    def headers(self) -> list[Headers]:
        return self._columns.headers()

    def flaws(self) -> Mapping[int, str]:
        """The flaws of the messages: librdkafka gives the readable part, and an error for the rest."""
        return {}


def _bad_name(error: Exception) -> Headers:
    cause = error if isinstance(error, UnicodeDecodeError) else error.__cause__
    name = bytes(cause.object) if isinstance(cause, UnicodeDecodeError) else b"\xff"
    return [(name.decode(errors="surrogateescape"), None)]


def _size(values: list[bytes | None]) -> int:
    return sum(map(len, filter(None, values)))
