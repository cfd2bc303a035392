"""`ConsoleSink`: rows on standard output, as aligned columns or as JSON lines."""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import polars as pl

from streamflow.arguments import whole_number
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, SinkError
from streamflow.operators.connectors.text_columns import as_text_carries, json_lines
from streamflow.operators.contract.sink import Committable, Sink, SinkContext, SinkWriter
from streamflow.operators.stateless.rows import fitting_frame

__all__ = ["ConsoleSink", "table"]

_WIDEST = 40


@dataclass(frozen=True, slots=True)
class ConsoleSink(Sink):
    """Writes each batch to standard output at once: aligned columns under one heading, also for objects that are
    dicts, or `format="json"`, one object a line. `limit` is the largest number of rows from each subtask. Raises
    SinkError if the output's reader is gone.

    >>> ConsoleSink(limit=10).describe()
    'ConsoleSink'
    """

    limit: int | None = None
    format: Literal["table", "json"] = "table"

    def __post_init__(self) -> None:
        if self.limit is not None:
            whole_number(self.limit, "limit", least=0)
        if self.format not in ("table", "json"):
            raise JobDefinitionError(f"ConsoleSink has no format {self.format!r}", hint="one of: table, json")

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        table = _Table() if self.format == "table" else None
        schema = input_type.schema if isinstance(input_type.schema, Schema) else None
        return _ConsoleWriter(self.limit, table, schema, ctx)


class _ConsoleWriter:
    def __init__(
        self, limit: int | None, table: _Table | None, schema: Schema | None, ctx: SinkContext
    ) -> None:
        self._left = limit
        self._table = table
        self._schema = schema
        self._ctx = ctx

    async def write(self, batch: AnyBatch) -> None:
        if self._left is not None:
            batch = _first(batch, self._left)
            self._left -= len(batch)
        if len(batch):
            # A terminal or a pipe may be slow to take it.
            await self._ctx.run_blocking(_print, self._text(batch))

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        return ()

    async def close(self) -> None:
        """Closes nothing: standard output belongs to the process."""

    def _text(self, batch: AnyBatch) -> str:
        if self._schema is not None:
            # Output of functions and processes comes as rows of these columns.
            batch = fitting_frame(batch, self._schema)
        if self._table is None:
            return json_lines(batch).decode()
        if isinstance(batch, FrameBatch):
            return self._table.frame(batch.user_frame())
        return self._table.objects(batch.values)


def table(records: pl.DataFrame | Sequence[Any]) -> str:
    """Records as lines under a heading.

    >>> print(table([{"k": "a", "v": 10}]), end="")
    k   v
    a  10
    """
    return _Table().frame(records) if isinstance(records, pl.DataFrame) else _Table().objects(records)


@dataclass(slots=True)
class _Table:
    """A table that remembers heading and widths, so that later rows line up with earlier ones."""

    names: list[str] = field(default_factory=list[str])
    widths: dict[str, int] = field(default_factory=dict[str, int])

    def frame(self, frame: pl.DataFrame) -> str:
        """The rows of a frame as lines."""
        texts = as_text_carries(frame)
        columns = {name: [_cell(value) for value in texts[name].to_list()] for name in texts.columns}
        return self._lines(columns, {name for name, dtype in frame.schema.items() if dtype.is_numeric()})

    def objects(self, values: Sequence[Any]) -> str:
        """Dicts as lines under their keys, any other value on a line of its own."""
        if not all(isinstance(value, dict) and len(value) for value in values):
            return "".join(f"{value}\n" for value in values)
        names = [str(name) for value in values for name in value]
        named = [{str(name): each for name, each in value.items()} for value in values]
        known = self.names if set(names) <= set(self.names) else []
        columns = {
            name: [_cell(_text(row.get(name))) for row in named] for name in dict.fromkeys([*known, *names])
        }
        numeric = {
            name
            for name in columns
            if all(isinstance(row.get(name), (int, float, type(None))) for row in named)
        }
        return self._lines(columns, numeric)

    def _lines(self, columns: dict[str, list[str]], numeric: set[str]) -> str:
        heading = list(columns) != self.names
        self.names = list(columns)
        for name, cells in columns.items():
            widest = max(self.widths.get(name, len(name)), *(len(cell) for cell in cells))
            self.widths[name] = min(widest, max(_WIDEST, len(name)))
        rows = [list(columns)] if heading else []
        rows += [list(row) for row in zip(*columns.values(), strict=True)]
        return "".join(self._line(row, list(columns), numeric) for row in rows)

    def _line(self, row: list[str], names: list[str], numeric: set[str]) -> str:
        cells = [
            cell.rjust(self.widths[name]) if name in numeric else cell.ljust(self.widths[name])
            for name, cell in zip(names, row, strict=True)
        ]
        return "  ".join(cells).rstrip() + "\n"


def _text(value: object) -> object:
    """A time as text: ISO 8601 in UTC."""
    if not isinstance(value, datetime):
        return value
    moment = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    return f"{moment.isoformat()}Z"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("\n", "\\n")


def _first(batch: AnyBatch, rows: int) -> AnyBatch:
    return batch if len(batch) <= rows else batch.part(0, rows)


def _print(text: str) -> None:
    stream: TextIO | None = sys.stdout
    if stream is None:
        return  # the program was started without
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
        stream.flush()
    except BrokenPipeError as error:
        # Python flushes once more at exit, which would complain a second time.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise SinkError(
            "nobody reads standard output any more", hint="the program it was piped into has ended"
        ) from error
    except OSError as error:
        raise SinkError(f"cannot write to standard output: {error.strerror}") from error
