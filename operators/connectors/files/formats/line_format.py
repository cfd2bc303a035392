"""The contract of a format made of lines: where records end, and how a run of whole records becomes a batch.

Parsing has a fast path for a whole run of records (`parse`), which fails as a whole, and a slow one (`sift`), which
finds the bad records. `decode_run` puts them together under the job's error policy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.errors import RecordError, SourceError, Where
from streamflow.operators.contract.operator import ErrorPolicy
from streamflow.operators.contract.source import Decoded

__all__ = ["BOM", "PARSE_ERRORS", "AsObjects", "LineFormat", "Run", "Sifted", "decode_run", "split_lines"]

BOM: Final = b"\xef\xbb\xbf"

PARSE_ERRORS: Final[tuple[type[BaseException], ...]] = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    msgspec.DecodeError,
    ValueError,
    RecursionError,
)
"""Parsers' exceptions for bad input; UnicodeDecodeError is a ValueError, and a panic no Exception."""


@dataclass(frozen=True, slots=True)
class Run:
    """Whole records as they lie in the file. `first_line` counts from 1 and is called only if needed."""

    body: bytes
    first_line: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Sifted:
    """The good records as a batch, and error texts for the others, by their index."""

    batch: AnyBatch
    problems: Mapping[int, str]


class LineFormat(ABC):
    """A way to find the ends of records and to parse them; one per file, used from several threads at once."""

    endless_hint: str = "is it a text file with one record a line?"

    @abstractmethod
    def parse(self, body: bytes) -> AnyBatch:
        """All records at once; raises one of PARSE_ERRORS if any is bad."""

    @abstractmethod
    def sift(self, records: Sequence[bytes]) -> Sifted:
        """The records, parsed one by one."""

    def cut(self, data: bytes) -> int:
        """The number of bytes of `data`, which begins at a record, that make up whole records; 0 for none."""
        return data.rfind(b"\n") + 1

    def complete(self, data: bytes) -> bool:
        """Whether the input may end behind these records."""
        return True

    def records(self, body: bytes) -> list[tuple[int, bytes]]:
        """(line within the run from 0, record without its line end), without blank lines."""
        return [(number, line) for number, line in enumerate(split_lines(body)) if line.strip()]

    @property
    def by_arithmetic(self) -> bool:
        """Whether every newline ends a record, so that ranges can be cut without reading the text before them."""
        return True


class AsObjects(LineFormat):
    """A parser that turns the rows of another format's frames into Python objects by `objects`."""

    def __init__(self, columns: LineFormat, objects: Callable[[pl.DataFrame], list[Any]]) -> None:
        self._columns = columns
        self._objects = objects
        self.endless_hint = columns.endless_hint

    @property
    def by_arithmetic(self) -> bool:
        return self._columns.by_arithmetic

    def cut(self, data: bytes) -> int:
        return self._columns.cut(data)

    def complete(self, data: bytes) -> bool:
        return self._columns.complete(data)

    def records(self, body: bytes) -> list[tuple[int, bytes]]:
        return self._columns.records(body)

    def parse(self, body: bytes) -> RowBatch:
        return self._rows(self._columns.parse(body))

    def sift(self, records: Sequence[bytes]) -> Sifted:
        sifted = self._columns.sift(records)
        return Sifted(self._rows(sifted.batch), sifted.problems)

    def _rows(self, batch: AnyBatch) -> RowBatch:
        return RowBatch(self._objects(batch.frame)) if isinstance(batch, FrameBatch) else batch


def split_lines(body: bytes) -> list[bytes]:
    """Lines without their ends (\\n or \\r\\n); a final newline starts no further line.

    >>> split_lines(b"a\\r\\n\\nb\\n")
    [b'a', b'', b'b']
    """
    lines = body.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix(b"\r") for line in lines]


def decode_run(form: LineFormat, run: Run, path: str, on_error: ErrorPolicy) -> Decoded:
    """The records of a run. Under "fail" the first bad record's RecordError is raised, else bad records are returned
    beside the good ones."""
    try:
        return Decoded(form.parse(run.body))
    except PARSE_ERRORS:
        # The bad records are found one by one.
        records = form.records(run.body)
    try:
        sifted = form.sift([record for _, record in records])
    except pl.exceptions.PanicException as error:
        raise SourceError(
            f"{path!r}: the records from line {run.first_line()} on made Polars panic: {error}",
            hint="read it as sf.OBJECTS, and report it",
        ) from error
    if not sifted.problems:
        return Decoded(sifted.batch)
    first = run.first_line()
    bad = [
        RecordError(
            problem,
            record=records[index][1].decode("utf-8", "backslashreplace"),
            where=Where(split=path, offset=f"line {first + records[index][0]}"),
        )
        for index, problem in sorted(sifted.problems.items())
    ]
    if on_error == "fail":
        raise bad[0]
    return Decoded(sifted.batch, bad)
