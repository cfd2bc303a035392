"""`python -m benchmarks.frame_store`: the cost of a batch of ten records beside much state, in milliseconds.

Sessions: so many open ones, and a watermark behind each batch that closes ten. Late: one late but allowed record beside
five fired windows of 300,000 keys. Totals: running totals of 500,000 keys, in memory and far beyond the memory budget.
The first and the last twentieth of the batches are told apart: nothing is to grow. Milliseconds are those of the clock:
measure on a quiet machine.
"""

import argparse
import time
from collections.abc import Iterator
from statistics import median

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.contract.operator import Operator, OperatorContext, OperatorSpec
from streamflow.operators.totals.running import RunningAggregateSpec
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.state.backends.factory import open_backend
from streamflow.state.memory_share import MemoryShare
from streamflow.time.clock import SeededRandom, SystemClock
from streamflow.windows.assigners import session, tumbling
from streamflow.windows.numbers import Count, Sum

BOUND = 5.0
"""Milliseconds that a batch of ten records may cost."""
BATCH = 10
SECOND = 1_000_000
RECORDS = StreamType(Schema({"key": pl.String(), "value": pl.Int64()}), timed=True)
AGGREGATES = (("n", Count()), ("total", Sum("value")))


class Nowhere:
    """A collector that drops everything."""

    def emit(self, batch: AnyBatch) -> None:
        return None

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        return None

    def connected(self, output: str) -> bool:
        return False


OUT = Nowhere()


def built(spec: OperatorSpec, memory_budget: int) -> Operator:
    """The operator of one subtask, which has all keys."""
    ctx = OperatorContext(
        operator_id="op-1",
        subtask=0,
        parallelism=1,
        max_parallelism=128,
        clock=SystemClock(),
        random=SeededRandom(1),
        state=open_backend("rocksdb"),
        metrics=OperatorMetrics("op-1", 0),
        updates="batch",
        memory_budget=MemoryShare.alone(memory_budget),
    )
    return spec.build(ctx, [RECORDS])


def records(keys: Iterator[int] | range | list[int], times: int | list[int]) -> FrameBatch:
    """A batch of one record for each key."""
    numbers = list(keys)
    at = [times] * len(numbers) if isinstance(times, int) else times
    frame = pl.DataFrame({"key": [f"user-{number}" for number in numbers], "value": numbers, EVENT_TIME: at})
    return FrameBatch(frame.with_columns(pl.col(EVENT_TIME).cast(EVENT_TIME_TYPE)))


def sessions(count: int, batches: int) -> list[float]:
    """Milliseconds of each batch and its watermark, with so many sessions open."""
    spec = WindowAggregateSpec(keys=("key",), assigner=session(gap="1h"), aggregates=AGGREGATES)
    operator = built(spec, 1 << 30)
    # They end evenly over an hour: in each batch's time as many as it has records.
    hour = 3_600 * SECOND
    step = hour * BATCH // count
    operator.on_watermark(1, OUT)
    for first in range(0, count, 50_000):
        keys = range(first, min(count, first + 50_000))
        operator.process_batch(records(keys, [SECOND + number * hour // count for number in keys]), 0, OUT)
    spent: list[float] = []
    for number in range(batches):
        now = SECOND + hour + number * step
        batch = records([(number * BATCH + i) * 7_919 % count for i in range(BATCH)], now)
        begin = time.perf_counter()
        operator.process_batch(batch, 0, OUT)
        operator.on_watermark(now - step, OUT)
        spent.append(1_000 * (time.perf_counter() - begin))
    return spent


def late(keys: int, windows: int, batches: int, *, retracting: bool) -> list[float]:
    """Milliseconds of each late record, beside so many fired windows of so many keys."""
    spec = WindowAggregateSpec(
        keys=("key",),
        assigner=tumbling("1m"),
        aggregates=AGGREGATES,
        allowed_lateness=3_600 * SECOND,
        accumulation="retracting" if retracting else "accumulating",
    )
    operator = built(spec, 1 << 30)
    minute = 60 * SECOND
    for window in range(windows):
        operator.process_batch(records(range(keys), window * minute), 0, OUT)
    operator.on_watermark(windows * minute, OUT)
    while operator.unfinished:
        operator.on_watermark(windows * minute, OUT)
    spent: list[float] = []
    for number in range(batches):
        batch = records([number * 7_919 % keys], number % windows * minute + 5)
        begin = time.perf_counter()
        operator.process_batch(batch, 0, OUT)
        spent.append(1_000 * (time.perf_counter() - begin))
    return spent


def totals(keys: int, batches: int, memory_budget: int) -> list[float]:
    """Milliseconds of each batch of running totals of so many keys."""
    operator = built(RunningAggregateSpec(keys=("key",), aggregates=AGGREGATES), memory_budget)
    for first in range(0, keys, 50_000):
        operator.process_batch(records(range(first, min(keys, first + 50_000)), 1), 0, OUT)
    spent: list[float] = []
    for number in range(batches):
        batch = records([(number * BATCH + i) * 7_919 % keys for i in range(BATCH)], 2)
        begin = time.perf_counter()
        operator.process_batch(batch, 0, OUT)
        spent.append(1_000 * (time.perf_counter() - begin))
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=1_000)
    batches = parser.parse_args().batches
    cases = {
        "sessions, 100,000 open": lambda: sessions(100_000, batches),
        "sessions, 1,000,000 open": lambda: sessions(1_000_000, batches),
        "late record, 5 x 300,000 fired": lambda: late(300_000, 5, batches, retracting=False),
        "late record, retracting": lambda: late(300_000, 5, batches, retracting=True),
        "totals, 500,000 keys in memory": lambda: totals(500_000, batches, 1 << 30),
        "totals, 500,000 keys in 4 MiB": lambda: totals(500_000, batches, 4 << 20),
    }
    print(f"| ms, batches of {BATCH} | first 5 % | last 5 % | median | mean | most | bound | reached |")
    print("|---|---|---|---|---|---|---|---|")
    for name, run in cases.items():
        spent = run()
        part = max(len(spent) // 20, 1)
        figures = (
            median(spent[:part]),
            median(spent[-part:]),
            median(spent),
            sum(spent) / len(spent),
            max(spent),
        )
        cells = " | ".join(f"{figure:.1f}" for figure in figures)
        print(
            f"| {name} | {cells} | ≤ {BOUND:.0f} | {'yes' if median(spent) <= BOUND else 'NO'} |", flush=True
        )


if __name__ == "__main__":
    main()
