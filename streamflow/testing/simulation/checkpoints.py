"""The checkpoints on a simulated disk: checks that each published one is intact, and rot of a stored file."""

from __future__ import annotations

from pathlib import Path

from streamflow.errors import StateError
from streamflow.state.checkpoints.local_blobs import LocalBlobs
from streamflow.state.checkpoints.store import CheckpointStore, jobs_in
from streamflow.testing.clock import TestClock
from streamflow.testing.simulation.disk import SimDisk
from streamflow.testing.simulation.schedule import Rot

__all__ = ["damaged_checkpoints", "published", "rotten"]


def damaged_checkpoints(disk: SimDisk, root: Path) -> str | None:
    """The error text for damaged checkpoints below `root`; None if each one is intact."""
    if not disk.exists(root):
        return None
    blobs = LocalBlobs(root, disk)
    for job in jobs_in(blobs):
        store = CheckpointStore(blobs, job, clock=TestClock())
        for number in store.numbers():
            try:
                problems = [f"{problem.file}: {problem.what}" for problem in store.verify(number)]
            except StateError as error:
                problems = [error.message]
            if problems:
                return f"checkpoint {number} was published and is damaged: " + "; ".join(problems)
    return None


def published(disk: SimDisk, root: Path) -> bool:
    """Whether there is a checkpoint below `root`."""
    return any(path.parent.name == "manifests" and path.name.isdigit() for path in disk.oldest_first(root))


def rotten(disk: SimDisk, root: Path, rot: Rot) -> list[Path]:
    """Lets a stored file rot; returns its name, or none if there is no file."""
    files = [path for path in disk.oldest_first(root) if {"blobs", "manifests"} & set(path.parts)]
    chosen = files[rot.file % len(files) :][:1] if files else []
    for path in chosen:
        disk.flip(path, rot.bit)
    return chosen
