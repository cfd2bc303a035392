"""The service of a worker's process: runs the worker of each attempt that the coordinator deploys, and lets go of it.

One process serves many attempts, one after the other; what it has imported, its threads and its connection to the
coordinator outlive them.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from streamflow.config import Settings
from streamflow.errors import StreamflowError
from streamflow.graph.logical import LogicalGraph
from streamflow.graph.physical import PhysicalPlan
from streamflow.observe.changes import ChangeTracker
from streamflow.observe.registry import MetricsRegistry
from streamflow.runners.processes.process_metrics import ProcessMetrics
from streamflow.runtime.blame import unforeseen
from streamflow.runtime.checkpoints.restoring import Restored, needed_files
from streamflow.runtime.checkpoints.worker_checkpoints import WorkerCheckpoints
from streamflow.runtime.control.compatibility import laid_out_as
from streamflow.runtime.control.messages import (
    Beat,
    Cancel,
    Deploy,
    Finished,
    FromCoordinator,
    FromProcess,
    FromWorker,
    Inject,
    Leave,
    LetGo,
    PeerLost,
    Pulse,
    Raised,
    Ready,
    Settled,
    ToProcess,
)
from streamflow.runtime.control.placement import Placement
from streamflow.runtime.control.plan_text import check_same, plan_text
from streamflow.runtime.deployment import Deployment, keepers
from streamflow.runtime.figures import PacedFigures
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import profile_for
from streamflow.runtime.site import Site
from streamflow.runtime.transport.port import ChannelName, Transport
from streamflow.runtime.worker import Worker
from streamflow.state.backends.state_memory import StateMemory
from streamflow.state.checkpoints.blobs import Blobs, open_blobs
from streamflow.state.checkpoints.manifest import Manifest, decode_manifest
from streamflow.state.checkpoints.part_store import PartStore
from streamflow.state.checkpoints.probe import Probe, check_probe, lay_probe

__all__ = ["WorkerService"]

_EVERY: Final = 1.0
"""Seconds between two reports of figures."""

Tell = Callable[[int, FromProcess], None]


class WorkerService:
    """The worker's side of a pool, on the running event loop. `tell` brings a message of an attempt to the
    coordinator; `planned` makes the physical plan of the graph under an attempt's settings; `metrics` are those of the
    process, if it is the worker's own."""

    def __init__(
        self,
        graph: LogicalGraph,
        planned: Callable[[LogicalGraph, Settings], PhysicalPlan],
        transport: Transport,
        ports: Callable[[Settings], Ports],
        tell: Tell,
        metrics: ProcessMetrics | None = None,
    ) -> None:
        self._metrics = metrics
        self._graph = graph
        self._planned = planned
        self._transport = transport
        self._make_ports = ports
        self._ports: Ports | None = None
        self._tell = tell
        self._stored: PartStore | None = None
        self._serving: _Serving | None = None
        self._task: asyncio.Task[None] | None = None
        self._left = asyncio.Event()
        transport.lost = self._lost

    async def run(self) -> None:
        """Returns when the coordinator has told the worker to leave."""
        try:
            await self._left.wait()
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            if self._ports is not None:
                self._ports.close()

    def hear(self, attempt: int, message: ToProcess) -> None:
        """Takes in a message of the coordinator."""
        match message:
            case Leave():
                self._left.set()
            case Deploy():
                self._serving = serving = self._begun(attempt, message)
                self._task = asyncio.create_task(serving.run())
            case Cancel():
                if self._task is not None:
                    self._task.cancel()
            case Pulse():  # a sign of life
                ...
            case _:
                if self._serving is not None and self._serving.attempt == attempt:
                    self._serving.hear(message)

    def _begun(self, attempt: int, deploy: Deploy) -> _Serving:
        settings = Settings(**deploy.settings)
        ports = self._ports = self._ports or self._make_ports(settings)
        place = settings.checkpoint_dir
        if deploy.checkpointed and self._stored is None and place is not None:
            self._stored = part_store(place, self._graph.job, ports)
        return _Serving(
            attempt,
            deploy,
            settings,
            graph=self._graph,
            planned=self._planned,
            transport=self._transport,
            ports=ports,
            stored=self._stored,
            tell=partial(self._tell, attempt),
            metrics=self._metrics,
        )

    def _lost(self, name: ChannelName, why: str) -> None:
        if self._serving is not None and self._serving.attempt == name.attempt:
            self._tell(name.attempt, PeerLost(name.edge, name.upper, name.lower, why))


class _Serving:
    """The worker of one attempt, from its deployment until it has let go."""

    def __init__(
        self,
        attempt: int,
        deploy: Deploy,
        settings: Settings,
        *,
        graph: LogicalGraph,
        planned: Callable[[LogicalGraph, Settings], PhysicalPlan],
        transport: Transport,
        ports: Ports,
        stored: PartStore | None,
        tell: Callable[[FromProcess], None],
        metrics: ProcessMetrics | None,
    ) -> None:
        self.attempt = attempt
        self._metrics = metrics
        self._deploy = deploy
        self._settings = settings
        self._graph = graph
        self._planned = planned
        self._transport = transport
        self._ports = ports
        self._stored = stored
        self._send = tell
        self._worker: Worker | None = None
        self._figures: PacedFigures | None = None
        self._registry = MetricsRegistry()
        self._changes = ChangeTracker(self._registry)
        self._checkpoints = None if stored is None else WorkerCheckpoints(stored, ports)
        self._answer: Probe | None = None
        """The answer to the coordinator's probe."""
        self._heard: list[FromCoordinator] = []
        """Messages that came while the worker was being made."""

    async def run(self) -> None:
        """Makes the worker and runs it until the task is cancelled; then lets go."""
        beating: asyncio.Task[None] | None = None
        deploy = self._deploy
        folder = None if deploy.work is None else Path(deploy.work, f"worker-{deploy.worker}")
        try:
            self._worker = worker = await self._made(folder)
            self._figures = PacedFigures(worker.figures, self._ports.clock)
            for message in self._heard:
                worker.hear(message)
            beating = asyncio.create_task(self._beat_on())
            await worker.run()
            await asyncio.get_running_loop().create_future()
        except Exception as error:  # noqa: BLE001 — raised by the coordinator
            self._send(Raised(error))
            await asyncio.get_running_loop().create_future()
        finally:
            if beating is not None:
                beating.cancel()
            self._send(LetGo(await self._closed()))

    def hear(self, message: FromCoordinator) -> None:
        """Takes in a message of the coordinator."""
        match message:
            case Inject() if self._checkpoints is not None:
                self._checkpoints.begin(message.epoch, message.generation, link=message.link)
            case Settled() if self._checkpoints is not None:
                self._checkpoints.settled(published=message.published)
            case _:  # the worker's alone
                ...
        if self._worker is None:
            self._heard.append(message)
        else:
            self._worker.hear(message)

    # Making the worker.

    async def _made(self, folder: Path | None) -> Worker:
        deploy, settings = self._deploy, self._settings
        manifest = None if deploy.manifest is None else decode_manifest(deploy.manifest)
        graph = self._graph if manifest is None else laid_out_as(self._graph, manifest)
        plan = self._planned(graph, settings)
        check_same(plan_text(plan), deploy.plan)
        if deploy.probe is not None and self._stored is not None:
            self._answer = await self._ports.state(self._answered, deploy.probe, self._stored.blobs)
        site = Site(
            Placement(plan, deploy.workers), deploy.worker, self.attempt, self._transport, deploy.addresses
        )
        memory = StateMemory(settings.memory_budget, keepers(plan, site))
        restored = None
        if manifest is not None:
            assert deploy.restore_place is not None
            restored = await self._ports.state(
                self._restored, manifest, deploy.restore_place, folder, memory, site
            )
        deployment = Deployment(
            plan,
            profile_for(settings.mode, settings, bounded=graph.bounded),
            settings,
            self._ports,
            self._registry,
            run=deploy.run,
            memory=memory,
            state_dir=folder,
            restored=restored,
            first_epoch=deploy.first_epoch,
            checkpointed=deploy.checkpointed,
            apart=True,
            site=site,
        )
        worker = Worker(
            deployment, tell=self._tell, keep=None if self._checkpoints is None else self._checkpoints.keep
        )
        try:
            await worker.build()
        except BaseException:
            await worker.close()
            await worker.release()
            raise
        return worker

    def _answered(self, probe: Probe, blobs: Blobs) -> Probe:
        """A probe in the place of the checkpoints, where the coordinator's has to be; blocks."""
        check_probe(blobs, self._graph.job, probe, host=platform.node())
        return lay_probe(blobs, self._graph.job, self._ports.random)

    def _restored(
        self, manifest: Manifest, place: str, folder: Path | None, memory: StateMemory, site: Site
    ) -> Restored:
        """The share of the subtasks here in a checkpoint; blocks."""
        mine = frozenset(site.placement.subtasks(site.worker))
        plan = site.placement.plan
        store = self._stored
        if store is None or place != self._settings.checkpoint_dir:
            store = part_store(place, self._graph.job, self._ports)
        wanted = needed_files(manifest, plan, mine, sealed=False)
        content = store.bring(manifest, None if folder is None else folder / "fetched", wanted)
        restored = Restored(content, self._settings.state_backend, folder, memory)
        try:
            restored.load(plan, mine, sealed=False)
        except BaseException:
            restored.close()
            raise
        return restored

    # Telling the coordinator.

    def _tell(self, message: FromWorker) -> None:
        if isinstance(message, Finished):
            self._beat()  # what it has counted is the last that is known of it
        self._send(Ready(self._answer) if isinstance(message, Ready) else message)

    async def _beat_on(self) -> None:
        while True:
            self._beat()
            await self._ports.clock.sleep(_EVERY)

    def _beat(self) -> None:
        if self._figures is not None:
            if self._metrics is not None:
                self._metrics.tell(self._registry.whole)
            self._send(Beat(self._figures(), self._changes.changes()))

    # The end.

    async def _closed(self) -> StreamflowError | None:
        """Ends everything; gives the first error of an operator that does not let itself be closed."""
        failure: StreamflowError | None = None
        try:
            if (worker := self._worker) is not None:
                worker.cancel()
                await worker.ended()
                failure = await worker.close()
                self._beat()
                await worker.release()
        except Exception as error:  # noqa: BLE001 — told, too: nobody may wait for a worker that has let go
            failure = failure or (error if isinstance(error, StreamflowError) else unforeseen(error))
        self._transport.forget(self.attempt)
        return failure


def part_store(place: str, job: str, ports: Ports) -> PartStore:
    """The checkpoints of a job in a place where the coordinator and other workers write, too."""
    blobs = open_blobs(place, ports.disk, exclusive=False)
    return PartStore(blobs, job, reach=ports.reach, each=ports.uploads.each)
