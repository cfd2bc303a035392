"""Outlets: the exits of a chain's output from its subtask, into channels or into a sink.

Operators never block, so an outlet buffers synchronous output and hands it on when the task awaits `flush`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from streamflow.core.elements import AnyBatch, StreamElement
from streamflow.graph.logical import Input
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.contract.sink import Committable, SinkWriter
from streamflow.operators.contract.waiting import Waiting
from streamflow.runtime.blame import blamed
from streamflow.runtime.exchange.channel import Channel
from streamflow.runtime.exchange.routes import Route
from streamflow.runtime.steps import Step
from streamflow.runtime.transport.port import Sender
from streamflow.time.clock import Clock

__all__ = ["ChannelOutlet", "Outlet", "SinkOutlet"]


class Outlet(Protocol):
    """One exit of a subtask."""

    reads: Input
    """The output that it hands on."""

    def put(self, batch: AnyBatch) -> None: ...

    async def flush(self) -> None: ...

    async def send(self, element: StreamElement) -> None:
        """Sends a watermark, barrier, idleness or the end, after all earlier output."""
        ...

    def waiting(self) -> Sequence[tuple[str, Waiting]]:
        """The step that a sink has been at for long, by the sink's id."""
        ...

    async def seal(self, epoch: int) -> Sequence[tuple[str, Committable]]:
        """The output sealed in this epoch, ready to be committed."""
        ...

    async def close(self) -> None: ...


class ChannelOutlet:
    """An outlet to the subtasks of another task."""

    def __init__(self, reads: Input, channels: Mapping[int, Channel | Sender], route: Route) -> None:
        self.reads = reads
        self._channels = channels
        self._route = route
        self._buffer: list[tuple[int, AnyBatch]] = []

    def put(self, batch: AnyBatch) -> None:
        self._buffer.extend(self._route(batch))

    async def flush(self) -> None:
        buffer, self._buffer = self._buffer, []
        for target, batch in buffer:
            await self._channels[target].send(batch)

    async def send(self, element: StreamElement) -> None:
        for channel in self._channels.values():
            await channel.send(element)

    def waiting(self) -> Sequence[tuple[str, Waiting]]:
        return ()

    async def seal(self, epoch: int) -> Sequence[tuple[str, Committable]]:
        return ()

    async def close(self) -> None:
        """Closes nothing: channels hold no resources."""


class SinkOutlet:
    """An outlet to a sink's writer."""

    def __init__(
        self, reads: Input, sink_id: str, writer: SinkWriter, metrics: OperatorMetrics, clock: Clock
    ) -> None:
        self.reads = reads
        self._sink_id = sink_id
        self._writer = writer
        self._metrics = metrics
        self._step = Step(clock)
        self._buffer: list[AnyBatch] = []

    def put(self, batch: AnyBatch) -> None:
        self._buffer.append(batch.unmarked())

    async def flush(self) -> None:
        buffer, self._buffer = self._buffer, []
        for batch in buffer:
            with blamed(self._sink_id), self._step.of("the writing of a batch", len(batch)):
                await self._writer.write(batch)
            self._metrics.records_in.add(len(batch))
            self._metrics.records_out.add(len(batch))

    async def send(self, element: StreamElement) -> None:
        """Ignores other elements: sinks see batches and epochs only."""

    def waiting(self) -> Sequence[tuple[str, Waiting]]:
        return [(self._sink_id, each) for each in self._step.waiting]

    async def seal(self, epoch: int) -> Sequence[tuple[str, Committable]]:
        with blamed(self._sink_id), self._step.of(f"the sealing of its output of epoch {epoch}"):
            committables = await self._writer.prepare(epoch)
        return [(self._sink_id, committable) for committable in committables]

    async def close(self) -> None:
        await self._writer.close()
