"""Records per second, smoothed over a few looks at the job so that a person can read it."""

from __future__ import annotations

from typing import Final

from streamflow.observe.status import JobStatus

__all__ = ["SmoothedRate"]

_WEIGHT: Final = 0.3


class SmoothedRate:
    """An exponential mean of the reading rate; the first look counts in full."""

    def __init__(self) -> None:
        self._records = 0
        self._elapsed = 0.0
        self.current = 0.0

    def observe(self, status: JobStatus) -> float:
        """Take a look and return the rate now."""
        passed = status.elapsed - self._elapsed
        if passed > 0:
            now = (status.records_read - self._records) / passed
            self.current = now if self._elapsed == 0 else self.current + _WEIGHT * (now - self.current)
            self._records, self._elapsed = status.records_read, status.elapsed
        return self.current
