"""Keyed state in RocksDB: raw bytes only, without RocksDB's own log (a checkpoint is the recovery point).

rocksdict raises plain exceptions; all of them become StateError here. Its iterators end silently at a damaged
block, so a scan asks for the iterator's status before it says that it is at its end. Its other, non-raw mode
unpickles what it reads: it is never used, and a database written in it is refused unread.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from streamflow.core.keys import MAX_PARALLELISM_LIMIT
from streamflow.errors import StateError
from streamflow.state.backends.protocol import (
    SLICE,
    KeyedStateBackend,
    StateAddress,
    check_change,
    copied,
)
from streamflow.state.backends.rocksdb.encoding import (
    AFTER_LAST_GROUP,
    address_prefix,
    group_of,
    prefix_end,
    prefix_of,
    state_prefix,
)
from streamflow.state.backends.rocksdb.failures import state_error
from streamflow.state.backends.rocksdb.opening import open_database, restrict
from streamflow.state.backends.rocksdb.saved import SavedDatabase, fetch_database
from streamflow.state.backends.rocksdb.shared_memory import SharedMemory
from streamflow.state.backends.saved import SavedFiles

if TYPE_CHECKING:
    from rocksdict import Rdict, RdictIter

__all__ = ["RocksDBBackend"]


class RocksDBBackend:
    """Keyed state in the RocksDB database in `directory`, made if there is none; without one in a private
    temporary directory, removed at close.

    `must_exist` refuses to make a database where one was expected. The directory is readable by its owner
    only. Raises StateError with a hint for a database that is missing, locked, damaged or not this program's.
    RocksDB's own memory is what it shares with others in `memory`; without it about 70 MB.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        must_exist: bool = False,
        memory: SharedMemory | None = None,
    ) -> None:
        self._temporary: weakref.finalize[..., RocksDBBackend] | None = None
        self._scans: weakref.WeakSet[_Scan] = weakref.WeakSet()
        if directory is None:
            if must_exist:
                raise StateError(
                    "a temporary database cannot exist already", hint="give the directory of the database"
                )
            directory = Path(tempfile.mkdtemp(prefix="streamflow-state-"))
            self._temporary = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self._directory = directory
        self._memory = SharedMemory() if memory is None else memory
        self._database: Rdict | None = open_database(directory, self._memory, must_exist=must_exist)

    @classmethod
    def of_files(
        cls, files: SavedFiles, directory: Path | None = None, memory: SharedMemory | None = None
    ) -> RocksDBBackend:
        """The database that was saved as these files, opened in `directory`, which has none yet."""
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="streamflow-state-"))
            cleanup = partial(shutil.rmtree, directory, ignore_errors=True)
        else:
            cleanup = None
        try:
            fetch_database(files, directory)
            backend = cls(directory, must_exist=True, memory=memory)
        except BaseException:
            if cleanup is not None:
                cleanup()
            raise
        if cleanup is not None:
            backend._temporary = weakref.finalize(backend, cleanup)
        return backend

    @property
    def directory(self) -> Path:
        """The folder of the database."""
        return self._directory

    def get(self, address: StateAddress, group: int, key: bytes) -> bytes | None:
        whole = state_prefix(address, group) + key
        try:
            value: bytes | None = self._opened().get(whole)
        except Exception as error:
            raise self._mapped("read", error) from error
        return value

    def get_many(self, address: StateAddress, keys: Sequence[tuple[int, bytes]]) -> list[bytes | None]:
        names = address_prefix(address)
        whole: Any = [group.to_bytes(2, "big") + names + key for group, key in keys]
        try:
            values: Any = self._opened().get(whole)
        except Exception as error:
            raise self._mapped("read", error) from error
        return cast("list[bytes | None]", values)

    def put(self, address: StateAddress, group: int, key: bytes, value: bytes) -> None:
        check_change(group, key, value)
        whole = state_prefix(address, group) + key
        try:
            self._opened().put(whole, value)
        except Exception as error:
            raise self._mapped("write to", error) from error

    def delete(self, address: StateAddress, group: int, key: bytes) -> None:
        check_change(group, key, None)
        whole = state_prefix(address, group) + key
        try:
            self._opened().delete(whole)
        except Exception as error:
            raise self._mapped("write to", error) from error

    def write(self, address: StateAddress, changes: Iterable[tuple[int, bytes, bytes | None]]) -> None:
        from rocksdict import WriteBatch

        database, names = self._opened(), address_prefix(address)
        batch = WriteBatch(raw_mode=True)
        for group, key, value in changes:
            if type(key) is not bytes or type(value) is not bytes or not 0 <= group < MAX_PARALLELISM_LIMIT:
                check_change(group, key, value)
            whole = group.to_bytes(2, "big") + names + key
            if value is None:
                batch.delete(whole)
            else:
                batch.put(whole, value)
        try:
            database.write(batch)
        except Exception as error:
            raise self._mapped("write to", error) from error

    def scan(
        self, address: StateAddress, group: int, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        prefix = state_prefix(address, group)
        rows = self._iterate(prefix + start, prefix_end(prefix) if end is None else prefix + end)
        return _Rows(rows, len(prefix))

    def groups(self, address: StateAddress) -> Iterator[int]:
        names, rows = address_prefix(address), self._iterate(b"", AFTER_LAST_GROUP)
        try:
            group = 0
            while (key := rows.seek(group.to_bytes(2, "big") + names)) is not None:
                found = group_of(key)
                if found == group and key.startswith(names, 2):
                    yield group
                group = max(found, group + 1)
        finally:
            rows.close()

    def take(self, source: KeyedStateBackend, states: Sequence[StateAddress], groups: range) -> int:
        if not isinstance(source, RocksDBBackend):
            return copied(source, self, states, groups)
        count = 0
        for address in states:
            for group in source.groups(address):
                if group in groups:
                    count += self._take(source, state_prefix(address, group))
        return count

    def twin(self, directory: Path, states: Sequence[StateAddress], groups: range) -> RocksDBBackend:
        """A database in `directory`, which is not there yet, that shares this one's table files and has of its keys
        those of these states and key groups. Quick, however many they are: the others are deleted by ranges."""
        self.save(directory)
        twin = RocksDBBackend(directory, must_exist=True, memory=self._memory)
        twin._keep({address_prefix(address) for address in states}, groups)
        return twin

    def flush(self) -> None:
        """Writes everything into files, synced. Releases the interpreter, so a thread may call it."""
        try:
            self._opened().flush()
        except Exception as error:
            raise self._mapped("write to", error) from error
        restrict(self._directory)

    def save(self, folder: Path) -> SavedDatabase:
        """Saves the content; quick right after `flush`: about a millisecond, and half a millisecond more for each
        thousand of small rows written since, all of it holding the interpreter.

        So a caller that cannot stop for long calls `flush` on a thread first, while the state is still being written
        to.
        """
        from rocksdict import Checkpoint

        self.flush()
        database = self._opened()
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            Checkpoint(database).create_checkpoint(str(folder))
            folder.chmod(0o700)
        except Exception as error:
            raise self._mapped("save", error) from error
        restrict(folder)
        return SavedDatabase(folder)

    def close(self) -> None:
        if self._database is None:
            return
        # An iterator that is still there would keep the lock on the database.
        for scan in list(self._scans):
            scan.close()
        database, self._database = self._database, None
        try:
            database.close()
        except Exception as error:
            raise self._mapped("close", error) from error
        finally:
            if self._temporary is not None:
                self._temporary()
            else:
                with suppress(
                    FileNotFoundError
                ):  # another process that took the job over has cleared it away
                    restrict(self._directory)

    def _take(self, source: RocksDBBackend, prefix: bytes) -> int:
        """Copy what begins with `prefix`; how many keys that were."""
        from rocksdict import WriteBatch

        database, end, count = self._opened(), prefix_end(prefix), 0
        try:
            rows = source._opened().iter()
            rows.seek(prefix)
            valid, key_of, value_of, onward = rows.valid, rows.key, rows.value, rows.next
            more = True
            while more:
                batch, taken = WriteBatch(raw_mode=True), 0
                put = batch.put
                while taken < SLICE and (more := valid()) and (key := key_of()) < end:
                    put(key, value_of())
                    onward()
                    taken += 1
                more = taken == SLICE
                if taken:
                    database.write(batch)
                    count += taken
            rows.status()
        except StateError:
            raise
        except Exception as error:
            raise self._mapped("copy", error) from error
        return count

    def _keep(self, names: set[bytes], groups: range) -> None:
        """Delete all keys but those of these states, by the names in them, in these key groups."""
        from rocksdict import WriteBatch

        first, last = groups.start.to_bytes(2, "big"), groups.stop.to_bytes(2, "big")
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(b"", first)
        batch.delete_range(last, AFTER_LAST_GROUP)
        rows = self._iterate(first, last)
        try:
            key = rows.seek(first)
            while key is not None and key < last:
                prefix = prefix_of(key)
                if prefix[2:] not in names:
                    batch.delete_range(prefix, prefix_end(prefix))
                key = rows.seek(prefix_end(prefix))
        finally:
            rows.close()
        try:
            self._opened().write(batch)
        except Exception as error:
            raise self._mapped("write to", error) from error

    def _iterate(self, start: bytes, end: bytes) -> _Scan:
        try:
            scan = _Scan(self._opened().iter(), start, end, self._directory)
        except Exception as error:
            raise self._mapped("read", error) from error
        self._scans.add(scan)
        return scan

    def _opened(self) -> Rdict:
        if self._database is None:
            raise StateError("the state backend is closed", hint="a scan or a write came after close")
        return self._database

    def _mapped(self, action: str, error: Exception) -> StateError:
        return state_error(action, self._directory, error)


class _Scan:
    """A RocksDB iterator up to `end` that cannot end early unnoticed and does not outlive its database.

    It compares with `end` itself: rocksdict's upper bound points into read options that may have been freed by then.
    """

    __slots__ = ("__weakref__", "_directory", "_end", "_iterator")

    def __init__(self, iterator: RdictIter, start: bytes, end: bytes, directory: Path) -> None:
        self._iterator: RdictIter | None = iterator
        self._end = end
        self._directory = directory
        iterator.seek(start)

    def seek(self, key: bytes) -> bytes | None:
        """The first key from there on, or None."""
        try:
            iterator = self._opened()
            iterator.seek(key)
            if iterator.valid():
                found: bytes = iterator.key()
                return found
            iterator.status()
        except StateError:
            raise
        except Exception as error:
            raise state_error("read", self._directory, error) from error
        return None

    def take(self) -> tuple[bytes, bytes] | None:
        """The present row, moving on; None at the end."""
        iterator = self._opened()
        try:
            if iterator.valid():
                key: bytes = iterator.key()
                if key < self._end:
                    value: bytes = iterator.value()
                    iterator.next()
                    return key, value
            else:
                iterator.status()
        except Exception as error:
            raise state_error("read", self._directory, error) from error
        self.close()
        return None

    def close(self) -> None:
        self._iterator = None

    def _opened(self) -> RdictIter:
        if self._iterator is None:
            raise StateError("the state backend is closed", hint="a scan or a write came after close")
        return self._iterator


class _Rows:
    """The rows of a scan, without the prefix of their keys."""

    __slots__ = ("_prefix", "_scan")

    def __init__(self, scan: _Scan, prefix: int) -> None:
        self._scan: _Scan | None = scan
        self._prefix = prefix

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        row = None if self._scan is None else self._scan.take()
        if row is None:
            self._scan = None
            raise StopIteration
        return row[0][self._prefix :], row[1]
