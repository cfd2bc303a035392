"""`python -m benchmarks.keyed_state`: how many `on_event` calls a second one core makes through the whole operator.

One `ValueState(float)` in RocksDB; each event adds its value to its key's total. Batches are frames of 8,192 rows, as
they come from a source; the rate counts everything from there on: key groups, rows as dicts, state, write-back, and a
snapshot with its flush at the end. Beside it a bare loop over the same rows with a dict for the state. A second is one
of CPU time, RocksDB's threads included, so that what else the machine does counts less.

`--order event_time` gives the records event times, 20 ms apart and up to 200 ms out of order, and the operator the
order of event time, with a watermark behind each batch: they wait, and come sorted.

The figure is about keys by Zipf's law, most of which are found in the cache; a million keys at random, or a key per
event, miss it nearly always and show what reading and writing RocksDB costs.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable
from typing import Literal

import polars as pl

import streamflow as sf
from benchmarks import draws
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import OperatorContext
from streamflow.operators.process.process import ProcessSpec
from streamflow.operators.stateless.row_builder import row_dicts
from streamflow.state.backends.factory import open_backend
from streamflow.state.backends.protocol import KeyedStateBackend
from streamflow.time.clock import SeededRandom, SystemClock

Order = Literal["arrival", "event_time"]
BATCH = 8_192
FIGURES = {"arrival": 250_000, "event_time": 300_000}
STEP, DISORDER = 20_000, 200_000
"""Microseconds."""
SCHEMA = {"key": pl.String, "value": pl.Float64}


class Totals(sf.KeyedProcess):
    total = sf.ValueState(float, default=0.0)

    def on_event(self, event: dict[str, float], ctx: sf.ProcessContext) -> None:
        self.total.update(self.total.value() + event["value"])


class Nowhere:
    def emit(self, batch: AnyBatch) -> None:
        pass

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        pass

    def connected(self, output: str) -> bool:
        return False


def frames(keys: str, events: int) -> list[pl.DataFrame]:
    """Events over 10,000 keys by Zipf's law, over a million keys at random, or each with a key of its own."""
    drawn = draws.uniform(0, events, seed=7, stream=0)
    match keys:
        case "zipf":
            numbers = draws.zipf(draws.zipf_cumulative(10_000, 1.0), drawn)
        case "million":
            numbers = (drawn * 1_000_000).cast(pl.Int64)
        case _:
            numbers = drawn.arg_sort()
    frame = pl.DataFrame({"key": numbers, "value": draws.uniform(0, events, seed=7, stream=1)}).with_columns(
        pl.format("user-{}", pl.col("key").cast(pl.String).str.zfill(7)).alias("key")
    )
    late = (draws.uniform(0, events, seed=7, stream=2) * DISORDER).cast(pl.Int64)
    times = pl.int_range(events, eager=True) * STEP - late
    frame = frame.with_columns(times.cast(EVENT_TIME_TYPE).alias(EVENT_TIME))
    return [frame[start : start + BATCH] for start in range(0, events, BATCH)]


def operator_seconds(batches: list[pl.DataFrame], backend: KeyedStateBackend, order: Order) -> float:
    """The operator over all batches, with the snapshot that a checkpoint would take at the end."""
    timed = order == "event_time"
    batches = batches if timed else [frame.drop(EVENT_TIME) for frame in batches]
    spec = ProcessSpec(("key",), Totals(), ("key", "value"), OBJECTS, order=order)
    ctx = OperatorContext(
        operator_id="process-1",
        subtask=0,
        parallelism=1,
        max_parallelism=128,
        clock=SystemClock(),
        random=SeededRandom(0),
        state=backend,
    )
    operator = spec.build(ctx, [StreamType(Schema(SCHEMA), timed=timed)])
    out = Nowhere()
    started = time.process_time()
    for frame in batches:
        operator.process_batch(FrameBatch(frame), 0, out)
        if timed:
            watermark: int = frame[EVENT_TIME].to_physical()[-1] - DISORDER - 1
            while operator.on_watermark(watermark, out) is None:
                continue
    operator.snapshot()
    backend.flush()
    return time.process_time() - started


def loop_seconds(batches: list[pl.DataFrame]) -> float:
    """The seconds of a careful person's loop."""
    totals: dict[str, float] = {}
    started = time.process_time()
    for frame in batches:
        for event in row_dicts(frame.drop(EVENT_TIME)):
            key = event["key"]
            totals[key] = totals.get(key, 0.0) + event["value"]
    return time.process_time() - started


def best(measure: Callable[[], float], rounds: int) -> float:
    seconds: list[float] = []
    for _ in range(rounds):
        gc.collect()
        seconds.append(measure())
    return min(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keyed_state", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", choices=("rocksdb", "memory"), default="rocksdb")
    parser.add_argument("--keys", choices=("zipf", "million", "distinct"))
    parser.add_argument("--order", choices=tuple(FIGURES), default="arrival")
    chosen = parser.parse_args()
    print(f"{'keys':<34} {'on_event/s':>12} {'bare dict/s':>12} {'ratio':>6}")
    slow = False
    titles = {
        "zipf": "10,000, Zipf",
        "million": "1,000,000, at random",
        "distinct": "each event its own",
    }
    for keys in [chosen.keys] if chosen.keys else titles:
        batches = frames(keys, chosen.events)

        def run(batches: list[pl.DataFrame] = batches) -> float:
            backend = open_backend(chosen.backend)
            try:
                return operator_seconds(batches, backend, chosen.order)
            finally:
                backend.close()

        ours = chosen.events / best(run, chosen.rounds)
        loop = chosen.events / best(lambda batches=batches: loop_seconds(batches), chosen.rounds)  # type: ignore[misc]
        print(f"{titles[keys]:<34} {ours:>12,.0f} {loop:>12,.0f} {ours / loop:>6.2f}")
        slow = slow or (keys == "zipf" and ours < FIGURES[chosen.order])
    print(f"the figure: at least {FIGURES[chosen.order]:,} on_event/s with keys by Zipf's law")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
