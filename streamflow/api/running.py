"""Running a job in a program of its own: the event loop, progress while it runs, and what signals mean.

The first SIGINT or SIGTERM stops reading, lets what is in flight through, commits, and ends. The second ends at once.
Plain signal handlers see to that, not the event loop's: a user's function that does not return holds up the loop.
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
"""The exit code of a process that a signal ended is this and its number."""


def _leave(number: int) -> None:
    """End the process without the interpreter's farewell, which would wait for a thread that does not return; at the
    prompt of an interpreter, only what runs in it."""
    if hasattr(sys, "ps1") or sys.flags.interactive:
        raise KeyboardInterrupt
    with suppress(OSError, ValueError, AttributeError):
        os.write(sys.stderr.fileno(), _LEFT)
    os._exit(_KILLED_BY + number)


def run_on_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop where it exists: it answers small batches about twice as fast."""
    occupy_standard_streams()
    try:
        try:
            import uvloop
        except ImportError:
            return asyncio.run(coroutine)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(coroutine)
    finally:
        # Where a signal came before it began, Python would warn that it never did.
        coroutine.close()


def logging_for(settings: Settings) -> AbstractContextManager[None]:
    """Log lines on stderr while a job runs, unless the program has said itself where they go."""
    if configured():
        return nullcontext()
    return log_to_stderr(settings.log_format, settings.log_level or "warning", settings.secrets)


async def run_reporting(handle: LocalJob, progress: Callable[[JobStatus], None] | None = None) -> JobResult:
    """Wait for the job; `progress` sees its status a few times a second and once at the end.

    A job that is waited for no longer, because the waiting was cancelled, is ended at once.
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
    """Signals stop the job meanwhile; gives their numbers as they come.

    The second one ends the process, or raises KeyboardInterrupt at the prompt of an interpreter. Outside of the main
    thread, where Python hands no signals over, nothing changes.
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
            # Said here and not on the loop, which a user's function may hold up.
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
                task.exception()  # what made the job fail has been raised by then: once is enough


async def _stop(handle: JobHandle) -> JobResult:
    return await handle.stop()


async def _report(handle: LocalJob, progress: Callable[[JobStatus], None]) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        progress(handle.status())
