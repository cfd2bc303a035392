"""`kill -9` of the broker while the job runs on in one process, which has to come back by itself, and soon.

It is killed again only after output has been published once more, so that every kill meets a job at work.
"""

import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import Figure
from deploy.kafka.local_broker import LocalBroker
from reliability.account import Account, percentile
from reliability.flow import events
from reliability.kafka.flow import Site, model
from reliability.kafka.log import write_input
from reliability.kafka.verdict import Verdict, judge
from reliability.kafka.victims import commits, start, until
from reliability.process import Victim

KILLS = 20
EVENTS = 100_000
PAUSE_SECONDS = 0.05
BATCH_ROWS = 48
AWAY_SECONDS = 7.0
"""Every tenth time the broker stays away longer than any single request waits."""
BACK_WITHIN_SECONDS = 15.0
GIVEN_UP_SECONDS = 60.0


@dataclass
class Count:
    """The outcome of the kills so far."""

    kills: int = 0
    waits: list[float] = field(default_factory=list)
    """Seconds from when the broker was up to the next epoch that was published."""
    events: int = 0
    verdict: Verdict = field(default_factory=Verdict)


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part; `quick`: three kills instead of twenty."""
    wanted = 3 if quick else KILLS
    chance, count, n = random.Random(account.seed), Count(), 0
    account.say(f"seed {account.seed}")
    with LocalBroker() as broker:
        while count.kills < wanted and not account.failed:
            site = Site(folder / f"kafka-broker-{n}", broker.bootstrap, f"broker-{n}")
            _job(account, broker, site, account.seed * 1_000 + n, chance, count, wanted)
            n += 1
    slowest = max(count.waits, default=float("nan"))
    account.add(
        Figure("kill -9 of the broker", count.kills, "times", "≥", wanted),
        Figure("kills after which output went on within 15 s", _soon(count), "times", "≥", wanted),
        Figure("broker up to the next epoch published, p50", percentile(count.waits, 50), "s"),
        Figure("broker up to the next epoch published, longest", slowest, "s", "≤", BACK_WITHIN_SECONDS),
        Figure("events", count.events, ""),
        Figure("rows lost", count.verdict.lost, "", "≤", 0),
        Figure("rows duplicated or wrong", count.verdict.surplus, "", "≤", 0),
        Figure("rows out of order within their key", count.verdict.disordered, "", "≤", 0),
    )
    account.note(f"{n} jobs, each in one process that was never started again")


def _soon(count: Count) -> int:
    return sum(seconds <= BACK_WITHIN_SECONDS for seconds in count.waits)


def _job(
    account: Account,
    broker: LocalBroker,
    site: Site,
    seed: int,
    chance: random.Random,
    count: Count,
    wanted: int,
) -> None:
    """Kills the broker until there have been enough kills, or the job has read everything."""
    frame = events(EVENTS, seed)
    write_input(site, frame)
    victim = start(site, pause=PAUSE_SECONDS, batch_rows=BATCH_ROWS, parallelism=chance.randint(1, 2))
    until(victim, lambda: bool(commits(victim)), GIVEN_UP_SECONDS)
    while count.kills < wanted and victim.process.poll() is None:
        time.sleep(chance.uniform(0.05, 0.6))
        if _ended(victim):
            break
        away = AWAY_SECONDS if count.kills % 10 == 1 else chance.choice((0.0, 0.0, 0.5))
        wait = _kill(broker, victim, away)
        count.kills += 1
        if wait is None:
            break
        count.waits.append(wait)
        account.say(f"kill {count.kills} of {wanted}: output went on {wait:.2f} s after the broker was up")
    if victim.process.poll() is None and not _ended(victim):
        victim.signal(signal.SIGUSR1)
    ended = victim.wait(GIVEN_UP_SECONDS)
    if ended.get("ended") != "finished":
        account.fail(f"seed {seed}, {site.root}: {ended}")
        return
    verdict = judge(site, model(frame))
    account.say(f"job with seed {seed}: {verdict}")
    count.events += EVENTS
    count.verdict += verdict
    if verdict.right:
        shutil.rmtree(site.root)
    else:
        account.fail(f"seed {seed}, {site.root}: {verdict}")


def _kill(broker: LocalBroker, victim: Victim, away: float) -> float | None:
    """Kills the broker and starts it again; how long after that output went on, None where it never did."""
    broker.kill()
    killed = time.monotonic()
    time.sleep(away)
    broker.start()
    up = time.monotonic()

    def went_on() -> bool:
        return any(at > killed for at in commits(victim)) or _ended(victim)

    if not until(victim, went_on, GIVEN_UP_SECONDS):
        return None
    return max(0.0, next((at for at in commits(victim) if at > killed), up) - up)


def _ended(victim: Victim) -> bool:
    """Whether the job has come to its end by itself."""
    return any("ended" in line for line in victim.said())
