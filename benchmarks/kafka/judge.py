"""The process that reads a job's output as its users would: committed records only, and with a clock at hand.

`python -m benchmarks.kafka.judge BOOTSTRAP TOPIC latency COUNT SKIP`: until COUNT records have come, or none for a
while; their latencies but for the first SKIP, and whether each came once. `python -m benchmarks.kafka.judge BOOTSTRAP
TOPIC windows`: what lies in the topic now: how many events each 10 s have in the job's results, and how often a window
of a key came more than once. Prints one JSON line.
"""

import asyncio
import gc
import json
import sys
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any

import msgspec

from benchmarks.workloads.table import PARTITIONS

SILENCE_SECONDS = 10.0
FIRST_SECONDS = 60.0


class Arrival(msgspec.Struct):
    """The job's output for a record of `generator`'s: times in microseconds and milliseconds since 1970."""

    id: int
    due: int
    appended: int


class WindowResult(msgspec.Struct):
    """A row of the job that counts."""

    key: str
    start: int
    n: int


class Latencies:
    """Judges arrivals: how long after they were due, and after the broker had appended their input."""

    def __init__(self, count: int, skip: int) -> None:
        self._seen = bytearray(count)
        self._skip = skip
        self._appended, self._due = array("d"), array("d")
        self.missing = count
        self.duplicates = 0

    def take(self, now_us: int, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            if self._seen[arrival.id]:
                self.duplicates += 1
                continue
            self._seen[arrival.id] = 1
            self.missing -= 1
            if arrival.id >= self._skip:
                self._appended.append(now_us / 1000 - arrival.appended)
                self._due.append((now_us - arrival.due) / 1000)

    def summary(self) -> dict[str, Any]:
        return {
            "missing": self.missing,
            "duplicates": self.duplicates,
            "from_append_ms": spread(self._appended),
            "from_due_ms": spread(self._due),
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum."""
    percentiles = quantiles(values, n=100, method="inclusive")
    return {"p50": median(values), "p99": percentiles[98], "max": max(values)}


def counted(results: Sequence[WindowResult]) -> dict[str, Any]:
    """The events that each window has over all keys, and how many rows came again."""
    windows: Counter[int] = Counter()
    for result in results:
        windows[result.start] += result.n
    again = len(results) - len({(result.key, result.start) for result in results})
    return {"windows": windows, "again": again}


async def latency(consumer: Any, count: int, skip: int) -> dict[str, Any]:
    latencies = Latencies(count, skip)
    decode = msgspec.json.Decoder(Arrival).decode
    last = time.monotonic() + FIRST_SECONDS
    while latencies.missing and time.monotonic() - last < SILENCE_SECONDS:
        answer = await consumer.getmany(timeout_ms=1000)
        now = time.time_ns() // 1000
        for records in answer.values():
            latencies.take(now, [decode(record.value) for record in records])
            last = time.monotonic()
    return latencies.summary()


async def windows(consumer: Any, ends: dict[Any, int]) -> dict[str, Any]:
    decode = msgspec.json.Decoder(WindowResult).decode
    results: list[WindowResult] = []
    while any([await consumer.position(partition) < end for partition, end in ends.items()]):
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            results += [decode(record.value) for record in records]
    return counted(results)


async def main(bootstrap: str, topic: str, what: str, *numbers: str) -> dict[str, Any]:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        if what == "latency":
            gc.disable()  # a pause here is none of the job's
            return await latency(consumer, *map(int, numbers))
        return await windows(consumer, await consumer.end_offsets(partitions))
    finally:
        await consumer.stop()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
