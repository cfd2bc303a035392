"""The site of a worker: the subtasks that are its own, and the ends of channels to and from those of other workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamflow.graph.physical import ExchangeKind, PhysicalTask
from streamflow.runtime.control.placement import Placement
from streamflow.runtime.exchange.channel import Channel
from streamflow.runtime.transport.port import ChannelName, Sender, Transport

__all__ = ["Site"]


@dataclass(frozen=True, slots=True)
class Site:
    """The place of worker number `worker` in an attempt; `addresses` are all workers', for their `transport`."""

    placement: Placement
    worker: int
    attempt: int
    transport: Transport
    addresses: Sequence[str]

    def owns(self, subtask: int) -> bool:
        """Whether the subtasks of this number run here."""
        return self.placement.worker_of(subtask) == self.worker

    def subtasks(self, task: PhysicalTask) -> Sequence[int]:
        """The numbers of a task's subtasks that run here."""
        return range(self.worker, task.parallelism, self.placement.workers)

    def expect(self, edge: int, upper: int, lower: int, channel: Channel) -> None:
        """Feeds a channel of a subtask here with the elements that a subtask elsewhere sends."""
        self.transport.expect(ChannelName(self.attempt, edge, upper, lower), channel)

    def sender(self, number: int, upper: int, lower: int) -> Sender:
        """The end of a channel of an edge through which a subtask here sends to one elsewhere."""
        edge = self.placement.plan.edges[number]
        return self.transport.sender(
            self.addresses[self.placement.worker_of(lower)],
            ChannelName(self.attempt, number, upper, lower),
            operator=edge.reads.node,
            broadcast=edge.exchange is ExchangeKind.BROADCAST,
        )
