"""Epoch coordination: when a barrier starts, when an epoch is complete, what to commit then. Decides, does no I/O.

An epoch is complete when every task that had not finished before it has acknowledged its barrier. Epochs complete in
order and one at a time. What sinks sealed in an epoch is committed when the epoch is complete; what a task sealed at
its end is committed with the epoch that completes next, or at the end of the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from streamflow.operators.sink import Committable

__all__ = ["Commit", "EpochCoordinator", "Sealed"]

Sealed = Sequence[tuple[str, Committable]]
"""(sink id, committable) pairs."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Epoch `epoch` is complete: make this visible, by sink."""

    epoch: int
    sealed: tuple[tuple[str, Committable], ...]


class EpochCoordinator:
    """The state machine of one job run; subtasks are known by name.

    >>> coordinator = EpochCoordinator(["read-0", "window-0"])
    >>> coordinator.begin()
    1
    >>> coordinator.acknowledge("read-0", 1, [])
    >>> coordinator.acknowledge("window-0", 1, [("out", {"file": "a"})])
    Commit(epoch=1, sealed=(('out', {'file': 'a'}),))
    """

    def __init__(self, subtasks: Iterable[str], *, last_epoch: int = 0) -> None:
        self._running = set(subtasks)
        self._waiting: set[str] | None = None
        self._sealed: list[tuple[str, Committable]] = []
        self._committing = False
        self.epoch = last_epoch

    @property
    def finished(self) -> bool:
        """Whether every subtask has finished."""
        return not self._running

    @property
    def in_flight(self) -> bool:
        """Whether an epoch has begun and is not committed yet."""
        return self._waiting is not None or self._committing

    def begin(self) -> int | None:
        """Start the next epoch's barrier: its number, or None while another is in flight or nothing runs."""
        if self.in_flight or not self._running:
            return None
        self.epoch += 1
        self._waiting = set(self._running)
        return self.epoch

    def acknowledge(self, subtask: str, epoch: int, sealed: Sealed) -> Commit | None:
        """A subtask has ended the epoch; the commit if it was the last."""
        self._sealed.extend(sealed)
        if self._waiting is not None:
            self._waiting.discard(subtask)
        return self._decide()

    def finish(self, subtask: str, sealed: Sealed) -> Commit | None:
        """A subtask has come to its end; the commit if an epoch was waiting for it, or if it was the last of all."""
        self._running.discard(subtask)
        self._sealed.extend(sealed)
        if self._waiting is not None:
            self._waiting.discard(subtask)
            return self._decide()
        if not self._running and not self._committing:
            self.epoch += 1
            return self._commit()
        return None

    def committed(self) -> Commit | None:
        """The last commit has been carried out; the final one if everything has finished meanwhile."""
        self._committing = False
        if not self._running and self._sealed:
            self.epoch += 1
            return self._commit()
        return None

    def _decide(self) -> Commit | None:
        if self._waiting is None or self._waiting:
            return None
        self._waiting = None
        return self._commit()

    def _commit(self) -> Commit:
        sealed, self._sealed = tuple(self._sealed), []
        self._committing = True
        return Commit(self.epoch, sealed)
