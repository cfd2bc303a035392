"""The coordinator of one attempt at running a job: hands out splits, drives epochs, publishes and commits them.

It speaks to workers, which run the subtasks, through messages alone. Per epoch: barriers are injected at the sources;
each subtask stores its part while it goes on; when all parts are there the checkpoint is published, and only then do
sinks commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from streamflow.errors import StateError, StreamflowError
from streamflow.observe.logs import reason, told
from streamflow.operators.contract.source import CheckpointListener, Position
from streamflow.operators.contract.waiting import Waiting
from streamflow.runtime.checkpoints.committing import Committing
from streamflow.runtime.checkpoints.sealed_files import nbytes
from streamflow.runtime.checkpoints.snapshots import SubtaskPart
from streamflow.runtime.checkpoints.taking import Checkpoints
from streamflow.runtime.control.epochs import Complete, EpochCoordinator, Sealed
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
    Slowest,
    SplitEnded,
    SplitWanted,
    Start,
    Started,
    Stop,
)
from streamflow.runtime.control.split_alignment import SplitAlignment
from streamflow.runtime.deployment import Deployment
from streamflow.runtime.split_discovery import SplitDiscovery
from streamflow.runtime.waiting import Signal, until

__all__ = ["Coordinator"]

_FLUSHES: Final = 2
_NOTED: Final = 16
_LONGEST_PAUSE: Final = 1_000_000
"""Microseconds from an epoch that could not be stored to the next that only sinks or slices ask for."""
_LOG: Final = logging.getLogger("streamflow.runtime")


class Coordinator:
    """Coordinates one attempt. `join` the workers, then `run`; `cancel`, `ended` and `close` end it, in that order.

    Everything runs on the event loop. `hear` may be called from within `tell`: a worker in this process answers at
    once.
    """

    def __init__(self, deployment: Deployment, checkpoints: Checkpoints | None) -> None:
        plan, settings = deployment.plan, deployment.settings
        self._deployment = deployment
        self._profile = deployment.profile
        self._ports = deployment.ports
        self._checkpoints = checkpoints
        self._tell: Callable[[FromCoordinator], None] = _nobody
        self._sources: dict[str, SplitDiscovery] = {}
        self._aligned: dict[str, SplitAlignment] = {}
        for sources in plan.aligned_sources():
            self._aligned |= dict.fromkeys(sources, SplitAlignment(sources))
        self._reading: dict[str, tuple[str, int]] = {}
        """The source and the number of each subtask that reads, by the subtask's name."""
        self._committing = Committing(deployment.profile, self._ports.reach, self._ports.clock)
        for task in plan.tasks:
            if task.source is not None:
                self._sources[task.source.id] = SplitDiscovery.of(deployment, task)
                self._reading |= {f"{task.id}-{n}": (task.source.id, n) for n in range(task.parallelism)}
            for sink in task.sinks:
                self._committing.add(sink.id, sink.sink, deployment.sink_context(sink, task, 0))
        if checkpoints is not None:
            checkpoints.sinks = self._committing.sinks
            checkpoints.notes = lambda: self._committing.notes
        self._unfit: Sequence[str] = ()
        self._sealed, self._carried = self._left_over()
        self._backlog = nbytes(self._carried)
        """Bytes of sealed output that wait for an epoch to be stored and committed."""
        self._most_backlog = settings.output_backlog
        self._epochs: EpochCoordinator[SubtaskPart] = EpochCoordinator(
            (f"{task.id}-{n}" for task in plan.tasks for n in range(task.parallelism)),
            last_epoch=max(deployment.first_epoch - 1, deployment.epoch),
            sealed=self._carried,
        )
        self._counts: dict[tuple[str, int], Any] = {}
        """Records that subtasks had counted at the barrier in flight."""
        self._positions: dict[int, dict[str, dict[str, Position]]] = {}
        self._ready = _Gathering()
        self._flushed = _Gathering()
        self._raised: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._news = Signal()
        self._epoch_asked = False
        self._last_asked = False
        self._last_epoch: int | None = None
        self._waiting_for_epoch: list[asyncio.Future[int]] = []
        self._promised: list[asyncio.Future[int]] = []
        self._completed: asyncio.Queue[Complete[SubtaskPart] | None] = asyncio.Queue()
        """None: the job ends without the epoch in flight."""
        self._pause = min(settings.checkpoint_interval, _LONGEST_PAUSE) / 1e6
        self._paused_until = 0.0
        self._suspended = False
        self._closed = False
        self.noted: dict[int, Mapping[str, Mapping[str, Any]]] = {}
        """The committers' notes after each of the last epochs."""
        self.gave_up = False
        """Whether the job stopped without waiting for what had been read: a function is slow."""
        self.unprocessed = 0
        """The number of records that had been read and were left out then, if no checkpoint has their positions."""

    def join(self, tell: Callable[[FromCoordinator], None], workers: int = 1) -> None:
        """Takes on so many workers, to which `tell` brings messages: the answer about a split to the worker of its
        subtask, every other message to all."""
        self._tell = tell
        self._ready.expect(workers)
        self._flushed.expect(workers)
        for source in self._sources.values():
            tell(source.grants.news)

    def hear(self, message: FromWorker) -> None:  # noqa: C901 — a case for each message
        """Takes in a worker's message."""
        match message:
            case SplitWanted():
                self._answer(self._sources[message.source].grants.wanted(message))
                self._tell_news(message.source)
            case SplitEnded():
                self._sources[message.source].assigner.ended(message.split)
            case Started():
                self._sources[message.source].assigner.started()
                self._tell_news(message.source)
            case Slowest():
                for slowest in self._aligned[message.source].report(message):
                    self._tell(slowest)
            case Passed():
                self._let_read(message.subtask)
            case Acknowledged():
                self._take_part(message)
            case Finished():
                self._let_read(message.subtask)
                self._note(self._epochs.finish(message.subtask, message.sealed, passed=message.passed))
                self._news.set()
            case EpochWanted():
                self._request_epoch()
            case Ready():
                self._ready.come()
            case Flushed():
                self._flushed.come()
            case GaveUp():
                self.gave_up = True
                self.unprocessed += message.records
                if self._checkpoints is not None:
                    self._completed.put_nowait(None)
            case Raised():
                if not self._raised.done():
                    self._raised.set_result(message.error)

    async def run(self, started: Callable[[], None]) -> None:
        """Runs until every subtask has finished and everything is committed; raises the error of the first that fails.
        `started` is called once everything is as it was in the checkpoint."""
        self._check_fit()
        first: list[asyncio.Future[Any]] = [self._ready.all_there, self._raised]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        self._raise()
        await self._begin_output()
        started()
        beside = [asyncio.create_task(self._discover(source)) for source in self._sources.values()]
        needed = [asyncio.create_task(self._drive_epochs()), asyncio.create_task(self._deal_with_epochs())]
        self._tasks = [*beside, *needed]
        self._tell(Start(self._has_room))
        pending: set[asyncio.Future[Any]] = {*self._tasks, self._raised}
        while not all(task.done() for task in needed) and not self._suspended:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            self._raise()
            for task in done:
                task.result()

    def stop(self, *, drain: bool, patient: bool = False) -> None:
        """Stops reading; what is in flight is processed and committed. With checkpoints, and without `drain`, a last
        one is taken instead, from which the next run goes on. Work of slow functions is waited for if drained or
        `patient`; otherwise it is left out, and where there are checkpoints the last one is where the next run begins.
        """
        if self._closed:  # the workers may have the next attempt
            return
        if not drain and not patient:
            self._tell(Hurry())
        if self._checkpoints is None or drain:
            self._tell(Stop(drain))
        else:
            self._last_asked = True
            self._request_epoch()

    async def checkpoint(self) -> int:
        """Ends an epoch now; gives its number once it has been dealt with. Raises StateError if its checkpoint
        failed."""
        if self._closed:
            raise StateError("the job is between two starts", hint="ask again when it runs")
        asked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting_for_epoch.append(asked)
        self._request_epoch()
        return await asked

    @property
    def epoch(self) -> int:
        """The number of the last epoch that has begun."""
        return self._epochs.epoch

    @property
    def suspended(self) -> bool:
        """Whether the attempt has ended before its input: the next one may go on."""
        return self._suspended

    @property
    def awaited(self) -> list[str]:
        """The subtasks that are waited for: see `EpochCoordinator.awaited`."""
        return self._epochs.awaited

    def cancel(self) -> None:
        """Ends the coordinator's own tasks."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> None:
        """Waits for those tasks, and refuses the checkpoints that were asked for."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for asked in (*self._promised, *self._waiting_for_epoch):
            if not asked.done():
                ended = StateError(
                    "the job has ended or failed before the checkpoint was taken",
                    hint="if it starts again, ask again when it runs",
                )
                asked.set_exception(ended)

    @property
    def committing(self) -> list[tuple[str, Waiting]]:
        """The commit that has been under way for long, by its sink."""
        return self._committing.waiting

    async def close(self) -> None:
        """Closes the committers, after every writer has been closed."""
        await self._committing.close()

    # Splits.

    async def _discover(self, source: SplitDiscovery) -> None:
        while not source.assigner.final:
            await source.look()
            self._tell_news(source.source)

    def _let_read(self, subtask: str) -> None:
        """A subtask has passed its barrier, or has ended: if it reads, it may be granted splits again."""
        reading = self._reading.get(subtask)
        if reading is not None:
            source, number = reading
            self._answer(self._sources[source].grants.passed(number))
            self._tell_news(source)

    def _tell_news(self, source: str) -> None:
        self._answer(self._sources[source].grants.untold())

    def _answer(self, message: FromCoordinator | None) -> None:
        if message is not None:
            self._tell(message)

    # Epochs.

    @property
    def _has_room(self) -> bool:
        return self._backlog <= self._most_backlog

    def _request_epoch(self) -> None:
        self._epoch_asked = True
        self._news.set()

    def _take_part(self, acknowledged: Acknowledged) -> None:
        """Notes a subtask's part of the epoch in flight."""
        message = acknowledged
        self._counts |= message.counts
        if message.positions is not None:
            source, positions = message.positions
            self._positions.setdefault(message.epoch, {}).setdefault(source, {}).update(positions)
        self._note(
            self._epochs.acknowledge(
                message.subtask, message.epoch, message.sealed, message.part, failure=message.failure
            )
        )

    def _note(self, complete: Complete[SubtaskPart] | None) -> None:
        if complete is not None:
            self._completed.put_nowait(complete)

    async def _drive_epochs(self) -> None:
        """Begins an epoch when its time has come, or when it is asked for; one after the other."""
        interval = self._profile.epoch_interval
        clock = self._ports.clock
        due = None if interval is None else clock.monotonic() + interval / 1e6
        while not self._epochs.finished and self._last_epoch is None:
            self._news.clear()
            wait = None if due is None else due - clock.monotonic()
            pause = self._paused_until - clock.monotonic()
            if self._epochs.in_flight:
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
            # Content written before the barrier need not be written at it. The second time writes the changes made
            # during the first, which are few.
            for _ in range(_FLUSHES):
                self._flushed.expect()
                self._tell(Flush())
                await self._flushed.all_there
        last = self._last_asked
        epoch = self._epochs.begin()
        if epoch is None:
            return
        self._epoch_asked = False
        self._promised, self._waiting_for_epoch = [*self._promised, *self._waiting_for_epoch], []
        if self._checkpoints is not None:
            self._checkpoints.begin(epoch, {id: source.waiting for id, source in self._sources.items()})
        if last:
            self._last_epoch = epoch
        for subtask in self._epochs.awaited:
            if subtask in self._reading:
                source, number = self._reading[subtask]
                self._sources[source].grants.inject([number])
        self._tell(Inject(epoch, last))
        self._ports.reach("epoch.begun")

    async def _deal_with_epochs(self) -> None:
        """Publishes and commits epochs as they complete."""
        while not self._epochs.over and not self._suspended:
            complete = await self._completed.get()
            if complete is None:
                self._suspended = True
                return
            following = await self._deal_with(complete)
            self._note(following)
            self._news.set()

    async def _deal_with(self, complete: Complete[SubtaskPart]) -> Complete[SubtaskPart] | None:
        if self._checkpoints is not None:
            # A subtask that has ended before has counted all that it ever will.
            counts = {**self._deployment.registry.counts, **self._counts}
            self._checkpoints.counted(complete.epoch, counts)
            self._counts = {}
        published = self._checkpoints is None or await self._checkpoints.publish(complete)
        carried: Sealed = complete.sealed
        if published:
            now, carried = self._committing.divided(complete.sealed, final=complete.final)
            await self._committing.commit(complete.epoch, now)
            self.noted[complete.epoch] = self._committing.notes
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
        following = self._epochs.done(carried=carried)
        self._backlog = nbytes(carried)
        self._tell(Settled(self._has_room, published=published and self._checkpoints is not None))
        return following

    async def _tell_sources(self, epoch: int) -> None:
        """Sources that want to know are told how far the checkpoint has come."""
        positions_of = self._positions.pop(epoch, {})
        self._positions = {later: each for later, each in self._positions.items() if later > epoch}
        for source, positions in positions_of.items():
            enumerator = self._sources[source].enumerator
            if isinstance(enumerator, CheckpointListener):
                try:
                    await enumerator.checkpointed(positions)
                except StreamflowError as error:
                    facts = told(source=source, number=epoch, error=reason(error))
                    _LOG.warning("source was not told of checkpoint", extra=facts)

    # The beginning.

    def _left_over(self) -> tuple[Sealed, Sealed]:
        """The output that the checkpoint had sealed: the part to commit at once, and the part to commit with a later
        epoch."""
        restored = self._deployment.restored
        if restored is None:
            return (), ()
        sealed, self._unfit = self._committing.fitting(restored.sealed, restored.sinks)
        return self._committing.divided(sealed, final=restored.manifest.finished)

    def _check_fit(self) -> None:
        """Raises StateError for sealed output that no sink would commit."""
        restored = self._deployment.restored
        if restored is None or not self._unfit or self._deployment.settings.allow_dropped_state:
            return
        was = ", ".join(f"{id} ({restored.sinks.get(id, ['a sink'])[0]})" for id in self._unfit)
        raise StateError(
            f"checkpoint {restored.epoch} has output of {was}, which may not be visible yet, and the job has no "
            "sink of that kind and place any more that would commit it",
            hint="sinks are numbered in the order of the program: run it as it was, take a savepoint (its "
            "output is visible) and restore that; or leave the output behind with allow_dropped_state",
        )

    async def _begin_output(self) -> None:
        """Brings the sinks to where the checkpoint was, or to their beginning."""
        restored = self._deployment.restored
        if restored is None:
            await self._committing.begin()
        else:
            await self._committing.restore(restored.epoch, self._sealed, self._carried)
            self._ports.reach("restore.committed")

    def _raise(self) -> None:
        if self._raised.done():
            raise cast("Exception", self._raised.result())


class _Gathering:
    """A gathering of one word from each worker."""

    def __init__(self) -> None:
        self._workers = 0
        self._awaited = 0
        self._there = Signal()

    def expect(self, workers: int | None = None) -> None:
        """Expects a word from each of so many workers, None: as many as before."""
        self._workers = self._awaited = self._workers if workers is None else workers
        self._there.clear()

    def come(self) -> None:
        """Notes the word of one more."""
        self._awaited -= 1
        if self._awaited == 0:
            self._there.set()

    @property
    def all_there(self) -> asyncio.Future[None]:
        """A future that is done once all have given their word."""
        return self._there.news


def _nobody(message: FromCoordinator) -> None:
    """Does nothing: no worker has joined yet."""


def _failed(complete: Complete[SubtaskPart]) -> StateError:
    cause = f": {complete.failures[0]}" if complete.failures else ""
    return StateError(
        f"checkpoint {complete.epoch} could not be stored{cause}", hint="the checkpoint before it stands"
    )
