"""Bytewax, tuned: input in batches of 100,000 lines, decoded by msgspec, one fold per window.

Its event clock also moves with the wall clock and so drops data on replay; `now_getter` holds it still,
which is what makes the result right. W4 counts words per batch before the exchange.
"""

from benchmarks.measure import ResultRow, Stopwatch, arguments

watch = Stopwatch()

from collections import Counter  # noqa: E402
from collections.abc import Iterable, Iterator  # noqa: E402
from datetime import UTC, datetime, timedelta  # noqa: E402
from itertools import islice  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import bytewax.operators as op  # noqa: E402
import bytewax.operators.windowing as win  # noqa: E402
import msgspec  # noqa: E402
from bytewax.dataflow import Dataflow  # noqa: E402
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition  # noqa: E402
from bytewax.testing import TestingSink, run_main  # noqa: E402

from benchmarks.workloads.table import DISORDER_MS, GAP_MS, SIZE_MS, SLIDING_MS  # noqa: E402

BATCH = 100_000
DISORDER = timedelta(milliseconds=DISORDER_MS)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STILL = datetime(2026, 1, 1, tzinfo=UTC)


class Event(msgspec.Struct, gc=False):
    ts: int
    key: str
    value: float
    kind: str


class Batches(StatefulSourcePartition[list[Any], None]):  # type: ignore[misc]
    """One partition: an iterator of lists, each handed over whole."""

    def __init__(self, batches: Iterator[list[Any]]) -> None:
        self._batches = batches

    def next_batch(self) -> list[list[Any]]:
        batch = next(self._batches, None)
        if batch is None:
            raise StopIteration
        return [batch]

    def snapshot(self) -> None:
        return None


class BatchedFile(FixedPartitionedSource[list[Any], None]):  # type: ignore[misc]
    def __init__(self, path: Path) -> None:
        self._path = path

    def list_parts(self) -> list[str]:
        return ["file"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> Batches:
        return Batches(
            parquet_batches(self._path) if self._path.suffix == ".parquet" else line_batches(self._path)
        )


def line_batches(path: Path) -> Iterator[list[bytes]]:
    with path.open("rb") as lines:
        while batch := list(islice(lines, BATCH)):
            yield batch


def parquet_batches(path: Path) -> Iterator[list[Event]]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(BATCH):
        columns = (batch.column(name).to_pylist() for name in Event.__struct_fields__)
        yield list(map(Event, *columns))


decode = msgspec.json.Decoder(Event).decode


def keyed(batch: list[Any]) -> Iterable[tuple[str, Event]]:
    if batch and isinstance(batch[0], Event):
        return [(event.key, event) for event in batch]
    return [(event.key, event) for event in map(decode, batch)]


def time_of(event: Event) -> datetime:
    return EPOCH + timedelta(milliseconds=event.ts)


def add(pane: list[float], event: Event) -> list[float]:
    pane[0] += 1
    pane[1] += event.value
    return pane


def merge(left: list[float], right: list[float]) -> list[float]:
    return [left[0] + right[0], left[1] + right[1]]


def windowed(flow: Dataflow, source: Path, windower: Any, collected: list[Any]) -> None:
    events = op.flat_map("decode", op.input("in", flow, BatchedFile(source)), keyed)
    clock = win.EventClock(time_of, wait_for_system_duration=DISORDER, now_getter=lambda: STILL)
    result = win.fold_window("fold", events, clock, windower, lambda: [0, 0.0], add, merge)
    joined = op.merge(
        "both",
        op.map("values", result.down, lambda kv: (kv[0], *kv[1])),
        op.map("bounds", result.meta, lambda kv: (kv[0], *kv[1])),
    )
    op.output("out", joined, TestingSink(collected))


def word_count(flow: Dataflow, source: Path, collected: list[Any]) -> None:
    def partial(batch: list[bytes]) -> Iterable[tuple[str, int]]:
        return Counter(b"".join(batch).decode().split()).items()

    partials = op.flat_map("count", op.input("in", flow, BatchedFile(source)), partial)
    op.output("out", op.reduce_final("sum", partials, lambda a, b: a + b), TestingSink(collected))


def rows_of(collected: list[Any]) -> Iterator[ResultRow]:
    """Values and bounds come on two streams; a session's bounds are its first and last event."""
    bounds = {(key, window): meta for key, window, meta in collected if isinstance(meta, win.WindowMetadata)}
    for key, window, value in collected:
        if not isinstance(value, win.WindowMetadata):
            meta = bounds[key, window]
            start, end = ((t - EPOCH) // timedelta(milliseconds=1) for t in (meta.open_time, meta.close_time))
            yield ResultRow(key, start, end + (GAP_MS if workload == "W3" else 0), int(value[0]), value[1])


workload, source, result = arguments()
watch.ready()
collected: list[Any] = []
flow = Dataflow("benchmark")
length = timedelta(milliseconds=SIZE_MS)
match workload:
    case "W1" | "W1p":
        windowed(flow, source, win.TumblingWindower(align_to=EPOCH, length=length), collected)
    case "W2":
        sliding = win.SlidingWindower(
            align_to=EPOCH, length=timedelta(milliseconds=SLIDING_MS), offset=length
        )
        windowed(flow, source, sliding, collected)
    case "W3":
        windowed(flow, source, win.SessionWindower(gap=timedelta(milliseconds=GAP_MS)), collected)
    case "W4":
        word_count(flow, source, collected)
run_main(flow)
watch.done()

if workload == "W4":
    rows = [ResultRow(word, 0, 0, count, 0.0) for word, count in collected]
else:
    rows = list(rows_of(collected))
events = sum(row.n for row in rows) // (SLIDING_MS // SIZE_MS if workload == "W2" else 1)
watch.report(events, rows, result)
