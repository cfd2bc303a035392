"""Frames of the connection between a worker and its coordinator: a length in four bytes, big endian, then the body.
Does no I/O."""

from __future__ import annotations

from typing import Final

from streamflow.errors import StreamflowError

__all__ = ["HEADER_BYTES", "MAX_FRAME_BYTES", "Frames", "ProtocolError", "framed", "length_in"]

MAX_FRAME_BYTES: Final = 512 << 20
"""The largest body in bytes: what one subtask seals in an epoch is one message."""
HEADER_BYTES: Final = 4


class ProtocolError(StreamflowError):
    """Bytes that no process of this job and this version sends, or that are too many for one message."""


def framed(body: bytes, limit: int = MAX_FRAME_BYTES) -> tuple[bytes, bytes]:
    """The two parts of a frame, to be written one after the other. Raises ProtocolError for a body of more than `limit`
    bytes.

    >>> b"".join(framed(b"abc"))
    b'\\x00\\x00\\x00\\x03abc'
    """
    if len(body) > limit:
        raise _too_large(len(body), limit)
    return len(body).to_bytes(HEADER_BYTES, "big"), body


def length_in(header: bytes | bytearray, limit: int) -> int:
    """The length of the body behind a header; raises ProtocolError for one above the limit."""
    length = int.from_bytes(header, "big")
    if length > limit:
        raise _too_large(length, limit)
    return length


class Frames:
    """The bodies out of bytes that come in pieces. Never keeps more than has come, nor more than one body of `limit`
    bytes with the last piece; `limit` may be changed between two frames.

    >>> frames = Frames(limit=3)
    >>> frames.feed(b"\\x00\\x00\\x00\\x03ab"), frames.feed(b"c\\x00"), frames.whole
    ([], [b'abc'], False)
    """

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.limit = limit
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are complete with these bytes. Raises ProtocolError as soon as a length is above the
        limit; nothing that follows can be read then."""
        self._bytes += data
        bodies: list[bytes] = []
        at = 0
        while (end := self._end(at)) is not None and end <= len(self._bytes):
            bodies.append(bytes(memoryview(self._bytes)[at + HEADER_BYTES : end]))
            at = end
        del self._bytes[:at]
        return bodies

    @property
    def whole(self) -> bool:
        """Whether everything that came was complete; at the end of a connection no frame has been cut then."""
        return not self._bytes

    def _end(self, at: int) -> int | None:
        """The end of the frame that begins at a place; None if its length has not come yet."""
        header = self._bytes[at : at + HEADER_BYTES]
        if len(header) < HEADER_BYTES:
            return None
        return at + HEADER_BYTES + length_in(header, self.limit)


def _too_large(length: int, limit: int) -> ProtocolError:
    return ProtocolError(
        f"a message between processes takes {length} bytes, and may take {limit}",
        hint="let a sink seal less in one epoch: take checkpoints more often, or raise parallelism",
    )
