"""The contract of a runner: a handle on a job that runs somewhere."""

from __future__ import annotations

from typing import Protocol

from streamflow.observe.status import JobResult, JobStatus

__all__ = ["JobHandle"]


class JobHandle(Protocol):
    """A job that has been started."""

    def status(self) -> JobStatus:
        """The job's present figures."""
        ...

    async def stop(self, *, drain: bool = False) -> JobResult:
        """Stops reading, processes and commits records in flight, and ends.

        Windows that are still open give no result, since their input has not ended; with `drain` they do.
        """
        ...

    async def wait(self) -> JobResult:
        """Waits for the job's end; raises its failure."""
        ...
