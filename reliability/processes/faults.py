"""Kills and freezes of a job on several processes while it runs: the part `processes`.

A few jobs in succession, from topic to topics, and one from files to files, each on three workers that go from fault
to fault: a worker or the coordinator is killed at any moment, or at a named step of the product, or frozen for longer
than `worker_timeout`. A worker is replaced by the product; after the coordinator's end the part starts it again, as a
supervisor would. The last one is left alone, and reads the rest as fast as it can.
"""

import os
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.figures import Figure
from deploy.kafka.local_broker import LocalBroker
from reliability.account import Account, percentile
from reliability.flow import Place, events
from reliability.flow import model as model_of_files
from reliability.flow import write_input as write_files
from reliability.kafka import verdict as of_topics
from reliability.kafka.flow import Site
from reliability.kafka.flow import model as model_of_topics
from reliability.kafka.log import write_input as write_topic
from reliability.points import ONCE
from reliability.points import POINTS as ALL_POINTS
from reliability.process import Victim
from reliability.processes import fuses
from reliability.verdict import judge as judge_files

EVENTS = 200_000
JOBS = ("topics", "topics", "topics", "topics", "files")
PROCESSES = 3
TIMEOUT_SECONDS = 3.0
FAULTS = {"worker": 110, "coordinator": 30, "point": 70, "freeze": 30, "freeze coordinator": 5}
QUICK = {"worker": 5, "coordinator": 2, "point": 3, "freeze": 2, "freeze coordinator": 1}
LEFT_OUT = {"manifest.named", "commit.renamed", "retain.manifest_removed", "retain.blob_removed"}
"""Points that are not for every job here; `commit.renamed` is where files are written."""
POINTS = tuple(point for point in ALL_POINTS if point not in LEFT_OUT)
OF_TOPICS = ("outbox.sealed", "kafka.fenced", "kafka.begun", "kafka.sent", "kafka.committed")
WAIT_SECONDS = 0.05, 1.2
"""Between the job's running again and the next fault."""
PAUSE_SECONDS = 0.15
PATIENCE_SECONDS = 60.0
FUSE_SECONDS = 15.0
TRIES = 3
RECOVERY_P50, RECOVERY_P99 = 2.0, 6.0


@dataclass
class Tally:
    """The findings of the jobs."""

    kills: Counter[str] = field(default_factory=Counter[str])
    points: Counter[str] = field(default_factory=Counter[str])
    recoveries: list[float] = field(default_factory=list[float])
    """Seconds from the log line that a worker is lost to the one that the job runs."""
    noticed: list[float] = field(default_factory=list[float])
    """Seconds from a kill to the log line."""
    silences: list[float] = field(default_factory=list[float])
    """The same after a freeze."""
    events: int = 0
    lost: int = 0
    surplus: int = 0
    disordered: int = 0
    fenced: int = 0
    starts: list[float] = field(default_factory=list[float])
    """Seconds from a new coordinator's start to the line that the job runs."""


class Job:
    """One job under fire: the coordinator that runs, and what it has said."""

    def __init__(self, site: Site, kind: str, *, hosts: bool = False) -> None:
        self.site = site
        self._hosts = hosts
        self.kind = kind
        self.starts = 0
        self._victim: Victim | None = None

    @property
    def fuses(self) -> Path:
        return self.site.root / "fuses"

    @property
    def coordinator(self) -> Victim:
        """The present one, which may have ended."""
        assert self._victim is not None
        return self._victim

    @property
    def lives(self) -> bool:
        return self.coordinator.process.poll() is None

    def start(self, pause: float, batch_rows: int = 128) -> None:
        """Starts a coordinator, and it the workers."""
        self.starts += 1
        self._victim = Victim.start(
            self.site,
            module="reliability.processes.driver",
            output=f"said-{self.starts}",
            job=self.kind,
            name=self.site.name,
            bootstrap=self.site.bootstrap,
            pause=pause,
            batch_rows=batch_rows,
            processes=PROCESSES,
            parallelism=PROCESSES,
            worker_timeout=f"{TIMEOUT_SECONDS:g}s",
            hosts=int(self._hosts),
        )

    def workers(self) -> list[psutil.Process]:
        """The processes of the workers."""
        try:
            return psutil.Process(self.coordinator.process.pid).children()
        except psutil.NoSuchProcess:
            return []

    def times(self, event: str) -> list[float]:
        """When the present coordinator has said something."""
        return [line["at"] for line in self.coordinator.said() if line.get("event") == event]

    def runs(self, since: float) -> bool:
        """Waits until the job runs (again), or its coordinator has ended; gives whether it runs."""
        if self.says("job is running", since, PATIENCE_SECONDS) is not None:
            return True
        if self.lives:
            raise RuntimeError(f"it does not run again: {self.coordinator.kill_after(0)}")
        return False

    def says(self, event: str, since: float, patience: float) -> float | None:
        """Waits until the coordinator says something; gives when it did, None: it has ended, or the patience has."""
        last = time.monotonic() + patience
        while time.monotonic() < last:
            if found := [at for at in self.times(event) if at > since]:
                return found[0]
            if not self.lives:
                return None
            time.sleep(0.05)
        return None


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part; `quick`: a dozen faults in two jobs."""
    chance, tally = random.Random(account.seed), Tally()
    wanted = QUICK if quick else FAULTS
    faults = [kind for kind, times in wanted.items() for _ in range(times)]
    chance.shuffle(faults)
    kinds = JOBS[-2:] if quick else JOBS
    account.say(f"seed {account.seed}")
    with LocalBroker() as broker:
        for n, kind in enumerate(kinds):
            site = Site(folder / f"processes-{n}", broker.bootstrap, f"processes-{n}")
            share = faults[n :: len(kinds)]
            try:
                _job(account, Job(site, kind), account.seed * 1_000 + n, share, tally)
            except RuntimeError as error:
                account.fail(f"job {n}, {site.root}: {error}")
    _tell(
        account, tally, sum(wanted[kind] for kind in ("worker", "coordinator", "point")), wanted, len(kinds)
    )


def _tell(account: Account, tally: Tally, kills: int, wanted: dict[str, int], jobs: int) -> None:
    times = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.kills.items()))
    account.add(
        Figure("kill -9 of workers and coordinators", _kills(tally), "times", "≥", kills),
        Figure("freezes beyond the timeout", tally.kills["freeze"] + tally.kills["freeze coordinator"], "times", "≥",
               wanted["freeze"] + wanted["freeze coordinator"]),
        Figure("events", tally.events, "", "≥", EVENTS * jobs),
        Figure("rows lost", tally.lost, "", "≤", 0),
        Figure("rows duplicated or wrong", tally.surplus, "", "≤", 0),
        Figure("rows out of order within their key", tally.disordered, "", "≤", 0),
        Figure("kill to its notice, p50", percentile(tally.noticed, 50), "s"),
        Figure("kill to its notice, p99", percentile(tally.noticed, 99), "s"),
        Figure("freeze to its notice, longest", max(tally.silences, default=float("nan")), "s", "≤",
               TIMEOUT_SECONDS + 2),
        Figure("notice to the job running again, p50", percentile(tally.recoveries, 50), "s", "≤", RECOVERY_P50),
        Figure("notice to the job running again, p99", percentile(tally.recoveries, 99), "s", "≤", RECOVERY_P99),
        Figure("new coordinator to the job running, p50", percentile(tally.starts, 50), "s"),
    )  # fmt: skip
    account.note(
        f"{jobs} jobs on {PROCESSES} workers: {times}; at {len(tally.points)} named points; load average "
        f"{os.getloadavg()[1]:.1f}; {tally.fenced} messages fenced"
    )


def _kills(tally: Tally) -> int:
    return tally.kills["worker"] + tally.kills["coordinator"] + tally.kills["point"]


def _job(account: Account, job: Job, seed: int, faults: list[str], tally: Tally) -> None:
    chance = random.Random(seed)
    site, frame = job.site, events(EVENTS, seed)
    site.root.mkdir(parents=True)
    if job.kind == "topics":
        write_topic(site, frame)
    else:
        write_files(site, frame)
    job.start(PAUSE_SECONDS)
    began = time.monotonic()
    try:
        if not job.runs(0.0):
            raise RuntimeError(f"it does not start: {job.coordinator.wait()}")
        for n, kind in enumerate(faults):
            time.sleep(chance.uniform(*WAIT_SECONDS))
            if not _fault(job, kind, chance, tally):
                break
            if n % 10 == 9:
                spent = time.monotonic() - began
                account.say(f"{site.name}: {n + 1} of {len(faults)} faults, {spent / (n + 1):.1f} s each")
        _note(job, tally)
        if job.lives:
            job.coordinator.kill_after(0)
            job.start(0.0, batch_rows=8192)
        ended = job.coordinator.wait(180)
    finally:
        for worker in [*job.workers(), *([psutil.Process(job.coordinator.process.pid)] if job.lives else [])]:
            worker.kill()
    if ended.code != 0:
        raise RuntimeError(str(ended))
    tally.events += EVENTS
    tally.fenced += sum(line.get("fenced", 0) for line in ended.said)
    if job.kind == "topics":
        found = of_topics.judge(site, model_of_topics(frame))
        tally.disordered += found.disordered
    else:
        found = judge_files(Place(site.root), model_of_files(frame))
    tally.lost += found.lost
    tally.surplus += found.surplus
    account.say(f"{site.name}: {found}; {_kills(tally)} kills so far")
    if not found.right:
        account.fail(f"seed {seed}, {site.root}: {found}")
    else:
        shutil.rmtree(site.root)


def _fault(job: Job, kind: str, chance: random.Random, tally: Tally) -> bool:
    """One fault, and the recovery from it; False if the job has come to its end by itself."""
    since = time.monotonic()
    _strike(job, kind, chance, tally)
    running = job.runs(since)
    lost = [at for at in job.times("worker lost") if at > since]
    if lost and kind == "worker":
        tally.noticed.append(lost[0] - since)
    if lost and kind == "freeze":
        tally.silences.append(lost[0] - since)
    if running:
        return True
    if job.coordinator.process.returncode != -signal.SIGKILL:
        return False
    _note(job, tally)
    for _ in range(TRIES):
        since = time.monotonic()
        job.start(PAUSE_SECONDS)
        if job.runs(since):
            tally.starts.append(job.times("job is running")[0] - since)
            return True
        if job.coordinator.process.returncode == 0:
            return False
        # A fuse that was laid before has met a process before anything ran: that ends a job, and a supervisor tries
        # again.
    raise RuntimeError(f"it does not start again: {job.coordinator.wait()}")


def _strike(job: Job, kind: str, chance: random.Random, tally: Tally) -> None:
    if kind == "point":
        _point(job, chance, tally)
        return
    worker = _any(job, chance)
    match kind:
        case "worker" if worker is not None:
            worker.kill()
        case "freeze" if worker is not None:
            worker.suspend()
        case "coordinator":
            job.coordinator.kill_after(0)
        case "freeze coordinator":
            _freeze_coordinator(job)
        case _:
            return
    tally.kills[kind] += 1


def _any(job: Job, chance: random.Random) -> psutil.Process | None:
    workers = job.workers()
    return chance.choice(workers) if workers else None


def _freeze_coordinator(job: Job) -> None:
    """Freezes the coordinator until its workers have ended themselves, and lets it go on."""
    workers = job.workers()
    job.coordinator.signal(signal.SIGSTOP)
    try:
        last = time.monotonic() + TIMEOUT_SECONDS + 5
        # Their parent has not reaped them.
        while any(worker.status() != psutil.STATUS_ZOMBIE for worker in workers if worker.is_running()):
            if time.monotonic() > last:
                raise RuntimeError("workers live on without their coordinator")
            time.sleep(0.05)
    finally:
        job.coordinator.signal(signal.SIGCONT)


def _point(job: Job, chance: random.Random, tally: Tally) -> None:
    """Lays a fuse at a step, and waits until a process has burnt it."""
    points = (*POINTS, *OF_TOPICS) if job.kind == "topics" else (*POINTS, "commit.renamed")
    name = chance.choice(points)
    fuses.lay(job.fuses, name)
    if name in ONCE and (worker := _any(job, chance)) is not None:
        worker.kill()
        tally.kills["worker"] += 1
    last = time.monotonic() + FUSE_SECONDS
    while (pid := fuses.burnt(job.fuses, name)) is None:
        if time.monotonic() > last or not job.lives:
            fuses.remove(job.fuses, name)
            break
        time.sleep(0.02)
    pid = pid or fuses.burnt(job.fuses, name)
    if pid is not None:
        tally.kills["point"] += 1
        tally.points[name] += 1
        if pid == job.coordinator.process.pid:
            job.coordinator.process.wait()


def _note(job: Job, tally: Tally) -> None:
    """Takes down the recoveries of a coordinator: from the last notice of a lost worker until the job ran."""
    noticed: float | None = None
    for line in job.coordinator.said():
        if line.get("event") == "worker lost":
            noticed = line["at"]
        elif line.get("event") == "job is running" and noticed is not None:
            tally.recoveries.append(line["at"] - noticed)
            noticed = None
