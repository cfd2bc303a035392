"""Routes: the parts of a batch for the subtasks of the next task. Pure functions of the batch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from streamflow.core.copies import copied_batch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.keys import key_groups, subtask_of
from streamflow.core.partition import partitioned
from streamflow.errors import JobDefinitionError
from streamflow.graph.physical import ExchangeKind, PhysicalEdge

__all__ = ["Route", "route_for"]

_DIVIDED: Final = 4_096
"""The rows for each subtask up to which dividing a batch costs less than filtering it once for each."""

Route = Callable[[AnyBatch], list[tuple[int, AnyBatch]]]
"""A batch → (number of the lower subtask, its part) pairs."""


def route_for(
    edge: PhysicalEdge,
    *,
    subtask: int,
    lower: int,
    max_parallelism: int,
    elsewhere: Collection[int] = (),
) -> Route:
    """The routing function of one upper subtask on an edge to `lower` subtasks, of which some are `elsewhere`, in other
    processes."""
    match edge.exchange:
        case ExchangeKind.FORWARD:
            return lambda batch: [(subtask, batch)]
        case ExchangeKind.BROADCAST:
            # Those in other processes first and all the same one, which is encoded once, before a subtask here can
            # change its rows.
            far = [target for target in range(lower) if target in elsewhere]
            here = [target for target in range(lower) if target not in elsewhere]
            return lambda batch: [
                *((target, batch) for target in [*far, *here[:1]]),
                *((target, copied_batch(batch)) for target in here[1:]),
            ]
        case ExchangeKind.REBALANCE:
            return _Rebalance(subtask, lower)
        case ExchangeKind.HASH:
            return _by_hash(edge.keys, lower, max_parallelism)


class _Rebalance:
    """A route of whole batches in turn, beginning at the subtask's own number so that several senders spread out."""

    def __init__(self, subtask: int, lower: int) -> None:
        self._next = subtask % lower
        self._lower = lower

    def __call__(self, batch: AnyBatch) -> list[tuple[int, AnyBatch]]:
        target = self._next
        self._next = (target + 1) % self._lower
        return [(target, batch)]


def _by_hash(keys: tuple[str, ...], lower: int, max_parallelism: int) -> Route:
    def route(batch: AnyBatch) -> list[tuple[int, AnyBatch]]:
        if not isinstance(batch, FrameBatch):
            raise JobDefinitionError("a hash exchange needs columns")
        if lower == 1:
            return [(0, batch)]
        groups = key_groups(batch.frame, keys, max_parallelism)
        targets = subtask_of(groups, lower, max_parallelism)
        if batch.frame.height == 1:
            return [(targets[0], batch)]
        frame = batch.frame
        if frame.height <= _DIVIDED * lower:
            # Filtering goes over all rows once for each subtask, and costs a call even where there are none.
            return [(target, FrameBatch(part)) for target, part in partitioned(frame, targets)]
        parts = [(target, FrameBatch(frame.filter(targets == target))) for target in range(lower)]
        return [(target, part) for target, part in parts if len(part)]

    return route
