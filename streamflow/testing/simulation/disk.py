"""A disk in memory that loses data at a crash as real ones may, and fails on demand.

Written data is not on the disk until it was synced, and a name that was made, changed or removed is not on the disk
until its folder was synced. A power failure loses or tears the one and loses any subset of the other (Pillai et al.,
"All File Systems Are Not Created Equal", OSDI 2014); a killed process loses nothing, for the machine goes on. A sync
that failed has dropped its data, and the next one succeeds all the same (the "fsyncgate" of PostgreSQL).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, Literal

from streamflow.disk import FileInfo
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.loop import PROCESS, host_of
from streamflow.testing.simulation.trace import Trace

__all__ = ["DiskFault", "Loss", "SimDisk"]

Loss = Literal["kill", "power"]
"""The end of a process: killed (the machine goes on), or with the machine."""

_ROOT: Final = "/"
_DIGITS: Final = 64
_TEMPORARY: Final = "/.tmp-"
_FOLDER: Final = FileInfo(size=0, modified=0)
_NAMING: Final = frozenset({"make_folder", "rename", "link"})


@dataclass(frozen=True, slots=True)
class DiskFault:
    """The calls `first … first + count − 1` of the kind that `kind` can befall fail.

    "full": ENOSPC at calls that need room. "broken": EIO at any change or read. "sync": EIO at a sync, which drops
    its data.
    """

    kind: Literal["full", "broken", "sync"]
    first: int
    count: int = 1

    def __str__(self) -> str:
        what = {
            "full": "the disk is full at write",
            "broken": "I/O fails at disk call",
            "sync": "a sync fails at sync",
        }
        until = f" to {self.first + self.count - 1}" if self.count > 1 else ""
        return f"{what[self.kind]} {self.first}{until}"


@dataclass(slots=True, eq=False)
class _File:
    number: int
    data: bytes = b""
    synced: bytes = b""
    modified: int = 0
    version: int = 0
    dropped: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


@dataclass(slots=True, eq=False)
class _Folder:
    """A folder, which has nothing but its name; its content knows where it is."""


_Node = _File | _Folder
_Change = tuple[tuple[str, ...], tuple[tuple[str, "_Node | None"], ...], str]
"""A change of names: the folders whose sync makes it last, any of them, and the names that it gives or takes away,
all or none: file systems that keep a journal rename as one, between folders too. Then the machine whose sync that has
to be; empty: any one's."""


class SimDisk:
    """The disk port (`streamflow.disk.Disk`) in memory. `on_call` sees each call first and may end the process there.

    >>> disk = SimDisk()
    >>> disk.make_folder(Path("/a")); disk.sync_folder(Path("/"))
    >>> disk.write(Path("/a/one"), b"1"); disk.sync(Path("/a/one")); disk.sync_folder(Path("/a"))
    >>> disk.write(Path("/a/two"), b"2")
    >>> disk.crash("power", Chance(2)).files_below(Path("/a"))
    [PosixPath('/a/one')]
    >>> disk.read(Path("/a/one"))
    Traceback (most recent call last):
    ...
    OSError: [Errno 5] Input/output error: 'the process that used this disk has crashed'
    """

    def __init__(
        self,
        *,
        faults: Sequence[DiskFault] = (),
        on_call: Callable[[str], None] | None = None,
        now: Callable[[], int] | None = None,
        trace: Trace | None = None,
        gone: Container[str] = (),
    ) -> None:
        """`gone` are the processes that have been ended, of several that use the disk at the same time."""
        self.calls = 0
        self.faulted = 0
        """The number of calls that have failed on demand."""
        self._writes = 0
        self._syncs = 0
        self._faults = tuple(faults)
        self._on_call = on_call
        self._now = now or (lambda: 0)
        self._numbers = count(1)
        self._locked: dict[str, str] = {}
        """The process that holds each lock."""
        self._gone = gone
        self._trace = trace or Trace()
        self._dead = False
        self._names: dict[str, _Node] = {_ROOT: _Folder()}
        self._durable: dict[str, _Node] = dict(self._names)
        self._pending: list[_Change] = []

    # The port.

    def read(self, path: Path) -> bytes:
        return self._file(self._call("read", path)).data

    def chunks(self, path: Path) -> Iterator[bytes]:
        yield self.read(path)

    def write(self, path: Path, data: bytes, *, private: bool = False) -> None:
        file = self._opened(self._call("write", path))
        file.dropped = []
        self._put(file, b"", data)

    def append(self, path: Path, data: bytes, *, private: bool = False) -> None:
        file = self._opened(self._call("append", path))
        self._put(file, file.data, data)

    def sync(self, path: Path) -> None:
        name = self._call("sync", path)
        file = self._file(name)
        if self._fails("sync", self._syncs):
            file.dropped.append((_common(file.synced, file.data), len(file.data)))
            raise _error(errno.EIO, name)
        content = bytearray(file.data)
        for start, end in file.dropped:
            content[start:end] = bytes(min(end, len(content)) - start)
        file.synced = bytes(content)

    def sync_folder(self, path: Path) -> None:
        name = self._call("sync_folder", path)
        self._folder(name)
        if self._fails("sync", self._syncs):
            raise _error(errno.EIO, name)
        host = host_of(PROCESS.get())
        synced, left, names = list[_Change](), list[_Change](), set[str]()
        for change in reversed(self._pending):
            folders, effects, of = change
            mine = name in folders and of in ("", host)
            # What another machine has done to the same names before comes first.
            if mine or (of != host and any(each in names for each, _ in effects)):
                synced.append(change)
                names.update(each for each, _ in effects)
            else:
                left.append(change)
        for change in reversed(synced):
            _apply(self._durable, change)
        self._pending = left[::-1]

    def rename(self, old: Path, new: Path) -> None:
        name = self._call("rename", new)
        before = str(old)
        node = self._file(before)
        self._folder(_above(name))
        if isinstance(self._names.get(name), _Folder):
            raise _error(errno.EISDIR, name)
        if self._names.get(name) is not node:
            self._change((_above(name), _above(before)), (name, node), (before, None))

    def link(self, old: Path, new: Path) -> None:
        name = self._call("link", new)
        file = self._file(str(old))
        self._folder(_above(name))
        if name in self._names:
            raise _error(errno.EEXIST, name)
        self._change((_above(name),), (name, file))

    def remove(self, path: Path) -> None:
        name = self._call("remove", path)
        node = self._names.get(name)
        if isinstance(node, _Folder):
            raise _error(errno.EISDIR, name)
        if node is not None:
            self._change((_above(name),), (name, None))

    def make_folder(self, path: Path, *, private: bool = False) -> None:
        name = self._call("make_folder", path)
        if isinstance(self._names.get(name), _Folder):
            return
        for folder in (*map(str, reversed(path.parents)), name):
            node = self._names.get(folder)
            if isinstance(node, _File):
                raise _error(errno.EEXIST if folder == name else errno.ENOTDIR, folder)
            if node is None:
                self._change((_above(folder),), (folder, _Folder()), of="")

    def remove_folder(self, path: Path) -> None:
        name = self._call("remove_folder", path)
        if isinstance(self._names.get(name), _Folder) and not self._below(name):
            self._change((_above(name),), (name, None))

    def exists(self, path: Path) -> bool:
        return self._call("exists", path) in self._names

    def files_below(self, folder: Path) -> list[Path]:
        below = self._below(self._call("files_below", folder))
        return sorted(Path(name) for name in below if isinstance(self._names[name], _File))

    def folders_in(self, folder: Path) -> list[Path]:
        name = self._call("folders_in", folder)
        return sorted(
            Path(each)
            for each in self._below(name)
            if isinstance(self._names[each], _Folder) and _above(each) == name
        )

    def info(self, path: Path) -> FileInfo:
        name = self._call("info", path)
        if isinstance(self._names.get(name), _Folder):
            return _FOLDER
        file = self._file(name)
        return FileInfo(len(file.data), file.modified, (file.number, file.version))

    def lock(self, path: Path) -> Callable[[], None]:
        name = self._call("lock", path)
        self._opened(name)
        if name in self._locked and self._locked[name] not in self._gone:
            raise BlockingIOError(errno.EWOULDBLOCK, "held by this process")
        self._locked[name] = PROCESS.get()
        return partial(self._unlock, name)

    def _unlock(self, name: str) -> None:
        self._locked.pop(name, None)

    # A test's interventions.

    def crash(self, loss: Loss, chance: Chance) -> SimDisk:
        """The disk that the next process finds. This one refuses every call from now on."""
        if loss == "kill":
            return self.handed_over()
        following = SimDisk()
        following._numbers = self._numbers
        survive = chance.one_of((0.0, 0.2, 0.5, 0.8, 1.0))
        names = dict(self._durable)
        for change in self._pending:
            if chance.happens(survive):
                _apply(names, change)
        copies: dict[int, _Node] = {}
        for name, node in names.items():
            if id(node) not in copies:
                copies[id(node)] = _after(node, chance)
            if all(isinstance(names.get(above), _Folder) for above in _all_above(name)):
                following._names[name] = copies[id(node)]
        following._durable = dict(following._names)
        self._dead = True
        return following

    def handed_over(
        self,
        *,
        faults: Sequence[DiskFault] = (),
        on_call: Callable[[str], None] | None = None,
        now: Callable[[], int] | None = None,
        trace: Trace | None = None,
        gone: Container[str] = (),
    ) -> SimDisk:
        """The same disk in the hands of another process, with all its unsynced content."""
        self._dead = True
        following = SimDisk(faults=faults, on_call=on_call, now=now, trace=trace, gone=gone)
        following._numbers = self._numbers
        following._names, following._durable = self._names, self._durable
        following._pending = self._pending
        return following

    def oldest_first(self, folder: Path) -> list[Path]:
        """Every file in the folder and those in it, in the order in which they were made."""
        files = {
            name: node for name in self._below(str(folder)) if isinstance(node := self._names[name], _File)
        }
        return [Path(name) for name in sorted(files, key=lambda name: (files[name].number, _traced(name)))]

    def vanish(self, folder: Path) -> None:
        """Removes a folder with all its content, for good, as a user might."""
        gone = {str(folder), *self._below(str(folder))}
        for name in gone:
            self._names.pop(name, None)
            self._durable.pop(name, None)
        self._pending = [
            (folders, effects, host)
            for folders, effects, host in self._pending
            if not gone.intersection(name for name, _ in effects)
        ]

    def flip(self, path: Path, bit: int) -> None:
        """Flips one bit of a file for good (rot); `bit` is taken modulo the file's size."""
        file = self._file(str(path))
        if file.data:
            place, mask = divmod(bit % (8 * len(file.data)), 8)
            rotten = bytearray(file.data)
            rotten[place] ^= 1 << mask
            file.data = bytes(rotten)
            file.synced = file.data

    # Inside.

    def _call(self, what: str, path: Path) -> str:
        """Runs at the beginning of every call; returns the path as the disk's own name for it."""
        if self._dead or PROCESS.get() in self._gone:
            raise OSError(errno.EIO, os.strerror(errno.EIO), "the process that used this disk has crashed")
        self.calls += 1
        name = str(path)
        self._trace.event(f"disk: {what} {_traced(name)}")
        if self._on_call is not None:
            self._on_call(what)
        if what in ("write", "append") or what in _NAMING:
            self._writes += 1
        elif what in ("sync", "sync_folder"):
            self._syncs += 1
        if self._faults:
            if self._fails("broken", self.calls):
                raise _error(errno.EIO, name)
            if what in _NAMING and self._fails("full", self._writes):
                raise _error(errno.ENOSPC, name)
        return name

    def _fails(self, kind: str, number: int) -> bool:
        if not self._faults:
            return False
        hit = any(each.kind == kind and 0 <= number - each.first < each.count for each in self._faults)
        self.faulted += hit
        return hit

    def _put(self, file: _File, before: bytes, data: bytes) -> None:
        """Puts a write's data into a file; on a full disk only half of it."""
        full = self._fails("full", self._writes)
        file.data = before + (data[: len(data) // 2] if full else data)
        file.modified = self._now()
        file.version += 1
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _file(self, name: str) -> _File:
        node = self._names.get(name)
        if node is None:
            raise _error(errno.ENOENT, name)
        if isinstance(node, _Folder):
            raise _error(errno.EISDIR, name)
        return node

    def _folder(self, name: str) -> None:
        node = self._names.get(name)
        if not isinstance(node, _Folder):
            raise _error(errno.ENOENT if node is None else errno.ENOTDIR, name)

    def _opened(self, name: str) -> _File:
        """The file of this name, made if it is missing."""
        if name not in self._names:
            self._folder(_above(name))
            self._change((_above(name),), (name, _File(next(self._numbers), modified=self._now())))
        return self._file(name)

    def _below(self, folder: str) -> list[str]:
        prefix = folder.rstrip("/") + "/"
        return [name for name in self._names if name.startswith(prefix) and name != folder]

    def _change(
        self, folders: tuple[str, ...], *effects: tuple[str, _Node | None], of: str | None = None
    ) -> None:
        change = (folders, effects, host_of(PROCESS.get()) if of is None else of)
        _apply(self._names, change)
        self._pending.append(change)


def _apply(names: dict[str, _Node], change: _Change) -> None:
    for name, node in change[1]:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _after(node: _Node, chance: Chance) -> _Node:
    """A file's content after a power failure: the synced part; of the rest all, none, some, or zeros."""
    if isinstance(node, _Folder):
        return _Folder()
    if node.data == node.synced:
        return _File(node.number, node.data, node.data, node.modified, node.version)
    match chance.below(4):
        case 0:
            left = node.synced
        case 1:
            left = node.data
        case 2:
            kept = _common(node.synced, node.data)
            left = node.data[: chance.between(kept, len(node.data))]
        case _:
            kept = chance.between(_common(node.synced, node.data), len(node.data))
            left = node.data[:kept] + bytes(len(node.data) - kept)
    return _File(node.number, left, left, node.modified, node.version + 1)


def _common(synced: bytes, data: bytes) -> int:
    """The number of bytes that are on the disk already: the synced ones of a file that was appended to, else none."""
    return len(synced) if data.startswith(synced) else 0


def _traced(name: str) -> str:
    """A name without a content's digest: the order of rows in a frame is up to Polars, and differs between equal
    processes. Nor with that of the process in it which writes the file."""
    if _TEMPORARY in name:
        return f"{name.partition(_TEMPORARY)[0]}{_TEMPORARY}*"
    return f"{name[:-_DIGITS]}*" if name[-_DIGITS - 1 : -_DIGITS] == "/" else name


def _above(name: str) -> str:
    """The folder that a name is in."""
    return name.rpartition("/")[0] or _ROOT


def _all_above(name: str) -> Iterator[str]:
    while name != _ROOT:
        name = _above(name)
        yield name


def _error(code: int, name: str) -> OSError:
    return OSError(code, os.strerror(code), name)
