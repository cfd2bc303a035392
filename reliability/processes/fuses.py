"""Fuses: files named after steps of the product; the first process that comes to such a step burns the file and dies.

The processes of a job share them, so that a fuse meets whichever worker comes first, or the coordinator. (No process
looks at a name that it does not reach: a file is looked for only where a crash would matter.)
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

FOLDER = "RELIABILITY_FUSES"
"""The environment variable with the folder of the fuses."""


def burning() -> Callable[[str], None]:
    """A function for `Ports(reach=…)`, by the environment."""
    folder = Path(os.environ[FOLDER])

    def reach(name: str) -> None:
        try:
            (folder / name).rename(folder / f"burnt-{name}-{os.getpid()}")
        except OSError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    return reach


def lay(folder: Path, name: str) -> None:
    """Lays a fuse."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def burnt(folder: Path, name: str) -> int | None:
    """The process that has burnt a fuse, which is forgotten by that; None while there is none."""
    for found in folder.glob(f"burnt-{name}-*"):
        found.unlink()
        return int(found.name.rpartition("-")[2])
    return None


def remove(folder: Path, name: str) -> None:
    """Takes a fuse away that nobody has come to."""
    (folder / name).unlink(missing_ok=True)
