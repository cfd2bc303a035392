"""Effort: what work on records costs, by how long it has taken: whether it belongs on a thread, and how much of it is
done at a time. Decides only.

The event loop answers heartbeats, barriers and signals: what keeps it from them for long goes elsewhere. How long a
batch takes depends on the user's functions more than on its rows, so that it is learnt; many rows always go there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from streamflow.time.clock import Clock

__all__ = ["MANY", "Effort"]

T = TypeVar("T")

MANY: Final = 8_192
"""So many records are worked on beside the event loop, however fast."""
_LONG: Final = 0.02
"""Seconds for which the event loop may be gone."""
_UNKNOWN: Final = 0.001
"""Seconds that a record is taken to cost before one has been seen."""
_OVERHEAD: Final = 0.005
"""Work of fewer seconds says little of what each of few records costs."""
_FEW: Final = 100
_PORTION: Final = 0.2
"""Seconds of work after which may be asked whether to go on."""
_FIRST: Final = 16
"""Records whose cost is to tell what the others cost."""


class Effort:
    """What the records of one subtask, or of one split, cost.

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
        """How many records are worked on at a time, where a user's function may be slow."""
        return max(1, int(_PORTION / max(self._each, 1e-9))) if self._known else _FIRST

    def seconds(self, records: int) -> float:
        """How long work on so many records takes, as far as that is known."""
        return records * self._each if self._known else 0.0

    def run(self, records: int, function: Callable[..., T], *args: Any) -> T:
        """Call the function, which works on so many records, and learn from how long it takes."""
        started = self._clock.monotonic()
        try:
            return function(*args)
        finally:
            self._took(records, self._clock.monotonic() - started)

    def _took(self, records: int, seconds: float) -> None:
        records = max(records, 1)
        each = seconds / (records if seconds > _OVERHEAD else max(records, _FEW))
        # Quick to believe that work is slow, slow to believe that it is not.
        self._each = max(each, 0.7 * self._each + 0.3 * each) if self._known else each
        self._known = True
