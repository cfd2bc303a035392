"""The step that a sink is at, for people who ask why a job stands still."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from streamflow.operators.contract.waiting import Waiting
from streamflow.time.clock import Clock

__all__ = ["Step"]


class Step:
    """The step that is under way, one at a time.

    >>> from streamflow.time.clock import SystemClock
    >>> step = Step(SystemClock())
    >>> with step.of("the writing of a batch", 3):
    ...     step.waiting
    ()
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at: Waiting | None = None

    @contextmanager
    def of(self, what: str, rows: int = 0) -> Generator[None]:
        """A context in which a step is under way for some rows."""
        self._at = Waiting.under_way(what, self._clock.now(), rows)
        try:
            yield
        finally:
            self._at = None

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """The step, if it has been under way for long."""
        at = self._at
        return (at,) if at is not None and at.is_long(self._clock.now()) else ()
