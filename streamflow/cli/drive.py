"""Runs a job from the command line: shows its status to whoever watches, and keeps the signal that ended it.

What signals do is `streamflow.api.running`'s: the first SIGINT or SIGTERM stops reading, drains and commits; a second
one ends the job at once.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamflow.cli.exit_codes import ExitCode
from streamflow.runtime.status import JobResult, JobStatus

if TYPE_CHECKING:
    from streamflow.api.job import Job

__all__ = ["Outcome", "drive"]


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
    return _on_loop(_drive(job, arguments, watch))


async def _drive(job: Job, arguments: Mapping[str, Any], watch: Callable[[JobStatus], None]) -> Outcome:
    from streamflow.api.running import run_until_signal

    received: list[int] = []
    handle = await job.start(**arguments)
    result = await run_until_signal(handle, progress=watch, on_signal=received.append)
    return Outcome(result, received[0] if received else None)


def _on_loop(coroutine: Coroutine[Any, Any, Outcome]) -> Outcome:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)
