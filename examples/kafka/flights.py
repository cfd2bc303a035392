"""Plays January's flights into the topic `flights`, and shows what delays.py makes of them in the topic `delays`.

    make flights
    streamflow run examples/kafka/flights.py --mode streaming --set speed=30 --set kafka=127.0.0.1:9092

`speed` is hours of January per second; 0: as fast as possible.
"""

import re

import polars as pl

import streamflow as sf
from streamflow import col
from streamflow.demo.replay import Replay

KAFKA = sf.setting("kafka", "127.0.0.1:9092")
FLIGHTS, DELAYS = sf.setting("flights", "flights"), sf.setting("delays", "delays")  # topics

job = sf.Job("flights")

# Flights of one aircraft stay in their order. What is played is written at once.
job.read(Replay(speed=sf.setting("speed", 30.0) or None)).write(
    sf.KafkaSink(FLIGHTS, KAFKA, key="tailnum", delivery="at_least_once", create={"partitions": 4})
)

# A pattern, because a topic that is named has to be there already.
delays = job.read(
    sf.KafkaSource(
        re.compile(DELAYS),
        KAFKA,
        schema={
            "origin": pl.String,
            "window_start": pl.Datetime("us", "UTC"),
            "flights": pl.Int64,
            "mean_delay": pl.Float64,
        },
        discover_every="1s",
    )
)
delays.filter((col("flights") > 9) & (col("mean_delay") > 98)).write(sf.ConsoleSink())

if __name__ == "__main__":
    job.run(mode="streaming")
