"""One simulated process: its loop, clock, threads and disk, the coroutine that it runs, and its end.

A blocking function runs on the loop, at once as a whole, after a seeded while. Until then the loop runs callbacks, as
it could while a thread works: a snapshot that is written later must not see later changes. As with real threads,
cancelling the waiting task does not always stop the work; the task then waits for its end, unless the work is
droppable.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from streamflow.runtime.ports import Inline, Ports
from streamflow.runtime.waiting import outlasting
from streamflow.testing.clock import START
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.disk import SimDisk
from streamflow.testing.simulation.interventions import Interventions
from streamflow.testing.simulation.loop import Crash, SimLoop, fulfil
from streamflow.testing.simulation.points import ANY_STEP, CrashPoints
from streamflow.testing.simulation.schedule import Incarnation
from streamflow.testing.simulation.trace import Trace
from streamflow.time.timestamps import to_micros

__all__ = ["Ending", "SimClock", "SimThreads", "run_process", "running"]

T = TypeVar("T")


class SimThreads(Inline):
    """A stand-in for `Threads`; `mean` is the usual delay in seconds of virtual time.

    >>> loop = SimLoop(1)
    >>> loop.run(SimThreads(Chance(1), 0.002)(len, "abc")), loop.now > 0
    (3, True)
    """

    def __init__(self, chance: Chance, mean: float) -> None:
        self._chance = chance
        self._mean = mean

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            return await self._run(function, args, ended)
        except asyncio.CancelledError:
            await outlasting(ended)
            raise

    async def droppable(self, function: Callable[..., T], *args: Any) -> T:
        return await self._run(function, args, asyncio.get_running_loop().create_future())

    async def _run(self, function: Callable[..., T], args: tuple[Any, ...], ended: asyncio.Future[None]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        started = self._chance.happens(0.5)

        def work() -> None:
            ended.set_result(None)
            if done.cancelled() and not started:
                return
            fulfil(done, function, *args)

        loop.call_later(self._chance.wait(self._mean), work)
        return await done


class SimClock:
    """The clock port (`streamflow.time.clock.Clock`) on a simulated loop; `start` is its wall clock's first moment.

    >>> loop = SimLoop(1)
    >>> clock = SimClock(loop, start=1_000_000)
    >>> loop.run(clock.sleep(90)); clock.now(), clock.monotonic()
    (91000000, 90.0)
    """

    def __init__(self, loop: SimLoop, start: int) -> None:
        self._loop = loop
        self._start = start

    def now(self) -> int:
        """Microseconds since 1970 in UTC."""
        return self._start + self._loop.now

    def monotonic(self) -> float:
        """Seconds since the process began."""
        return self._loop.now / 1e6

    async def sleep(self, seconds: float) -> None:
        """Waits for `seconds` of virtual time; zero only lets other tasks run."""
        # A wait too short for microseconds still takes one: otherwise a loop that waits for a remainder would wait
        # for ever.
        await asyncio.sleep(max(seconds, 1e-6) if seconds > 0 else 0)


_BEGINNING: Final = to_micros(START)


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a process. `disk` is the disk that the next one finds; `leaks` are tasks left running and requests
    not answered in time; `vanished`: its checkpoints were removed; `damaged` are published checkpoints that could not
    be read, though the disk did nothing wrong."""

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
    befallen: Counter[str] = field(default_factory=Counter[str])
    """The mishaps of its workers."""
    damaged: tuple[str, ...] = ()


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
    leaks = () if how == "crashed" else (*running(loop), *loop.reports, *interventions.complaints)
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


def running(loop: SimLoop) -> list[str]:
    """The tasks that outlive the job."""
    return [f"task still running: {task.get_coro()!r}".split(" at 0x")[0] for task in loop.unfinished()]
