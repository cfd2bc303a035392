"""Kafka's frames, as far as somebody in the middle has to understand them: which request, of whose transaction.

A frame is four bytes of length and so many bytes: a request begins with api key, version, correlation id and client id,
its answer with the correlation id. Newer versions are "flexible": lengths are varints, and tagged fields follow.
"""

import asyncio
import struct
from typing import Final, NamedTuple

PRODUCE: Final = 0
END_TXN: Final = 26
FLEXIBLE_SINCE: Final = {PRODUCE: 9, END_TXN: 3}
LARGEST: Final = 128 << 20
NAMES: Final = {
    0: "accepted",
    16: "not the coordinator",
    47: "invalid producer epoch",
    48: "invalid transaction state",
    49: "unknown producer id",
    51: "concurrent transactions",
    90: "producer fenced",
}
"""A broker's possible answers to a transaction's end."""


class Request(NamedTuple):
    """The head of a request. `transaction`: the transactional id where the request is of one."""

    api: int
    version: int
    correlation: int
    transaction: str | None


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next frame without its length; None at the end of the connection."""
    try:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        if not 0 <= size <= LARGEST:
            raise ValueError(f"a frame of {size} bytes")
        return await reader.readexactly(size)
    except (asyncio.IncompleteReadError, OSError):
        return None


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def request(body: bytes) -> Request:
    """Reads the head of a request; of a Produce or EndTxn also the transactional id, which is their first field."""
    api, version, correlation, client = struct.unpack_from(">hhih", body)
    at = 10 + max(client, 0)
    if api not in FLEXIBLE_SINCE:
        return Request(api, version, correlation, None)
    flexible = version >= FLEXIBLE_SINCE[api]
    if flexible:
        at = _behind_tags(body, at)
    return Request(api, version, correlation, _text(body, at, compact=flexible))


def end_txn_answer(version: int, body: bytes) -> int:
    """The error code in the answer to an EndTxn."""
    at = 4 if version < FLEXIBLE_SINCE[END_TXN] else _behind_tags(body, 4)
    return int(struct.unpack_from(">ih", body, at)[1])


def correlation_of(body: bytes) -> int:
    """Which request an answer is to."""
    return int(struct.unpack_from(">i", body)[0])


def _text(body: bytes, at: int, *, compact: bool) -> str | None:
    if compact:
        size, at = _varint(body, at)
        size -= 1
    else:
        (size,) = struct.unpack_from(">h", body, at)
        at += 2
    return None if size < 0 else body[at : at + size].decode()


def _behind_tags(body: bytes, at: int) -> int:
    count, at = _varint(body, at)
    for _ in range(count):
        _, at = _varint(body, at)
        size, at = _varint(body, at)
        at += size
    return at


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
