"""File formats and compressions, and how a file's name implies them."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final, Literal, get_args

from streamflow.errors import JobDefinitionError

__all__ = ["LINE_FORMATS", "Compression", "FileFormat", "by_suffix", "checked_format", "separator_of"]

FileFormat = Literal["ndjson", "csv", "parquet", "arrow", "text"]
Compression = Literal["none", "gzip", "zstd"]

LINE_FORMATS: Final[frozenset[FileFormat]] = frozenset({"ndjson", "csv", "text"})
"""The formats made of lines, which may be compressed as a whole."""

_FORMATS: Final[dict[str, FileFormat]] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
    ".txt": "text",
    ".log": "text",
    ".text": "text",
}
_COMPRESSIONS: Final[dict[str, Compression]] = {".gz": "gzip", ".zst": "zstd"}


def by_suffix(path: str) -> tuple[FileFormat | None, Compression]:
    """The format (None if the suffix says nothing) and the compression that a file's name implies."""
    name = PurePath(path)
    compression = _COMPRESSIONS.get(name.suffix.lower(), "none")
    if compression != "none":
        name = name.with_suffix("")
    return _FORMATS.get(name.suffix.lower()), compression


def separator_of(path: str) -> str:
    """The separator of the values in a CSV file of this name.

    >>> separator_of("a.tsv.gz"), separator_of("a.csv")
    ('\\t', ',')
    """
    return "\t" if ".tsv" in PurePath(path.lower()).suffixes[-2:] else ","


def checked_format(value: str | None) -> FileFormat | None:
    """A format by its name; raises JobDefinitionError for an unknown one.

    >>> checked_format("csv")
    'csv'
    """
    known = get_args(FileFormat)
    if value is None or value in known:
        return value  # type: ignore[return-value]
    aliases = {"json": "ndjson", "jsonl": "ndjson", "ipc": "arrow", "feather": "arrow", "lines": "text"}
    hint = f"did you mean {aliases[value]!r}?" if value in aliases else f"one of: {', '.join(known)}"
    raise JobDefinitionError(f"there is no file format {value!r}", hint=hint)
