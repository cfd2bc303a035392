"""`python -m benchmarks.per_key`: events a second of operators on whole records, in whole jobs from memory on one core.

`deduplicate` with so many keys, most of them met once; with each key met ten times; the first rows of each key;
records in order of event time, and a sort at the end of a batch. Events are a text key, a number, and a time that is
out of order by up to five seconds; a batch has 65,536 of them, a second of event time 100,000. Times are those of the
processor, the reading from memory included.
"""

import argparse
import time
from collections.abc import Callable

import polars as pl

import streamflow as sf
from benchmarks.figures import Figure, print_each
from streamflow.core.elements import AnyBatch
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.sink import Committable, Sink, SinkContext, SinkWriter

TARGET = 1_000_000
BATCH = 65_536
SECOND = 1_000_000


class Nowhere(Sink):
    """A sink that drops everything."""

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        return Dropping()


class Dropping:
    """Its writer."""

    async def write(self, batch: AnyBatch) -> None:
        return None

    async def prepare(self, epoch: int) -> tuple[Committable, ...]:
        return ()

    async def close(self) -> None:
        return None


def events(count: int, keys: int) -> pl.DataFrame:
    """So many events of so many keys, each met about equally often."""
    n = pl.int_range(count, dtype=pl.Int64)
    # Multiples of a large prime: no order that a store could profit from.
    number = (n * 1_000_000_007) % keys
    jitter = (n * 2_654_435_761) % (5 * SECOND)
    return pl.select(key=pl.format("user-{}", number), value=(n * 40_503) % 10_007, ts=n * 10 + jitter)


def run(frame: pl.DataFrame, use: Callable[[sf.Stream], sf.Stream], mode: str) -> float:
    """Processor seconds of a job."""
    job = sf.Job("per-key")
    source = sf.MemorySource(frame, batch_rows=BATCH)
    stream = job.read(source, event_time=sf.epoch("ts", unit="us"), watermark="5s")
    use(stream).write(Nowhere())
    begin = time.process_time()
    job.run(mode=mode, batch_rows=BATCH)
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--only", default="", help="the cases whose names contain this")
    options = parser.parse_args()
    count = options.events

    def once(within: str | None) -> Callable[[sf.Stream], sf.Stream]:
        return lambda stream: stream.deduplicate("key", within=within)

    cases: dict[str, tuple[int, Callable[[sf.Stream], sf.Stream], str]] = {
        "deduplicate, keys met once": (count, once(None), "streaming"),
        "deduplicate within 2s, keys met once": (count, once("2s"), "streaming"),
        "deduplicate, 1,000,000 keys": (1_000_000, once(None), "streaming"),
        "deduplicate, 100,000 keys": (100_000, once(None), "streaming"),
        "deduplicate within 2s, 100,000 keys": (100_000, once("2s"), "streaming"),
        "deduplicate, keys met once, batch": (count, once(None), "batch"),
        "keep last within 2s, 100,000 keys": (
            100_000, lambda stream: stream.deduplicate("key", within="2s", keep="last"), "streaming",
        ),
        "keep last, 100,000 keys": (100_000, lambda stream: stream.deduplicate("key", keep="last"), "streaming"),
        "top 3 of 10,000 keys": (10_000, lambda stream: stream.key_by("key").top_k(3, "value"), "streaming"),
        "sort by event time": (100_000, lambda stream: stream.sort("event_time"), "streaming"),
        "sort by value, batch": (100_000, lambda stream: stream.sort("value"), "batch"),
    }  # fmt: skip
    print_each(
        Figure(name, count / run(events(count, keys), use, mode), "events/s", "≥", _target(name))
        for name, (keys, use, mode) in cases.items()
        if options.only in name
    )


def _target(name: str) -> int | None:
    return TARGET if name.startswith("deduplicate") else None


if __name__ == "__main__":
    main()
