"""The job under fire in this process: for faults that are handed in through the ports, and for many short runs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from reliability.flow import Place, job_of
from streamflow.api.running import run_on_loop
from streamflow.observe.status import JobResult
from streamflow.runners.local import LocalJob
from streamflow.runtime.ports import Ports

ENDS_WITHIN_SECONDS = 60.0

SETTINGS = {
    "mode": "streaming",
    "batch_rows": 256,
    "checkpoint_interval": "50ms",
    "checkpoint_physical_every": 4,
    "restart": "none",
    "restart_delay": "10ms",
}


async def start(place: Place, *, pause: float = 0.0, ports: Ports | None = None, **settings: Any) -> LocalJob:
    """The job in `place`, started on this loop; settings stand in for those of `SETTINGS`."""
    given = {**SETTINGS, "checkpoint_dir": str(place.checkpoints), **settings}
    return await job_of(place, pause).start(ports=ports, **given)


def run_to_end(place: Place, *, pause: float = 0.0, ports: Ports | None = None, **settings: Any) -> JobResult:
    """Runs it on a loop of its own; raises what made it fail, TimeoutError where it hangs."""

    async def run() -> JobResult:
        handle = await start(place, pause=pause, ports=ports, **settings)
        async with asyncio.timeout(ENDS_WITHIN_SECONDS):
            return await handle.wait()

    return run_on_loop(run())


async def until(there: Callable[[], bool | Awaitable[bool]], *, seconds: float = ENDS_WITHIN_SECONDS) -> None:
    """Waits until it is so; TimeoutError where that takes too long."""
    async with asyncio.timeout(seconds):
        while True:
            found = there()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.005)
