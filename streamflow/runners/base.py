"""What a runner gives back: a handle on a job that runs somewhere."""

from __future__ import annotations

from typing import Protocol

from streamflow.observe.status import JobResult, JobStatus

__all__ = ["JobHandle"]


class JobHandle(Protocol):
    """A job that has been started."""

    def status(self) -> JobStatus:
        """Its figures now."""
        ...

    async def stop(self, *, drain: bool = False) -> JobResult:
        """Read no more, process and commit what is in flight, and end.

        Windows that are still open give no result, since their input has not ended; with `drain` they do.
        """
        ...

    async def wait(self) -> JobResult:
        """Until it has ended; raises what made it fail."""
        ...
