"""A process that was thought dead: frozen by SIGSTOP, succeeded by another, and continued.

A folder's lock keeps a second process of one machine out (the part `stop` shows that), so it is switched off here. Some
successors take the job over in the same folder, where claims and Kafka keep the zombie from doing harm; others have a
copy of the folder, and only Kafka is left to keep the two apart. The zombie wakes when its successor is ahead; it has
to end, and say why. Then the successor is killed, and a third process shows that nothing harmful is left over.
"""

import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from deploy.kafka.local_broker import LocalBroker
from reliability.account import Account, percentile, workers
from reliability.flow import events
from reliability.kafka.flow import Site, model
from reliability.kafka.log import write_input
from reliability.kafka.verdict import Verdict, judge
from reliability.kafka.victims import commits, start, until
from reliability.process import Ended, Victim

OUTPUT = (
    "commit.before",
    "kafka.fenced",
    "kafka.marker_read",
    "kafka.begun",
    "kafka.sent",
    "kafka.committed",
)
BEFORE = ("outbox.sealed", "manifest.before", "manifest.written", "manifest.named", "manifest.published")
AT_RANDOM = 4
EVENTS = 20_000
PAUSE_SECONDS = 0.05
BATCH_ROWS = 48
AHEAD = 3
"""Times that the successor has published when the zombie wakes; the first may be what the zombie had sealed."""
PATIENCE_SECONDS = 30.0
REASONS = {"PublishedByOthersError", "FencedError"}


@dataclass(frozen=True)
class Case:
    """Where the process freezes itself (None: it is frozen at random), and where its successor works."""

    point: str | None
    time: int
    apart: bool

    def __str__(self) -> str:
        where = "at random" if self.point is None else f"at {self.point}:{self.time}"
        return f"frozen {where}, succeeded {'elsewhere' if self.apart else 'in its folder'}"


@dataclass(frozen=True)
class Outcome:
    """The topics' content in the end, and how soon the zombie ended; None if it did not end as it should."""

    verdict: Verdict
    seconds: float | None = None


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part; `quick`: four cases."""
    account.say(f"seed {account.seed}")
    chance = random.Random(account.seed)
    cases = [Case(point, chance.randint(2, 4), apart) for apart in (True, False) for point in OUTPUT]
    cases += [Case(point, chance.randint(2, 4), apart=False) for point in BEFORE]
    cases += [Case(None, 0, apart=n % 2 == 0) for n in range(AT_RANDOM)]
    if quick:
        cases = [
            Case("commit.before", 3, apart=True),
            Case("kafka.sent", 3, apart=True),
            Case("manifest.named", 3, apart=False),
            Case(None, 0, apart=False),
        ]
    with LocalBroker() as broker, ThreadPoolExecutor(workers()) as pool:
        sites = [
            Site(folder / f"kafka-zombie-{n}", broker.bootstrap, f"zombie-{n}") for n in range(len(cases))
        ]
        ends = [
            pool.submit(_guarded, account, site, account.seed * 1_000 + n, case)
            for n, (site, case) in enumerate(zip(sites, cases, strict=True))
        ]
        outcomes = [end.result() for end in ends]
    seconds = [each.seconds for each in outcomes if each.seconds is not None]
    account.add(
        Figure("frozen, succeeded and continued", len(cases), "times"),
        Figure("zombies that ended with a clear error", len(seconds), "times", "≥", len(cases)),
        Figure("SIGCONT to the zombie's end, p50", percentile(seconds, 50), "s"),
        Figure("rows lost", sum(each.verdict.lost for each in outcomes), "", "≤", 0),
        Figure("rows duplicated or wrong", sum(each.verdict.surplus for each in outcomes), "", "≤", 0),
        Figure("rows out of order within their key", sum(each.verdict.disordered for each in outcomes), "", "≤", 0),
    )  # fmt: skip


def _guarded(account: Account, site: Site, seed: int, case: Case) -> Outcome:
    try:
        return _run(account, site, seed, case)
    except Exception as error:  # noqa: BLE001 — a thread's error is a failure of the part
        account.fail(f"{case}, {site.root}: {type(error).__name__}: {error}")
        return Outcome(Verdict())


def _run(account: Account, site: Site, seed: int, case: Case) -> Outcome:
    frame = events(EVENTS, seed)
    site.root.mkdir(parents=True)
    write_input(site, frame)
    there = replace(site, root=site.root / "elsewhere") if case.apart else site
    zombie, took = _woken(site, there, seed, case)
    third = start(there, batch_rows=8192, output="third").wait(60)
    verdict = judge(site, model(frame)) if third.code == 0 else Verdict()
    clear = zombie.code == 1 and zombie.get("error") in REASONS
    if not clear:
        account.fail(f"{case}, {site.root}: the zombie did not end clearly: {zombie}, {zombie.said[-1:]}")
    if third.code != 0:
        account.fail(f"{case}, {site.root}: after it the job did not go on: {third}")
    if not verdict.right:
        account.fail(f"{case}, seed {seed}, {site.root}: {verdict}")
    account.say(f"{case}: the zombie ended after {took:.2f} s ({zombie.said[-1].get('error')}); {verdict}")
    if clear and third.code == 0 and verdict.right:
        shutil.rmtree(site.root)
    return Outcome(verdict, took if clear else None)


def _woken(site: Site, there: Site, seed: int, case: Case) -> tuple[Ended, float]:
    """How the zombie ended, and how soon."""
    slow: dict[str, Any] = {
        "pause": PAUSE_SECONDS, "batch_rows": BATCH_ROWS, "parallelism": 1 + seed % 2, "lock": 0
    }  # fmt: skip
    freezing: dict[str, Any] = {} if case.point is None else {"freeze_at": f"{case.point}:{case.time}"}
    first = start(site, **slow, **freezing)
    second: Victim | None = None
    try:
        _frozen(first, random.Random(seed) if case.point is None else None)
        if there is not site:
            shutil.copytree(site.checkpoints, there.checkpoints)
        second = start(there, output="second", **slow)
        if not until(second, lambda: len(commits(second)) >= AHEAD, PATIENCE_SECONDS):
            raise RuntimeError(f"the successor does not get ahead: {second.kill_after(0)}")
        first.signal(signal.SIGCONT)
        woken = time.monotonic()
        return first.wait(PATIENCE_SECONDS), time.monotonic() - woken
    finally:
        for victim in (first, second):
            if victim is not None:
                victim.kill_after(0)


def _frozen(victim: Victim, chance: random.Random | None) -> None:
    """Waits until it has frozen itself; with `chance` it is frozen from here, at some moment after its first epochs."""
    if chance is not None:
        if not until(victim, lambda: len(commits(victim)) >= 2, PATIENCE_SECONDS):
            raise RuntimeError(f"it publishes nothing: {victim.kill_after(0)}")
        time.sleep(chance.uniform(0, 0.3))
        victim.signal(signal.SIGSTOP)
    stat = Path(f"/proc/{victim.process.pid}/stat")
    if not until(victim, lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", PATIENCE_SECONDS):
        raise RuntimeError(f"it did not freeze: {victim.kill_after(0)}")
