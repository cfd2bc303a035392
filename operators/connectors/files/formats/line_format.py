"""What a format made of lines has to say: where records end, and how a run of whole records becomes a batch.

Parsing has a fast path for a whole run of records (`parse`), which fails as a whole, and a slow one (`sift`), which
finds out which records are to blame. `decode_run` puts them together under the job's error policy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.errors import RecordError, SourceError, Where
from streamflow.operators.contract.operator import ErrorPolicy
from streamflow.operators.contract.source import Decoded

__all__ = ["BOM", "PARSE_ERRORS", "LineFormat", "Run", "Sifted", "decode_run", "split_lines"]

BOM: Final = b"\xef\xbb\xbf"

PARSE_ERRORS: Final[tuple[type[BaseException], ...]] = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    msgspec.DecodeError,
    ValueError,
    RecursionError,
)
"""What parsers raise on bad input; UnicodeDecodeError is a ValueError, and a panic no Exception."""


@dataclass(frozen=True, slots=True)
class Run:
    """Whole records as they lie in the file. `first_line` counts from 1 and is called only where it is needed."""

    body: bytes
    first_line: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Sifted:
    """The good records as a batch, and what is wrong with the others, by their index."""

    batch: AnyBatch
    problems: Mapping[int, str]


class LineFormat(ABC):
    """How records are told apart and parsed; one per file, used from several threads at once."""

    endless_hint: str = "is it a text file with one record a line?"

    @abstractmethod
    def parse(self, body: bytes) -> AnyBatch:
        """All records at once; raises one of PARSE_ERRORS if any is bad."""

    @abstractmethod
    def sift(self, records: Sequence[bytes]) -> Sifted:
        """The same record by record."""

    def cut(self, data: bytes) -> int:
        """How many bytes of `data`, which begins at a record, make up whole records; 0 for none."""
        return data.rfind(b"\n") + 1

    def complete(self, data: bytes) -> bool:
        """Whether the input may end behind these records."""
        return True

    def records(self, body: bytes) -> list[tuple[int, bytes]]:
        """(line within the run from 0, record without its line end), blank lines left out."""
        return [(number, line) for number, line in enumerate(split_lines(body)) if line.strip()]

    @property
    def by_arithmetic(self) -> bool:
        """Whether every newline ends a record, so that ranges need no look at what comes before them."""
        return True


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
    """Parse a run. Bad records raise the first one's RecordError under "fail", else they are handed out beside the
    good ones."""
    try:
        return Decoded(form.parse(run.body))
    except PARSE_ERRORS:
        # Which record is to blame is found out record by record.
        records = form.records(run.body)
    try:
        sifted = form.sift([record for _, record in records])
    except pl.exceptions.PanicException as error:
        raise SourceError(
            f"{path!r}: what begins in line {run.first_line()} made Polars panic: {error}",
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
