"""The named steps of the product at which a crash would matter, and a process that ends itself at one of them."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

POINTS = (
    "epoch.begun",
    "subtask.aligned",
    "subtask.snapshotted",
    "subtask.stored",
    "store.blob_written",
    "checkpoint.complete",
    "manifest.before",
    "manifest.written",
    "manifest.named",
    "manifest.published",
    "commit.before",
    "commit.renamed",
    "commit.sink_done",
    "commit.after",
    "retain.manifest_removed",
    "retain.blob_removed",
    "restore.opened",
    "restore.committed",
)
"""Every name that the product reaches, in the order of a checkpoint's life."""

OFTEN = {"store.blob_written": 24, "commit.renamed": 12, "retain.blob_removed": 8, "subtask.aligned": 8}
"""Up to which time a process is killed at a point that it comes to several times a checkpoint."""

ONCE = frozenset({"restore.opened", "restore.committed"})
"""Points that a process comes to once."""


@dataclass(frozen=True, slots=True)
class Point:
    """The `time`-th time (from 1) that a process comes to a named step.

    >>> str(Point.parse("manifest.named:2"))
    'manifest.named:2'
    """

    name: str
    time: int

    @classmethod
    def parse(cls, text: str) -> "Point":
        name, _, time = text.rpartition(":")
        return cls(name, int(time))

    def __str__(self) -> str:
        return f"{self.name}:{self.time}"


def kill_at(point: Point) -> Callable[[str], None]:
    """A function for `Ports(reach=…)`: ends the process at the point, with nothing flushed and nothing closed."""
    lock, seen = Lock(), 0

    def reach(name: str) -> None:
        nonlocal seen
        if name != point.name:
            return
        with lock:
            seen += 1
            if seen == point.time:
                os.kill(os.getpid(), signal.SIGKILL)

    return reach
