"""The exit codes of the process."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """0 done, 1 the job failed, 2 wrong usage or a job that cannot be built (retrying is no use), 130 interrupted."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
