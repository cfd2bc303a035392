"""Running a started job in a program of its own: progress while it runs, and what signals mean.

The first SIGINT or SIGTERM stops reading, lets what is in flight through, commits, and ends; a second one ends at once.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from streamflow.runners.local import LocalJob
from streamflow.runtime.status import JobResult, JobStatus

__all__ = ["run_until_signal"]

_PROGRESS_SECONDS = 0.25


async def run_until_signal(
    handle: LocalJob,
    *,
    progress: Callable[[JobStatus], None] | None = None,
    signals: bool = True,
    on_signal: Callable[[int], None] | None = None,
) -> JobResult:
    """Wait for the job, reporting progress; `on_signal` is told the first signal's number.

    Raises KeyboardInterrupt after a second signal, and what the job raised.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []
    stopping: list[asyncio.Task[JobResult]] = []

    def receive(number: int) -> None:
        received.append(number)
        if len(received) > 1:
            stopping.append(loop.create_task(_cancel(handle)))
            return
        if on_signal is not None:
            on_signal(number)
        stopping.append(loop.create_task(handle.stop()))

    handled = (signal.SIGINT, signal.SIGTERM) if signals else ()
    for number in handled:
        try:
            loop.add_signal_handler(number, receive, number)
        except (NotImplementedError, ValueError, RuntimeError):
            # Not the main thread, or a platform without signal handlers: Ctrl-C raises as Python does it.
            handled = ()
            break
    reporting = loop.create_task(_report(handle, progress)) if progress is not None else None
    try:
        return await handle.wait()
    except asyncio.CancelledError:
        await handle.cancel()
        if len(received) > 1:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
        if reporting is not None:
            reporting.cancel()
        for task in stopping:
            task.cancel()
        await asyncio.gather(*stopping, *([reporting] if reporting else []), return_exceptions=True)
        if progress is not None:
            progress(handle.status())


async def _cancel(handle: LocalJob) -> JobResult:
    await handle.cancel()
    return await handle.wait()


async def _report(handle: LocalJob, progress: Callable[[JobStatus], None]) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        progress(handle.status())
