"""The files that a path (plain, `~`, `file://`), a glob or a folder names now."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from stat import S_ISREG
from urllib.parse import unquote, urlsplit

from streamflow.errors import JobDefinitionError, SourceError
from streamflow.operators.connectors.files.failures import reading
from streamflow.operators.connectors.files.formats.formats import (
    LINE_FORMATS,
    Compression,
    FileFormat,
    by_suffix,
)
from streamflow.operators.connectors.files.partitions import values_of

__all__ = ["FoundFile", "list_files", "local_path"]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file when it was looked at. `size` is in bytes; `partitions` are the values in the names of folders between
    the given path and the file."""

    path: str
    format: FileFormat
    compression: Compression
    size: int
    modified_ns: int
    inode: int
    partitions: tuple[tuple[str, str | None], ...] = ()

    @property
    def splittable(self) -> bool:
        """Whether its bytes can be read from any offset."""
        return self.format in LINE_FORMATS and self.compression == "none"


def list_files(
    paths: Sequence[str],
    format: FileFormat | None,
    *,
    may_be_empty: bool = False,
    empty_folders: bool = False,
) -> list[FoundFile]:
    """The files in order: by path within each glob or folder, hidden ones (`.x`, `_x`) left out of folders. A glob may
    match folders too.

    Raises SourceError if a path names nothing (unless `may_be_empty`, or with `empty_folders` a folder without any
    file, as a job leaves it that wrote no rows), if the format cannot be told, and if files of several formats lie
    together.
    """
    found: dict[str, FoundFile] = {}
    for path in paths:
        with reading(path):
            files = [file for file in _expand(path, format, may_be_empty) if file.path not in found]
        there_are_none = may_be_empty or (empty_folders and _is_empty_folder(path))
        if not files and not there_are_none and path not in found:
            raise SourceError(f"no files match {path!r}", hint=_nearby(path))
        found.update((file.path, file) for file in files)
    _one_format(list(found.values()))
    return list(found.values())


def _expand(path: str, format: FileFormat | None, may_be_empty: bool) -> Iterator[FoundFile]:
    if has_magic(path) and not Path(path).exists():
        _check_folders(path)
        for name in sorted(glob(path, recursive=True)):  # noqa: PTH207 — Path.glob takes no absolute pattern
            if Path(name).is_dir():
                yield from _in_folder(name, format, _fixed_part(path))
            else:
                yield from _look(name, format, _fixed_part(path), gone_is_fine=True)
    elif Path(path).is_dir():
        yield from _in_folder(path, format, path)
    else:
        yield from _look(path, format, str(Path(path).parent), gone_is_fine=may_be_empty)


def _fixed_part(pattern: str) -> str:
    """The folder below which a glob looks."""
    fixed = Path(pattern)
    while has_magic(str(fixed)):
        fixed = fixed.parent
    return str(fixed)


def _in_folder(folder: str, format: FileFormat | None, asked: str) -> Iterator[FoundFile]:
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        for name in sorted(names):
            told = by_suffix(name)[0]
            if not _hidden(name) and told is not None and format in (None, told):
                yield from _look(str(Path(parent, name)), format, asked, gone_is_fine=True)


def _is_empty_folder(path: str) -> bool:
    """Whether it is a folder in which no file lies that is not hidden, of whatever format."""
    return Path(path).is_dir() and all(_hidden(name) for _, _, names in os.walk(path) for name in names)


def _check_folders(pattern: str) -> None:
    """Raises SourceError if a folder that the glob looks into cannot be read: the glob would pass it over."""
    above = Path(pattern).parent
    while True:
        magic = has_magic(str(above))
        for folder in glob(f"{above}/", recursive=True) if magic else [str(above)]:  # noqa: PTH207 — as above
            if not _hidden(Path(folder).name):
                try:
                    os.scandir(folder).close()
                except OSError as error:
                    _unreadable(error)
        if not magic:
            return
        above = above.parent


def _unreadable(error: OSError) -> None:
    # A folder that has gone since its name was read held nothing; files in any other would be missing.
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        with reading(str(error.filename)):
            raise error


def _hidden(name: str) -> bool:
    # `_kind=a` is the partition folder of a column called `_kind`; file systems keep `lost+found` for themselves.
    return name.startswith(".") or (name.startswith("_") and "=" not in name) or name == "lost+found"


def _look(path: str, format: FileFormat | None, asked: str, *, gone_is_fine: bool) -> Iterator[FoundFile]:
    try:
        status = Path(path).stat()
    except FileNotFoundError as error:
        if gone_is_fine:
            return
        raise SourceError(f"there is no file {path!r}", hint=_nearby(path)) from error
    if not S_ISREG(status.st_mode):
        raise SourceError(
            f"{path!r} is no file, but a pipe, a device or a socket",
            hint="it cannot be read again from a position: write its output to a file",
        )
    told, compression = by_suffix(path)
    kind = format or told
    if kind is None:
        raise SourceError(f"cannot tell the format of {path!r} by its name", hint='give it: format="ndjson"')
    if compression != "none" and kind not in LINE_FORMATS:
        raise SourceError(
            f"{path!r}: a {kind} file is not compressed as a whole",
            hint="decompress it first; the format has a compression of its own",
        )
    told_by_folders = tuple(values_of(os.path.relpath(path, asked)).items())
    yield FoundFile(
        path, kind, compression, status.st_size, status.st_mtime_ns, status.st_ino, told_by_folders
    )


def _one_format(files: Sequence[FoundFile]) -> None:
    for file in files:
        if file.format != files[0].format:
            raise SourceError(
                f"{files[0].path!r} is {files[0].format} and {file.path!r} is {file.format}",
                hint="read one format per source: give format= or a glob",
            )


def _nearby(path: str) -> str:
    """A hint: the nearest folder that exists and some of its content."""
    parent = Path(path).parent
    while has_magic(str(parent)) or not parent.is_dir():
        if parent == parent.parent:
            return "check the path"
        parent = parent.parent
    names = sorted(entry.name for entry in parent.iterdir() if not _hidden(entry.name))
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"in {str(parent)!r} there is: {shown or 'nothing'}"


def local_path(given: object) -> str:
    """A path on this machine; raises JobDefinitionError for other URLs.

    >>> local_path("file:///data/x%20y.csv"), local_path("in/*.ndjson")
    ('/data/x y.csv', 'in/*.ndjson')
    """
    if not isinstance(given, (str, Path)) or not str(given):
        raise JobDefinitionError(f"{given!r} is not a path", hint='give one, like "flights/*.ndjson"')
    text = str(given)
    if "://" not in text:
        return str(Path(text).expanduser()) if text.startswith("~") else text
    url = urlsplit(text)
    if url.scheme != "file" or url.netloc not in ("", "localhost"):
        raise JobDefinitionError(
            f"{text!r} is not on this machine", hint="files are read and written locally"
        )
    return unquote(url.path)
