"""Fifteen seconds of readings from a hundred sensors, averaged by the second into files: the job to kill and restart.

The records come as fast as they happen, so that there is time to kill the job: with a place for checkpoints it goes on
where it was, and the files hold each window once.

    python examples/readings.py
    streamflow run examples/readings.py --checkpoint-dir checkpoints --checkpoint-interval 500ms
"""

import streamflow as sf

job = sf.Job("readings")

readings = job.read(
    sf.DataGen(rate=20_000, rows=sf.setting("rows", 300_000)),
    event_time="ts",
    watermark=sf.bounded_disorder("100ms"),
)
means = (
    readings.key_by("key")
    .window(sf.tumbling("1s"))
    .aggregate(n=sf.count(), mean=sf.mean("value"))
    .named("means")
)
means.write(sf.FileSink(sf.setting("out", "windows"), format="ndjson"))

if __name__ == "__main__":
    job.run(mode="streaming")
