"""A reader of a file of records from front to back, for files in which a record's end depends on the text before it:
compressed files and CSV with quotes."""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from functools import partial
from typing import Final

from streamflow.errors import SourceError
from streamflow.operators.connectors.blocking_steps import BlockingSteps
from streamflow.operators.connectors.files.byte_ranges import range_bytes
from streamflow.operators.connectors.files.formats.byte_streams import open_stream
from streamflow.operators.connectors.files.formats.formats import Compression
from streamflow.operators.connectors.files.formats.line_format import BOM, LineFormat, Run, decode_run
from streamflow.operators.contract.operator import ErrorPolicy
from streamflow.operators.contract.source import Fetch, SourceContext

__all__ = ["RecordStream", "SequentialReader"]

_FIRST_STEP: Final = 64 << 10
_MOST_RECORD: Final = 64 << 20
_BLOCK: Final = 1 << 20


class RecordStream:
    """Whole records of a file, a run at a time. Blocking; one call at a time.

    `start` and `end` are offsets in decompressed bytes; records begin at `start`. `most` bounds the bytes of a run.
    `growing`: a last record without its newline is left out, because more of it may come.
    """

    def __init__(
        self,
        path: str,
        compression: Compression,
        form: LineFormat,
        *,
        start: int,
        end: int | None,
        batch_rows: int,
        most: int,
        growing: bool = False,
    ) -> None:
        self.offset = start
        self.skipped = 0
        """The bytes of a byte order mark at the start, which belong to no record."""
        self._path = path
        self._compression: Compression = compression
        self._form = form
        self._start = start
        self._batch_rows = batch_rows
        self._most = most
        self._growing = growing
        self._step = min(most, _FIRST_STEP)
        self._rest = b""
        self._newlines = 0
        self._lines_before: int | None = 0 if start == 0 else None
        self._stream = open_stream(path, compression, offset=start, end=end)

    def next_run(self) -> Run | None:
        """The next records, about as many as asked for; None at the end."""
        parts, held, step, taken, data = [self._rest], len(self._rest), self._step, 0, b""
        while not taken:
            block = self._stream.read(step)
            parts.append(block)
            held += len(block)
            # Whether a newline ends a record does not depend on the text behind it.
            if not block or b"\n" in block:
                data = b"".join(parts)
                parts = [data]
                taken = self._form.cut(data) if block or self._growing else len(data)
            if not block:
                break
            if not taken and held > _MOST_RECORD:
                raise self._endless()
            step = min(2 * step, _BLOCK)
        if not taken:
            return None
        body, self._rest = data[:taken], data[taken:]
        if not self._form.complete(body):
            raise self._endless()
        begin, self.offset = self.offset, self.offset + taken
        if begin == 0 and body.startswith(BOM):
            body, self.skipped = body.removeprefix(BOM), len(BOM)
        run = Run(body, partial(self._line, self._newlines))
        newlines = body.count(b"\n")
        self._newlines += newlines
        self._step = range_bytes(self._batch_rows, taken / max(1, newlines), self._most)
        return run

    def close(self) -> None:
        self._stream.close()

    def _line(self, newlines: int) -> int:
        """The number of the line `newlines` lines behind the start."""
        if self._lines_before is None:
            stream = open_stream(self._path, self._compression, end=self._start)
            left, count = self._start, 0
            while left > 0 and (block := stream.read(min(_BLOCK, left))):
                count += block.count(b"\n")
                left -= len(block)
            stream.close()
            self._lines_before = count
        return 1 + self._lines_before + newlines

    def _endless(self) -> SourceError:
        line = self._line(self._newlines)
        return SourceError(
            f"{self._path!r}: the record that begins in line {line} does not end",
            hint=self._form.endless_hint,
        )


class SequentialReader:
    """A reader that fetches runs of records one after the other; they are parsed side by side. Position: the offset
    of the next run, in decompressed bytes."""

    def __init__(self, path: str, form: LineFormat, stream: RecordStream, ctx: SourceContext) -> None:
        self._path = path
        self._form = form
        self._stream = stream
        self._on_error: ErrorPolicy = ctx.on_error
        self._steps = BlockingSteps(ctx.run_blocking)

    async def fetch(self) -> Fetch | None:
        step = await self._steps.run(self._next)
        if step is None:
            return None
        run, offset = step
        return Fetch(
            partial(decode_run, self._form, run, self._path, self._on_error),
            {"offset": offset},
            len(run.body),
        )

    async def close(self) -> None:
        await self._steps.close()
        self._stream.close()

    def _next(self) -> tuple[Run, int] | None:
        run = self._stream.next_run()
        return None if run is None else (run, self._stream.offset)
