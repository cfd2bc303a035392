"""Messages of confluent-kafka as the port's `Chunk`: one pass over them for each column that somebody asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamflow.operators.connectors.kafka.client import Headers

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["MessageChunk"]


class MessageChunk:
    """Messages of one partition in their order, none of them an event."""

    __slots__ = ("_messages", "nbytes", "next_offset")

    def __init__(self, messages: Sequence[Message], next_offset: int, nbytes: int) -> None:
        self._messages = messages
        self.next_offset = next_offset
        self.nbytes = nbytes

    def __len__(self) -> int:
        return len(self._messages)

    def values(self) -> list[bytes | None]:
        return [message.value() for message in self._messages]

    def keys(self) -> list[bytes | None]:
        return [message.key() for message in self._messages]

    def offsets(self) -> list[int]:
        return [_known(message.offset()) for message in self._messages]

    def timestamps(self) -> list[int]:
        # The oldest message format has none: librdkafka says -1 then.
        return [1000 * max(0, message.timestamp()[1]) for message in self._messages]

    def headers(self) -> list[Headers]:
        return [_headers(message.headers()) for message in self._messages]


def _known(offset: int | None) -> int:
    if offset is None:
        raise AssertionError("a fetched message has an offset")
    return offset


def _headers(headers: Any) -> Headers:
    return () if headers is None else tuple(headers)
