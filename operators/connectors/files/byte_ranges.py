"""Ranges of a file of lines, by arithmetic: a line belongs to the range in which its first byte lies.

So a range is known before anything is read, any two neighbours give each line exactly once, and every range can be
read and parsed by itself, on any thread: `RangeReader` reads a range where it is parsed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from streamflow.errors import SourceError
from streamflow.operators.connectors.files.failures import reading
from streamflow.operators.connectors.files.file_ends import same_file
from streamflow.operators.connectors.files.formats.line_format import BOM, LineFormat, Run, decode_run
from streamflow.operators.contract.operator import ErrorPolicy
from streamflow.operators.contract.source import Decoded, Fetch

__all__ = ["LARGEST_RANGE", "LineNumbers", "RangeReader", "mean_line", "range_bytes", "read_lines"]

LARGEST_RANGE: Final = 8 << 20
_SMALLEST_RANGE: Final = 512
_MOST_LINE: Final = 64 << 20
_LOOK: Final = 256
_SAMPLE: Final = 64 << 10
_BLOCK: Final = 1 << 20


def read_lines(path: str, start: int, end: int, limit: int, inode: int | None = None) -> tuple[bytes, int]:
    """The lines whose first byte lies in [`start`, `end`), and the offset of the first. `limit` is where reading of
    the file ends.

    A last line without a newline counts. Raises SourceError if the file has become shorter or has another `inode`,
    and for a line of more than 64 MiB.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if inode is not None:
            same_file(descriptor, inode, path)
        first = start if start == 0 else _after_newline(descriptor, start - 1, end, limit, path)
        if first >= end:
            return b"", first
        last = limit if end >= limit else _after_newline(descriptor, end - 1, limit, limit, path)
        return _read(descriptor, first, last, path), first
    finally:
        os.close(descriptor)


def _after_newline(descriptor: int, offset: int, end: int, limit: int, path: str) -> int:
    """The offset behind the first newline at or after `offset`; at least `end` if there is none before `end`."""
    look, begin = _LOOK, offset
    while offset < end:
        data = _read(descriptor, offset, min(offset + look, limit), path)
        found = data.find(b"\n")
        if found >= 0:
            return offset + found + 1
        offset += len(data)
        if offset - begin > _MOST_LINE:
            raise _long_line(path, begin)
        look = min(look * 4, _BLOCK)
    return min(limit, offset)


def _read(descriptor: int, start: int, end: int, path: str) -> bytes:
    data = os.pread(descriptor, end - start, start)
    while len(data) < end - start:
        more = os.pread(descriptor, end - start - len(data), start + len(data))
        if not more:
            raise SourceError(
                f"{path!r} has become shorter while it was read: {start + len(data)} bytes, {end} expected",
                hint="files must not be cut or rewritten while a job reads them",
            )
        data += more
    return data


def _long_line(path: str, offset: int) -> SourceError:
    return SourceError(
        f"{path!r} has a line of more than {_MOST_LINE >> 20} MiB around byte {offset}",
        hint="is it a text file with one record a line?",
    )


def mean_line(path: str, start: int, limit: int) -> float:
    """The mean length of lines at the start of a range, in bytes, from one small read."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        data = os.pread(descriptor, min(_SAMPLE, limit - start), start)
    finally:
        os.close(descriptor)
    return max(1.0, len(data) / max(1, data.count(b"\n")))


def range_bytes(batch_rows: int, line_bytes: float, most: int = LARGEST_RANGE) -> int:
    """The bytes to read at a time for about `batch_rows` records.

    >>> range_bytes(65_536, 68.0), range_bytes(1, 68.0)
    (4456448, 512)
    """
    return min(most, max(_SMALLEST_RANGE, int(batch_rows * line_bytes)))


@dataclass(slots=True)
class LineNumbers:
    """Line numbers by offset, from 1. Newlines are counted only when a number is asked for, from the nearest known
    offset.

    Several threads may ask at once: a single dict is all that they share.
    """

    path: str
    _known: dict[int, int] = field(default_factory=lambda: {0: 1})

    def at(self, offset: int) -> int:
        """The number of the line that begins at `offset`."""
        nearest = max(known for known in tuple(self._known) if known <= offset)
        line = self._known[nearest] + self._newlines(nearest, offset)
        self._known[offset] = line
        return line

    def _newlines(self, start: int, end: int) -> int:
        newlines = 0
        with Path(self.path).open("rb") as file:
            file.seek(start)
            while start < end:
                block = file.read(min(_BLOCK, end - start))
                if not block:
                    break
                newlines += block.count(b"\n")
                start += len(block)
        return newlines


class RangeReader:
    """A reader that fetches by arithmetic alone: a range's bytes are read by its `decode`.

    Reads the lines that begin in [start, end) of a file that ends at `limit`, `step` bytes at a time, as long as it is
    the one with this `inode`. Position: the offset of the next range.
    """

    def __init__(
        self,
        path: str,
        form: LineFormat,
        *,
        start: int,
        end: int,
        limit: int,
        step: int,
        inode: int,
        on_error: ErrorPolicy,
    ) -> None:
        self._path = path
        self._form = form
        self._offset = start
        self._end = end
        self._limit = limit
        self._step = step
        self._inode = inode
        self._on_error: ErrorPolicy = on_error
        self._lines = LineNumbers(path)

    async def fetch(self) -> Fetch | None:
        if self._offset >= self._end:
            return None
        start, self._offset = self._offset, min(self._offset + self._step, self._end)
        return Fetch(
            partial(self._decode, start, self._offset), {"offset": self._offset}, self._offset - start
        )

    async def close(self) -> None:
        """Closes nothing: files are open only while a range is read."""

    def _decode(self, start: int, end: int) -> Decoded:
        with reading(self._path):
            body, first = read_lines(self._path, start, end, self._limit, self._inode)
        if first == 0:
            body = body.removeprefix(BOM)
        run = Run(body, partial(self._lines.at, first))
        return decode_run(self._form, run, self._path, self._on_error)
