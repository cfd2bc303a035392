"""`kill -9` of a real process at every named point and at any moment: nothing lost, nothing written twice.

Several jobs in succession, two processes side by side. Each process of a job goes on from the newest checkpoint of the
one before, at another parallelism; the last one is left alone and reads the rest of the input as fast as it can. A
process that is to die at a named point kills itself there with SIGKILL; the others are killed from outside.
"""

import random
import shutil
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from benchmarks.figures import Figure
from reliability.account import Account, percentile, workers
from reliability.flow import Place, events, model, write_input
from reliability.points import OFTEN, ONCE, POINTS, Point
from reliability.process import Ended, Victim
from reliability.verdict import Verdict, judge

EVENTS = 100_000
JOBS = 10
AT_EACH_POINT = 15
AT_RANDOM = 30
LONGEST_SECONDS = 1.8
PAUSE_SECONDS = 0.08
TRIES = 3
PATIENCE_SECONDS = 12.0
RECOVERY_P50, RECOVERY_P99 = 0.3, 1.0

T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """How one process is to end: at a named point, or after so many seconds."""

    point: Point | None
    seconds: float = 0.0
    tries: int = 0


@dataclass
class Tally:
    """The findings of the jobs, from several threads."""

    lock: Lock = field(default_factory=Lock)
    hits: Counter[str] = field(default_factory=Counter)
    random_kills: int = 0
    events: int = 0
    jobs: int = 0
    lost: int = 0
    surplus: int = 0
    recoveries: list[float] = field(default_factory=list)
    imports: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    parallelisms: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part; `quick`: two kills at each point instead of fifteen."""
    each, at_random, jobs = (2, 10, 2) if quick else (AT_EACH_POINT, AT_RANDOM, JOBS)
    orders = Orders(account.seed, each, at_random, POINTS, OFTEN)
    share = -(-len(orders) // jobs)
    tally = Tally()
    in_turn(jobs, orders, lambda n: _guarded(account, folder, n, orders, share, tally))
    for failure in tally.failures:
        account.fail(failure)
    fewest = min(POINTS, key=lambda point: tally.hits[point])
    account.add(
        Figure("kill -9", tally.hits.total() + tally.random_kills, "times", "≥", 20 if quick else 200),
        Figure(f"fewest at one of {len(POINTS)} named points ({fewest})", tally.hits[fewest], "times", "≥", each),
        Figure("events", tally.events, "", "≥", EVENTS * jobs),
        Figure("rows lost", tally.lost, "", "≤", 0),
        Figure("rows written twice or wrong", tally.surplus, "", "≤", 0),
        Figure("own code's first line to first record, p50", percentile(tally.recoveries, 50), "s", "≤", RECOVERY_P50),
        Figure("own code's first line to first record, p99", percentile(tally.recoveries, 99), "s", "≤", RECOVERY_P99),
    )  # fmt: skip
    widths = ", ".join(f"{count} at {width}" for width, count in sorted(tally.parallelisms.items()))
    account.note(
        f"{tally.jobs} jobs, {workers()} side by side; starts by parallelism: {widths}; {len(tally.recoveries)} "
        "restarts with a checkpoint reached their first record. Recovery counts imports, opening the store, verifying "
        "the checkpoint, restoring state and committing what was sealed, with the other process running beside, and "
        "leaves out the start of the interpreter. Half of the restarts had imported everything after "
        f"{percentile(tally.imports, 50):.2f} s; a restart took {percentile(tally.processor, 50):.2f} s of processor "
        "time, the interpreter's start included."
    )


class Orders:
    """The kills still to be done; a kill that could not be done comes back. From several threads."""

    def __init__(
        self,
        seed: int,
        each: int,
        at_random: int,
        points: Sequence[str],
        often: Mapping[str, int],
        seconds: tuple[float, float] = (0.1, LONGEST_SECONDS),
    ) -> None:
        chance = random.Random(seed)
        orders = [Order(Point(name, _time(name, often, chance))) for name in points for _ in range(each)]
        orders += [Order(None, chance.uniform(*seconds)) for _ in range(at_random)]
        chance.shuffle(orders)
        self._open = deque(orders)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._open)

    def take(self) -> Order | None:
        with self._lock:
            return self._open.popleft() if self._open else None

    def put_back(self, order: Order) -> bool:
        """To be tried again, at the first time of its point; False where that has been tried often enough."""
        if order.tries + 1 >= TRIES:
            return False
        again = Point(order.point.name, 1) if order.point else None
        with self._lock:
            self._open.append(Order(again, order.seconds, order.tries + 1))
        return True


def _time(name: str, often: Mapping[str, int], chance: random.Random) -> int:
    return 1 if name in ONCE else chance.randint(1, often.get(name, 3))


def in_turn(jobs: int, orders: Orders, job: Callable[[int], T]) -> list[T]:
    """Jobs 0 to `jobs` - 1, some side by side, and then up to as many again for the orders that have come back."""
    with ThreadPoolExecutor(workers()) as pool:
        ends = list(pool.map(job, range(jobs)))
        for n in range(jobs, 2 * jobs):
            if not len(orders):
                break
            ends.append(pool.submit(job, n).result())
        return ends


def _guarded(account: Account, folder: Path, n: int, orders: Orders, share: int, tally: Tally) -> None:
    place = Place(folder / f"kills-{n}")
    try:
        _job(account, place, account.seed * 1_000 + n, orders, share, tally)
    except Exception as error:  # noqa: BLE001 — a thread's error is a failure of the part
        with tally.lock:
            tally.failures.append(f"job {n}: {type(error).__name__}: {error}")
    else:
        if not tally.failures:
            shutil.rmtree(place.root)


def _job(account: Account, place: Place, seed: int, orders: Orders, share: int, tally: Tally) -> None:
    chance = random.Random(seed)
    frame = events(EVENTS, seed)
    write_input(place, frame)
    expected = model(frame)
    last: Ended | None = None
    for _ in range(share):
        if (order := orders.take()) is None:
            break
        last = _one(place, order, chance.randint(1, 3), orders, tally)
        if not last.killed:
            break  # it has read everything, or something is wrong
    if last is None or last.killed:
        last = _start(place, chance.randint(1, 3), tally, None, pause=0.0, batch_rows=8192).wait(180)
        _recovered(last, bool(place.published), tally)
    verdict = judge(place, expected) if last.code == 0 else Verdict()
    with tally.lock:
        tally.jobs += 1
        tally.events += EVENTS
        tally.lost += verdict.lost
        tally.surplus += verdict.surplus
        if last.code != 0:
            tally.failures.append(f"seed {seed}, {place.root}: {last}")
        if not verdict.right:
            tally.failures.append(f"seed {seed}, {place.root}: {verdict}")
        done = tally.hits.total() + tally.random_kills
    account.say(f"job with seed {seed}: {verdict}; {done} kills so far, {len(orders)} to go")


def _one(place: Place, order: Order, parallelism: int, orders: Orders, tally: Tally) -> Ended:
    """Starts a process and lets it end as ordered."""
    restored = bool(place.published)
    victim = _start(place, parallelism, tally, order.point, pause=PAUSE_SECONDS)
    if order.point is None:
        ended = victim.kill_after(order.seconds)
    else:
        ended = victim.wait(PATIENCE_SECONDS)
    _recovered(ended, restored, tally)
    with tally.lock:
        if order.point is not None and ended.killed and not ended.hung:
            tally.hits[order.point.name] += 1
        elif order.point is None and ended.killed:
            tally.random_kills += 1
        elif not orders.put_back(order) and order.point is not None:
            tally.failures.append(f"never came to {order.point.name} in {TRIES} processes")
        if ended.killed and ended.hung:
            tally.random_kills += 1
    return ended


def _start(place: Place, parallelism: int, tally: Tally, point: Point | None, **options: Any) -> Victim:
    with tally.lock:
        tally.parallelisms[parallelism] += 1
    return Victim.start(place, die_at=point, parallelism=parallelism, **options)


def _recovered(ended: Ended, restored: bool, tally: Tally) -> None:
    first = ended.get("first_record")
    if restored and first is not None:
        with tally.lock:
            tally.recoveries.append(first)
            tally.imports.append(ended.get("imported"))
            tally.processor.append(ended.get("cpu"))
