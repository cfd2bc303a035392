"""The header of a CSV file: the names of its columns, and the offset of its first record."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from streamflow.errors import SourceError
from streamflow.operators.connectors.files.formats.csv_format import CsvColumns, CsvOptions, csv_fields
from streamflow.operators.connectors.files.formats.formats import Compression
from streamflow.operators.connectors.files.sequential_reader import RecordStream

__all__ = ["CsvHeader"]

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
