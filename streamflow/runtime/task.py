"""The task loop: takes elements from the inbox, one at a time, and does what each asks for. The only such loop."""

from __future__ import annotations

from streamflow.records.batch import RowBatch
from streamflow.records.elements import Barrier, EndOfInput, Idle, StreamElement, Watermark
from streamflow.records.frame import FrameBatch
from streamflow.runtime.alignment import Aligned, Alignment, Block
from streamflow.runtime.channel import Inbox
from streamflow.runtime.subtask import Subtask
from streamflow.time.watermarks import WatermarkMerger

__all__ = ["Task"]


class Task:
    """A subtask fed by channels."""

    def __init__(self, subtask: Subtask, inbox: Inbox) -> None:
        self._subtask = subtask
        self._inbox = inbox
        count = len(inbox.channels)
        self._merger = WatermarkMerger(range(count))
        self._alignment = Alignment(count)
        self._open = set(range(count))
        self._drained = True

    async def run(self) -> None:
        """Until every channel has ended."""
        while self._open:
            await self._subtask.fire_timers()
            await self._subtask.settle()
            received = self._inbox.receive_nowait()
            if received is None:
                await self._subtask.wait(self._inbox.news())
                continue
            await self._take(*received)
        await self._subtask.finish(drained=self._drained)

    async def _take(self, channel: int, element: StreamElement) -> None:
        match element:
            case FrameBatch() | RowBatch():
                self._merger.active(channel)
                await self._subtask.process(element, self._inbox.channels[channel].port)
            case Watermark(time):
                await self._forward(self._merger.advance(channel, time))
            case Idle():
                advanced = self._merger.idle(channel)
                await self._forward(advanced)
                if self._merger.all_idle:
                    await self._subtask.idle()
            case Barrier(epoch):
                await self._obey(self._alignment.barrier(channel, epoch))
            case EndOfInput(drained):
                self._open.discard(channel)
                self._drained = self._drained and drained
                await self._obey(self._alignment.end(channel))
                if self._open and self._merger.all_idle:
                    # It was the last to hold something back; those that are left are quiet.
                    await self._subtask.idle()

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
