"""Runs a job from the command line: shows its status to whoever watches, and turns signals into an end.

The first SIGINT or SIGTERM asks the job to stop: it reads no more, lets what is in flight through, and commits. The
second ends the process at once, whatever it is doing. Plain signal handlers do that, not the event loop's, and the
process leaves without the interpreter's farewell: a user's function that never returns holds up the loop, or a thread
that the interpreter would wait for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from streamflow.cli.exit_codes import ExitCode
from streamflow.runtime.status import JobResult, JobStatus

if TYPE_CHECKING:
    from streamflow.api.job import Job
    from streamflow.runners.base import JobHandle

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
    return _on_loop(_drive(job, arguments, watch))


async def _drive(job: Job, arguments: Mapping[str, Any], watch: Callable[[JobStatus], None]) -> Outcome:
    from streamflow.api.running import run_until_signal

    handle = await job.start(**arguments)
    with _stopping_on_signals(handle) as received:
        result = await run_until_signal(handle, progress=watch, signals=False)
    return Outcome(result, received[0] if received else None)


@contextmanager
def _stopping_on_signals(handle: JobHandle) -> Generator[list[int]]:
    """Signals stop the job meanwhile; gives their numbers as they come."""
    loop = asyncio.get_running_loop()
    received: list[int] = []
    stopping: list[asyncio.Task[JobResult]] = []

    def stop() -> None:
        stopping.append(loop.create_task(_stop(handle)))

    def receive(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            os.write(sys.stderr.fileno(), b"\nstopped at once; what was not committed is discarded\n")
            os._exit(_KILLED_BY + number)
        loop.call_soon_threadsafe(stop)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
        for task in stopping:
            if not task.cancel() and not task.cancelled():
                task.exception()  # what made the job fail has been raised by then: once is enough


async def _stop(handle: JobHandle) -> JobResult:
    return await handle.stop()


def _on_loop(coroutine: Coroutine[Any, Any, Outcome]) -> Outcome:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)
