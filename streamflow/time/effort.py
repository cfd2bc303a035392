"""Effort: the measured time that work on records takes, and what follows from it: whether work goes to a thread, and
how many records are done at a time. Decides only.

The event loop answers heartbeats, barriers and signals, so long work goes to a thread. The time for a batch depends
on the user's functions more than on its rows, so it is learnt; many rows always go to a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from streamflow.time.clock import Clock

__all__ = ["MANY", "Effort"]

T = TypeVar("T")

MANY: Final = 8_192
"""The number of records that always goes to a thread, however fast they are."""
_LONG: Final = 0.02
"""The longest time in seconds that the event loop may be blocked."""
_UNKNOWN: Final = 0.001
"""The cost in seconds of a record before one has been measured."""
_OVERHEAD: Final = 0.005
"""Seconds of work below which a few records say little of the cost of each."""
_FEW: Final = 100
_PORTION: Final = 0.2
"""Seconds of work after which the caller may ask whether to go on."""
_FIRST: Final = 16
"""The number of records that are measured first."""


class Effort:
    """The cost of the records of one subtask, or of one split.

    >>> from streamflow.testing import TestClock
    >>> effort = Effort(TestClock())
    >>> effort.large(1), effort.large(100)
    (False, True)
    >>> effort.run(100, str, 1), effort.large(100), effort.large(8_192)
    ('1', False, True)
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._each = _UNKNOWN
        self._known = False

    def large(self, records: int) -> bool:
        """Whether work on so many records belongs on a thread."""
        return records >= MANY or max(records, 1) * self._each > _LONG

    @property
    def portion(self) -> int:
        """The number of records to work on at a time, if a user's function may be slow."""
        return max(1, int(_PORTION / max(self._each, 1e-9))) if self._known else _FIRST

    def seconds(self, records: int) -> float:
        """The expected seconds for work on so many records, as far as measured."""
        return records * self._each if self._known else 0.0

    def run(self, records: int, function: Callable[..., T], *args: Any) -> T:
        """Calls the function, which works on `records` records, and learns from the time it takes."""
        started = self._clock.monotonic()
        try:
            return function(*args)
        finally:
            self._took(records, self._clock.monotonic() - started)

    def _took(self, records: int, seconds: float) -> None:
        records = max(records, 1)
        each = seconds / (records if seconds > _OVERHEAD else max(records, _FEW))
        # Quick to believe that work is slow, slow to believe that it is fast.
        self._each = max(each, 0.7 * self._each + 0.3 * each) if self._known else each
        self._known = True
