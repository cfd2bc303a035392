"""A worker: runs its subtasks, stores their parts of checkpoints, and tells the coordinator through messages alone."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from typing import Any, Final

from streamflow.errors import StateError, StreamflowError
from streamflow.observe.logs import reason, told
from streamflow.operators.contract.waiting import Waiting
from streamflow.runtime.assembly import Assembly
from streamflow.runtime.checkpoints.snapshots import SubtaskPart, SubtaskSnapshot
from streamflow.runtime.control.epochs import Sealed
from streamflow.runtime.control.messages import (
    Acknowledged,
    EpochWanted,
    Finished,
    Flush,
    Flushed,
    FromCoordinator,
    FromWorker,
    GaveUp,
    Hurry,
    Inject,
    Passed,
    Raised,
    Ready,
    Settled,
    SlowestOfAll,
    SplitGranted,
    SplitNews,
    Start,
    Stop,
)
from streamflow.runtime.deployment import Deployment
from streamflow.runtime.figures import Figures, SourceFigures, earliest_by_operator
from streamflow.runtime.waiting import Signal, all_of
from streamflow.time.timestamps import MAX_TIME

__all__ = ["Worker"]

_PATIENCE: Final = 1.0
"""Seconds for which a job that stops waits for records that have been read to be processed."""
_LOG: Final = logging.getLogger("streamflow.runtime")


class Worker:
    """Runs the subtasks of a deployment in this process, on this event loop.

    `tell` brings messages to the coordinator, `keep` stores a subtask's snapshot of an epoch; None: no checkpoints are
    taken.
    `build` and `run`, then `cancel`, `ended` and `close`, in that order. A worker is what its subtasks report to.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        tell: Callable[[FromWorker], None],
        keep: Callable[[int, SubtaskSnapshot], Awaitable[SubtaskPart]] | None,
    ) -> None:
        plan = deployment.plan
        self._deployment = deployment
        self._ports = deployment.ports
        self._tell = tell
        self._keep = keep
        self._timed = [task for task in plan.tasks if plan.timed(task.id)] or plan.tasks
        self._started = Signal()
        self._running: list[asyncio.Task[None]] = []
        self._beside: dict[asyncio.Task[None], None] = {}
        """Parts being stored and state being flushed, in the order of their beginning: simulations are repeatable."""
        self._epoch: int | None = None
        """The epoch in flight."""
        self._passed: dict[str, int] = {}
        self._has_room = True
        self._turned = asyncio.Event()
        """Set, and replaced, whenever an epoch begins or has been dealt with."""
        self._stop_asked_at: float | None = None
        self._parts = Assembly(deployment, self, tell)

    async def build(self) -> None:
        """Makes the subtasks; before everything else."""
        await self._parts.build()

    async def run(self) -> None:
        """Restores the subtasks, waits for `Start` and runs them to their end; what the first failing one raises is
        told."""
        try:
            await self._restore()
            self._tell(Ready())
            await self._started.wait()
            await self._parts.connect()
            self._running = [asyncio.create_task(loop.run()) for loop in self._parts.loops]
            pending = set(self._running)
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        except Exception as error:  # noqa: BLE001 — raised by the coordinator
            self._tell(Raised(error))

    def hear(self, message: FromCoordinator) -> None:  # noqa: C901 — a case for each message
        """Takes in a message of the coordinator."""
        match message:
            case SplitGranted():
                self._parts.shares[message.source][message.subtask].hear(message)
            case SplitNews():
                for share in self._parts.shares.get(message.source, {}).values():
                    share.hear(message)
            case SlowestOfAll():
                for limit in self._parts.limits.get(message.source, ()):
                    limit.hear(message)
            case Start():
                self._has_room = message.room
                self._started.set()
            case Flush():
                self._do_beside(self._flush())
            case Inject():
                self._epoch = message.epoch
                for source in self._parts.source_tasks:
                    source.inject(message.epoch, last=message.last)
                for task in self._parts.tasks:
                    task.begin(message.epoch)
                self._turn()
            case Settled():
                self._epoch, self._has_room = None, message.room
                self._turn()
            case Hurry():
                if self._stop_asked_at is None:
                    self._stop_asked_at = self._ports.clock.monotonic()
            case Stop():
                for source in self._parts.source_tasks:
                    source.stop(drain=message.drain)

    def figures(self, *, holds: bool) -> Figures:
        """The present figures of the subtasks. With `holds` also what their operators hold back, which may take long:
        0.2 s and more with 500,000 keys."""
        subtasks = self._parts.subtasks_of
        marks = {task: min(each.watermark for each in subtasks[task]) for task in subtasks}
        sources = {
            task: tuple(
                SourceFigures(
                    subtask.index, loop.held_back_by, loop.held_back_at, loop.watermark, loop.furthest
                )
                for subtask, loop in zip(subtasks[task], loops, strict=True)
            )
            for task, loops in self._parts.sources.items()
        }
        return Figures(
            min((marks[task.id] for task in self._timed if task.id in marks), default=MAX_TIME),
            marks,
            sources,
            {task: self._holds(task) for task in subtasks} if holds else {},
        )

    def _holds(self, task: str) -> tuple[tuple[str, Waiting], ...]:
        held = (entry for subtask in self._parts.subtasks_of[task] for entry in subtask.holds(task))
        found = [(id, each) for id, waiting in held for each in waiting]
        return earliest_by_operator(found)

    # Reports from subtasks.

    @property
    def checkpointing(self) -> bool:
        return self._keep is not None

    def acknowledge(
        self, subtask: str, epoch: int, sealed: Sealed, snapshot: SubtaskSnapshot | Exception | None
    ) -> None:
        self._passed[subtask] = epoch
        self._tell(Passed(subtask, epoch))
        if isinstance(snapshot, SubtaskSnapshot):
            self._do_beside(self._store(subtask, epoch, sealed, snapshot))
        else:
            self._tell(Acknowledged(subtask, epoch, sealed, failure=snapshot))

    def finish(self, subtask: str, sealed: Sealed, *, passed: int) -> None:
        self._tell(Finished(subtask, sealed, passed))

    def request_epoch(self) -> None:
        self._tell(EpochWanted())

    def hurries(self, seconds: float | None = None) -> bool:
        if self._stop_asked_at is None:
            return False
        left = self._ports.clock.monotonic() - self._stop_asked_at if seconds is None else seconds
        return left > _PATIENCE

    async def give_up(self, records: int) -> None:
        self._tell(GaveUp(records))
        if self.checkpointing:
            await asyncio.get_running_loop().create_future()

    async def settled(self, subtask: str) -> None:
        while self._epoch is not None and not self._awaited(subtask):
            await self._turned.wait()

    async def room(self, subtask: str) -> None:
        while not (self._has_room or self._awaited(subtask)):
            await self._turned.wait()

    def _awaited(self, subtask: str) -> bool:
        """Whether the barrier in flight has still to come through a subtask, which must go on until it has."""
        return self._epoch is not None and self._passed.get(subtask, 0) < self._epoch

    def _turn(self) -> None:
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

    async def _store(self, subtask: str, epoch: int, sealed: Sealed, snapshot: SubtaskSnapshot) -> None:
        assert self._keep is not None
        positions = None
        if snapshot.source is not None:
            source, state = snapshot.source
            positions = source, {s["id"]: s["position"] for s in state["splits"] if s["position"] is not None}
        try:
            part = await self._keep(epoch, snapshot)
        except (StateError, OSError) as error:
            self._tell(Acknowledged(subtask, epoch, sealed, failure=error))
        else:
            self._tell(Acknowledged(subtask, epoch, sealed, part, None, positions, snapshot.counts))

    async def _flush(self) -> None:
        await all_of(self._ports.state(backend.flush) for backend in self._parts.keyed)
        self._tell(Flushed())

    def _do_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs work beside everything else; its error fails the job."""
        task = asyncio.create_task(work)
        self._beside[task] = None
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._beside.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._tell(Raised(error))

    # Beginning and end.

    async def _restore(self) -> None:
        """Brings the operators to where the checkpoint was."""
        restored = self._deployment.restored
        if restored is not None:
            self._ports.reach("restore.opened")
            await self._ports.state(self._parts.restore)
            await self._ports.state(restored.close)

    def cancel(self) -> None:
        """Ends everything that runs."""
        for task in (*self._running, *self._beside):
            task.cancel()

    async def ended(self) -> None:
        """Waits for everything that has been cancelled."""
        await asyncio.gather(*self._running, *self._beside, return_exceptions=True)

    async def close(self) -> StreamflowError | None:
        """Closes what the subtasks hold; gives the first error of an operator that does not let itself be closed."""
        for source in self._parts.source_tasks:
            await source.close()
        unclosed: StreamflowError | None = None
        for subtask in self._parts.subtasks:
            try:
                await subtask.close()
            except StreamflowError as error:
                unclosed = unclosed or error
                _LOG.warning("not closed", extra=told(subtask=subtask.name, error=reason(error)))
        return unclosed

    async def release(self) -> None:
        """Closes the backends and removes their folder, after everything else has been closed; also if one of them
        cannot be closed, whose StateError is raised then. On a thread: hundreds of databases take seconds."""
        await self._ports.state(self._release)

    def _release(self) -> None:
        with ExitStack() as held:  # what was put in last goes first
            if self._deployment.state_dir is not None:
                held.callback(shutil.rmtree, self._deployment.state_dir, ignore_errors=True)
            if self._deployment.restored is not None:
                held.callback(self._deployment.restored.close)
            for backend in reversed(self._parts.backends):
                held.callback(backend.close)
