"""One simulated process: its loop, clock, threads and disk, the coroutine that it runs, and its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from streamflow.runtime.ports import Ports
from streamflow.testing.clock import START
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.clock import SimClock
from streamflow.testing.simulation.disk import SimDisk
from streamflow.testing.simulation.interventions import Interventions
from streamflow.testing.simulation.loop import Crash, SimLoop
from streamflow.testing.simulation.points import ANY_STEP, CrashPoints
from streamflow.testing.simulation.schedule import Incarnation
from streamflow.testing.simulation.threads import SimThreads
from streamflow.testing.simulation.trace import Trace
from streamflow.time.timestamps import to_micros

__all__ = ["Ending", "run_process"]

_BEGINNING: Final = to_micros(START)


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a process. `disk` is the disk that the next one finds; `leaks` are tasks left running and requests
    not answered in time; `vanished`: its checkpoints were removed."""

    how: Literal["finished", "crashed", "failed"]
    disk: SimDisk
    reached: Counter[str]
    steps: int
    seconds: float
    faulted: int
    result: Any = None
    error: Exception | None = None
    leaks: tuple[str, ...] = ()
    vanished: bool = False


def run_process(
    main: Callable[[Ports, Interventions], Coroutine[Any, Any, Any]],
    incarnation: Incarnation,
    disk: SimDisk,
    *,
    chance: Chance,
    trace: Trace,
    blocking: float,
    stalls: float = 0.0,
    place: Path = Path("/"),
) -> Ending:
    """Runs `main` in a new process on an earlier one's disk, to its end or to its crash.

    `blocking` is the mean duration of a thread's work in seconds; `stalls` is the probability that a step is held
    up, `place` the folder of the checkpoints that vanish.
    """
    loop = SimLoop(chance.token(), trace=trace, stalls=stalls)
    interventions = Interventions(incarnation.interventions, loop, place)
    points = CrashPoints(
        incarnation.crash, loop.crash, trace=trace, on_point=interventions.come if interventions else None
    )
    clock = SimClock(loop, start=_BEGINNING + incarnation.clock_jump)
    crash = incarnation.crash
    if crash is not None and crash.point == ANY_STEP:
        loop.stop_at = crash.time
    if interventions:
        loop.on_step = interventions.step
    disk = disk.handed_over(faults=incarnation.faults, on_call=points.call, now=clock.now, trace=trace)
    interventions.disk = disk
    ports = Ports(
        clock=clock,
        random=chance.split("random"),
        disk=disk,
        io=SimThreads(chance.split("io"), blocking),
        cpu=SimThreads(chance.split("cpu"), blocking),
        reach=points.reach,
    )
    error: Exception | None = None
    result: Any = None
    how: Literal["finished", "crashed", "failed"] = "finished"
    try:
        result = loop.run(main(ports, interventions))
    except Crash:
        how = "crashed"
    except Exception as raised:  # noqa: BLE001 — judged by the caller
        error = raised
        how = "failed"
    points.reached[ANY_STEP] = loop.steps
    leaks = () if how == "crashed" else (*_running(loop), *loop.reports, *interventions.complaints)
    loss = crash.loss if how == "crashed" and crash is not None else "kill"
    following = disk.crash(loss, chance.split("loss"))
    loop.abandon()
    return Ending(
        how,
        following,
        points.reached,
        loop.steps,
        loop.now / 1e6,
        disk.faulted,
        result,
        error,
        leaks,
        interventions.vanished,
    )


def _running(loop: SimLoop) -> list[str]:
    """The tasks that outlive the job."""
    return [f"task still running: {task.get_coro()!r}".split(" at 0x")[0] for task in loop.unfinished()]
