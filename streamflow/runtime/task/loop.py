"""The task loop: takes elements from the inbox, one at a time, and handles each. The only such loop."""

from __future__ import annotations

from collections.abc import Collection

from streamflow.core.batch import RowBatch
from streamflow.core.elements import (
    Active,
    AnyBatch,
    Barrier,
    EndOfInput,
    Idle,
    StreamElement,
    Watermark,
)
from streamflow.core.frame import FrameBatch
from streamflow.runtime.control.alignment import Aligned, Alignment, Block
from streamflow.runtime.exchange.channel import Inbox
from streamflow.runtime.task.subtask import Subtask
from streamflow.runtime.waiting import Signal
from streamflow.time.timestamps import MAX_TIME, MIN_TIME
from streamflow.time.watermarks import WatermarkMerger

__all__ = ["Task"]


class Task:
    """A subtask fed by channels."""

    def __init__(
        self,
        subtask: Subtask,
        inbox: Inbox,
        *,
        untimed: Collection[int] = (),
        endless: Collection[int] = (),
        marks: bool = True,
        restored: int = MIN_TIME,
    ) -> None:
        """`untimed` are the input ports without event time beside others that have it, `endless` those of them that
        have no end either: no watermark waits for the former, nor the last one for the latter. `marks`: the
        watermarks that records carry become those of all inputs here. `restored` is the event time of this task in
        the restored checkpoint."""
        self._marks = marks
        self._subtask = subtask
        subtask.waiting = inbox.rows
        self._inbox = inbox
        count = len(inbox.channels)
        ports = [channel.port for channel in inbox.channels]
        self._untimed = {channel for channel, port in enumerate(ports) if port in untimed}
        self._endless = {channel for channel in self._untimed if ports[channel] in endless}
        timed_or_ending = [channel for channel in range(count) if channel not in self._endless]
        self._merger = WatermarkMerger(timed_or_ending, restored=restored)
        self._merger.idle(*(self._untimed - self._endless))
        timed = [channel for channel in range(count) if channel not in self._untimed]
        self._carried = WatermarkMerger(timed if marks else (), restored=restored)
        """The watermarks, with those that records carry."""
        self._alignment = Alignment(count)
        self._open = set(range(count))
        self._begun = 0
        self._signal = Signal()
        self._drained = True

    async def run(self) -> None:
        """Runs until every channel has ended."""
        while self._open:
            await self._subtask.take_turns()
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
                element = self._placed(channel, element)
                await self._subtask.process(element, self._inbox.channels[channel].port)
                if channel in self._untimed:
                    await self._say_if_idle()
            case Watermark():
                await self._advance(channel, element)
            case Idle():
                if channel not in self._untimed:
                    if self._marks:
                        self._carried.idle(channel)
                    await self._forward(self._merger.idle(channel))
                    await self._say_if_idle()
            case Active():
                await self._awake(channel)
            case Barrier(epoch):
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
        if channel not in self._untimed:
            if self._marks:
                self._carried.advance(channel, time)
            await self._subtask.awake()
            await self._forward(self._merger.advance(channel, time))
        elif time == MAX_TIME and channel not in self._endless:
            await self._forward(self._merger.end(channel))

    async def _awake(self, channel: int) -> None:
        await self._subtask.awake()
        if channel not in self._untimed:
            if self._marks:
                self._carried.active(channel)
            await self._forward(self._merger.active(channel))

    async def _say_if_idle(self) -> None:
        if self._merger.all_idle:
            await self._subtask.idle()

    def _placed(self, channel: int, batch: AnyBatch) -> AnyBatch:
        """The batch with each record's own watermarks replaced by the watermark of all inputs, if it carries any."""
        if not self._marks or not batch.marked or not len(batch) or channel in self._untimed:
            return batch
        placed = batch.within(self._carried.current, self._carried.beside(channel))
        self._carried.advance(channel, batch.last_mark)
        return placed

    async def _forward(self, watermark: int | None) -> None:
        if watermark is not None:
            await self._subtask.advance(watermark)

    async def _obey(self, instruction: Block | Aligned | None) -> None:
        match instruction:
            case Block(channel):
                self._inbox.block(channel)
            case Aligned(epoch):
                await self._subtask.end_epoch(epoch)
                self._inbox.unblock_all()
            case None:
                return
