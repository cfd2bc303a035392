"""Comma-separated values, as RFC 4180 has them, and their header: quotes may hide separators and newlines."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from streamflow.core.frame import FrameBatch
from streamflow.errors import JobDefinitionError, SourceError, unknown_name
from streamflow.operators.connectors.bisection import halve
from streamflow.operators.connectors.files.formats.formats import Compression, separator_of
from streamflow.operators.connectors.files.formats.line_format import BOM, PARSE_ERRORS, LineFormat, Sifted
from streamflow.operators.connectors.files.formats.wire_types import (
    INFINITY,
    convert,
    convert_where_possible,
    misfits,
    wire_types,
    without_rows,
)
from streamflow.operators.connectors.files.sequential_reader import RecordStream

__all__ = ["CsvColumns", "CsvHeader", "CsvOptions", "csv_fields"]

_BLANK: Final = b"\x00blank\x00"
"""A stand-in for the one null value of a blank line, which Polars may leave out."""
_MISTAKEN: Final = (BOM, b"x", b"(", b"\x1f")
_LARGEST_FIELD: Final = 131_072
"""The largest field of Python's csv module. Of longer records only the fields are counted; the rest is left to
Polars."""


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """The form of a CSV file. `separator` None: by the file's name. `quote` None: quotes are ordinary characters, and
    every newline ends a record."""

    separator: str | None = None
    has_header: bool = True
    null_values: tuple[str, ...] = ()
    quote: str | None = '"'

    def __post_init__(self) -> None:
        for name, value in (("separator", self.separator), ("quote", self.quote)):
            given: object = value
            if given is not None and not (
                isinstance(given, str) and given.isascii() and len(given) == 1 and given not in "\r\n"
            ):
                raise JobDefinitionError(f"{name} is {value!r}", hint="it must be one ASCII character")
        if self.quote is not None and self.separator == self.quote:
            raise JobDefinitionError(
                f"separator and quote are both {self.quote!r}",
                hint="quote=None says that there are no quotes",
            )

    def of(self, path: str) -> CsvOptions:
        """The options for one file, with its separator."""
        return self if self.separator is not None else replace(self, separator=separator_of(path))


class CsvColumns(LineFormat):
    """Records into the columns of a schema. `fields` are the file's columns in its own order; those that the schema
    does not name are ignored. Raises SourceError if the file lacks a `required` one (default: the schema's)."""

    endless_hint: str = "a quote is never closed; if quotes are ordinary characters here, give quote=None"

    def __init__(
        self,
        schema: Mapping[str, pl.DataType],
        fields: Sequence[str],
        options: CsvOptions,
        path: str,
        *,
        required: Iterable[str] | None = None,
    ) -> None:
        for name in schema if required is None else required:
            if name not in fields:
                message, hint = unknown_name("column", name, fields)
                raise SourceError(f"{path!r} has {message}", hint=hint)
        self._schema = dict(schema)
        self._fields = list(fields)
        self._options = options.of(path)
        self._quote = options.quote.encode() if options.quote else None
        wire = wire_types(schema, "csv")
        self._wire = {name: wire.get(name, pl.String()) for name in fields}
        self._separator = (self._options.separator or ",").encode()
        # A line of tabs is a record of nulls where tabs separate.
        self._space = b" \t\r\n".replace(self._separator, b"")
        self._alone = len(self._fields) == 1
        self._chosen = [index for index, name in enumerate(fields) if name in schema]

    @property
    def by_arithmetic(self) -> bool:
        return self._quote is None

    def cut(self, data: bytes) -> int:
        end = len(data)
        quotes = data.count(self._quote) if self._quote else 0
        while (newline := data.rfind(b"\n", 0, end)) >= 0:
            if quotes:
                assert self._quote is not None
                quotes -= data.count(self._quote, newline, end)
            if quotes % 2 == 0:
                return newline + 1
            end = newline
        return 0

    def complete(self, data: bytes) -> bool:
        return self._quote is None or data.count(self._quote) % 2 == 0

    def records(self, body: bytes) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        start_line, held = 0, b""
        for number, line in enumerate(_lines(body)):
            if not line:
                # Behind the last newline.
                break
            if not held:
                start_line = number
            held += line
            if self.complete(held):
                if held.strip(self._space) or self._alone:
                    found.append((start_line, held.removesuffix(b"\n").removesuffix(b"\r")))
                held = b""
        if held:
            found.append((start_line, held))
        return found

    def parse(self, body: bytes) -> FrameBatch:
        if self._alone and _blank_line(body):
            return self._with_blank_lines(body)
        frame = self._read(body, self._wire)
        if self._short_record(body, frame):
            raise ValueError("a record with too few fields")
        if any(frame[name].is_infinite().any() for name, dtype in frame.schema.items() if dtype.is_float()):
            raise ValueError("infinity, or a number that is too large")
        return FrameBatch(convert(frame, self._schema))

    def _with_blank_lines(self, body: bytes) -> FrameBatch:
        """The records of a file of one column, in which a blank line is a null."""
        sifted = self.sift([record for _, record in self.records(body)])
        if sifted.problems:
            raise ValueError(next(iter(sifted.problems.values())))
        assert isinstance(sifted.batch, FrameBatch)
        return sifted.batch

    def _short_record(self, body: bytes, frame: pl.DataFrame) -> bool:
        """Whether a record has too few fields, or is blank: Polars fills those with nulls."""
        if _blank_line(body) and not self._alone:
            return True
        least = frame.height * (len(self._fields) - 1)
        if self._quote is None or self._quote not in body:
            return body.count(self._separator) < least
        last = self._fields[-1]
        if last in frame.columns and not frame[last].null_count():
            return False
        # Text between quotes separates nothing. Quotes within a field hide more: only reading the records tells.
        if re.sub(b"%b[^%b]*%b" % (3 * (re.escape(self._quote),)), b"", body).count(self._separator) >= least:
            return False
        records = self.records(body)
        return len(records) < frame.height or any(self._problem(record) is not None for _, record in records)

    def sift(self, records: Sequence[bytes]) -> Sifted:
        problems = {
            index: what for index, record in enumerate(records) if (what := self._problem(record)) is not None
        }
        left = [index for index in range(len(records)) if index not in problems]
        for position, what in halve([records[index] for index in left], self._refused).items():
            problems[left[position]] = what
        left = [index for index in left if index not in problems]
        body = b"\n".join(records[index] or _BLANK for index in left)
        texts = self._texts(body)
        frame = convert_where_possible(self._read(body, self._wire, ignore_errors=True), self._schema)
        frame = frame.with_columns(
            pl.when(pl.col(name).is_infinite() & ~texts[name].str.contains(INFINITY))
            .then(None)
            .otherwise(pl.col(name))
            .alias(name)
            for name, dtype in self._schema.items()
            if dtype.is_float()
        )
        unfit = misfits(texts, frame)
        problems |= {left[position]: problem for position, problem in unfit.items()}
        return Sifted(FrameBatch(without_rows(frame, unfit)), problems)

    def _texts(self, body: bytes) -> pl.DataFrame:
        """The texts of the columns, null if Polars takes a text as null in a column of another type."""
        texts = self._read(body, dict.fromkeys(self._fields, pl.String()))
        return texts.with_columns(
            pl.when(pl.col(name).str.strip_chars() != "").then(pl.col(name))
            for name, dtype in self._schema.items()
            if not isinstance(dtype, pl.String)
        )

    def _problem(self, record: bytes) -> str | None:
        try:
            found = self._count(record)
        except UnicodeDecodeError:
            return "the record is not valid UTF-8"
        except csv.Error as error:
            return f"the record is not valid CSV ({error})"
        if found != len(self._fields) and (found or not self._alone):
            return f"the record has {found} fields where {len(self._fields)} were expected"
        return None

    def _count(self, record: bytes) -> int:
        """The number of fields; raises the errors of `csv_fields`."""
        if self._quote is None or len(record) <= _LARGEST_FIELD:
            return len(csv_fields(record, self._options))
        separator, quote = re.escape(self._separator), re.escape(self._quote)
        quoted = rb"(^|%b)%b(?:[^%b]|%b%b)*+%b" % (separator, quote, quote, quote, quote, quote)
        return re.sub(quoted, rb"\1", record).count(self._separator) + 1

    def _refused(self, records: Sequence[bytes]) -> str | None:
        try:
            self._read(
                b"\n".join(record or _BLANK for record in records), dict.fromkeys(self._fields, pl.String())
            )
        except PARSE_ERRORS as error:
            return f"the record is not valid CSV ({str(error).splitlines()[0]})"
        return None

    def _read(
        self, body: bytes, types: Mapping[str, pl.DataType], *, ignore_errors: bool = False
    ) -> pl.DataFrame:
        if not body.strip(b"\r\n"):
            return pl.DataFrame(schema={name: types[name] for name in self._schema})
        return pl.read_csv(
            # Polars takes one away wherever it reads from; that of the file is gone already. Without one it would
            # take text like x^2 for something compressed.
            BOM + body if body.startswith(_MISTAKEN) else body,
            has_header=False,
            schema=types,
            columns=self._chosen,
            separator=self._separator.decode(),
            quote_char=self._options.quote,
            null_values=[*self._options.null_values, _BLANK.decode()],
            ignore_errors=ignore_errors,
        )


def csv_fields(record: bytes, options: CsvOptions) -> list[str]:
    """The fields of one record; raises csv.Error and UnicodeDecodeError.

    >>> csv_fields(b'1,"a, b"', CsvOptions())
    ['1', 'a, b']
    """
    text = record.removeprefix(BOM).decode()
    if options.quote is None:
        return text.rstrip("\r\n").split(options.separator or ",")
    rows = list(csv.reader([text], delimiter=options.separator or ",", quotechar=options.quote, strict=True))
    return rows[0] if rows else []


def _lines(body: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in body.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines


def _blank_line(body: bytes) -> bool:
    return b"\n\n" in body or b"\n\r\n" in body or body.startswith((b"\n", b"\r\n"))


_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class CsvHeader:
    """The columns' names; `data_start` is the offset of the first record, in decompressed bytes."""

    fields: tuple[str, ...]
    data_start: int

    @classmethod
    def read(
        cls,
        path: str,
        compression: Compression,
        options: CsvOptions,
        names: Sequence[str] | None = None,
        *,
        growing: bool = False,
    ) -> CsvHeader | None:
        """The header of a file; None if there is no record. Without a header line the columns are `names`, by default
        `column_1`, `column_2` and so on. Blocking; raises SourceError if there is no usable header."""
        options = options.of(path)
        form = CsvColumns({}, (), options, path)
        stream = RecordStream(
            path, compression, form, start=0, end=None, batch_rows=1, most=_BYTES, growing=growing
        )
        try:
            run = stream.next_run()
        finally:
            stream.close()
        records = form.records(run.body) if run is not None else []
        if run is None or not records:
            return None
        try:
            fields = csv_fields(records[0][1], options)
        except (csv.Error, UnicodeDecodeError) as error:
            raise SourceError(f"{path!r}: the first line is not valid CSV ({error})") from error
        if not options.has_header:
            return cls(tuple(names or (f"column_{number + 1}" for number in range(len(fields)))), 0)
        twice = sorted({name for name in fields if fields.count(name) > 1})
        if twice:
            raise SourceError(
                f"{path!r} has the column {twice[0]!r} twice", hint="rename it, or give has_header=False"
            )
        return cls(tuple(fields), stream.skipped + _end_of_first(run.body, form, records))


def _end_of_first(body: bytes, form: CsvColumns, records: list[tuple[int, bytes]]) -> int:
    """The offset behind the first record, with blank lines before it."""
    lines = body.split(b"\n")
    last = records[0][0] + records[0][1].count(b"\n")
    return min(len(body), sum(len(line) + 1 for line in lines[: last + 1]))
