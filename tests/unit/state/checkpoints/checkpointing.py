"""Taking small checkpoints in tests: one operator, one subtask, files given as bytes or paths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from streamflow.disk import Disk, LocalDisk
from streamflow.state.checkpoints.local_blobs import LocalBlobs
from streamflow.state.checkpoints.manifest import Manifest, OperatorEntry, StoredFile, SubtaskEntry
from streamflow.state.checkpoints.store import CheckpointStore
from streamflow.testing.clock import TestClock

Files = Mapping[str, bytes | Path]
"""A checkpoint's content: bytes, or the path of a file that does not change."""


def local_store(root: Path, disk: Disk | None = None, job: str = "flights", **options) -> CheckpointStore:
    return CheckpointStore(LocalBlobs(root, disk or LocalDisk()), job, clock=TestClock(), **options)


def take(
    store: CheckpointStore, number: int, files: Files, *, parent: int | None = None, **fields
) -> Manifest:
    """Take checkpoint `number`; one that fails is abandoned."""
    writer = store.session(number)
    try:
        stored: list[StoredFile] = []
        for name, content in files.items():
            if isinstance(content, Path):
                stored.append(writer.stored(content, name) or writer.put_file(content, name, immutable=True))
            else:
                stored.append(writer.put([content], name))
        return writer.publish(described(number, stored, parent=parent, **fields))
    finally:
        writer.abandon()


def described(number: int, files: list[StoredFile], *, parent: int | None = None, **fields) -> Manifest:
    subtask = SubtaskEntry(0, 0, 127, "rocksdb", tuple(files))
    operator = OperatorEntry("window-1", "window", 1, {"keys": ["carrier"]}, (subtask,))
    return Manifest(number, operators=(operator,), parent=parent, **fields)


def content(store: CheckpointStore, manifest: Manifest) -> dict[str, bytes]:
    """Every file of a checkpoint as the store gives it, by name."""
    return {path.removeprefix("window-1/0/"): store.read(file) for path, file in manifest.all_files()}
