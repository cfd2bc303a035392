"""Runs one schedule: process after process on one disk until the job has ended, and judges the outcome.

Judged are the final results (they have to be those of an undisturbed run), the end of each process, tasks left
running, records counted as late, the order of changes, and every published checkpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

from streamflow.core.schema import CHANGE
from streamflow.core.stream_type import WITHDRAWN
from streamflow.errors import JobFailedError, SinkError, StateError, StreamflowError
from streamflow.observe.status import JobResult
from streamflow.runtime.ports import Ports
from streamflow.state.checkpoints.local_blobs import LocalBlobs
from streamflow.state.checkpoints.store import CheckpointStore, jobs_in
from streamflow.testing.clock import TestClock
from streamflow.testing.modes import is_changing
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.cluster import Cluster, Main, Member
from streamflow.testing.simulation.disk import SimDisk
from streamflow.testing.simulation.interventions import Interventions
from streamflow.testing.simulation.points import CrashAt
from streamflow.testing.simulation.process import Ending, run_process
from streamflow.testing.simulation.scenario import CHECKPOINTS, Results, Rows, Scenario
from streamflow.testing.simulation.schedule import Incarnation, Odds, Rot, Schedule
from streamflow.testing.simulation.trace import Trace

__all__ = [
    "Outcome",
    "damaged_checkpoints",
    "expected_results",
    "published",
    "rotten",
    "run_schedule",
    "survey",
]

_MORE: Final = 3
"""The number of undisturbed processes beyond the schedule's that may be needed."""
_WHOLE: Final = 10.0
"""Seconds in which an undisturbed job is done that is never quiet."""
_RECOVERY: Final = 20.0
"""Seconds in which a mishap is noticed and dealt with, once it is over."""
_REST: Final = 60.0
"""Seconds after the job's end; a task that still runs then was left running."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a schedule. `failure` is None if nothing failed; `digest` is that of the trace, `last` its last
    events; `refused`: the job refused, in words, to continue from damaged checkpoints, or they had vanished."""

    schedule: Schedule
    failure: str | None
    digest: str
    processes: int
    refused: bool
    crashed: Counter[str] = field(default_factory=Counter[str])
    reached: Counter[str] = field(default_factory=Counter[str])
    last: tuple[str, ...] = ()


def expected_results(scenario: Scenario, rows: Rows) -> Results:
    """The results of the job in batch mode, undisturbed."""
    scenario.arrange_as_recorded(rows)

    async def main(ports: Ports, interventions: Interventions) -> None:
        await scenario.start(ports, mode="batch", parallelism=1).wait()

    ending = run_process(main, Incarnation(1), SimDisk(), chance=Chance(0), trace=Trace(), blocking=0)
    if ending.error is not None:
        raise ending.error
    return scenario.results(ending.disk)


def survey(scenario: Scenario, **odds: Any) -> Odds:
    """The crash points of this job, found by an undisturbed run and one that continues from a checkpoint."""
    reached: Counter[str] = Counter()
    workers = odds.get("workers", 0)
    usual = Schedule(-1, (Incarnation(2),), splits=2, interval=0.04, workers=workers)
    # With many checkpoints points show up that few runs come to: each counts, however rarely it is met.
    crash = CrashAt("commit.before", 2, "kill")
    dense = Schedule(-1, (Incarnation(2, crash),), splits=2, batch_rows=4, interval=0.01, workers=workers)
    for schedule in (usual, dense):
        for ending in _processes(scenario, schedule, Trace()):
            for point, times in ending.reached.items():
                if schedule is usual or point not in reached:
                    reached[point] = times if schedule is usual else min(times, 2)
    return Odds(points=dict(reached), **odds)


def run_schedule(scenario: Scenario, schedule: Schedule, expected: Results) -> Outcome:
    """Runs a schedule and judges it."""
    trace = Trace()
    crashed: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    failure: str | None = None
    refused = finished = rot = vanished = False
    number = -1
    disk = SimDisk()
    for number, ending in enumerate(_processes(scenario, schedule, trace)):
        incarnation = schedule.at(number)
        rot = rot or incarnation.rot is not None
        disk = ending.disk
        reached.update(ending.reached)
        if ending.how == "crashed" and incarnation.crash is not None:
            crashed[incarnation.crash.point] += 1
        crashed.update(ending.befallen)
        finished = ending.how == "finished" and not ending.result.stopped
        vanished = vanished or ending.vanished
        failure = _misbehaviour(ending, scenario, forgiven=rot or vanished) or _slow(
            ending, schedule, incarnation
        )
        # Checkpoints that vanish while one is written may leave half of it.
        if failure is None and not (rot or vanished):
            failure = damaged_checkpoints(disk, CHECKPOINTS)
        refused = failure is None and ending.how == "failed" and not ending.faulted and (rot or vanished)
        # If all have vanished, and no checkpoint has come since, there is nothing to continue from.
        lost = vanished and not finished and not published(disk, CHECKPOINTS)
        refused = refused or (failure is None and lost)
        if failure is not None or refused:
            break
    if failure is None and not refused:
        failure = (
            _wrong(scenario, schedule.rows, expected, disk) if finished else "the job did not come to an end"
        )
    return Outcome(schedule, failure, trace.digest, number + 1, refused, crashed, reached, tuple(trace.last))


def _processes(scenario: Scenario, schedule: Schedule, trace: Trace) -> Iterator[Ending]:
    """Runs the job's processes one after the other, until one has finished; no more than the schedule may need."""
    disk = SimDisk()
    cluster: Cluster | None = None
    for number in range(len(schedule.incarnations) + _MORE):
        incarnation = schedule.at(number)
        chance = Chance(f"process/{schedule.seed}/{number}")
        trace.event(f"process {number + 1}")
        if incarnation.rot is not None and (cluster is None or cluster.over):
            for path in rotten(disk, CHECKPOINTS, incarnation.rot):
                trace.event(f"rot: in {path.parent}")
        scenario.arrange(schedule, number)
        if schedule.workers:
            if cluster is None or cluster.over:
                cluster = _cluster(scenario, schedule, incarnation, disk, chance, trace)
            ending = cluster.run(_main(scenario, schedule, incarnation), incarnation)
        else:
            ending = _alone(scenario, schedule, incarnation, disk, chance, trace)
        trace.event(f"process {number + 1} {ending.how}", ending.steps)
        yield ending
        disk = ending.disk
        if ending.how == "finished" and not ending.result.stopped:
            return


def _alone(
    scenario: Scenario,
    schedule: Schedule,
    incarnation: Incarnation,
    disk: SimDisk,
    chance: Chance,
    trace: Trace,
) -> Ending:
    """Runs a process that does everything itself."""
    main = _main(scenario, schedule, incarnation)
    return run_process(
        lambda ports, interventions: main(Member(ports), interventions),
        incarnation,
        disk,
        chance=chance,
        trace=trace,
        blocking=schedule.blocking,
        stalls=schedule.stalls,
        place=CHECKPOINTS,
    )


def _cluster(
    scenario: Scenario,
    schedule: Schedule,
    incarnation: Incarnation,
    disk: SimDisk,
    chance: Chance,
    trace: Trace,
) -> Cluster:
    return Cluster(
        disk,
        incarnation,
        chance=chance,
        trace=trace,
        blocking=schedule.blocking,
        latency=schedule.latency,
        remote=schedule.remote,
        stalls=schedule.stalls,
        place=CHECKPOINTS,
        job=scenario.graph.job,
    )


def _main(scenario: Scenario, schedule: Schedule, incarnation: Incarnation) -> Main:
    interval = timedelta(seconds=schedule.interval)

    async def main(member: Member, interventions: Interventions) -> JobResult:
        handle = scenario.start(
            member.ports,
            pool=member.pool,
            workers=schedule.workers,
            mode=schedule.mode,
            parallelism=incarnation.parallelism,
            batch_rows=schedule.batch_rows,
            checkpoint_dir=str(CHECKPOINTS),
            checkpoint_interval=interval,
            micro_batch_interval=interval,
            restore="latest",
            restart="fixed" if schedule.restarts or schedule.workers else "none",
            restart_attempts=5 if not schedule.workers else 20,
            restart_delay=timedelta(milliseconds=10),
        )
        interventions.start(handle)
        try:
            result = await handle.wait()
            await interventions.answered()
            return result
        finally:
            await member.ports.clock.sleep(_REST)

    return main


def _misbehaviour(ending: Ending, scenario: Scenario, *, forgiven: bool) -> str | None:
    """The error text for the end of a process; None if it may end so."""
    if ending.leaks or (ending.damaged and not forgiven):
        ended = () if ending.error is None else (f"{type(ending.error).__name__}: {ending.error}",)
        return "; ".join((*ended, *ending.leaks, *ending.damaged))
    if ending.how == "finished" and scenario.timed:
        late = ending.result.late + ending.result.dropped
        if late:
            return f"{late} records were taken for late, and none was"
    if ending.error is None:
        return None
    error = ending.error
    told = f"{type(error).__name__}: {error}"
    if not (ending.faulted or forgiven):
        return f"failed, and nothing had befallen it: {told}"
    unforeseen = isinstance(error, JobFailedError) and "please report" in str(error.hint)
    if unforeseen or not isinstance(error, StreamflowError):
        return f"failed without saying clearly why: {told}"
    return None


def _slow(ending: Ending, schedule: Schedule, incarnation: Incarnation) -> str | None:
    """The error text for a job on several processes that took too long to recover; None if it did not."""
    if ending.how != "finished" or schedule.quiet or not schedule.workers:
        return None
    troubles = len(incarnation.mishaps) + (incarnation.crash is not None)
    bound = _REST + _WHOLE + _RECOVERY * troubles + sum(each.seconds for each in incarnation.mishaps)
    if ending.seconds <= bound:
        return None
    return f"it took {ending.seconds - _REST:.0f} s, and might have taken {bound - _REST:.0f} s after what befell it"


def _wrong(scenario: Scenario, rows: Rows, expected: Results, disk: SimDisk) -> str | None:
    try:
        actual = scenario.results(disk)
    except SinkError as error:
        return error.message
    text = scenario.wrong(rows, expected, actual)
    if text is not None:
        return text
    for id, written in actual.items():
        row = _out_of_order(written) if is_changing(scenario.graph, id) else None
        if row is not None:
            return f"{id}: changes of a key came out of order: {row!r} withdraws a row that had not come yet"
    return None


def _out_of_order(rows: list[Any]) -> Any:
    """A withdrawal that came before the row that it withdraws; None if there is none."""
    there: Counter[str] = Counter()
    for row in cast("list[Mapping[str, Any]]", rows):
        value = repr({name: row[name] for name in row if name != CHANGE})
        if row[CHANGE] in WITHDRAWN:
            there[value] -= 1
            if there[value] < 0:
                return row
        else:
            there[value] += 1
    return None


def damaged_checkpoints(disk: SimDisk, root: Path) -> str | None:
    """The error text for damaged checkpoints below `root`; None if each one is intact."""
    if not disk.exists(root):
        return None
    blobs = LocalBlobs(root, disk)
    for job in jobs_in(blobs):
        store = CheckpointStore(blobs, job, clock=TestClock())
        for number in store.numbers():
            try:
                problems = [f"{problem.file}: {problem.what}" for problem in store.verify(number)]
            except StateError as error:
                problems = [error.message]
            if problems:
                return f"checkpoint {number} was published and is damaged: " + "; ".join(problems)
    return None


def published(disk: SimDisk, root: Path) -> bool:
    """Whether there is a checkpoint below `root`."""
    return any(path.parent.name == "manifests" and path.name.isdigit() for path in disk.oldest_first(root))


def rotten(disk: SimDisk, root: Path, rot: Rot) -> list[Path]:
    """Lets a stored file rot; returns its name, or none if there is no file."""
    files = [path for path in disk.oldest_first(root) if {"blobs", "manifests"} & set(path.parts)]
    chosen = files[rot.file % len(files) :][:1] if files else []
    for path in chosen:
        disk.flip(path, rot.bit)
    return chosen
