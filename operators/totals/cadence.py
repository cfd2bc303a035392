"""The cadence of a changing result: its changes go out after each batch, once an epoch, or all of it once at the end.

The mode decides (`OperatorContext.updates`). Changes go out before the watermark under which they are due: before an
epoch's in micro-batches, before +∞ in batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from streamflow.core.elements import AnyBatch
from streamflow.errors import StateError, Where
from streamflow.operators.contract.operator import Collector, Operator, OperatorContext
from streamflow.operators.contract.waiting import Waiting
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME

__all__ = ["ChangingResult", "Said", "check_unsaid", "in_cadence"]

Said = Literal["changes", "nothing"]
"""The earlier output of a result: changes, or nothing so far."""


class ChangingResult(Protocol):
    """A result per key that changes as records come."""

    def add(self, batch: AnyBatch, out: Collector) -> None:
        """Takes records whose effect goes out with the next `change`."""
        ...

    def change(self, out: Collector) -> None:
        """Emits the changes since the last time, if there are any."""
        ...

    def collect(self, batch: AnyBatch, out: Collector) -> None:
        """Takes records of a result that goes out at the end only."""
        ...

    def insert_all(self, out: Collector) -> None:
        """Emits the whole result as inserts, and forgets it."""
        ...

    def snapshot(self, said: Said) -> OperatorSnapshot:
        """The result, with what has been `said` of it among the values."""
        ...

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state."""
        ...

    def unsay(self) -> None:
        """Turns a restored result of which nothing has been said into one whose changes are still to be emitted."""
        ...


def in_cadence(result: ChangingResult, ctx: OperatorContext) -> Operator:
    """The operator that emits a changing result as the mode of the run has it."""
    match ctx.updates:
        case "batch":
            return _EachBatch(result)
        case "epoch":
            return _EachEpoch(result)
        case "end":
            return _AtTheEnd(result, ctx.operator_id)


class _Changing(Operator):
    """The common part of both ways to emit changes."""

    def __init__(self, result: ChangingResult) -> None:
        self._result = result

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        self._result.change(out)
        return watermark

    def on_epoch_end(self, epoch: int, out: Collector) -> None:
        self._result.change(out)

    def finish(self, out: Collector) -> None:
        self._result.change(out)

    def snapshot(self) -> OperatorSnapshot:
        return self._result.snapshot("changes")

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._result.restore(parts)
        if any(part.values["said"] == "nothing" for part in parts):
            self._result.unsay()


class _EachBatch(_Changing):
    """Changes go out after each batch."""

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        if len(batch):
            self._result.add(batch, out)
            self._result.change(out)


class _EachEpoch(_Changing):
    """Changes go out once an epoch, as the net changes of it: before the watermark that comes at its end."""

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        if len(batch):
            self._result.add(batch, out)


class _AtTheEnd(Operator):
    """Each key goes out once, when the input has ended."""

    def __init__(self, result: ChangingResult, operator_id: str) -> None:
        self._result = result
        self._id = operator_id
        self._holds = False

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        if len(batch):
            self._result.collect(batch, out)
            self._holds = True

    def waiting(self) -> tuple[Waiting, ...]:
        return (Waiting("the result of all records", MAX_TIME, 0),) if self._holds else ()

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if watermark >= MAX_TIME:
            self.finish(out)
        return watermark

    def finish(self, out: Collector) -> None:
        self._result.insert_all(out)
        self._holds = False

    def snapshot(self) -> OperatorSnapshot:
        return self._result.snapshot("nothing")

    def restore(self, parts: Sequence[StatePart]) -> None:
        check_unsaid(parts, "totals", self._id)
        self._result.restore(parts)
        self._holds = bool(parts)


def check_unsaid(parts: Sequence[StatePart], what: str, operator_id: str) -> None:
    """Raises StateError if a result that is to go out at the end has already been put out as changes."""
    if any(part.values["said"] != "nothing" for part in parts):
        raise StateError(
            f"{what} that have been put out as changes cannot be put out as inserts at the end",
            where=Where(operator=operator_id),
            hint='go on with mode="streaming" or "micro-batch", or start over with restore="none"',
        )
