"""Cuts a stream of bytes into frames. Does no I/O, and takes no more memory than a frame may have.

Small frames are cut out of one buffer; a large one gets a buffer of its own, into which the rest of it is received.
"""

from __future__ import annotations

from typing import Final

from streamflow.runtime.transport.frames import HEADER
from streamflow.runtime.transport.port import TransportError

__all__ = ["Cutter"]

_SCRATCH: Final = 64 << 10


class Cutter:
    """The frames of one connection: bytes go into `room()`, `came` says how many, `next` cuts.

    >>> cutter = Cutter(most=100)
    >>> cutter.room()[:7] = bytes([2, 0, 0, 0, 9]) + b"ab"
    >>> cutter.came(7)
    >>> kind, body, lasts = cutter.next()
    >>> kind, bytes(body), lasts
    (9, b'ab', False)
    """

    def __init__(self, most: int) -> None:
        self.most = most
        """The largest body in bytes; a longer one is an error before any memory is taken for it."""
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._start = self._end = 0
        self._large: memoryview | None = None
        """The body of a frame that does not fit into the buffer."""
        self._filled = 0
        self._kind = 0

    def room(self) -> memoryview:
        """A place for the next bytes. Bodies that were cut and do not last are overwritten."""
        if self._large is not None:
            return self._large[self._filled :]
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start:
            rest = bytes(self._scratch[self._start : self._end])
            self._scratch[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        return self._scratch[self._end :]

    def came(self, count: int) -> None:
        """Notes that so many bytes were put into the last room."""
        if self._large is not None:
            self._filled += count
        else:
            self._end += count

    def next(self) -> tuple[int, memoryview, bool] | None:
        """The kind and the body of the next whole frame, and whether the body lasts; None if more has to come.

        Raises TransportError for a frame that is too long.
        """
        if self._large is not None:
            if self._filled < len(self._large):
                return None
            body, self._large = self._large, None
            return self._kind, body, True
        there = self._end - self._start
        if there < HEADER.size:
            return None
        length, kind = HEADER.unpack_from(self._scratch, self._start)
        if length > self.most:
            raise TransportError(f"a frame of {length} bytes came, more than {self.most}")
        first = self._start + HEADER.size
        if length <= there - HEADER.size:
            self._start = first + length
            return kind, self._scratch[first : self._start], False
        if length > _SCRATCH - HEADER.size:
            self._large, self._kind = memoryview(bytearray(length)), kind
            self._filled = self._end - first
            self._large[: self._filled] = self._scratch[first : self._end]
            self._start = self._end = 0
        return None
