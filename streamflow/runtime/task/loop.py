"""The task loop: takes elements from the inbox, one at a time, and handles each. The only such loop."""

from __future__ import annotations

from collections.abc import Collection

from streamflow.core.batch import RowBatch
from streamflow.core.elements import (
    Active,
    Barrier,
    EndOfInput,
    Idle,
    StreamElement,
    Watermark,
)
from streamflow.core.frame import FrameBatch
from streamflow.operators.contract.waiting import Waiting
from streamflow.runtime.control.alignment import Aligned, Alignment, Block
from streamflow.runtime.control.input_watermarks import InputWatermarks
from streamflow.runtime.exchange.channel import Inbox
from streamflow.runtime.task.subtask import Subtask
from streamflow.runtime.waiting import Signal
from streamflow.time.clock import Clock
from streamflow.time.timestamps import MIN_TIME

__all__ = ["Task"]


class Task:
    """A subtask fed by channels."""

    def __init__(
        self,
        subtask: Subtask,
        inbox: Inbox,
        *,
        clock: Clock,
        untimed: Collection[int] = (),
        endless: Collection[int] = (),
        marks: bool = True,
        restored: int = MIN_TIME,
    ) -> None:
        """`untimed` are the input ports without event time beside others that have it, `endless` those of them that
        have no end either: no watermark waits for the former, nor the last one for the latter. `marks`: the
        watermarks that records carry become those of all inputs here. `restored` is the event time of this task in
        the restored checkpoint."""
        self._subtask = subtask
        subtask.waiting, subtask.aligning = inbox.rows, self._aligning
        self._clock = clock
        self._inbox = inbox
        count = len(inbox.channels)
        self._watermarks = InputWatermarks(
            [channel.port for channel in inbox.channels],
            untimed=untimed,
            endless=endless,
            marks=marks,
            hear=subtask.chain.input_watermark if subtask.chain.hears_inputs else None,
            restored=restored,
        )
        self._alignment = Alignment(count)
        self._barrier: tuple[int, int] | None = None
        """The epoch of the barrier that has come on some channels, and the time at which it came on the first."""
        self._open = set(range(count))
        self._begun = 0
        self._signal = Signal()
        self._drained = True

    async def run(self) -> None:
        """Runs until every channel has ended."""
        while self._open:
            # Before an element is taken: small batches that wait meanwhile become one.
            await self._subtask.take_turn()
            await self._subtask.fire_timers()
            await self._subtask.settle()
            received = self._inbox.receive_nowait()
            if received is None:
                await self._subtask.wait(self._inbox.news())
                continue
            await self._take(*received)
        if self._drained or not self._subtask.checkpointing:
            # Otherwise the checkpoint has what has been asked for.
            await self._drain()
        await self._subtask.finish(drained=self._drained and not self._subtask.cut)

    def begin(self, epoch: int) -> None:
        """Begins an epoch. A task whose inputs have all ended ends it by itself: no barrier comes."""
        self._begun = epoch
        self._signal.set()

    def _aligning(self) -> tuple[Waiting, ...]:
        """The barrier that has not come on all channels, if that has been so for long."""
        if self._barrier is None:
            return ()
        epoch, since = self._barrier
        senders = sorted({self._inbox.channels[each].sender for each in self._alignment.missing})
        what = f"the barrier of epoch {epoch}, which has not come from {' and '.join(senders)},"
        waiting = Waiting.under_way(what, since, self._inbox.rows())
        return (waiting,) if waiting.is_long(self._clock.now()) else ()

    async def _drain(self) -> None:
        """Waits for the answers of requests after all input has come, which may take long."""
        while self._subtask.busy:
            self._signal.clear()
            if self._begun > self._subtask.epoch:
                await self._subtask.end_epoch(self._begun)
            await self._subtask.fire_timers()
            await self._subtask.collect()
            if self._subtask.busy:
                await self._subtask.wait(self._signal.news)

    async def _take(self, channel: int, element: StreamElement) -> None:
        match element:
            case FrameBatch() | RowBatch():
                await self._awake(channel)
                placed = self._watermarks.placed(channel, element)
                await self._subtask.process(placed, self._inbox.channels[channel].port)
                if not self._watermarks.timed(channel):
                    await self._say_if_idle()
            case Watermark():
                await self._advance(channel, element)
            case Idle():
                if self._watermarks.timed(channel):
                    await self._forward(self._watermarks.idle(channel))
                    await self._say_if_idle()
            case Active():
                await self._awake(channel)
            case Barrier(epoch):
                if self._barrier is None:
                    self._barrier = (epoch, self._clock.now())
                await self._obey(self._alignment.barrier(channel, epoch))
            case EndOfInput(drained):
                self._open.discard(channel)
                self._drained = self._drained and drained
                await self._obey(self._alignment.end(channel))
                if self._open:
                    # It may have been the last to hold something back, while those that are left are quiet.
                    await self._say_if_idle()

    async def _advance(self, channel: int, watermark: Watermark) -> None:
        time = watermark.time
        if watermark.end is not None:
            self._subtask.end = self._subtask.end.later(watermark.end)
        if self._watermarks.timed(channel):
            await self._subtask.awake()
        await self._forward(self._watermarks.advance(channel, time))

    async def _awake(self, channel: int) -> None:
        await self._subtask.awake()
        await self._forward(self._watermarks.active(channel))

    async def _say_if_idle(self) -> None:
        if self._watermarks.all_idle:
            await self._subtask.idle()

    async def _forward(self, watermark: int | None) -> None:
        if watermark is not None:
            await self._subtask.advance(watermark)

    async def _obey(self, instruction: Block | Aligned | None) -> None:
        match instruction:
            case Block(channel):
                self._inbox.block(channel)
            case Aligned(epoch):
                self._barrier = None
                await self._subtask.end_epoch(epoch)
                self._inbox.unblock_all()
            case None:
                return
