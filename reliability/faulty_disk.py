"""The machine's disk, which refuses for a while: full, broken, or unable to say that bytes are safe."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Literal

from streamflow.disk import LocalDisk

Fault = Literal["full", "broken", "unsynced"]
FAULTS: tuple[Fault, ...] = ("full", "broken", "unsynced")

_ERRORS = {"full": errno.ENOSPC, "broken": errno.EIO, "unsynced": errno.EIO}


@dataclass(eq=False)
class FaultyDisk(LocalDisk):
    """Refuses the calls `first` … `first + length − 1` (from 1) of those that the fault is about.

    "full": whatever needs space fails, a write after half of its bytes. "broken": writes fail. "unsynced": `sync` and
    `sync_folder` fail; what had been written may or may not be there.
    """

    fault: Fault
    first: int
    length: int = 1
    calls: int = 0
    refused: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def _refuses(self, needs: Literal["space", "write", "sync"]) -> bool:
        about = {"full": ("space", "write"), "broken": ("write",), "unsynced": ("sync",)}[self.fault]
        if needs not in about:
            return False
        with self._lock:
            self.calls += 1
            refuses = self.first <= self.calls < self.first + self.length
            self.refused += refuses
        return refuses

    def _check(self, needs: Literal["space", "sync"], path: Path) -> None:
        if self._refuses(needs):
            raise self._error(path)

    def _error(self, path: Path) -> OSError:
        number = _ERRORS[self.fault]
        return OSError(
            number, "No space left on device" if number == errno.ENOSPC else "Input/output error", str(path)
        )

    def _half(self, store: Callable[..., None], path: Path, data: bytes, private: bool) -> None:
        if self._refuses("write"):
            store(path, data[: len(data) // 2], private=private)
            raise self._error(path)
        store(path, data, private=private)

    def write(self, path: Path, data: bytes, *, private: bool = False) -> None:
        self._half(super().write, path, data, private)

    def append(self, path: Path, data: bytes, *, private: bool = False) -> None:
        self._half(super().append, path, data, private)

    def sync(self, path: Path) -> None:
        self._check("sync", path)
        super().sync(path)

    def sync_folder(self, path: Path) -> None:
        self._check("sync", path)
        super().sync_folder(path)

    def rename(self, old: Path, new: Path) -> None:
        self._check("space", new)
        super().rename(old, new)

    def link(self, old: Path, new: Path) -> None:
        self._check("space", new)
        super().link(old, new)

    def make_folder(self, path: Path, *, private: bool = False) -> None:
        if not path.exists():
            self._check("space", path)
        super().make_folder(path, private=private)
