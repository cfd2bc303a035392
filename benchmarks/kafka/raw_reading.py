"""The measured process that K1 is compared with: aiokafka's consumer, and nothing done with what it reads.

`python -m benchmarks.kafka.raw_reading K1 events.ndjson`: `getmany(max_records=None)` with the consumer's defaults
until all records of the topic have come. Environment: as for K1 of `benchmarks.workloads.run`. The time runs from the
imports to the last record, as there to the result: both connect, look up the ends and read.
"""

from benchmarks.measure import Stopwatch, arguments

watch = Stopwatch()

import asyncio  # noqa: E402
import os  # noqa: E402

from aiokafka import AIOKafkaConsumer, TopicPartition  # noqa: E402

from benchmarks.workloads.table import PARTITIONS  # noqa: E402


async def read(bootstrap: str, topic: str) -> int:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        ends = sum((await consumer.end_offsets(partitions)).values())
        consumer.assign(partitions)
        count = 0
        while count < ends:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=None)).values():
                count += len(records)
        watch.done()
        return count
    finally:
        await consumer.stop()


workload, source, result = arguments()
watch.ready()
count = asyncio.run(read(os.environ["STREAMFLOW_BENCH_BOOTSTRAP"], os.environ["STREAMFLOW_BENCH_TOPIC"]))
watch.report(count, [], result)
