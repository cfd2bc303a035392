"""A disk in memory that knows every state in which a power failure could leave it.

The model is that of Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014): what was written to a file may
be lost, cut or zeros until it was synced; each change of a name may or may not be there until its folder was synced.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, combinations, product
from pathlib import Path

from streamflow.disk import FileInfo

ALL_SUBSETS_UP_TO = 7
FOLDER = None


@dataclass(eq=False)
class Content:
    data: bytes = b""
    synced: bytes = b""


Node = Content | None  # None is a folder
Change = tuple[Path, tuple[tuple[Path, Node, bool], ...]]
"""The folder whose sync makes it last; names, what they are, and whether they are there."""


@dataclass
class RecordingDisk:
    """The disk port. `after_step` is called after each call that changes anything."""

    names: dict[Path, Node] = field(default_factory=lambda: {Path("/"): FOLDER})
    durable: dict[Path, Node] = field(default_factory=lambda: {Path("/"): FOLDER})
    pending: list[Change] = field(default_factory=list)
    after_step: Callable[[], None] = lambda: None
    locked: bool = False

    def read(self, path: Path) -> bytes:
        return self._file(path).data

    def chunks(self, path: Path) -> Iterator[bytes]:
        yield self.read(path)

    def write(self, path: Path, data: bytes, *, private: bool = False) -> None:
        assert private
        self._made(path).data = data
        self.after_step()

    def append(self, path: Path, data: bytes, *, private: bool = False) -> None:
        assert private
        self._made(path).data += data
        self.after_step()

    def sync(self, path: Path) -> None:
        file = self._file(path)
        file.synced = file.data
        self.after_step()

    def sync_folder(self, path: Path) -> None:
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        for change in [each for each in self.pending if each[0] == path]:
            apply(self.durable, change)
            self.pending.remove(change)
        self.after_step()

    def rename(self, old: Path, new: Path) -> None:
        node = self._file(old)
        if self.names.get(new) is not node:
            assert old.parent == new.parent, "a crash could leave neither name"
            self._change(new.parent, (new, node, True), (old, node, False))

    def link(self, old: Path, new: Path) -> None:
        if new in self.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
        self._change(new.parent, (new, self._file(old), True))

    def remove(self, path: Path) -> None:
        if path in self.names:
            self._change(path.parent, (path, self._file(path), False))

    def make_folder(self, path: Path, *, private: bool = False) -> None:
        assert private
        if path not in self.names:
            assert path.parent in self.names
            self._change(path.parent, (path, FOLDER, True))

    def remove_folder(self, path: Path) -> None:
        if path in self.names and not any(name.parent == path for name in self.names):
            self._change(path.parent, (path, FOLDER, False))

    def exists(self, path: Path) -> bool:
        return path in self.names

    def info(self, path: Path) -> FileInfo:
        if path in self.names and self.names[path] is FOLDER:
            return FileInfo(0, 0)
        return FileInfo(len(self._file(path).data), 0)

    def files_below(self, folder: Path) -> list[Path]:
        return sorted(name for name, node in self.names.items() if node and folder in name.parents)

    def folders_in(self, folder: Path) -> list[Path]:
        return sorted(
            name for name, node in self.names.items() if node is FOLDER and name.parent == folder != name
        )

    def lock(self, path: Path) -> Callable[[], None]:
        self._made(path)
        assert not self.locked
        self.locked = True
        return partial(setattr, self, "locked", False)

    def crashes(self) -> Iterator[RecordingDisk]:
        """Every state in which a power failure at this moment may leave the disk, or many of them."""
        unsynced = [
            node
            for node in dict.fromkeys(chain(self.names.values(), self.durable.values()))
            if node and node.data != node.synced
        ]
        for kept in subsets(self.pending):
            names = dict(self.durable)
            for change in kept:
                apply(names, change)
            reachable = {
                name: node
                for name, node in names.items()
                if all(above in names and names[above] is FOLDER for above in name.parents)
            }
            torn = [node for node in unsynced if node in set(reachable.values())]
            for contents in product(*(left_of(node) for node in torn)):
                left = dict(zip(torn, contents, strict=True))
                copies = {node: Content(left.get(node, node.data), left.get(node, node.data))
                          for node in set(reachable.values()) if node}  # fmt: skip
                after = {name: copies[node] if node else FOLDER for name, node in reachable.items()}
                yield RecordingDisk(after, dict(after))

    def state(self) -> frozenset[tuple[Path, bytes | None]]:
        """Everything that a process can read from it."""
        return frozenset((name, node.data if node else None) for name, node in self.names.items())

    def frozen(self) -> RecordingDisk:
        """The same now, whatever happens to this one."""
        copies = {
            id(node): replace(node)
            for node in chain(
                self.names.values(), self.durable.values(), *([n for _, n, _ in c[1]] for c in self.pending)
            )
            if node
        }

        def copied(node: Node) -> Node:
            return copies[id(node)] if node else FOLDER

        return RecordingDisk(
            {name: copied(node) for name, node in self.names.items()},
            {name: copied(node) for name, node in self.durable.items()},
            [
                (folder, tuple((name, copied(node), there) for name, node, there in change))
                for folder, change in self.pending
            ],
        )

    def _made(self, path: Path) -> Content:
        if path not in self.names:
            self._change(path.parent, (path, Content(), True), step=False)
        return self._file(path)

    def _file(self, path: Path) -> Content:
        node = self.names.get(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return node

    def _change(self, folder: Path, *changes: tuple[Path, Node, bool], step: bool = True) -> None:
        assert folder in self.names, folder
        apply(self.names, (folder, changes))
        self.pending.append((folder, changes))
        if step:
            self.after_step()


def apply(names: dict[Path, Node], change: Change) -> None:
    for name, node, there in change[1]:
        if there:
            names[name] = node
        else:
            names.pop(name, None)


def left_of(node: Content) -> Iterable[bytes]:
    """The possible remains of unsynced content: none, all, half of it, or zeros."""
    return dict.fromkeys([node.synced, node.data, node.data[: len(node.data) // 2], bytes(len(node.data))])


def subsets(changes: list[Change]) -> Iterator[list[Change]]:
    """Every subset, in order; of many changes those with at most two in or out, and all that came before one."""
    if len(changes) <= ALL_SUBSETS_UP_TO:
        for size in range(len(changes) + 1):
            yield from map(list, combinations(changes, size))
        return
    for size in (0, 1, 2):
        for few in combinations(range(len(changes)), size):
            yield [changes[index] for index in few]
            yield [change for index, change in enumerate(changes) if index not in few]
    for end in range(3, len(changes) - 2):
        yield changes[:end]
