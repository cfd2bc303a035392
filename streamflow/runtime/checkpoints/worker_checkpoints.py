"""A worker's side of taking checkpoints: it stores the parts of its own subtasks, and the coordinator, in another
process, publishes them."""

from __future__ import annotations

from streamflow.runtime.checkpoints.snapshots import SubtaskPart, SubtaskSnapshot
from streamflow.runtime.ports import Ports
from streamflow.state.checkpoints.part_store import PartStore
from streamflow.state.checkpoints.part_writer import PartWriter

__all__ = ["WorkerCheckpoints"]


class WorkerCheckpoints:
    """The checkpoints of one attempt, as one of its workers sees them."""

    def __init__(self, store: PartStore, ports: Ports) -> None:
        self._store = store
        self._ports = ports
        self._writer: PartWriter | None = None

    def begin(self, epoch: int, generation: int, *, link: bool) -> None:
        """Begins an epoch, as the coordinator says."""
        self._writer = self._store.session(epoch, generation, link=link)

    async def keep(self, snapshot: SubtaskSnapshot) -> SubtaskPart:
        """Stores a subtask's part, which survives a crash then: only now may it be acknowledged. Raises StateError or
        OSError if that is impossible."""
        assert self._writer is not None
        part = await snapshot.store(self._writer, self._ports.uploads)
        await self._ports.uploads(self._store.settle)
        self._ports.reach("subtask.stored")
        return part

    def published(self, epoch: int) -> None:
        """Notes that the coordinator has published the epoch's checkpoint."""
        self._store.published(epoch)
