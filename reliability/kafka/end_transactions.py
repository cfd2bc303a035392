"""Ends of transactions that are held, cut off or repeated on their way, and the canary that shows that this hurts.

Several jobs at once write through one proxy (`proxy.py`), round after round until there have been enough faults. The
canary does the same with a producer that lives through many transactions: there rows have to be lost or duplicated.
"""

import asyncio
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import Figure
from deploy.kafka.local_broker import LocalBroker, free_port
from reliability.account import Account
from reliability.flow import events
from reliability.kafka.flow import Site, model
from reliability.kafka.log import write_input
from reliability.kafka.proxy import FAULTS, Proxy, Schedule
from reliability.kafka.verdict import Verdict, judge
from reliability.kafka.victims import start
from reliability.process import Ended

FAULTS_WANTED = 500
SHARE = 0.8
"""Of the ends of transactions, so many are mistreated."""
EVENTS = 70_000
SIDE_BY_SIDE = 4
PAUSE_SECONDS = 0.05
BATCH_ROWS = 48
STARTS = 25
"""The canary's process may fail by itself, and is started again."""


@dataclass
class Count:
    """The outcome of the jobs of one kind."""

    events: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    starts: int = 0
    failures: list[str] = field(default_factory=list)


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part; `quick`: forty faults instead of five hundred."""
    wanted = 40 if quick else FAULTS_WANTED
    account.say(f"seed {account.seed}")
    front, behind = free_port(), free_port()
    advertised = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{front}"}
    with LocalBroker(behind, properties=advertised):
        asyncio.run(_through_proxy(account, folder, front, behind, wanted))


async def _through_proxy(account: Account, folder: Path, front: int, behind: int, wanted: int) -> None:
    bootstrap = f"127.0.0.1:{front}"
    count, canary, n = Count(), Count(), 0
    async with Proxy(front, behind, Schedule(account.seed, SHARE)) as proxy:
        while proxy.faults.total() < wanted and not count.failures:
            sites = [
                Site(folder / f"kafka-proxy-{n + i}", bootstrap, f"proxy-{n + i}")
                for i in range(SIDE_BY_SIDE)
            ]
            seeds = [account.seed * 1_000 + n + i for i in range(SIDE_BY_SIDE)]
            await asyncio.gather(*(_job(*each, count) for each in zip(sites, seeds, strict=True)))
            n += SIDE_BY_SIDE
            account.say(f"{n} jobs, {proxy.faults.total()} of {wanted} faults: {count.verdict}")
    async with Proxy(front, behind, Schedule(account.seed, SHARE)) as torn:
        site = Site(folder / "kafka-proxy-canary", bootstrap, "canary")
        await _job(site, account.seed, canary, long_lived=True)
        account.say(f"canary, {torn.faults.total()} faults: {canary.verdict}")
    for failure in count.failures + canary.failures:
        account.fail(failure)
    kinds = ", ".join(f"{proxy.faults[fault]} {fault}" for fault in FAULTS)
    account.add(
        Figure("ends of transactions held, cut or repeated", proxy.faults.total(), "times", "≥", wanted),
        Figure("events", count.events, ""),
        Figure("rows lost", count.verdict.lost, "", "≤", 0),
        Figure("rows duplicated or wrong", count.verdict.surplus, "", "≤", 0),
        Figure("rows out of order within their key", count.verdict.disordered, "", "≤", 0),
        Figure("late ends that the broker refused", proxy.late.total() - proxy.late["accepted"], "times"),
        Figure("canary (a long-lived producer): rows lost or duplicated", _wrong(canary.verdict), "", "≥", 1),
    )
    answers = ", ".join(f"{times} × {answer}" for answer, times in proxy.late.most_common())
    torn_answers = ", ".join(f"{times} × {answer}" for answer, times in torn.late.most_common())
    account.note(
        f"{n} jobs, {SIDE_BY_SIDE} at a time, {proxy.ends} ends of transactions: {kinds}; the broker's answers to late "
        f"ones: {answers}. Canary: {torn.faults.total()} faults, {canary.starts} starts, answers to late ones: "
        f"{torn_answers}; {canary.verdict.lost} lost, {canary.verdict.surplus} duplicated or wrong"
    )


def _wrong(verdict: Verdict) -> int:
    return verdict.lost + verdict.surplus


async def _job(site: Site, seed: int, count: Count, *, long_lived: bool = False) -> None:
    """One job to its end, judged. A process of the canary that fails is followed by another."""
    frame = events(EVENTS, seed)
    site.root.mkdir(parents=True)
    await asyncio.to_thread(write_input, site, frame)
    parallelism = random.Random(seed).randint(1, 2)
    ended = await _once(site, parallelism, count, long_lived=long_lived)
    while long_lived and ended.code != 0 and not ended.hung and count.starts < STARTS:
        ended = await _once(site, parallelism, count, long_lived=long_lived)
    if ended.code != 0 and not long_lived:
        count.failures.append(f"seed {seed}, {site.root}: {ended}")
        return
    verdict = await asyncio.to_thread(judge, site, model(frame))
    if ended.code != 0:
        # Of a canary that could not go on only what is there too often tells.
        verdict = Verdict(surplus=verdict.surplus, shown=verdict.shown)
    count.events += EVENTS
    count.verdict += verdict
    if verdict.right or long_lived:
        shutil.rmtree(site.root)
    else:
        count.failures.append(f"seed {seed}, {site.root}: {verdict}")


async def _once(site: Site, parallelism: int, count: Count, *, long_lived: bool) -> Ended:
    """One process, to its end."""
    count.starts += 1
    victim = start(
        site, pause=PAUSE_SECONDS, batch_rows=BATCH_ROWS, parallelism=parallelism, long_lived=int(long_lived)
    )
    return await asyncio.to_thread(victim.wait, 120)
