"""The opening of a split: the reader for its file, by format, compression and schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from streamflow.core.schema import Schema, StreamSchema
from streamflow.operators.connectors.blocking_steps import BlockingSteps
from streamflow.operators.connectors.files.byte_ranges import (
    LARGEST_RANGE,
    RangeReader,
    mean_line,
    range_bytes,
)
from streamflow.operators.connectors.files.failures import reading
from streamflow.operators.connectors.files.formats.byte_streams import refuse_other_bytes
from streamflow.operators.connectors.files.formats.csv_format import CsvColumns, CsvHeader, CsvOptions
from streamflow.operators.connectors.files.formats.formats import LINE_FORMATS
from streamflow.operators.connectors.files.formats.line_format import AsObjects, LineFormat
from streamflow.operators.connectors.files.formats.ndjson import NdjsonColumns, NdjsonObjects
from streamflow.operators.connectors.files.formats.tables import TableReader, fitting_columns, scan_table
from streamflow.operators.connectors.files.formats.text import TEXT_COLUMN, TextColumn
from streamflow.operators.connectors.files.partitions import WithPartitions, typed_partitions
from streamflow.operators.connectors.files.sequential_reader import RecordStream, SequentialReader
from streamflow.operators.connectors.files.splits import FilePart
from streamflow.operators.contract.source import (
    Fetch,
    Position,
    SourceContext,
    Split,
    SplitReader,
    counted_in,
)

__all__ = ["FileReading", "OpenedWhenRead"]

_OBJECT_BYTES = 256 << 10
"""The largest run of Python objects, in bytes: in larger ones the garbage collector makes each object cost more."""


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
    """The settings for reading one source's files. `cast`: the user gave the types, and tables are cast to them."""

    schema: StreamSchema
    csv: CsvOptions
    cast: bool

    def open(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        """The reader of a split. Blocking."""
        part = FilePart.of(split)
        if not isinstance(self.schema, Schema):
            return self._reader(part, position, None, ctx)
        wanted = {
            name: dtype for name, dtype in self.schema.items() if ctx.columns is None or name in ctx.columns
        }
        told = part.told(wanted)
        if not told:
            return self._reader(part, position, wanted, ctx)
        types = {name: wanted[name] for name in told}
        row = typed_partitions(told, types, part.path)
        inside = {name: dtype for name, dtype in wanted.items() if name not in told}
        return WithPartitions(self._reader(part, position, inside, ctx), row, list(wanted))

    def _reader(
        self,
        part: FilePart,
        position: Position | None,
        columns: Mapping[str, pl.DataType] | None,
        ctx: SourceContext,
    ) -> SplitReader:
        """The reader for these columns of the file itself; None for objects."""
        with reading(part.path):
            inode = Path(part.path).stat().st_ino
            part.check()
        if part.format not in LINE_FORMATS:
            row = part.start if position is None else counted_in(position, "row")
            scan = scan_table(part.path, part.format)
            if columns is not None:
                scan = fitting_columns(part.path, scan, columns, cast=self.cast)
            return TableReader(part.path, scan, row, part.end, ctx, columns)
        with reading(part.path):
            form, data_start = self._form(part, columns)
            start = part.start if position is None else counted_in(position, "offset")
            return self._lines(part, form, max(start, data_start), inode, ctx)

    def _lines(
        self, part: FilePart, form: LineFormat, start: int, inode: int, ctx: SourceContext
    ) -> SplitReader:
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
                inode=inode,
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

    def _form(self, part: FilePart, columns: Mapping[str, pl.DataType] | None) -> tuple[LineFormat, int]:
        """The parser of the file's lines, and the offset where they begin."""
        refuse_other_bytes(part.path, part.compression)
        schema = self.schema
        if part.format == "ndjson":
            return (NdjsonObjects() if columns is None else NdjsonColumns(columns)), 0
        if part.format == "text":
            return (AsObjects(TextColumn(), _lines) if columns is None else TextColumn()), 0
        inside = (
            [name for name in schema if name not in part.told(schema)] if isinstance(schema, Schema) else []
        )
        names = inside if self.cast and isinstance(schema, Schema) else None
        header = CsvHeader.read(part.path, part.compression, self.csv, names)
        if header is None:
            return CsvColumns({}, (), self.csv, part.path), part.end
        if columns is None:
            texts = dict.fromkeys(header.fields, pl.String())
            form = CsvColumns(texts, header.fields, self.csv, part.path)
            return AsObjects(form, pl.DataFrame.to_dicts), header.data_start
        assert isinstance(schema, Schema)
        # Rows are read even if no column is wanted.
        columns = columns or {header.fields[0]: pl.String()}
        return CsvColumns(columns, header.fields, self.csv, part.path, required=inside), header.data_start


def _lines(frame: pl.DataFrame) -> list[str]:
    return frame[TEXT_COLUMN].to_list()
