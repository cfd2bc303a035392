"""Decompression of record batches, up to a limit that is enforced before the bytes exist.

A few kilobytes can expand to gigabytes, and any writer of a topic can send them.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["CODECS", "TooLargeError", "UnreadableError", "unpacked"]

CODECS: Final[Mapping[int, str]] = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}

_GZIP: Final = 31
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = 16
_LEAST: Final = 1 << 20
_KEPT: Final = 8 << 20
_LZ4_RATIO: Final = 255
"""The best ratio of lz4."""

_scratch = threading.local()


class UnreadableError(Exception):
    """Bytes that the codec did not make."""


class TooLargeError(Exception):
    """A batch that expands to more bytes than the limit."""


def unpacked(codec: int, content: bytes | memoryview, limit: int) -> bytes:
    """The decompressed bytes; raises TooLargeError beyond `limit` bytes, UnreadableError for bytes of another codec.

    >>> unpacked(1, zlib.compress(b"records", wbits=31), 100)
    b'records'
    """
    try:
        unpack = _UNPACK[codec]
    except KeyError:
        raise UnreadableError(f"codec {codec} is unknown") from None
    return unpack(content, limit)


def _plain(content: bytes | memoryview, limit: int) -> bytes:
    if len(content) > limit:
        raise TooLargeError
    return bytes(content)


def _gzip(content: bytes | memoryview, limit: int) -> bytes:
    parts: list[bytes] = []
    rest, room = bytes(content), limit
    while rest:
        inflate = zlib.decompressobj(_GZIP)
        try:
            part = inflate.decompress(rest, room + 1)
        except zlib.error as error:
            raise UnreadableError(str(error)) from error
        if len(part) > room:
            raise TooLargeError
        if not inflate.eof:
            raise UnreadableError("it is cut off")
        parts.append(part)
        room -= len(part)
        # Several members in a row are one file; zeros may fill up the last block.
        rest = inflate.unused_data.lstrip(b"\0")
    if not parts:
        raise UnreadableError("there is nothing")
    return b"".join(parts)


def _snappy(content: bytes | memoryview, limit: int) -> bytes:
    """Raw snappy, as librdkafka writes it, or in the blocks of the Java library."""
    import cramjam

    whole = memoryview(content)
    blocks = [whole]
    if bytes(whole[: len(_XERIAL)]) == _XERIAL:
        blocks = []
        place = _XERIAL_HEADER
        while place < len(whole):
            size = int.from_bytes(whole[place : place + 4])
            block = whole[place + 4 : place + 4 + size]
            if len(block) != size or not size:
                raise UnreadableError("a block is cut off")
            blocks.append(block)
            place += 4 + size
    try:
        if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > limit:
            raise TooLargeError
        return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)
    except cramjam.DecompressionError as error:
        raise UnreadableError(str(error)) from error


def _lz4(content: bytes | memoryview, limit: int) -> bytes:
    import cramjam

    if len(content) * _LZ4_RATIO > limit:
        return _into(cramjam.lz4.decompress_into, content, limit)
    try:
        return bytes(cramjam.lz4.decompress(content))
    except cramjam.DecompressionError as error:
        raise UnreadableError(str(error)) from error


def _zstd(content: bytes | memoryview, limit: int) -> bytes:
    import cramjam

    return _into(cramjam.zstd.decompress_into, content, limit)


def _into(decompress: Callable[[Any, bytearray], int], content: bytes | memoryview, limit: int) -> bytes:
    """Decompresses into a buffer as small as possible, which is kept for the thread's next batch."""
    import cramjam

    room: bytearray = getattr(_scratch, "room", None) or bytearray(_LEAST)
    while True:
        most = min(len(room), limit)
        target: Any = room if most == len(room) else memoryview(room)[:most]
        try:
            written = decompress(content, target)
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise UnreadableError(str(error)) from error
        else:
            if len(room) <= _KEPT:
                _scratch.room = room
            return bytes(memoryview(room)[:written])
        if most == limit:
            raise TooLargeError
        room = bytearray(min(4 * len(room), max(limit, _LEAST)))


_UNPACK: Final[Mapping[int, Callable[[bytes | memoryview, int], bytes]]] = {
    0: _plain,
    1: _gzip,
    2: _snappy,
    3: _lz4,
    4: _zstd,
}
