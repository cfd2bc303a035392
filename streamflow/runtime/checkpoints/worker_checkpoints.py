"""A worker's side of taking checkpoints: it stores the parts of its own subtasks, and the coordinator, in another
process, publishes them."""

from __future__ import annotations

import asyncio

from streamflow.runtime.checkpoints.snapshots import SubtaskPart, SubtaskSnapshot
from streamflow.runtime.ports import Ports
from streamflow.state.checkpoints.part_store import PartStore
from streamflow.state.checkpoints.part_writer import PartWriter

__all__ = ["WorkerCheckpoints"]


class WorkerCheckpoints:
    """The checkpoints of one attempt, as one of its workers sees them. Everything runs on the event loop."""

    def __init__(self, store: PartStore, ports: Ports) -> None:
        self._store = store
        self._ports = ports
        self._writers: dict[int, asyncio.Future[PartWriter]] = {}
        """The writers of epochs, also of those that the coordinator has not named yet."""
        self._epoch = 0

    def begin(self, epoch: int, generation: int, *, link: bool) -> None:
        """Begins an epoch, as the coordinator says."""
        self._epoch = epoch
        self._writer_of(epoch).set_result(self._store.session(epoch, generation, link=link))

    async def keep(self, epoch: int, snapshot: SubtaskSnapshot) -> SubtaskPart:
        """Stores a subtask's part, which survives a crash then: only now may it be acknowledged. Barriers from other
        workers may be here before the coordinator's word of the epoch, which is waited for. Raises StateError or
        OSError if storing is impossible."""
        try:
            writer = await asyncio.shield(self._writer_of(epoch))
        except asyncio.CancelledError:
            await self._ports.uploads(snapshot.release)
            raise
        part = await snapshot.store(writer, self._ports.uploads)
        await self._ports.uploads(self._store.settle)
        self._ports.reach("subtask.stored")
        return part

    def settled(self, *, published: bool) -> None:
        """Notes that the epoch in flight is over, and whether the coordinator has published its checkpoint."""
        self._writers.pop(self._epoch, None)
        if published:
            self._store.published(self._epoch)

    def _writer_of(self, epoch: int) -> asyncio.Future[PartWriter]:
        writer = self._writers.get(epoch)
        if writer is None:
            writer = self._writers[epoch] = asyncio.get_running_loop().create_future()
        return writer
