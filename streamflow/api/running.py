"""Running a job in a program of its own: the event loop, progress, and signals.

The first SIGINT or SIGTERM stops reading, lets records in flight through, commits, and ends. The second ends at once.
Plain signal handlers do that, not the event loop's: a user's function that does not return holds up the loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any, TypeVar

from streamflow.config import Settings
from streamflow.observe.logs import configured, log_to_stderr
from streamflow.observe.status import JobResult, JobStatus
from streamflow.runners.base import JobHandle
from streamflow.runners.local import LocalJob
from streamflow.standard_streams import occupy_standard_streams

__all__ = ["logging_for", "run_on_loop", "run_reporting", "stopping_on_signals"]

T = TypeVar("T")

_PROGRESS_SECONDS = 0.25
_STOPPING = (
    b"\nstopping: what has been read is written first, unless that takes long; "
    b"a second signal ends the job at once\n"
)
_LEFT = b"\nstopped at once; what was not committed is discarded\n"
_KILLED_BY = 128
"""The exit code of a process that a signal ended is 128 plus the signal's number."""


def _leave(number: int) -> None:
    """Ends the process without waiting for threads that do not return; at the prompt of an interpreter, ends only the
    job."""
    if hasattr(sys, "ps1") or sys.flags.interactive:
        raise KeyboardInterrupt
    with suppress(OSError, ValueError, AttributeError):
        os.write(sys.stderr.fileno(), _LEFT)
    os._exit(_KILLED_BY + number)


def run_on_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on uvloop if it is installed: uvloop answers small batches about twice as fast."""
    occupy_standard_streams()
    try:
        try:
            import uvloop
        except ImportError:
            return asyncio.run(coroutine)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(coroutine)
    finally:
        # Without this, Python would warn about a coroutine never awaited if a signal comes before it begins.
        coroutine.close()


def logging_for(settings: Settings) -> AbstractContextManager[None]:
    """Sends log lines to stderr while a job runs, unless the program has configured logging itself."""
    if configured():
        return nullcontext()
    return log_to_stderr(settings.log_format, settings.log_level or "warning", settings.secrets)


async def run_reporting(handle: LocalJob, progress: Callable[[JobStatus], None] | None = None) -> JobResult:
    """Waits for the job; `progress` gets its status a few times a second and once at the end.

    If the waiting is cancelled, the job is ended at once.
    """
    reporting = None if progress is None else asyncio.create_task(_report(handle, progress))
    try:
        return await handle.wait()
    except asyncio.CancelledError:
        await handle.cancel()
        raise
    finally:
        if reporting is not None and progress is not None:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
            progress(handle.status())


@contextmanager
def stopping_on_signals(handle: JobHandle) -> Generator[list[int]]:
    """Stops the job on signals inside this context, and gives their numbers as they come.

    The second one ends the process, or raises KeyboardInterrupt at the prompt of an interpreter. Outside of the main
    thread, where Python delivers no signals, nothing changes.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[JobResult]] = []

    def stop() -> None:
        stopping.append(loop.create_task(_stop(handle)))

    def receive(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            # Logged here and not on the loop, which a user's function may hold up.
            with suppress(OSError, ValueError, AttributeError):
                os.write(sys.stderr.fileno(), _STOPPING)
            loop.call_soon_threadsafe(stop)
        else:
            _leave(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
        for task in stopping:
            if not task.cancel() and not task.cancelled():
                task.exception()  # the job's cause of failure has been raised by now: raising it once is enough


async def _stop(handle: JobHandle) -> JobResult:
    return await handle.stop()


async def _report(handle: LocalJob, progress: Callable[[JobStatus], None]) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        progress(handle.status())
