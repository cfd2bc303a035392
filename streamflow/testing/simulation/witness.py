"""A witness of what several processes tell one another: a checkpoint is of one attempt, and has each split once."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from streamflow.errors import StateError
from streamflow.runtime.checkpoints.sealed_files import job_of
from streamflow.runtime.checkpoints.snapshots import SOURCE
from streamflow.runtime.checkpoints.stored_content import SourceContent, content_of
from streamflow.runtime.control.messages import Acknowledged, FromProcess, ToProcess
from streamflow.state.checkpoints.local_blobs import LocalBlobs
from streamflow.state.checkpoints.manifest import Manifest, SubtaskEntry
from streamflow.state.checkpoints.store import CheckpointStore
from streamflow.testing.clock import TestClock
from streamflow.testing.simulation.disk import SimDisk

__all__ = ["Witness"]


class Witness:
    """Sees the messages of one coordinator and each checkpoint that it publishes; `complaints` are in words, and so is
    what could not be read of checkpoints, `damaged`."""

    def __init__(self, disk: SimDisk, root: Path, job: str) -> None:
        self.complaints: list[str] = []
        self.damaged: list[str] = []
        self._disk = disk
        self._root = root
        self._job = job
        self._parts: dict[int, dict[int, set[tuple[str, SubtaskEntry]]]] = defaultdict(
            lambda: defaultdict(set)
        )
        """The parts that were acknowledged, by epoch and attempt."""

    def heard(self, attempt: int, message: FromProcess | ToProcess) -> None:
        """Notes a message of a worker, whether it counts or not."""
        if isinstance(message, Acknowledged) and message.part is not None:
            self._parts[message.epoch][attempt].update(message.part.entries.items())

    def published(self) -> None:
        """Looks at the checkpoint that has just been published."""
        try:
            blobs = LocalBlobs(self._root, self._disk)
            store = CheckpointStore(blobs, self._job, clock=TestClock())
            manifest = store.manifest(max(store.numbers()))
            self._check_attempt(manifest)
            self._check_splits(store, manifest)
        except StateError as error:
            self.damaged.append(f"a checkpoint was published and is damaged: {error.message}")

    def _check_attempt(self, manifest: Manifest) -> None:
        named = {(operator.id, subtask) for operator in manifest.operators for subtask in operator.subtasks}
        by_attempt = self._parts[manifest.number]
        if named and not any(named <= parts for parts in by_attempt.values()):
            attempts = ", ".join(map(str, by_attempt)) or "none"
            self.complaints.append(
                f"checkpoint {manifest.number} has parts that no one attempt acknowledged (of {attempts})"
            )

    def _check_splits(self, store: CheckpointStore, manifest: Manifest) -> None:
        if manifest.finished:
            return
        for source, waiting in job_of(store, manifest)["sources"].items():
            found = Counter(split["id"] for split in waiting["splits"])
            for operator in manifest.operators:
                if operator.id != source:
                    continue
                for subtask in operator.subtasks:
                    file = next(file for file in subtask.files if file.name == SOURCE)
                    state = content_of(store.read(file), SourceContent, SOURCE)
                    found.update(split["id"] for split in state["splits"])
            twice = sorted(split for split, times in found.items() if times > 1)
            if twice:
                self.complaints.append(
                    f"checkpoint {manifest.number} has splits of {source} more than once: {', '.join(twice)}"
                )
