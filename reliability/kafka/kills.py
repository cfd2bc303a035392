"""`kill -9` of the job between two topics, at every named point of publication and at any moment.

Several jobs in succession, two processes side by side, all on one broker. Each process goes on from the newest
checkpoint of the one before, at another parallelism; the last reads the rest of its topic as fast as it can.
"""

import random
import shutil
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from deploy.kafka.local_broker import LocalBroker
from reliability.account import Account, workers
from reliability.flow import events
from reliability.kafka.flow import Site, model
from reliability.kafka.log import write_input
from reliability.kafka.points import OFTEN, POINTS
from reliability.kafka.verdict import Verdict, judge
from reliability.kafka.victims import start
from reliability.kills import Order, Orders, Tally, in_turn
from reliability.points import Point
from reliability.process import Ended, Victim

EVENTS = 200_000
JOBS = 5
AT_EACH_POINT = 15
AT_RANDOM = 15
SECONDS = 0.5, 1.4
"""Half a second goes by before a process reads anything."""
PAUSE_SECONDS = 0.06
PATIENCE_SECONDS = 12.0


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part; `quick`: one kill at each point instead of fifteen."""
    each, at_random, jobs = (1, 4, 2) if quick else (AT_EACH_POINT, AT_RANDOM, JOBS)
    orders = Orders(account.seed, each, at_random, POINTS, OFTEN, SECONDS)
    share = -(-len(orders) // jobs)
    tally = Tally()
    account.say(f"seed {account.seed}")
    with LocalBroker() as broker:

        def job(n: int) -> int:
            site = Site(folder / f"kafka-kills-{n}", broker.bootstrap, f"kills-{n}")
            return _guarded(account, site, n, orders, share, tally)

        disordered = sum(in_turn(jobs, orders, job))
    for failure in tally.failures:
        account.fail(failure)
    fewest = min(POINTS, key=lambda point: tally.hits[point])
    account.add(
        Figure("topic to topic: kill -9", tally.hits.total() + tally.random_kills, "times", "≥", 18 if quick else 200),
        Figure(f"fewest at one of {len(POINTS)} named points ({fewest})", tally.hits[fewest], "times", "≥", each),
        Figure("events", tally.events, "", "≥", EVENTS * jobs),
        Figure("rows lost", tally.lost, "", "≤", 0),
        Figure("rows duplicated or wrong", tally.surplus, "", "≤", 0),
        Figure("rows out of order within their key", disordered, "", "≤", 0),
    )  # fmt: skip
    widths = ", ".join(f"{count} at {width}" for width, count in sorted(tally.parallelisms.items()))
    account.note(
        f"{tally.jobs} jobs, {workers()} side by side on one broker; starts by parallelism: {widths}; "
        "judged by a read_committed consumer on librdkafka"
    )


def _guarded(account: Account, site: Site, n: int, orders: Orders, share: int, tally: Tally) -> int:
    try:
        verdict = _job(account, site, account.seed * 1_000 + n, orders, share, tally)
    except Exception as error:  # noqa: BLE001 — a thread's error is a failure of the part
        with tally.lock:
            tally.failures.append(f"job {n}: {type(error).__name__}: {error}")
        return 0
    if verdict.right:
        shutil.rmtree(site.root)
    return verdict.disordered


def _job(account: Account, site: Site, seed: int, orders: Orders, share: int, tally: Tally) -> Verdict:
    chance = random.Random(seed)
    frame = events(EVENTS, seed)
    site.root.mkdir(parents=True)
    write_input(site, frame)
    last: Ended | None = None
    for _ in range(share):
        if (order := orders.take()) is None:
            break
        last = _one(site, order, chance.randint(1, 3), orders, tally)
        if not last.killed:
            break  # it has read everything, or something is wrong
    if last is None or last.killed:
        last = _start(site, chance.randint(1, 3), tally, None, batch_rows=8192).wait(120)
    verdict = judge(site, model(frame)) if last.code == 0 else Verdict(shown="; it never ended")
    with tally.lock:
        tally.jobs += 1
        tally.events += EVENTS
        tally.lost += verdict.lost
        tally.surplus += verdict.surplus
        if last.code != 0:
            tally.failures.append(f"seed {seed}, {site.root}: {last}")
        if not verdict.right:
            tally.failures.append(f"seed {seed}, {site.root}: {verdict}")
        done = tally.hits.total() + tally.random_kills
    account.say(f"job with seed {seed}: {verdict}; {done} kills so far, {len(orders)} to go")
    return verdict


def _one(site: Site, order: Order, parallelism: int, orders: Orders, tally: Tally) -> Ended:
    """Starts a process and lets it end as ordered."""
    victim = _start(site, parallelism, tally, order.point, pause=PAUSE_SECONDS)
    if order.point is None:
        ended = victim.kill_after(order.seconds)
    else:
        ended = victim.wait(PATIENCE_SECONDS)
    with tally.lock:
        if order.point is not None and ended.killed and not ended.hung:
            tally.hits[order.point.name] += 1
        elif order.point is None and ended.killed:
            tally.random_kills += 1
        elif not orders.put_back(order) and order.point is not None:
            tally.failures.append(f"{site.name} never came to {order.point.name}: {ended}")
        if ended.killed and ended.hung:
            tally.random_kills += 1
    return ended


def _start(site: Site, parallelism: int, tally: Tally, point: Point | None, **options: Any) -> Victim:
    with tally.lock:
        tally.parallelisms[parallelism] += 1
    return start(site, die_at=point, parallelism=parallelism, **options)
