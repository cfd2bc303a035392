"""Topic to topic, exactly once: flights in, mean delays per airport and hour out, in a transaction per checkpoint.

End it as you like, `kill -9` too: the next start goes on, and who reads `delays` as committed sees each window once.

    make delays
    streamflow run examples/kafka/delays.py --checkpoint-dir kafka-data/delays --checkpoint-interval 500ms
    streamflow run examples/kafka/delays.py --set end=latest --set delays=again  # the topic replayed as a batch
"""

import re

import polars as pl

import streamflow as sf
from streamflow import col

KAFKA = sf.setting("kafka", "127.0.0.1:9092")
FLIGHTS, DELAYS = sf.setting("flights", "flights"), sf.setting("delays", "delays")  # topics

job = sf.Job("delays")

flights = job.read(
    sf.KafkaSource(
        re.compile(FLIGHTS),  # a pattern: it may start before there is the topic
        KAFKA,
        group_id="delays",  # is told how far the job has come, for those who watch
        schema={
            "origin": pl.String,
            "departed_at": pl.Datetime("us", "UTC"),
            "dep_delay": pl.Int32,
            "distance": pl.Int32,
        },
        discover_every="1s",
        end=sf.setting("end", "") or None,
    ),
    event_time="departed_at",
    watermark=sf.bounded_disorder("24h"),  # they come in scheduled order, and one departed 22 hours late
).on_error("skip")  # a cancelled flight has no departure: it is counted
hours = flights.filter(col("distance") > 500).key_by("origin").window(sf.sliding("1h", every="10m"))
delays = hours.aggregate(flights=sf.count(), mean_delay=sf.mean("dep_delay"))
delays.write(sf.KafkaSink(DELAYS, KAFKA, key="origin", create={"partitions": 2}))

if __name__ == "__main__":
    job.run(mode="streaming")
