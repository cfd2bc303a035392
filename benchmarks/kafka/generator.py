"""The process that writes a job's input: so many events a second, at their times, whatever the job does.

`python -m benchmarks.kafka.generator BOOTSTRAP TOPIC stamped|replayed RATE SECONDS`: records in batches, one every few
milliseconds, to one partition after the other. `stamped`: each with its number and the time at which it is due, which
is `start + number / rate` however late it really goes out. `replayed`: the benchmarks' events, over and over.

Prints a JSON line each second: `at` (CLOCK_MONOTONIC, the same for all processes), `sent` (records that the broker has
acknowledged), and at the end `windows`: how many records there are with a timestamp in each 10 s.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

from benchmarks import data
from benchmarks.workloads.table import PARTITIONS, SIZE_MS

TICK_SECONDS = 0.005
"""As long as the Java producer gathers records for a batch, by default."""
BATCH_BYTES = 256 << 10
REPLAYED = 250_000
KEYS = 1_000
MOST_AT_ONCE = 20_000
"""After a pause it catches up in steps."""


class Stamped:
    """Records that tell when they were due."""

    def __init__(self, rate: int) -> None:
        self._step = 1_000_000 / rate
        self._start = time.time_ns() // 1000

    def values(self, first: int, stop: int) -> list[bytes]:
        return [
            b'{"id":%d,"due":%d,"key":"user-%04d","value":0.5}'
            % (number, self._start + int(number * self._step), number * 7919 % KEYS)
            for number in range(first, stop)
        ]


class Replayed:
    """The lines of the benchmarks' events, from the first again after the last."""

    def __init__(self) -> None:
        self._lines = data.events_ndjson(REPLAYED).read_bytes().splitlines()

    def values(self, first: int, stop: int) -> list[bytes]:
        first, stop = first % REPLAYED, stop % REPLAYED
        return self._lines[first:stop] if first <= stop else self._lines[first:] + self._lines[:stop]


class Generator:
    """Writes what is due."""

    def __init__(self, producer: Any, topic: str, events: Stamped | Replayed, rate: int) -> None:
        self._producer = producer
        self._topic = topic
        self._events = events
        self._rate = rate
        self._turn = 0
        self._handed = 0
        self.sent = 0
        self.windows: Counter[int] = Counter()

    async def run(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        start, total = loop.time(), int(seconds * self._rate)
        told = start
        self.tell()
        while self._handed < total:
            now = loop.time()
            due = min(int((now - start) * self._rate), total, self._handed + MOST_AT_ONCE)
            await self._hand_in(due)
            if now - told >= 1.0:
                told = now
                self.tell()
            await asyncio.sleep(TICK_SECONDS)
        await self._producer.flush()
        self.tell(windows=self.windows)

    def tell(self, **more: object) -> None:
        print(json.dumps({"at": time.monotonic(), "sent": self.sent, **more}), flush=True)

    async def _hand_in(self, stop: int) -> None:
        values = self._events.values(self._handed, stop)
        self._handed = stop
        while values:
            batch, now = self._producer.create_batch(), time.time_ns() // 1_000_000
            appended = 0
            for value in values:
                if batch.append(key=None, value=value, timestamp=now) is None:
                    break
                appended += 1
            values = values[appended:]
            self.windows[now // SIZE_MS * SIZE_MS] += appended
            self._turn = (self._turn + 1) % PARTITIONS
            acknowledged = await self._producer.send_batch(batch, self._topic, partition=self._turn)
            acknowledged.add_done_callback(lambda done, count=appended: self._acknowledged(done, count))

    def _acknowledged(self, done: asyncio.Future[Any], count: int) -> None:
        done.result()
        self.sent += count


async def main(bootstrap: str, topic: str, kind: str, rate: int, seconds: float) -> None:
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, compression_type="lz4", max_batch_size=BATCH_BYTES
    )
    await producer.start()
    try:
        events = Stamped(rate) if kind == "stamped" else Replayed()
        await Generator(producer, topic, events, rate).run(seconds)
    finally:
        await producer.stop()


if __name__ == "__main__":
    address, name, what, per_second, duration = sys.argv[1:]
    asyncio.run(main(address, name, what, int(per_second), float(duration)))
