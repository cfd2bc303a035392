"""Driving a job from the command line: shows its status, and turns signals into exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streamflow.cli.failure import ExitCode
from streamflow.config import Settings
from streamflow.errors import StreamflowError
from streamflow.observe.status import JobResult, JobStatus

if TYPE_CHECKING:
    from streamflow.api.job import Job
    from streamflow.runners.local import LocalJob

__all__ = ["Outcome", "drive"]

_KILLED_BY: Final = 128
"""The number that shells add to a signal's: 130 for SIGINT, 143 for SIGTERM."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job that has ended, and the signal that ended it, if one did."""

    result: JobResult
    signal: int | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code: 130 after SIGINT; 0 after a clean stop by SIGTERM, which an orchestrator asked for."""
        return ExitCode.INTERRUPTED if self.signal == signal.SIGINT else ExitCode.DONE


def drive(
    job: Job,
    arguments: Mapping[str, Any],
    watch: Callable[[JobStatus], None],
    *,
    announce: Callable[[str], None] | None = None,
) -> Outcome:
    """Runs the job to its end or to the first signal; `watch` gets its status a few times a second, `announce` the
    addresses of its servers (default: printed on stderr)."""
    from streamflow.api.running import run_on_loop

    return run_on_loop(_drive(job, arguments, watch, announce or _say))


async def _drive(
    job: Job,
    arguments: Mapping[str, Any],
    watch: Callable[[JobStatus], None],
    announce: Callable[[str], None],
) -> Outcome:
    from streamflow.api.running import run_reporting, stopping_on_signals

    handle = await job.start(**arguments)
    if handle.metrics_url is not None:
        announce(f"metrics: {handle.metrics_url}/metrics")
    with stopping_on_signals(handle) as received:
        async with _controlled(handle, arguments, announce):
            result = await run_reporting(handle, watch)
    return Outcome(result, received[0] if received else None)


@asynccontextmanager
async def _controlled(
    handle: LocalJob, arguments: Mapping[str, Any], announce: Callable[[str], None]
) -> AsyncGenerator[None]:
    """Runs the job's control server inside this context, if one is asked for; ends the job if the server cannot
    start."""
    settings = Settings.resolve(arguments)
    if settings.control_port is None:
        yield
        return
    from streamflow.web.control_server import serve_control

    token = None if settings.control_token is None else settings.control_token.reveal()
    try:
        server = await serve_control(handle, settings.control_port, settings.control_address, token)
    except StreamflowError:
        await handle.cancel()
        raise
    announce(f"control: {server.url}")
    try:
        yield
    finally:
        await server.close()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
