"""Parts of files as splits: the payload of a split, and the cutting of a large file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streamflow.operators.connectors.files.file_ends import Ends
from streamflow.operators.connectors.files.formats.csv_format import CsvOptions
from streamflow.operators.connectors.files.formats.formats import Compression, FileFormat
from streamflow.operators.connectors.files.listing import FoundFile
from streamflow.operators.contract.source import Split

__all__ = ["SPLIT_BYTES", "FilePart", "by_arithmetic", "parts_of"]

SPLIT_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file: [start, end) in bytes of a file of lines that is to be read up to `limit`, in rows of a table;
    all of a file that has to be read from the front (`end` is then its size as stored)."""

    path: str
    format: FileFormat
    compression: Compression
    start: int
    end: int
    limit: int
    partitions: Sequence[Sequence[str | None]] = ()
    ends: tuple[int, bytes, bytes] | None = None
    """`Ends` of the file when it was found; None in checkpoints of earlier versions."""

    def split(self, *, whole: bool, holds_watermark: bool, generation: int = 0) -> Split:
        """The part as a split; its id is the path, with the range if it is not `whole`."""
        id = self.path if whole else f"{self.path}[{self.start}-{self.end})"
        payload: dict[str, Any] = {name: getattr(self, name) for name in FilePart.__slots__}
        return Split(f"{id}#{generation}" if generation else id, payload, holds_watermark)

    @classmethod
    def of(cls, split: Split) -> FilePart:
        """The part that a split stands for."""
        return cls(**split.payload)

    def check(self) -> None:
        """Raises SourceError if the file has been replaced."""
        if self.ends is not None:
            Ends(*self.ends).check(self.path)

    def told(self, names: Iterable[str]) -> dict[str, str | None]:
        """The values of those columns that the names of the file's folders give, as text."""
        values = {str(name): value for name, value in self.partitions}
        return {name: values[name] for name in names if name in values}


def by_arithmetic(file: FoundFile, csv: CsvOptions) -> bool:
    """Whether any byte range of the file can be read by itself."""
    return file.splittable and (file.format != "csv" or csv.quote is None)


def parts_of(
    file: FoundFile, ends: Ends, *, start: int, end: int, step: int = SPLIT_BYTES
) -> Iterator[FilePart]:
    """The splits of [`start`, `end`) in pieces of `step` bytes."""
    limit = end
    known = (ends.offset, ends.head, ends.tail)
    while start < end:
        following = min(start + step, end)
        yield FilePart(
            file.path, file.format, file.compression, start, following, limit, file.partitions, known
        )
        start = following
