"""A reader of a plain file of lines, or a part of one, as byte ranges that are read where they are parsed."""

from __future__ import annotations

from functools import partial

from streamflow.operators.connectors.files.byte_ranges import LineNumbers, read_lines
from streamflow.operators.connectors.files.failures import reading
from streamflow.operators.connectors.files.formats.line_format import BOM, LineFormat, Run, decode_run
from streamflow.operators.contract.operator import ErrorPolicy
from streamflow.operators.contract.source import Decoded, Fetch

__all__ = ["RangeReader"]


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
