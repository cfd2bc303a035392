"""The common part of all subtasks, whatever feeds them: run the chain, hand on its output, end epochs, finish."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from streamflow.core.elements import (
    Active,
    AnyBatch,
    Barrier,
    End,
    EndOfInput,
    Idle,
    StreamElement,
    Watermark,
)
from streamflow.errors import StateError
from streamflow.graph.logical import Input
from streamflow.observe.registry import (
    Counted,
    Counts,
    OperatorMetrics,
    add_counted,
    counted_later,
    counts_of,
)
from streamflow.operators.contract.operator import MAIN
from streamflow.operators.contract.sink import Committable
from streamflow.operators.contract.waiting import Waiting
from streamflow.runtime.blame import blamed
from streamflow.runtime.checkpoints.snapshots import OperatorShare, SubtaskSnapshot
from streamflow.runtime.control.epochs import Sealed
from streamflow.runtime.exchange.outlet import Outlet
from streamflow.runtime.ports import Blocking
from streamflow.runtime.task.chain import Chain
from streamflow.runtime.task.metrics import TaskMetrics
from streamflow.runtime.task.turns import Turns
from streamflow.runtime.waiting import until
from streamflow.time.clock import Clock
from streamflow.time.effort import MANY, Effort
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

__all__ = ["Reports", "Subtask"]

T = TypeVar("T")
SourceState = tuple[str, Mapping[str, Any]]


class Reports(Protocol):
    """The receiver of a subtask's reports on its progress."""

    @property
    def checkpointing(self) -> bool:
        """Whether snapshots are wanted."""
        ...

    def acknowledge(
        self, subtask: str, epoch: int, sealed: Sealed, snapshot: SubtaskSnapshot | Exception | None
    ) -> None:
        """Takes a subtask's passing of a barrier, with its snapshot, or the reason for none, or None if none is
        wanted."""
        ...

    def finish(self, subtask: str, sealed: Sealed, *, passed: int) -> None:
        """Takes a subtask's end; the barrier of epoch `passed` was the last that it passed."""
        ...

    def request_epoch(self) -> None:
        """Asks for the end of the epoch: a source has read its slice, or a sink holds much."""
        ...

    async def room(self, subtask: str) -> None:
        """Waits while too much output waits to be stored and committed, unless a barrier has to come through."""
        ...

    def hurries(self, seconds: float | None = None) -> bool:
        """Whether the job is stopping and does not wait for work of so many seconds (None: of unknown duration)."""
        ...

    async def give_up(self, records: int) -> None:
        """Counts records that are left out; does not return if the job ends at its last checkpoint."""
        ...

    async def settled(self, subtask: str) -> None:
        """Waits until the epoch that this subtask has ended last is stored and committed everywhere, or has failed."""
        ...


class Subtask:
    """One parallel instance of a task."""

    def __init__(
        self,
        name: str,
        chain: Chain,
        outlets: Sequence[Outlet],
        *,
        reports: Reports,
        index: int,
        run_blocking: Blocking,
        io: Blocking,
        clock: Clock,
        turns: Turns,
        metrics: TaskMetrics,
        counted: Sequence[OperatorMetrics] = (),
        portions: bool = False,
        epoch: int = 0,
        reach: Callable[[str], None],
    ) -> None:
        self.name = name
        self.index = index
        self.chain = chain
        self.watermark = MIN_TIME
        self.waiting: Callable[[], int] = _nothing
        """The number of records that wait to be processed beside those handed over."""
        self.aligning: Callable[[], tuple[Waiting, ...]] = tuple
        """The barrier that has not come on all its inputs."""
        self._is_beside = False
        self.cut = False
        """Whether records have been left out because the job stops: their windows give no result."""
        self.end = End()
        """The event time at the end of the input."""
        self._portions = portions
        """Whether its functions may be slow."""
        self._outlets = list(outlets)
        self._reports = reports
        self._run_blocking = run_blocking
        self._clock = clock
        self._turns = turns
        self._io = io
        self._reach = reach
        self._records = Effort(clock)
        self._firing = Effort(clock)
        self._last_rows = 0
        """The rows of the last batch: a watermark's work is often about as much."""
        self._rows = 0
        """The rows since the last barrier."""
        self._timer_rows = 0
        """The rows since timers fired last."""
        self._idle = False
        """Whether Idle has to be sent downstream."""
        self._quiet = False
        """Whether Idle is the last that was sent downstream."""
        self._epoch = epoch
        self._metrics = metrics
        self._counted = list(counted)
        """The metrics of all its operators and sinks."""

    async def process(self, batch: AnyBatch, port: int = 0) -> None:
        """Runs a batch through the chain; a large one beside the event loop, which keeps answering."""
        self._count(len(batch))
        if self.chain.head is None:
            await self._in_portions(batch, self.chain.process, port)
        else:
            # Work that it begins belongs to the event loop.
            self.chain.process(batch, port)
        await self._hand_on()

    async def settle(self) -> None:
        """Hands on results of the head's requests, and waits until it takes another batch."""
        await self.collect()
        while (head := self.chain.head) is not None and not head.accepting:
            if (pending := head.pending) is not None:
                await pending
            await self.collect()

    async def collect(self) -> None:
        """Hands on results of the head's requests."""
        while self.chain.head is not None:
            self.chain.collect()
            if not await self._hand_on():
                break
        if self._idle and not self.busy:
            self._idle, self._quiet = False, True
            await self.broadcast(Idle())

    async def take_turn(self) -> None:
        """Waits for a turn at the event loop, before work on what is already there."""
        await self._turns.take()

    async def deliver(self, output: Input, batch: AnyBatch) -> None:
        """Hands on output of operators that ran in the read-ahead."""
        self._count(len(batch))
        if output.output == MAIN:
            await self._in_portions(batch, partial(self.chain.deliver, output))
        else:
            await self._work(self._records, len(batch), self.chain.deliver, output, batch)
        await self._hand_on()

    async def advance(self, time: int) -> None:
        """Takes event time `time`: all triggered output goes out first, the watermark after it."""
        if time <= self.watermark or self.cut:
            return
        self.watermark = time
        self._metrics.watermark(time)
        if time == MAX_TIME:
            self.chain.ends(self.end)
        await self.awake()
        await self._forward(time)
        await self._hand_on()

    async def idle(self) -> None:
        """Notes that no input holds anything back, and sends that downstream once no request is under way."""
        self._idle = True
        await self.settle()

    async def awake(self) -> None:
        """Notes that an input sends, or has returned from idleness, and sends that downstream, even if it changes
        nothing there."""
        self._idle = False
        if self._quiet:
            self._quiet = False
            await self.broadcast(Active())

    async def end_epoch(self, epoch: int, source: SourceState | None = None) -> None:
        """Ends the epoch after a barrier (aligned, or injected with the `source`'s positions): passes the barrier
        on, seals the sinks and takes the snapshot. Slow storing comes later."""
        started = self._clock.monotonic()
        self._reach("subtask.aligned")
        self._epoch = epoch
        await self._work(self._firing, self._rows, self.chain.end_epoch, epoch)
        await self._hand_on()
        await self.broadcast(Barrier(epoch))
        sealed = await self._seal(epoch)
        counts = {each.at: counts_of(each) for each in self._counted}
        snapshot: SubtaskSnapshot | Exception | None = None
        if self._reports.checkpointing:
            try:
                snapshot = await self._snapshot(epoch, source, counts)
            except (StateError, OSError) as error:
                snapshot = error
            self._reach("subtask.snapshotted")
        self._rows = 0
        self._metrics.paused(self._clock.monotonic() - started)
        self._reports.acknowledge(self.name, epoch, sealed, snapshot)

    async def finish(self, *, drained: bool) -> None:
        """Ends the input: it has ended, or the job was stopped before its end (open windows then give no result)."""
        if drained:
            await self._work(self._firing, MANY, self.chain.finish)
            await self.flush()
        sealed = await self._seal(self._epoch + 1)
        await self.broadcast(EndOfInput(drained))
        self._reports.finish(self.name, sealed, passed=self._epoch)

    @property
    def busy(self) -> bool:
        """Whether requests of the head are under way."""
        return self.chain.head is not None and self.chain.head.pending is not None

    @property
    def checkpointing(self) -> bool:
        """Whether requests under way are kept in checkpoints."""
        return self._reports.checkpointing

    @property
    def epoch(self) -> int:
        """The epoch whose barrier it has passed last."""
        return self._epoch

    async def fire_timers(self) -> None:
        """Lets operators go on whose moment in processing time has come."""
        if not self.chain.timed or await self._given_up(0):
            return
        due, now = self.chain.next_processing_time, self._clock.now()
        if due is not None and due <= now:
            idle = self._quiet
            await self.awake()
            rows, self._timer_rows = self._timer_rows, 0
            await self._work(self._firing, rows, self.chain.processing_time, now)
            await self._hand_on()
            if idle:
                await self.idle()

    def until_timer(self) -> float | None:
        """Seconds until the next moment in processing time that an operator waits for."""
        due = self.chain.next_processing_time if self.chain.timed else None
        return None if due is None else max(0.0, (due - self._clock.now()) / 1e6)

    async def wait(self, news: asyncio.Future[Any]) -> None:
        """Waits for news, output of the head, or a due timer."""
        pending = None if self.chain.head is None else self.chain.head.pending
        await until([news] if pending is None else [news, pending], self.until_timer(), self._clock)

    async def flush(self) -> None:
        """Hands on the operators' output, waiting for room."""
        started = self._clock.monotonic()
        self._metrics.waits()
        for outlet in self._outlets:
            await outlet.flush()
        self._metrics.backpressured(self._clock.monotonic() - started)

    async def broadcast(self, element: StreamElement) -> None:
        """Sends an element to every outlet."""
        for outlet in self._outlets:
            await outlet.send(element)

    async def close(self) -> None:
        """Closes operators and writers."""
        try:
            self.chain.close()
            await self.chain.released()
        finally:
            for outlet in self._outlets:
                await outlet.close()

    async def _hand_on(self) -> bool:
        """Hands on the operators' output, and then the watermarks that they have moved by themselves; returns whether
        there was one."""
        await self.flush()
        moved = False
        while (own := self.chain.moved()) is not None:
            moved = True
            position, time = own
            await self._forward(time, behind=position)
        return moved

    async def _forward(self, time: int, *, behind: int | None = None) -> None:
        """Runs a watermark through the chain (behind the operator that gives it, if one does) and hands it on."""
        of_input = behind is None
        if self.chain.head is not None and behind is None:
            # The head belongs to the event loop; what a watermark triggers behind it may take long.
            waited = self.chain.watermark_at_head(time)
            if waited is None:
                return
            time, behind = waited, 0
        # Open windows fire at the end.
        rows = MANY if time == MAX_TIME else max(self._last_rows, self.chain.work_at(time, behind))
        while (forwarded := await self._work(self._firing, rows, self.chain.watermark, time, behind)) is None:
            await self.flush()
            if await self._given_up(0):
                return
            rows = MANY
        await self.flush()
        marks = dict(forwarded)
        for outlet in self._outlets:
            # Operators that have already run where the data was read pass on the input's watermark.
            read_before = of_input and outlet.reads.node not in self.chain.nodes
            mark = marks.get(outlet.reads.node, time if read_before else None)
            if mark is not None:
                await outlet.send(Watermark(mark, self.end if mark == MAX_TIME else None))

    async def _snapshot(self, epoch: int, source: SourceState | None, counts: Counts) -> SubtaskSnapshot:
        shares: list[OperatorShare] = []
        for link in self.chain.stateful:
            assert link.logic is not None
            assert link.keyed is not None
            keyed = link.keyed
            with blamed(link.id):
                on_loop = link.logic is self.chain.head
                snapshot = (
                    link.logic.snapshot()
                    if on_loop
                    else await self._work(self._firing, self._rows, link.logic.snapshot)
                )
                saved = await self._io(keyed.backend.save, keyed.folder / f"epoch-{epoch}")
            shares.append(OperatorShare(link.id, keyed.groups, snapshot, saved))
        return SubtaskSnapshot(self.index, shares, source, counts)

    def holds(self, task: str) -> list[tuple[str, tuple[Waiting, ...]]]:
        """The next results that each operator of the task holds back (nothing is known while they work beside the
        event loop), the steps that sinks have been at for long, and, under the task's name, the barrier that it waits
        for."""
        held = [] if self._is_beside else self.chain.waiting()
        sinks = [(id, (waiting,)) for outlet in self._outlets for id, waiting in outlet.waiting()]
        return [*held, *sinks, (task, self.aligning())]

    async def _seal(self, epoch: int) -> list[tuple[str, Committable]]:
        return [entry for outlet in self._outlets for entry in await outlet.seal(epoch)]

    async def _in_portions(self, batch: AnyBatch, take: Callable[..., None], *args: Any) -> None:
        """Gives a batch to the chain: in portions between which the job may stop, if its functions may be slow."""
        done, total = 0, len(batch)
        if not self._portions or not total:
            await self._work(self._records, total, take, batch, *args)
            return
        while done < total and not self.cut:
            if await self._given_up(total - done, self._records.seconds(total - done + self.waiting())):
                return
            stop = min(total, done + self._records.portion)
            part = batch if stop - done == total else batch.part(done, stop)
            await self._work(self._records, stop - done, take, part, *args)
            done = stop
            if done < total:
                await self.flush()

    async def _given_up(self, records: int, seconds: float | None = None) -> bool:
        if not self._reports.hurries(seconds):
            return False
        await self._give_up(records)
        return True

    async def _give_up(self, records: int) -> None:
        self.cut = True
        await self._reports.give_up(records)

    def _count(self, rows: int) -> None:
        self._last_rows = rows
        self._rows += rows
        self._timer_rows += rows

    async def _work(self, effort: Effort, rows: int, function: Callable[..., T], *args: Any) -> T:
        """Calls the chain, which is about to work on so many rows; beside the event loop if that takes long."""
        started = self._clock.monotonic()
        self._metrics.works()
        if effort.large(rows):
            result: T = await self._beside(effort.run, rows, function, *args)
        else:
            result = effort.run(rows, function, *args)
        self._metrics.busy(self._clock.monotonic() - started)
        if self.chain.cut and not self.cut:
            await self._give_up(self.chain.left)
        return result

    async def _beside(self, function: Callable[..., T], *args: Any) -> T:
        """Calls a function on a thread. A cancelled caller does not wait for its end: its later counts, when the
        next run may have begun to count, are lost."""
        counted: Counted = []
        self._is_beside = True

        def counting() -> T:
            with counted_later(counted):
                return function(*args)

        try:
            result: T = await self._run_blocking(counting)
        except asyncio.CancelledError:
            counted = []
            raise
        finally:
            self._is_beside = False
            add_counted(counted)
        return result


def _nothing() -> int:
    return 0
