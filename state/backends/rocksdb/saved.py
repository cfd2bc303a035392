"""A RocksDB database at one moment, as files in a folder, and such files put where a database can be opened.

RocksDB's checkpoint hard-links its table files (`.sst`), which are never changed in place, and copies the rest. So a
database that is opened again may have links to table files; `MANIFEST` is appended to, so all else has to be its
own.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from streamflow.errors import StateError
from streamflow.state.backends.saved import SavedFile, SavedFiles

__all__ = ["SavedDatabase", "fetch_database"]

_FILES: Final = re.compile(r"CURRENT|rocksdict-config\.json|(MANIFEST|OPTIONS)-\d+|\d+\.(sst|log)")
"""The names of a database's files. Its own log is not written; RocksDB makes an empty one all the same."""
_TABLE: Final = ".sst"
_BLOCK: Final = 32 << 10
_RECORD: Final = 7
"""The bytes of a record's header: a checksum, the length in two bytes, the kind in one."""
_KINDS: Final = range(1, 5)
"""The kinds of records: a whole one, or its first, a middle or its last part."""


class SavedDatabase:
    """The database that RocksDB's checkpoint has made in `folder`, until `release`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def kind(self) -> Literal["rocksdb"]:
        return "rocksdb"

    def files(self) -> Iterator[SavedFile]:
        for path in sorted(self._folder.iterdir()):
            if _FILES.fullmatch(path.name):
                yield SavedFile(path.name, immutable=path.suffix == _TABLE, path=path)

    def release(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def fetch_database(files: SavedFiles, directory: Path) -> None:
    """Puts the files of a saved database into `directory`, for their owner only; raises StateError for any others."""
    for name in files.names:
        if not _FILES.fullmatch(name):
            raise StateError(
                f"{name!r} is no file of a saved RocksDB database", hint="restore from another checkpoint"
            )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        for name in files.names:
            path = directory / name
            if path.suffix == _TABLE:
                files.fetch(name, path)
                continue
            data = files.read(name)
            if name.startswith("MANIFEST") and not _is_log(data):
                raise StateError(
                    f"{name} of a saved RocksDB database is damaged", hint="restore from another checkpoint"
                )
            with path.open("xb") as file:
                path.chmod(0o600)
                file.write(data)
    except OSError as error:
        raise StateError(
            f"cannot put a saved state database into {directory}: {error}",
            hint="give a state directory that is empty and on a disk with room",
        ) from error


def _is_log(data: bytes) -> bool:
    """Whether these are records of one of RocksDB's logs, from end to end. Opening some that are not takes it for ever.

    >>> _is_log(b"abcd" + b"\\2\\0" + b"\\1" + b"xy"), _is_log(b"abcd" + b"\\2\\0" + b"\\7" + b"xy")
    (True, False)
    """
    place = 0
    while place < len(data):
        room = _BLOCK - place % _BLOCK
        if room < _RECORD:
            place += room
            continue
        size = _RECORD + int.from_bytes(data[place + 4 : place + 6], "little")
        if size > room or place + size > len(data) or data[place + 6] not in _KINDS:
            return False
        place += size
    return True
