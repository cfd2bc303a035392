"""Epoch coordination: decides when a barrier starts and when an epoch is complete, and keeps its sealed output. Does
no I/O.

An epoch is complete when every subtask that had not finished before its barrier has acknowledged it. Epochs complete
in order and one at a time: the next begins only when the work for the last one (publish a checkpoint, commit output)
has been done or has failed. Output that was sealed and not committed, because the epoch's checkpoint failed or
because the mode commits at the end only, is carried over to the next epoch. Output that a subtask seals at its end
belongs to the epoch in flight if the subtask has not passed its barrier, and to the one after it otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from streamflow.operators.contract.sink import Committable

__all__ = ["Complete", "EpochCoordinator", "Sealed"]

Sealed = Sequence[tuple[str, Committable]]
"""(sink id, committable) pairs."""

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Complete(Generic[Part]):
    """A complete epoch. `sealed` by sink; `parts` are the subtasks' stored parts, by name, and `failures` their
    reasons for none. `final`: every subtask has finished."""

    epoch: int
    sealed: tuple[tuple[str, Committable], ...]
    parts: Mapping[str, Part] = field(default_factory=dict[str, Part])
    failures: tuple[Exception, ...] = ()
    final: bool = False


class EpochCoordinator(Generic[Part]):
    """The state machine of one job run; subtasks are known by name. `sealed` is output that an earlier run left to be
    committed with the next epoch that is.

    >>> coordinator = EpochCoordinator(["read-0", "window-0"])
    >>> coordinator.begin()
    1
    >>> coordinator.acknowledge("read-0", 1, [])
    >>> coordinator.acknowledge("window-0", 1, [("out", {"file": "a"})]).sealed
    (('out', {'file': 'a'}),)
    """

    def __init__(self, subtasks: Iterable[str], *, last_epoch: int = 0, sealed: Sealed = ()) -> None:
        self._running = set(subtasks)
        self._waiting: set[str] | None = None
        self._sealed: list[tuple[str, Committable]] = list(sealed)
        self._later: list[tuple[str, Committable]] = []
        self._parts: dict[str, Part] = {}
        self._failures: list[Exception] = []
        self._handled: tuple[tuple[str, Committable], ...] | None = None
        self._final = False
        self.epoch = last_epoch

    @property
    def awaited(self) -> list[str]:
        """The subtasks that the epoch in flight waits for; without one, those that have not finished."""
        return sorted(self._running if self._waiting is None else self._waiting)

    @property
    def finished(self) -> bool:
        """Whether every subtask has finished."""
        return not self._running

    @property
    def over(self) -> bool:
        """Whether every subtask has finished and the final epoch is done."""
        return self._final and self._handled is None

    @property
    def in_flight(self) -> bool:
        """Whether an epoch has begun and is not done yet."""
        return self._waiting is not None or self._handled is not None

    def begin(self) -> int | None:
        """Starts the next epoch's barrier: its number, or None while another is in flight or no subtask runs."""
        if self.in_flight or not self._running:
            return None
        self.epoch += 1
        self._waiting = set(self._running)
        return self.epoch

    def acknowledge(
        self,
        subtask: str,
        epoch: int,
        sealed: Sealed,
        part: Part | None = None,
        failure: Exception | None = None,
    ) -> Complete[Part] | None:
        """Takes a subtask's end of the epoch, with its stored part or the reason for none; returns the epoch if it
        was the last."""
        self._sealed.extend(sealed)
        if part is not None:
            self._parts[subtask] = part
        if failure is not None:
            self._failures.append(failure)
        if self._waiting is not None:
            self._waiting.discard(subtask)
        return self._decide()

    def finish(self, subtask: str, sealed: Sealed, *, passed: int) -> Complete[Part] | None:
        """Takes a subtask's end, which had passed the barrier of epoch `passed` last; returns the epoch if it is
        complete."""
        self._running.discard(subtask)
        if self._waiting is not None and passed == self.epoch:
            # It has passed the barrier in flight and will still acknowledge it: what it sealed now lies behind.
            self._later.extend(sealed)
            return None
        # While the last epoch is being dealt with, what comes now belongs to the next one.
        self._sealed.extend(sealed)
        if self._waiting is not None:
            self._waiting.discard(subtask)
            return self._decide()
        return self._at_the_end()

    def done(self, *, carried: Sealed = ()) -> Complete[Part] | None:
        """Ends the complete epoch; `carried` is its output that was not committed. Returns the final epoch if
        everything has finished meanwhile."""
        self._sealed[:0] = carried
        self._handled = None
        return self._at_the_end()

    def _at_the_end(self) -> Complete[Part] | None:
        if self._running or self._final or self.in_flight:
            return None
        self._final = True
        self.epoch += 1
        return self._complete()

    def _decide(self) -> Complete[Part] | None:
        if self._waiting is None or self._waiting:
            return None
        self._waiting = None
        complete = self._complete()
        self._sealed, self._later = self._later, []
        return complete

    def _complete(self) -> Complete[Part]:
        self._handled = tuple(self._sealed)
        complete = Complete(self.epoch, self._handled, self._parts, tuple(self._failures), self._final)
        self._sealed, self._parts, self._failures = [], {}, []
        return complete
