"""A running job, seen through its control server."""

from __future__ import annotations

import msgspec

from streamflow.cli.control_client import ControlClient
from streamflow.errors import StreamflowError
from streamflow.observe.status import JobStatus

__all__ = ["WatchedJob"]


class WatchedJob:
    """A watcher of one job that keeps the earlier status for rates.

    Raises ConfigError for an invalid URL or token; `look` raises StreamflowError if no job answers.
    """

    def __init__(self, url: str, *, token_file: str | None, timeout: str) -> None:
        self._client = ControlClient(url, token_file=token_file, timeout=timeout)
        self.now: JobStatus | None = None
        self.before: JobStatus | None = None

    def look(self) -> JobStatus:
        """The present status."""
        told = self._client.get("/status")
        try:
            status = msgspec.convert(told, JobStatus)
        except msgspec.ValidationError as error:
            raise StreamflowError(
                f"the status of the job at {self._client.url} cannot be read: {error}",
                hint="it may run with another version of streamflow",
            ) from error
        self.before, self.now = self.now, status
        return status
