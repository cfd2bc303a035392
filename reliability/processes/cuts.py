"""Partitions: workers that live on, and are cut off from the coordinator, from each other, or from everybody.

The hosts are network namespaces (`hosts`), which needs root. Nobody can end a worker that is cut off: it has to end
itself, and until then it is a zombie beside its successor. Frozen ones are there, too, which go on when they have been
succeeded. The job is the one from files to files: all hosts see the same folders, as they would see an object store.
"""

import os
import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.figures import Figure
from reliability.account import Account, percentile
from reliability.flow import Place, events, model, write_input
from reliability.kafka.flow import Site
from reliability.processes.faults import PAUSE_SECONDS, TIMEOUT_SECONDS, Job
from reliability.processes.hosts import Hosts, host_of
from reliability.verdict import judge

EVENTS = 200_000
KINDS = {"all": 10, "unheard": 5, "deaf": 5, "another": 4, "frozen": 8}
QUICK = {"all": 1, "unheard": 1, "deaf": 1, "another": 1, "frozen": 1}
APART_SECONDS = 20.0
"""Two workers that cannot reach each other, at most: until one of them has noticed."""
ITSELF_WITHIN_SECONDS = 3.0
"""Beyond the timeout: the watch looks once a second, and the machine is busy."""
APART_WITHIN_SECONDS = 5.0
"""Beyond the timeout: each connection is looked at four times in it, and the end of a process would say more."""
GIVEN_UP_SECONDS = 20.0


@dataclass
class Findings:
    """The outcome of the cuts so far."""

    cuts: int = 0
    frozen: int = 0
    ends: list[float] = field(default_factory=list[float])
    """Seconds from a cut, or from going on, until the zombie had ended itself."""
    alive: int = 0
    """Zombies that did not."""
    recoveries: list[float] = field(default_factory=list[float])
    """Seconds from a cut to the job running again without the worker."""
    apart: list[float] = field(default_factory=list[float])
    """Seconds from a cut between two workers, both of which the coordinator hears, to the end of the attempt."""


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part; `quick`: one cut of each kind."""
    if os.geteuid() != 0:
        account.note("left out: network namespaces need root")
        return
    chance, found = random.Random(account.seed), Findings()
    account.say(f"seed {account.seed}")
    kinds = [kind for kind, times in (QUICK if quick else KINDS).items() for _ in range(times)]
    chance.shuffle(kinds)
    site, frame = Site(folder / "processes-cuts", "", "cuts"), events(EVENTS, account.seed)
    site.root.mkdir(parents=True)
    write_input(Place(site.root), frame)
    with Hosts(site.root / "cuts") as hosts:
        ended, fenced = _job(account, Job(site, "files", hosts=True), kinds, hosts, chance, found)
    verdict = judge(Place(site.root), model(frame))
    if not ended or not verdict.right:
        account.fail(f"seed {account.seed}, {site.root}: {verdict}")
    else:
        shutil.rmtree(site.root)
    account.add(
        Figure("partitions", found.cuts, "times", "≥", len(kinds) - kinds.count("frozen")),
        Figure("frozen, succeeded and continued", found.frozen, "times", "≥", kinds.count("frozen")),
        Figure("workers without a coordinator that did not end themselves", found.alive, "", "≤", 0),
        Figure("cut to the worker's own end, longest", max(found.ends, default=float("nan")), "s", "≤",
               TIMEOUT_SECONDS + ITSELF_WITHIN_SECONDS),
        Figure("two workers apart to the attempt's end, longest", max(found.apart, default=float("nan")), "s", "≤",
               TIMEOUT_SECONDS + APART_WITHIN_SECONDS),
        Figure("cut to the job running without it, p50", percentile(found.recoveries, 50), "s"),
        Figure("events", EVENTS, ""),
        Figure("rows lost", verdict.lost, "", "≤", 0),
        Figure("rows written twice or wrong", verdict.surplus, "", "≤", 0),
    )  # fmt: skip
    account.note(f"load average {os.getloadavg()[1]:.1f}; {fenced} messages fenced by the coordinator")


def _job(
    account: Account, job: Job, kinds: list[str], hosts: Hosts, chance: random.Random, found: Findings
) -> tuple[bool, int]:
    """Goes from cut to cut; whether the job came to its end, and the number of messages that its coordinator fenced."""
    job.start(PAUSE_SECONDS)
    fenced = 0
    try:
        if not job.runs(0.0):
            raise RuntimeError(f"it does not start: {job.coordinator.wait()}")
        for n, kind in enumerate(kinds):
            time.sleep(chance.uniform(0.3, 1.5))
            if not job.lives:
                break
            _cut(account, job, kind, hosts, chance, found)
            if n % 5 == 4:
                account.say(f"{n + 1} of {len(kinds)} cuts")
        if job.lives:
            job.coordinator.signal(signal.SIGTERM)
            stopped = job.coordinator.wait(60)
            fenced = stopped.get("fenced") or 0
            if stopped.code:
                account.fail(f"it does not stop: {stopped}")
            job.start(0.0, batch_rows=8192)
        ended = job.coordinator.wait(180)
        if ended.code:
            account.fail(str(ended))
        return ended.code == 0, fenced
    finally:
        for process in [
            *job.workers(),
            *([psutil.Process(job.coordinator.process.pid)] if job.lives else []),
        ]:
            process.kill()


def _cut(account: Account, job: Job, kind: str, hosts: Hosts, chance: random.Random, found: Findings) -> None:
    """One cut and what comes of it; the network is whole again afterwards."""
    workers = [(worker, host) for worker in job.workers() if (host := host_of(worker.pid)) is not None]
    if len(workers) < 2:
        return
    worker, host = chance.choice(workers)
    since = time.monotonic()
    if kind == "another":
        other = next(there for _, there in workers if there != host)
        hosts.cut(host, str(other))
        noticed = job.says("job restarts", since, APART_SECONDS)
        found.apart.append(float("inf") if noticed is None else noticed - since)
        hosts.heal(host, str(other))
        if not job.runs(since):
            raise RuntimeError(f"it ended by a cut: {job.coordinator.wait()}")
        found.cuts += 1
        return
    if kind == "frozen":
        worker.suspend()
        found.frozen += 1
    else:
        hosts.cut(host, kind)
        found.cuts += 1
    with ThreadPoolExecutor(1) as pool:
        end = None if kind == "frozen" else pool.submit(_own_end, worker, since)
        if not job.runs(since):
            raise RuntimeError(f"it ended by a cut: {job.coordinator.wait()}")
        found.recoveries.append(time.monotonic() - since)
        if end is None:
            worker.resume()
            end = pool.submit(_own_end, worker, time.monotonic())
        seconds = end.result()
    if kind != "frozen":
        hosts.heal(host, kind)
    if seconds is None:
        found.alive += 1
        account.fail(f"{kind}: worker {worker.pid} lives on")
        worker.kill()
    else:
        found.ends.append(seconds)


def _own_end(worker: psutil.Process, since: float) -> float | None:
    """The seconds until the worker has ended; None if it lives on."""
    try:
        worker.wait(TIMEOUT_SECONDS + GIVEN_UP_SECONDS)
    except psutil.TimeoutExpired:
        return None
    return time.monotonic() - since
