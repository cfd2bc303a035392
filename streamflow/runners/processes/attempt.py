"""One attempt at running a job on a pool of workers: the coordinator here, the subtasks there."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from msgspec.structs import replace

from streamflow.config import Secret, Settings
from streamflow.errors import StreamflowError
from streamflow.observe.changes import WorkerSeries
from streamflow.observe.registry import Counts, added
from streamflow.runners.processes.pool import WorkerLostError, WorkerPool
from streamflow.runners.processes.process_metrics import FENCED
from streamflow.runners.processes.shared_place import SharedPlace, place_to_prove
from streamflow.runtime.attempt import GoingOn
from streamflow.runtime.blame import unforeseen
from streamflow.runtime.checkpoints.taking import Checkpoints
from streamflow.runtime.control.messages import (
    Acknowledged,
    Beat,
    Deploy,
    FromCoordinator,
    FromWorker,
    Inject,
    LetGo,
    PeerLost,
    Raised,
    Ready,
    SplitGranted,
)
from streamflow.runtime.control.placement import Placement
from streamflow.runtime.control.plan_text import plan_text
from streamflow.runtime.coordinator import Coordinator
from streamflow.runtime.deployment import Deployment
from streamflow.runtime.figures import Figures, merged
from streamflow.runtime.transport.port import TransportError
from streamflow.state.checkpoints.manifest import encode_manifest

__all__ = ["PooledAttempt"]

_PEER: Final = 2.0
"""Seconds in which the end of the process at the other end of a broken connection is expected."""


class PooledAttempt:
    """An attempt on the workers of a pool; `build` and `run` once."""

    def __init__(
        self, pool: WorkerPool, deployment: Deployment, checkpoints: Checkpoints | None, going_on: GoingOn
    ) -> None:
        self.coordinator = Coordinator(deployment, checkpoints)
        self._deployment = deployment
        self._checkpoints = checkpoints
        self._going_on = going_on
        self._pool = pool
        self._placement = Placement(deployment.plan, pool.workers)
        # The same for all workers, however many there are.
        self._plan_text = plan_text(deployment.plan)
        self._manifest = None if going_on.manifest is None else encode_manifest(going_on.manifest, None)
        self._figures: dict[int, Figures] = {}
        registry = deployment.registry
        self._series = [WorkerSeries(registry, place) for place in range(pool.workers)]
        self._base: Counts = registry.counts
        self._fenced = registry.whole.counter(*FENCED)
        self._fenced.value = pool.fenced
        self._untold: list[FromCoordinator] | None = []
        """Messages from before the attempt has begun at the workers; None since then."""
        self._unclosed: StreamflowError | None = None
        self._lost: asyncio.Future[StreamflowError] = asyncio.get_running_loop().create_future()
        self._broken: asyncio.Task[None] | None = None
        self._injecting: asyncio.Task[None] | None = None
        place = place_to_prove(deployment.settings)
        self._shared = None if place is None else SharedPlace(place, deployment.plan.job, deployment.ports)
        self._proving: set[asyncio.Task[None]] = set()

    def figures(self, *, holds: bool) -> Figures:
        """The workers' figures as they were told last."""
        return merged(list(self._figures.values()))

    async def build(self) -> None:
        """Joins the coordinator to the workers."""
        if self._shared is not None:
            await self._shared.open()
        self.coordinator.join(self._tell, self._pool.workers)

    async def run(self, started: Callable[[], None]) -> None:
        """Runs the job to its end; raises the error of the first part that fails, or WorkerLostError. `started` is
        called once everything is as it was in the checkpoint."""
        coordinating: asyncio.Task[None] | None = None
        failed = True
        try:
            await self._pool.begin(self)
            untold, self._untold = self._untold or (), None
            for message in untold:
                self._tell(message)
            coordinating = asyncio.create_task(self.coordinator.run(started))
            waits: set[asyncio.Future[Any]] = {coordinating, self._lost}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not coordinating.done():
                raise self._lost.result()
            coordinating.result()
            failed = False
        except StreamflowError:
            raise
        except Exception as error:
            raise unforeseen(error) from error
        finally:
            await self._close(coordinating)
            # In the next attempt gauges may be in other places; at the end the last ones are the job's.
            for series in self._series if failed else ():
                series.forget()
        if self._unclosed is not None:
            raise self._unclosed

    async def _close(self, coordinating: asyncio.Task[None] | None) -> None:
        """Ends everything, here and at the workers."""
        for task in (coordinating, self._broken, self._injecting, *self._proving):
            if task is not None:
                task.cancel()
        self.coordinator.cancel()
        with suppress(asyncio.CancelledError):
            if coordinating is not None:
                await asyncio.gather(coordinating, return_exceptions=True)
        await asyncio.gather(self._pool.end(), self.coordinator.ended())
        await self.coordinator.close()
        if self._shared is not None:
            await self._shared.close()
        if self._going_on.work is not None:
            # Workers that were ended have not removed their own.
            await self._deployment.ports.state(shutil.rmtree, self._going_on.work, True)

    # For the coordinator.

    def _tell(self, message: FromCoordinator) -> None:
        if self._untold is not None:
            self._untold.append(message)
            return
        match message:
            case SplitGranted():
                self._pool.tell(self._placement.worker_of(message.subtask), message)
            case Inject() if self._checkpoints is not None:
                self._injecting = asyncio.create_task(self._inject(message))
            case _:
                self._pool.tell(None, message)

    async def _inject(self, inject: Inject) -> None:
        """Begins an epoch at the workers, once they may store their parts. The coordinator's further messages do
        not depend on it: subtasks that read are granted nothing before they have passed the barrier."""
        assert self._checkpoints is not None
        generation, link = await self._checkpoints.ready()
        self._pool.tell(None, replace(inject, generation=generation, link=link))

    # For the pool.

    def deploy(self, place: int, attempt: int, addresses: Sequence[str]) -> Deploy:
        deployment, going = self._deployment, self._going_on
        return Deploy(
            workers=self._pool.workers,
            worker=place,
            addresses=list(addresses),
            settings=_plain(deployment.settings),
            run=deployment.run,
            first_epoch=deployment.first_epoch,
            checkpointed=deployment.checkpointed,
            manifest=self._manifest,
            restore_place=going.place,
            work=None if going.work is None else str(going.work),
            plan=self._plan_text,
            probe=None if self._shared is None else self._shared.probe,
        )

    def hear(self, place: int, message: FromWorker | PeerLost) -> None:
        match message:
            case Acknowledged():
                if message.part is not None and self._checkpoints is not None:
                    self._checkpoints.adopt(message.part)
                self.coordinator.hear(replace(message, counts=self._since_the_start(message.counts)))
            case Ready() if self._shared is not None:
                task = asyncio.create_task(self._prove(self._shared, message, self._pool.host(place)))
                self._proving.add(task)
                task.add_done_callback(self._proving.discard)
            case PeerLost():
                edge = self._deployment.plan.edges[message.edge]
                between = f"{edge.upper}-{message.upper} and {edge.lower}-{message.lower}"
                why = f"the connection between {between} broke at worker {place}: {message.why}"
                self._broke(WorkerLostError(why))
            case Raised(error) if isinstance(error, TransportError):
                self._broke(error)
            case _:
                self.coordinator.hear(message)

    def beat(self, place: int, beat: Beat) -> None:
        self._figures[place] = beat.figures
        self._series[place].take(beat.metrics)
        self._fenced.value = self._pool.fenced

    def _since_the_start(self, counts: Counts) -> Counts:
        """The counts of a worker, which begin with the attempt, with those from before of the same subtasks."""
        return added({at: self._base.get(at, {}) for at in counts}, counts)

    def let_go(self, place: int, message: LetGo) -> None:
        self._unclosed = self._unclosed or message.unclosed

    def failed(self, error: StreamflowError) -> None:
        if not self._lost.done():
            self._lost.set_result(error)

    async def _prove(self, shared: SharedPlace, ready: Ready, host: str) -> None:
        """Lets the coordinator hear that a worker is ready once its checkpoints are known to be here."""
        try:
            assert ready.probe is not None
            await shared.check(ready.probe, host)
        except StreamflowError as error:
            self.failed(error)
        else:
            self.coordinator.hear(ready)

    def _broke(self, error: StreamflowError) -> None:
        """Notes that a connection between two workers broke: mostly a process at its end has, which says more."""
        if self._broken is None:
            self._broken = asyncio.create_task(self._fail_soon(error))

    async def _fail_soon(self, error: StreamflowError) -> None:
        await self._deployment.ports.clock.sleep(_PEER)
        self.failed(error)


def _plain(settings: Settings) -> dict[str, Any]:
    """The settings that workers need; no secrets."""
    values = {name: getattr(settings, name) for name in Settings.names()}
    return {name: value for name, value in values.items() if not isinstance(value, Secret)}
