"""The hidden folder of a `FileSink`, beside its output, for files that no reader should see.

It holds staged files, notes and locks. A folder that is read as a whole, or by a glob like `out/**`, holds output
alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from streamflow.disk import Disk
from streamflow.errors import SinkError

__all__ = ["Presence", "hidden_folder", "no_other_run"]

_INSIDE: Final = ".streamflow"
_RUN: Final = ".run"


def hidden_folder(disk: Disk, folder: Path, file: str = "") -> Path:
    """The hidden folder of an output folder: `.out.streamflow` beside `out`, or `out/.streamflow` if that is
    impossible (the folder is mounted, is the working directory, or the folder above cannot be written).

    An existing hidden folder is used again. Each single `file` has a folder of its own in it.
    """
    inside = folder / _INSIDE
    beside = folder.with_name(f".{folder.name}{_INSIDE}") if folder.name else inside
    there = [place for place in (beside, inside) if disk.exists(place)]
    return (there[0] if there else beside if _takes_a_neighbour(folder, file) else inside) / file


def _takes_a_neighbour(folder: Path, file: str) -> bool:
    above = folder.parent
    if os.path.ismount(folder) or Path.cwd().is_relative_to(folder) or (file and above == above.parent):
        return False
    return not above.exists() or os.access(above, os.W_OK | os.X_OK)


class Presence:
    """One run of one sink at its output, known to other runs by a lock that ends with the process."""

    def __init__(self, disk: Disk, hidden: Path, name: str) -> None:
        self._disk = disk
        self._hidden = hidden
        self._path = hidden / f"{name}{_RUN}"
        self._release: Callable[[], None] | None = None

    def begin(self) -> None:
        """Takes the lock. Does nothing if the file system has no locks."""
        self._disk.make_folder(self._hidden)
        with suppress(OSError):
            self._release = self._disk.lock(self._path)

    def others(self) -> bool:
        """Whether another run is at work. Removes dead runs' locks. Two runs that begin at once both see each other."""
        found = False
        for path in self._disk.files_below(self._hidden):
            if path.parent != self._hidden or not path.name.endswith(_RUN) or path == self._path:
                continue
            try:
                release = self._disk.lock(path)
            except OSError:
                found = True
                continue
            self._disk.remove(path)
            release()
        return found

    def end(self) -> None:
        """Releases the lock: the run is over."""
        if self._release is not None:
            with suppress(OSError):
                self._disk.remove(self._path)
                for folder in (self._hidden, self._hidden.parent):
                    if folder.name.endswith(_INSIDE) or folder == self._hidden:
                        self._disk.remove_folder(folder)
            self._release()
            self._release = None


def no_other_run(presence: Presence, target: Path) -> None:
    """Raises SinkError if another run writes there."""
    if presence.others():
        raise SinkError(
            f"another run writes to {str(target)!r} now, and one of the two would remove the other's output",
            hint="wait for its end, or give each a path of its own",
        )
