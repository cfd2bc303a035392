"""Several simulated processes on one loop: a coordinator, its workers, and what befalls them.

A process that is killed runs nothing any more, no `finally` either; its connections end, or nobody hears of it. The
disk is one that all share. When a coordinator is killed, the next one comes up while the workers of the first may
still be at work.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

from streamflow.config import Settings
from streamflow.graph.logical import LogicalGraph
from streamflow.graph.physical import PhysicalPlan
from streamflow.runners.processes.pool import WorkerPool
from streamflow.runtime.control.messages import FromProcess, ToProcess
from streamflow.runtime.ports import Ports
from streamflow.testing.clock import START
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.disk import SimDisk
from streamflow.testing.simulation.interventions import Interventions
from streamflow.testing.simulation.loop import PROCESS, Crash, SimLoop, host_of
from streamflow.testing.simulation.mishaps import Mishap
from streamflow.testing.simulation.network import SimNetwork
from streamflow.testing.simulation.points import ANY_STEP, CrashPoints
from streamflow.testing.simulation.process import Ending, SimClock, SimThreads, running
from streamflow.testing.simulation.schedule import Incarnation
from streamflow.testing.simulation.trace import Trace
from streamflow.testing.simulation.witness import Witness
from streamflow.testing.workers.starting import LoopStarter, pool_on_loop
from streamflow.time.timestamps import to_micros

__all__ = ["SILENCE", "WORKER", "Cluster", "Main", "MakePool", "Member"]

SILENCE: Final = 3.0
"""Seconds without a word after which a worker, or its coordinator, is taken for lost."""
WORKER: Final = "worker: "
"""The beginning of the names of points that workers come to."""
_COORDINATOR: Final = "coordinator"
_START: Final = 0.02
_NOTICE: Final = 0.005
_BEGINNING: Final = to_micros(START)

Planned = Callable[[LogicalGraph, Settings], PhysicalPlan]
Main = Callable[["Member", Interventions], Coroutine[Any, Any, Any]]


MakePool = Callable[[LogicalGraph, Planned, PhysicalPlan, int], WorkerPool]
"""Makes a pool of so many workers at most for a graph, the function that plans it, and its plan."""


class Member:
    """The ports of a process, and a function that makes its pool of workers, if it has some."""

    def __init__(self, ports: Ports, pool: MakePool | None = None) -> None:
        self.ports = ports
        self.pool = pool


class Cluster:
    """The processes of one job that share a loop, and its coordinators, one after the other. `latency` is the mean time
    of a message on its way, in seconds; where workers are `remote`, the pool cannot end one that it has given up."""

    def __init__(
        self,
        disk: SimDisk,
        incarnation: Incarnation,
        *,
        chance: Chance,
        trace: Trace,
        blocking: float,
        latency: float,
        remote: bool,
        stalls: float,
        place: Path,
        job: str,
    ) -> None:
        self.loop = SimLoop(chance.token(), trace=trace, stalls=stalls)
        self._chance = chance
        self._trace = trace
        self._blocking = blocking
        self._remote = remote
        self._place = place
        self._job = job
        self._network = SimNetwork(self.loop, chance.split("network"), latency)
        self._clock = SimClock(self.loop, start=_BEGINNING + incarnation.clock_jump)
        self.over = False
        """Whether nothing of it is there any more. Where only a coordinator was killed, its workers may be."""
        self._points: CrashPoints | None = None
        self._workers: dict[str, _SimWorker] = {}
        self._coordinators = 0
        self._coordinator = ""
        self._number = 1
        """The number of workers."""
        self._befallen: Counter[str] = Counter()
        """The mishaps of the present coordinator's time."""
        self._troubles = 0
        """The number of mishaps before: they may still last."""
        self._complaints: list[str] = []
        self._disk = disk.handed_over(
            faults=incarnation.faults,
            on_call=self._call,
            now=self._clock.now,
            trace=trace,
            gone=self.loop.dead,
        )

    def run(self, main: Main, incarnation: Incarnation) -> Ending:
        """Runs the next coordinator to its end or to its crash."""
        loop = self.loop
        self._coordinators += 1
        self._coordinator = f"{_COORDINATOR}, process {self._coordinators}"
        chance = self._chance.split(self._coordinator)
        interventions = Interventions(incarnation.interventions, loop, self._place)
        interventions.disk = self._disk
        mishaps = {(each.point, each.time): each for each in incarnation.mishaps}
        crash, witness = incarnation.crash, Witness(self._disk, self._place, self._job)
        self._troubles += self._befallen.total()
        self._befallen.clear()

        def come(point: str, time: int) -> None:
            self._as(self._coordinator, interventions.come, point, time)
            if point == "manifest.published":
                self._as("", witness.published)
            if (mishap := mishaps.get((point, time))) is not None:
                self._befall(mishap)

        point = "" if crash is None else crash.point
        self._points = points = CrashPoints(
            crash, lambda: self._crash(point), trace=self._trace, on_point=come
        )
        began, steps = loop.now, loop.steps

        def step(number: int) -> None:
            self._as(self._coordinator, interventions.step, number - steps)
            if crash is not None and crash.point == ANY_STEP and number - steps == crash.time:
                self._kill(self._coordinator, notice=True)
            if (mishap := mishaps.pop((ANY_STEP, number - steps), None)) is not None:
                self._befall(mishap)

        loop.on_step = step
        ports = self._ports(self._coordinator, chance)
        folder = f"/{self._coordinators}"
        member = Member(ports, partial(self._pool, folder, ports, chance, witness))
        error: Exception | None = None
        result: Any = None
        how: Literal["finished", "crashed", "failed"] = "finished"
        context = copy_context()
        context.run(PROCESS.set, self._coordinator)
        try:
            result = context.run(loop.run, main(member, interventions))
        except Crash:
            how = "crashed"
        except Exception as raised:  # noqa: BLE001 — judged by the caller
            error = raised
            how = "failed"
        points.reached[ANY_STEP] = loop.steps - steps
        leaks = (*witness.complaints, *self._complaints)
        if how != "crashed":
            leaks += (*running(loop), *loop.reports, *interventions.complaints)
        disk, faulted = self._disk, self._disk.faulted
        self.over = how != "crashed" or (crash is not None and crash.loss == "power")
        if self.over:
            disk = disk.crash("power" if how == "crashed" else "kill", chance.split("loss"))
            loop.abandon()
        return Ending(
            how,
            disk,
            points.reached,
            loop.steps - steps,
            (loop.now - began) / 1e6,
            faulted + self._befallen.total() + self._troubles,
            result,
            error,
            leaks,
            interventions.vanished,
            befallen=Counter(self._befallen),
            damaged=() if faulted else tuple(witness.damaged),
        )

    # What processes are given.

    def _ports(self, name: str, chance: Chance) -> Ports:
        mine = chance.split(name)
        return Ports(
            clock=self._clock,
            random=mine.split("random"),
            disk=self._disk,
            io=SimThreads(mine.split("io"), self._blocking),
            cpu=SimThreads(mine.split("cpu"), self._blocking),
            reach=self._reach,
        )

    def _pool(
        self,
        folder: str,
        ports: Ports,
        chance: Chance,
        witness: Witness,
        graph: LogicalGraph,
        planned: Planned,
        plan: PhysicalPlan,
        most: int,
    ) -> WorkerPool:
        """A pool of so many workers at most, as many as the plan has room for."""
        self._number = min(most, max(task.parallelism for task in plan.tasks))

        def watch(what: str, attempt: int, message: FromProcess | ToProcess) -> None:
            if what == "heard":
                witness.heard(attempt, message)
            elif type(message).__name__ not in ("Alive", "Beat", "Pulse"):
                self._reach(f"sent {type(message).__name__}")

        starter = LoopStarter(
            graph,
            self._network,
            lambda name: self._ports(name, chance),
            planned=planned,
            spawn=self._spawn,
            watch=watch,
            lost=self._lost,
            folder=folder,
        )
        return pool_on_loop(
            plan,
            self._number,
            starter,
            self._network,
            ports.clock,
            silence=SILENCE,
            watch=watch,
        )

    # Points.

    def _reach(self, point: str) -> None:
        if self._points is not None:
            process = PROCESS.get()
            self._points.reach(point if process == self._coordinator else WORKER + point)

    def _call(self, what: str) -> None:
        if self._points is not None and PROCESS.get() == self._coordinator:
            self._points.call(what)

    def _crash(self, point: str) -> NoReturn:
        """Ends the process that has come to the crash point."""
        process = PROCESS.get()
        if process != self._coordinator:
            self._befallen[point] += 1
        self._kill(process, notice=True)
        raise Crash

    def _as(self, process: str, function: Callable[..., None], *args: Any) -> None:
        """Calls a function as a process does."""
        context = Context()
        context.run(PROCESS.set, process)
        context.run(function, *args)

    # Ends of processes.

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> _SimWorker:
        name = f"{name} of coordinator {self._coordinators}"
        self._workers[name] = worker = _SimWorker(self, name, self.loop.create_future())
        context = copy_context()
        context.run(PROCESS.set, name)
        self.loop.call_later(self._chance.wait(_START), self._begin, worker, work, context, context=context)
        return worker

    def _begin(self, worker: _SimWorker, work: Coroutine[Any, Any, None], context: Context) -> None:
        task = self.loop.create_task(work, context=context)
        task.add_done_callback(lambda task: self._done(worker, task))

    def _done(self, worker: _SimWorker, task: asyncio.Task[None]) -> None:
        """The program of a worker has come to its end."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._complaints.append(f"{worker.shown} failed: {type(error).__name__}: {error}")
        left = [
            each
            for process, each in self.loop.tasks
            if process == worker.shown and not each.done() and not each.cancelling()
        ]
        self._complaints.extend(
            f"{worker.shown} left running: {each.get_coro()!r}".split(" at 0x")[0] for each in left
        )
        self._kill(worker.shown, notice=True)

    def _lost(self) -> NoReturn:
        """A worker has lost its coordinator."""
        self._kill(PROCESS.get(), notice=True)
        raise Crash

    def _kill(self, process: str, *, notice: bool) -> None:
        if process in self.loop.dead:
            return
        self._trace.event(f"{process} ends")
        self._network.died(process, notice=notice)
        self.loop.kill(process)
        worker = self._workers.pop(process, None)
        if worker is not None and notice:
            self.loop.call_later(self._chance.wait(_NOTICE), worker.end, context=Context())

    def give_up(self, worker: _SimWorker) -> None:
        """Ends a worker as its pool can: not where it cannot be reached."""
        if not self._remote:
            self._kill(worker.shown, notice=True)
        self.loop.call_later(self._chance.wait(_NOTICE), worker.end, context=Context())

    # Mishaps.

    def _befall(self, mishap: Mishap) -> None:
        place = mishap.worker % self._number
        host, coordinator = f"worker {place}", _COORDINATOR
        following = f"worker {(place + 1) % self._number}"
        process = next((name for name in reversed(self._workers) if host_of(name) == host), None)
        self._trace.event(str(mishap))
        self._befallen[mishap.what] += 1
        later = partial(self.loop.call_later, mishap.seconds, context=Context())
        ways: list[tuple[str, str]] = []
        match mishap.what:
            case "killed" | "lost":
                if process is not None:
                    self._kill(process, notice=mishap.what == "killed")
                    if process == PROCESS.get():
                        raise Crash
            case "frozen":
                if process is not None:
                    self.loop.freeze(process)
                    later(self.loop.thaw, process)
            case "cut off":
                ways = [(host, coordinator), (coordinator, host)]
            case "mute":
                ways = [(host, coordinator)]
            case "deaf":
                ways = [(coordinator, host)]
            case "apart":
                ways = [(host, following), (following, host)]
        for way in ways:
            self._network.cut(*way)
            later(self._network.heal, *way)


class _SimWorker:
    """A worker as its pool sees it."""

    def __init__(self, cluster: Cluster, name: str, ended: asyncio.Future[None]) -> None:
        self.shown = name
        self._cluster = cluster
        self._ended = ended

    async def ended(self) -> str:
        await asyncio.shield(self._ended)
        return f"{self.shown} ended"

    def kill(self) -> None:
        self._cluster.give_up(self)

    def end(self) -> None:
        """Tells its end."""
        if not self._ended.done():
            self._ended.set_result(None)
