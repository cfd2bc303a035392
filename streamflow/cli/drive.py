"""Runs a job from the command line: shows its status to whoever watches, and turns signals into exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streamflow.cli.exit_codes import ExitCode
from streamflow.runtime.status import JobResult, JobStatus

if TYPE_CHECKING:
    from streamflow.api.job import Job

__all__ = ["Outcome", "drive"]

_KILLED_BY: Final = 128
"""What shells add to a signal's number: 130 for SIGINT, 143 for SIGTERM."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job that has ended, and the signal that ended it, if one did."""

    result: JobResult
    signal: int | None = None

    @property
    def exit_code(self) -> ExitCode:
        """130 after SIGINT; a clean stop after SIGTERM is what an orchestrator asked for, so 0."""
        return ExitCode.INTERRUPTED if self.signal == signal.SIGINT else ExitCode.DONE


def drive(job: Job, arguments: Mapping[str, Any], watch: Callable[[JobStatus], None]) -> Outcome:
    """Run the job to its end or to the first signal; `watch` sees its status a few times a second."""
    from streamflow.api.running import run_on_loop

    return run_on_loop(_drive(job, arguments, watch))


async def _drive(job: Job, arguments: Mapping[str, Any], watch: Callable[[JobStatus], None]) -> Outcome:
    from streamflow.api.running import run_reporting, stopping_on_signals

    handle = await job.start(**arguments)
    with stopping_on_signals(handle, at_once=_leave) as received:
        result = await run_reporting(handle, watch)
    return Outcome(result, received[0] if received else None)


def _leave(number: int) -> None:
    """End the process without the interpreter's farewell, which would wait for a thread that does not return."""
    os.write(sys.stderr.fileno(), b"\nstopped at once; what was not committed is discarded\n")
    os._exit(_KILLED_BY + number)
