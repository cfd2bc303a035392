"""The worker: runs the subtasks of a physical plan to their end, drives epochs, publishes and commits them.

A runner decides where workers live; the worker knows nothing of that. Here one worker holds the whole plan. Per epoch:
barriers are injected at the sources; each subtask's part is stored while it goes on; when all of it is there the
checkpoint is published, and only then do sinks commit.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from streamflow.config import Settings
from streamflow.errors import JobFailedError, StateError, StreamflowError
from streamflow.graph.physical import PhysicalPlan
from streamflow.observe.logs import reason, told
from streamflow.observe.registry import MetricsRegistry
from streamflow.operators.contract.source import CheckpointListener, Position
from streamflow.runtime.assembly import Assembly, SourceParts
from streamflow.runtime.blame import blamed
from streamflow.runtime.checkpoints.restoring import Restored
from streamflow.runtime.checkpoints.sealed_files import nbytes
from streamflow.runtime.checkpoints.snapshots import SubtaskPart, SubtaskSnapshot
from streamflow.runtime.checkpoints.taking import Checkpoints
from streamflow.runtime.control.epochs import Complete, EpochCoordinator, Sealed
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import ExecutionProfile
from streamflow.runtime.task.source_loop import SourceTask
from streamflow.runtime.waiting import Signal, until
from streamflow.state.backends.state_memory import StateMemory
from streamflow.time.timestamps import MAX_TIME

__all__ = ["Worker"]


_FLUSHES: Final = 2
_NOTED: Final = 16
_PATIENCE: Final = 1.0
"""Seconds for which a job that stops waits for records that have been read to be processed."""
_LONGEST_PAUSE: Final = 1_000_000
"""Microseconds from an epoch that could not be stored to the next that only sinks or slices ask for."""
_LOG: Final = logging.getLogger("streamflow.runtime")


class Worker:
    """Runs a plan in this process, on this event loop; with `restored` it goes on from that checkpoint.

    `state_dir` is a folder of this run alone, removed at the end.
    """

    def __init__(
        self,
        plan: PhysicalPlan,
        profile: ExecutionProfile,
        settings: Settings,
        ports: Ports,
        registry: MetricsRegistry,
        *,
        run: str,
        memory: StateMemory,
        state_dir: Path | None = None,
        checkpoints: Checkpoints | None = None,
        restored: Restored | None = None,
        last_epoch: int = 0,
    ) -> None:
        self._plan = plan
        self._timed = [task for task in plan.tasks if plan.timed(task.id)] or plan.tasks
        self._profile = profile
        self._ports = ports
        self._state_dir = state_dir
        self._checkpoints = checkpoints
        self._registry = registry
        self._counts: dict[tuple[str, int], Any] = {}
        """What subtasks had counted at the barrier in flight."""
        self._restored = restored
        self._unfit: Sequence[str] = ()
        self._allow_dropped = settings.allow_dropped_state
        self._suspended = False
        self._closed = False
        self._news = Signal()
        self._epoch_asked = False
        self._last_asked = False
        self._last_epoch: int | None = None
        self.noted: dict[int, Mapping[str, Mapping[str, Any]]] = {}
        """What committers noted after each of the last epochs."""
        self._waiting_for_epoch: list[asyncio.Future[int]] = []
        self._promised: list[asyncio.Future[int]] = []
        self._completed: asyncio.Queue[Complete[SubtaskPart] | BaseException | None] = asyncio.Queue()
        """None: the job ends without the epoch in flight."""
        self._storing: set[asyncio.Task[None]] = set()
        self._positions: dict[int, dict[str, dict[str, Position]]] = {}
        self._turned = asyncio.Event()
        """Set, and replaced, whenever an epoch begins or has been dealt with."""
        self._stop_asked_at: float | None = None
        self.gave_up = False
        """Whether it stopped without waiting for what had been read: a function is slow."""
        self.unprocessed = 0
        """Records that had been read and were left out then, where no checkpoint says where to go on."""
        self._backlog = 0
        """Bytes of sealed output that wait for an epoch to be stored and committed."""
        self._most_backlog = settings.output_backlog
        self._pause = min(settings.checkpoint_interval, _LONGEST_PAUSE) / 1e6
        self._paused_until = 0.0
        self._passed: dict[str, int] = {}
        self._parts = Assembly(
            plan,
            profile,
            settings,
            ports,
            registry,
            self,
            run=run,
            state_dir=state_dir,
            memory=memory,
            restored=restored,
            first_epoch=last_epoch + 1,
        )
        self._parts.build()
        if checkpoints is not None:
            checkpoints.sinks = self._parts.committing.sinks
            checkpoints.notes = lambda: self._parts.committing.notes
        self._sealed, self._carried = self._left_over()
        self._backlog = nbytes(self._carried)
        self.coordinator: EpochCoordinator[SubtaskPart] = EpochCoordinator(
            (subtask.name for subtask in self._parts.subtasks),
            last_epoch=max(last_epoch, self._parts.epoch),
            sealed=self._carried,
        )

    async def run(self, started: Callable[[], None]) -> None:
        """Until every task has finished and everything is committed; raises what the first failing task raised.
        `started` is called once everything is where the checkpoint was."""
        needed: list[asyncio.Task[None]] = []
        beside: list[asyncio.Task[None]] = []
        try:
            await self._restore()
            started()
            beside = [
                asyncio.create_task(self._discover(source, parts))
                for source, parts in self._parts.readers.items()
            ]
            epochs = asyncio.create_task(self._drive_epochs())
            completions = asyncio.create_task(self._deal_with_epochs())
            needed = [*(asyncio.create_task(loop.run()) for loop in self._parts.loops), epochs, completions]
            pending = {*needed, *beside}
            while not all(task.done() for task in needed) and not self._suspended:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        except StreamflowError:
            raise
        except Exception as error:
            raise JobFailedError(
                f"{type(error).__name__}: {error}", hint="this is not expected: please report it"
            ) from error
        finally:
            unclosed = await self._close([*needed, *beside])
        if unclosed is not None:
            raise unclosed

    def stop(self, *, drain: bool, patient: bool = False) -> None:
        """Sources read no more; what is in flight is processed and committed. With checkpoints, and without `drain`, a
        last one is taken instead, from which the next run goes on. Work of slow functions is waited for if drained or
        `patient`; otherwise it is left out, and where there are checkpoints the last one is where the next run begins.
        """
        if not drain and not patient and self._stop_asked_at is None:
            self._stop_asked_at = self._ports.clock.monotonic()
        if self._checkpoints is not None and not drain:
            self._last_asked = True
            self.request_epoch()
            return
        for source in self._parts.source_tasks:
            source.stop(drain=drain)

    async def checkpoint(self) -> int:
        """End an epoch now; its number once it has been dealt with. StateError where its checkpoint failed."""
        if self._closed:
            raise StateError("the job is between two starts", hint="ask again when it runs")
        asked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting_for_epoch.append(asked)
        self.request_epoch()
        return await asked

    @property
    def sources(self) -> Mapping[str, list[SourceTask]]:
        """The source tasks of each task that reads."""
        return self._parts.sources

    @property
    def watermark(self) -> int:
        """The smallest watermark of all subtasks; those without event time count where no other has any."""
        marks = self.watermarks
        return min((marks[task.id] for task in self._timed), default=MAX_TIME)

    @property
    def watermarks(self) -> Mapping[str, int]:
        """The smallest watermark over the subtasks of each task."""
        subtasks = self._parts.subtasks_of
        return {task: min(each.watermark for each in subtasks[task]) for task in subtasks}

    # Reports from subtasks.

    @property
    def checkpointing(self) -> bool:
        return self._checkpoints is not None

    def acknowledge(
        self, subtask: str, epoch: int, sealed: Sealed, snapshot: SubtaskSnapshot | Exception | None
    ) -> None:
        self._passed[subtask] = epoch
        if isinstance(snapshot, SubtaskSnapshot):
            self._counts |= snapshot.counts
            self._beside(self._store(subtask, epoch, sealed, snapshot))
        else:
            self._note(self.coordinator.acknowledge(subtask, epoch, sealed, failure=snapshot))

    def finish(self, subtask: str, sealed: Sealed, *, passed: int) -> None:
        self._note(self.coordinator.finish(subtask, sealed, passed=passed))
        self._news.set()

    def request_epoch(self) -> None:
        self._epoch_asked = True
        self._news.set()

    def hurries(self, seconds: float | None = None) -> bool:
        if self._stop_asked_at is None:
            return False
        left = self._ports.clock.monotonic() - self._stop_asked_at if seconds is None else seconds
        return left > _PATIENCE

    async def give_up(self, records: int) -> None:
        self.gave_up = True
        self.unprocessed += records
        if self._checkpoints is not None:
            self._completed.put_nowait(None)
            await asyncio.get_running_loop().create_future()

    async def settled(self, subtask: str) -> None:
        while self.coordinator.in_flight and not self._awaited(subtask):
            await self._turned.wait()

    async def room(self, subtask: str) -> None:
        while self._backlog > self._most_backlog and not (
            self.coordinator.in_flight and self._awaited(subtask)
        ):
            await self._turned.wait()

    def _awaited(self, subtask: str) -> bool:
        """Whether the barrier in flight has still to come through a subtask, which must go on until it has."""
        return self._passed.get(subtask) != self.coordinator.epoch

    def _turn(self) -> None:
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

    async def _store(self, subtask: str, epoch: int, sealed: Sealed, snapshot: SubtaskSnapshot) -> None:
        assert self._checkpoints is not None
        if snapshot.source is not None:
            source, state = snapshot.source
            read = {s["id"]: s["position"] for s in state["splits"] if s["position"] is not None}
            self._positions.setdefault(epoch, {}).setdefault(source, {}).update(read)
        try:
            part = await self._checkpoints.keep(snapshot)
        except (StateError, OSError) as error:
            self._note(self.coordinator.acknowledge(subtask, epoch, sealed, failure=error))
        else:
            self._note(self.coordinator.acknowledge(subtask, epoch, sealed, part))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside everything else; what it raises fails the job."""
        task = asyncio.create_task(work)
        self._storing.add(task)
        task.add_done_callback(self._stored)

    def _stored(self, task: asyncio.Task[None]) -> None:
        self._storing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._completed.put_nowait(error)

    def _note(self, complete: Complete[SubtaskPart] | None) -> None:
        if complete is not None:
            self._completed.put_nowait(complete)

    # Epochs.

    async def _drive_epochs(self) -> None:
        """Begins an epoch when its time has come, or when it is asked for; one after the other."""
        interval = self._profile.epoch_interval
        clock = self._ports.clock
        due = None if interval is None else clock.monotonic() + interval / 1e6
        while not self.coordinator.finished and self._last_epoch is None:
            self._news.clear()
            wait = None if due is None else due - clock.monotonic()
            pause = self._paused_until - clock.monotonic()
            if self.coordinator.in_flight:
                await self._news.wait()
            elif pause > 0 and not (self._waiting_for_epoch or self._last_asked):
                await until([self._news.news], pause, clock)
            elif not self._epoch_asked and (wait is None or wait > 0):
                await until([self._news.news], wait, clock)
            else:
                await self._begin()
                due = None if interval is None else clock.monotonic() + interval / 1e6

    async def _begin(self) -> None:
        if self._checkpoints is not None:
            # What is written before the barrier need not be written at it. The second time takes what was written
            # during the first, which is little.
            for _ in range(_FLUSHES):
                await asyncio.gather(*(self._ports.state(each.flush) for each in self._parts.keyed))
        last = self._last_asked
        epoch = self.coordinator.begin()
        if epoch is None:
            return
        self._epoch_asked = False
        self._promised, self._waiting_for_epoch = [*self._promised, *self._waiting_for_epoch], []
        if self._checkpoints is not None:
            self._checkpoints.begin(epoch, {id: _waiting(parts) for id, parts in self._parts.readers.items()})
        if last:
            self._last_epoch = epoch
        for source in self._parts.source_tasks:
            source.inject(epoch, last=last)
        for task in self._parts.tasks:
            task.begin(epoch)
        self._turn()
        self._ports.reach("epoch.begun")

    async def _deal_with_epochs(self) -> None:
        """Publishes and commits epochs as they complete."""
        while not self.coordinator.over and not self._suspended:
            complete = await self._completed.get()
            if complete is None:
                self._suspended = True
                return
            if isinstance(complete, BaseException):
                raise complete
            following = await self._deal_with(complete)
            self._note(following)
            self._news.set()

    async def _deal_with(self, complete: Complete[SubtaskPart]) -> Complete[SubtaskPart] | None:
        if self._checkpoints is not None:
            # A subtask that has ended before has counted all that it ever will.
            self._checkpoints.counted(complete.epoch, {**self._registry.counts, **self._counts})
            self._counts = {}
        published = self._checkpoints is None or await self._checkpoints.publish(complete)
        carried: Sealed = complete.sealed
        if published:
            now, carried = self._parts.committing.divided(complete.sealed, final=complete.final)
            await self._parts.committing.commit(complete.epoch, now)
            self.noted[complete.epoch] = self._parts.committing.notes
            self.noted.pop(complete.epoch - _NOTED, None)
        else:
            # The store may be away: sinks that hold much would ask for the next epoch at once.
            self._paused_until = self._ports.clock.monotonic() + self._pause
        promised, self._promised = self._promised, []
        for asked in promised:
            if not asked.done() and published:
                asked.set_result(complete.epoch)
            elif not asked.done():
                asked.set_exception(_failed(complete))
        if self._checkpoints is not None and published:
            await self._checkpoints.retain()
            await self._tell_sources(complete.epoch)
        self._suspended = complete.epoch == self._last_epoch
        if self._suspended and not published:
            raise _failed(complete)
        following = self.coordinator.done(carried=carried)
        self._backlog = nbytes(carried)
        self._turn()
        return following

    async def _tell_sources(self, epoch: int) -> None:
        """Sources that want to know hear how far the checkpoint has come."""
        positions_of = self._positions.pop(epoch, {})
        self._positions = {later: each for later, each in self._positions.items() if later > epoch}
        for source, positions in positions_of.items():
            enumerator = self._parts.readers[source].enumerator
            if isinstance(enumerator, CheckpointListener):
                try:
                    await enumerator.checkpointed(positions)
                except StreamflowError as error:
                    facts = told(source=source, number=epoch, error=reason(error))
                    _LOG.warning("source was not told of checkpoint", extra=facts)

    # Beginning and end.

    def _left_over(self) -> tuple[Sealed, Sealed]:
        """What the checkpoint had sealed: what is to be committed at once, and what only with a later epoch."""
        restored = self._restored
        if restored is None:
            return (), ()
        sealed, self._unfit = self._parts.committing.fitting(restored.sealed, restored.sinks)
        return self._parts.committing.divided(sealed, final=restored.manifest.finished)

    async def _restore(self) -> None:
        """Bring operators and sinks to where the checkpoint was."""
        restored = self._restored
        if restored is None:
            await self._parts.committing.begin()
            return
        if self._unfit and not self._allow_dropped:
            was = ", ".join(f"{id} ({restored.sinks.get(id, ['a sink'])[0]})" for id in self._unfit)
            raise StateError(
                f"checkpoint {restored.epoch} has output of {was}, which may not be visible yet, and the job has no "
                "sink of that kind and place any more that would commit it",
                hint="sinks are numbered in the order of the program: run it as it was, take a savepoint (its "
                "output is visible) and restore that; or leave the output behind with allow_dropped_state",
            )
        self._ports.reach("restore.opened")
        await self._ports.state(self._parts.restore)
        await self._ports.state(restored.close)
        await self._parts.committing.restore(restored.epoch, self._sealed, self._carried)
        self._ports.reach("restore.committed")

    async def _discover(self, source: str, parts: SourceParts) -> None:
        while not parts.assigner.final:
            with blamed(source):
                discovery = await parts.enumerator.discover()
            parts.assigner.found(discovery)
            if discovery.splits:
                _LOG.info("splits found", extra=told(source=source, splits=len(discovery.splits)))

    async def _close(self, tasks: list[asyncio.Task[None]]) -> StreamflowError | None:
        """End everything; the first error of an operator that did not let itself be closed."""
        self._closed = True
        storing = list(self._storing)
        for task in (*tasks, *storing):
            task.cancel()
        await asyncio.gather(*tasks, *storing, return_exceptions=True)
        for asked in (*self._promised, *self._waiting_for_epoch):
            if not asked.done():
                asked.set_exception(StateError("the job has ended before the checkpoint was taken"))
        for source in self._parts.source_tasks:
            await source.close()
        unclosed: StreamflowError | None = None
        for subtask in self._parts.subtasks:
            try:
                await subtask.close()
            except StreamflowError as error:
                unclosed = unclosed or error
                _LOG.warning("not closed", extra=told(subtask=subtask.name, error=reason(error)))
        await self._parts.committing.close()
        for backend in self._parts.backends:
            backend.close()
        if self._restored is not None:
            self._restored.close()
        if self._state_dir is not None:
            shutil.rmtree(self._state_dir, ignore_errors=True)
        return unclosed


def _waiting(parts: SourceParts) -> Mapping[str, Any]:
    """What of a source no subtask has."""
    return {
        "splits": [state.as_values() for state in parts.assigner.pending],
        "final": parts.assigner.final,
        "enumerator": dict(parts.enumerator.snapshot()),
    }


def _failed(complete: Complete[SubtaskPart]) -> StateError:
    cause = f": {complete.failures[0]}" if complete.failures else ""
    return StateError(
        f"checkpoint {complete.epoch} could not be stored{cause}", hint="the checkpoint before it stands"
    )
