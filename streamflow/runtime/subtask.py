"""What every subtask does, whatever feeds it: run its chain, hand on what comes out, end epochs, finish."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from streamflow.errors import StateError
from streamflow.operators.sink import Committable
from streamflow.records.elements import AnyBatch, Barrier, EndOfInput, Idle, StreamElement, Watermark
from streamflow.runtime.blame import blamed
from streamflow.runtime.chain import Chain
from streamflow.runtime.epochs import Sealed
from streamflow.runtime.outlet import Outlet
from streamflow.runtime.ports import Blocking
from streamflow.runtime.snapshots import OperatorShare, SubtaskSnapshot
from streamflow.runtime.task_metrics import TaskMetrics
from streamflow.runtime.waiting import until
from streamflow.time.clock import Clock
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

__all__ = ["Reports", "Subtask"]

T = TypeVar("T")
SourceState = tuple[str, Mapping[str, Any]]

_THREAD_ROWS = 8_192


class Reports(Protocol):
    """Whom subtasks tell how far they are."""

    @property
    def checkpointing(self) -> bool:
        """Whether snapshots are wanted."""
        ...

    def acknowledge(
        self, subtask: str, epoch: int, sealed: Sealed, snapshot: SubtaskSnapshot | Exception | None
    ) -> None:
        """A subtask has passed a barrier; its snapshot, or why there is none, or None where none is wanted."""
        ...

    def finish(self, subtask: str, sealed: Sealed, *, passed: int) -> None:
        """A subtask has come to its end; the barrier of epoch `passed` was the last that it passed."""
        ...

    def request_epoch(self) -> None:
        """A source has read its slice, or a sink holds much: end the epoch."""
        ...

    async def settled(self, subtask: str) -> None:
        """Wait until the epoch that this subtask has ended last is stored and committed everywhere, or has failed."""
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
        metrics: TaskMetrics,
        epoch: int = 0,
        reach: Callable[[str], None],
    ) -> None:
        self.name = name
        self.index = index
        self.chain = chain
        self.watermark = MIN_TIME
        self._outlets = list(outlets)
        self._reports = reports
        self._run_blocking = run_blocking
        self._clock = clock
        self._io = io
        self._reach = reach
        self._large = False
        self._idle = False
        """Whether Idle is to be said downstream."""
        self._epoch = epoch
        self._metrics = metrics

    async def process(self, batch: AnyBatch, port: int = 0) -> None:
        """Run a batch through the chain; a large one beside the event loop, which keeps answering."""
        self.expect(len(batch))
        self._idle = False
        if self.chain.head is None:
            await self._work(self.chain.process, batch, port)
        else:
            # What it begins belongs to the event loop.
            self.chain.process(batch, port)
        await self.flush()

    async def settle(self) -> None:
        """Hand on what requests of the head have brought, and wait until it takes another batch."""
        head = self.chain.head
        while head is not None:
            passed = self.chain.collect()
            await self.flush()
            if passed is not None:
                await self._forward(passed, passed=True)
            elif head.accepting:
                break
            elif (pending := head.pending) is not None:
                await pending
        if self._idle and not self._busy:
            self._idle = False
            await self.broadcast(Idle())

    def expect(self, rows: int) -> None:
        """So many records are about to be worked on: many are worked on beside the event loop."""
        self._large = rows >= _THREAD_ROWS

    async def deliver(self, position: int, output: str, batch: AnyBatch) -> None:
        """Hand on what was put out where the data was read."""
        await self._work(self.chain.deliver, position, output, batch)

    async def advance(self, time: int) -> None:
        """Event time has come to `time`: everything it triggers goes out first, the watermark after it."""
        if time <= self.watermark:
            return
        self.watermark = time
        self._metrics.watermark(time)
        if time == MAX_TIME:
            # Whatever is still open fires now.
            self.expect(_THREAD_ROWS)
        self._idle = False
        await self._forward(time)

    async def idle(self) -> None:
        """No input holds anything back: say so downstream, once nothing is under way."""
        self._idle = True
        await self.settle()

    async def end_epoch(self, epoch: int, source: SourceState | None = None) -> None:
        """A barrier has been aligned (or injected, with the `source`'s positions): end the epoch, pass the barrier on,
        seal the sinks and take the snapshot. What is slow about storing it comes later."""
        started = self._clock.monotonic()
        self._reach("subtask.aligned")
        self._epoch = epoch
        await self._work(self.chain.end_epoch, epoch)
        await self.flush()
        await self.broadcast(Barrier(epoch))
        sealed = await self._seal(epoch)
        snapshot: SubtaskSnapshot | Exception | None = None
        if self._reports.checkpointing:
            try:
                snapshot = await self._snapshot(epoch, source)
            except (StateError, OSError) as error:
                snapshot = error
            self._reach("subtask.snapshotted")
        self._metrics.paused(self._clock.monotonic() - started)
        self._reports.acknowledge(self.name, epoch, sealed, snapshot)

    async def finish(self, *, drained: bool) -> None:
        """The input has ended, or the job was stopped before its end (then what is open is no result)."""
        if drained or not self._reports.checkpointing:
            # What has been asked for is lost where no checkpoint has it.
            await self._drain()
        if drained:
            await self._work(self.chain.finish)
            await self.flush()
        sealed = await self._seal(self._epoch + 1)
        await self.broadcast(EndOfInput(drained))
        self._reports.finish(self.name, sealed, passed=self._epoch)

    async def fire_timers(self) -> None:
        """Let operators go on whose moment in processing time has come."""
        if not self.chain.timed:
            return
        due, now = self.chain.next_processing_time, self._clock.now()
        if due is not None and due <= now:
            await self._work(self.chain.processing_time, now)
            await self.flush()

    def until_timer(self) -> float | None:
        """Seconds until the next moment in processing time that an operator waits for."""
        due = self.chain.next_processing_time if self.chain.timed else None
        return None if due is None else max(0.0, (due - self._clock.now()) / 1e6)

    async def wait(self, news: asyncio.Future[Any]) -> None:
        """Until there is news, the head has something to put out, or a timer is due."""
        pending = None if self.chain.head is None else self.chain.head.pending
        await until([news] if pending is None else [news, pending], self.until_timer(), self._clock)

    async def flush(self) -> None:
        """Hand on what the operators put out, waiting for room."""
        started = self._clock.monotonic()
        self._metrics.waits()
        for outlet in self._outlets:
            await outlet.flush()
        self._metrics.backpressured(self._clock.monotonic() - started)

    async def broadcast(self, element: StreamElement) -> None:
        """To every outlet."""
        for outlet in self._outlets:
            await outlet.send(element)

    async def close(self) -> None:
        """Release what operators and writers hold."""
        self.chain.close()
        for outlet in self._outlets:
            await outlet.close()

    @property
    def _busy(self) -> bool:
        return self.chain.head is not None and self.chain.head.pending is not None

    async def _drain(self) -> None:
        """Wait for all that is under way."""
        while (head := self.chain.head) is not None:
            await self.settle()
            pending = head.pending
            if pending is None:
                break
            await pending

    async def _forward(self, time: int, *, passed: bool = False) -> None:
        """Run a watermark through the chain (behind the head, where it has `passed` it) and hand it on."""
        if self.chain.head is not None and not passed:
            # The head belongs to the event loop; what a watermark triggers behind it may take long.
            waited = self.chain.watermark_at_head(time)
            if waited is None:
                return
            time, passed = waited, True
        while (forwarded := await self._work(self.chain.watermark, time, passed)) is None:
            await self.flush()
        await self.flush()
        marks = dict(forwarded)
        for outlet in self._outlets:
            # An operator that has already run where the data was read passes on what its chain's head was told.
            first = outlet.position < self.chain.first and not passed
            mark = marks.get(outlet.position, time if first else None)
            if mark is not None:
                await outlet.send(Watermark(mark))

    async def _snapshot(self, epoch: int, source: SourceState | None) -> SubtaskSnapshot:
        shares: list[OperatorShare] = []
        for link in self.chain.stateful:
            assert link.logic is not None
            assert link.keyed is not None
            keyed = link.keyed
            with blamed(link.id):
                on_loop = link.logic is self.chain.head
                snapshot = link.logic.snapshot() if on_loop else await self._work(link.logic.snapshot)
                saved = await self._io(keyed.backend.save, keyed.folder / f"epoch-{epoch}")
            shares.append(OperatorShare(link.id, keyed.groups, snapshot, saved, keyed.identity))
        return SubtaskSnapshot(self.index, shares, source)

    async def _seal(self, epoch: int) -> list[tuple[str, Committable]]:
        return [entry for outlet in self._outlets for entry in await outlet.seal(epoch)]

    async def _work(self, function: Callable[..., T], *args: Any) -> T:
        started = self._clock.monotonic()
        self._metrics.works()
        result = await self._run_blocking(function, *args) if self._large else function(*args)
        self._metrics.busy(self._clock.monotonic() - started)
        return result
