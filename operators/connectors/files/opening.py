"""From a split to the reader that fits its file: by format, compression and schema."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from streamflow.operators.connectors.blocking_steps import BlockingSteps
from streamflow.operators.connectors.files.byte_ranges import LARGEST_RANGE, mean_line, range_bytes
from streamflow.operators.connectors.files.csv_format import CsvColumns, CsvOptions
from streamflow.operators.connectors.files.csv_header import CsvHeader
from streamflow.operators.connectors.files.failures import reading
from streamflow.operators.connectors.files.formats import LINE_FORMATS
from streamflow.operators.connectors.files.line_format import LineFormat
from streamflow.operators.connectors.files.ndjson import NdjsonColumns, NdjsonObjects
from streamflow.operators.connectors.files.objects import AsObjects
from streamflow.operators.connectors.files.range_reader import RangeReader
from streamflow.operators.connectors.files.sequential_reader import RecordStream, SequentialReader
from streamflow.operators.connectors.files.splits import FilePart
from streamflow.operators.connectors.files.table_scan import TableReader, fitting_columns, scan_table
from streamflow.operators.connectors.files.text import TextColumn, TextObjects
from streamflow.operators.source import Fetch, Position, SourceContext, Split, SplitReader
from streamflow.records.schema import Schema, StreamSchema

__all__ = ["FileReading", "OpenedWhenRead"]

_OBJECT_BYTES = 256 << 10
"""Larger runs of Python objects cost more per object: the garbage collector walks what is alive."""


class OpenedWhenRead:
    """A reader that is opened by its first fetch, on an I/O thread."""

    def __init__(self, open: Callable[[], SplitReader], run_blocking: Callable[..., object]) -> None:
        self._open = open
        self._steps = BlockingSteps(run_blocking)
        self._reader: SplitReader | None = None

    async def fetch(self) -> Fetch | None:
        if self._reader is None:
            self._reader = await self._steps.run(self._open)
        return await self._reader.fetch()

    async def close(self) -> None:
        await self._steps.close()
        if self._reader is not None:
            await self._reader.close()


@dataclass(frozen=True, slots=True)
class FileReading:
    """How the files of one source are to be read. `cast`: the user gave the types, and tables are cast to them."""

    schema: StreamSchema
    csv: CsvOptions
    cast: bool

    def open(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        """Blocking."""
        part = FilePart.of(split)
        if part.format not in LINE_FORMATS:
            return self._table(part, part.start if position is None else int(position["row"]), ctx)
        with reading(part.path):
            form, data_start = self._form(part, ctx)
            start = part.start if position is None else int(position["offset"])
            return self._lines(part, form, max(start, data_start), ctx)

    def _table(self, part: FilePart, row: int, ctx: SourceContext) -> SplitReader:
        if isinstance(self.schema, Schema):
            columns = [name for name in self.schema if ctx.columns is None or name in ctx.columns]
            frame = fitting_columns(part.path, part.format, self.schema, columns, cast=self.cast)
        else:
            frame = scan_table(part.path, part.format)
        return TableReader(part.path, frame, row, part.end, ctx, objects=not isinstance(self.schema, Schema))

    def _lines(self, part: FilePart, form: LineFormat, start: int, ctx: SourceContext) -> SplitReader:
        most = LARGEST_RANGE if isinstance(self.schema, Schema) else _OBJECT_BYTES
        if part.compression == "none" and form.by_arithmetic:
            line = mean_line(part.path, start, part.limit) if start < part.limit else 1.0
            return RangeReader(
                part.path,
                form,
                start=start,
                end=part.end,
                limit=part.limit,
                step=range_bytes(ctx.batch_rows, line, most),
                on_error=ctx.on_error,
            )
        stream = RecordStream(
            part.path,
            part.compression,
            form,
            start=start,
            end=part.end if part.compression == "none" else None,
            batch_rows=ctx.batch_rows,
            most=most,
        )
        return SequentialReader(part.path, form, stream, ctx)

    def _form(self, part: FilePart, ctx: SourceContext) -> tuple[LineFormat, int]:
        """How the file's lines are parsed, and where they begin."""
        schema = self.schema
        columns = None
        if isinstance(schema, Schema):
            columns = {
                name: dtype for name, dtype in schema.items() if ctx.columns is None or name in ctx.columns
            }
        if part.format == "ndjson":
            return (NdjsonObjects() if columns is None else NdjsonColumns(columns)), 0
        if part.format == "text":
            return (TextObjects() if columns is None else TextColumn()), 0
        names = list(schema) if self.cast and isinstance(schema, Schema) else None
        header = CsvHeader.read(part.path, part.compression, self.csv, names)
        if header is None:
            return CsvColumns({}, (), self.csv, part.path), part.end
        if columns is None:
            texts = dict.fromkeys(header.fields, pl.String())
            return AsObjects(CsvColumns(texts, header.fields, self.csv, part.path)), header.data_start
        assert isinstance(schema, Schema)
        return CsvColumns(columns, header.fields, self.csv, part.path, required=schema), header.data_start
