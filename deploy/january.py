"""The job that docker-compose.yml runs: January at an hour a second, so that there is something to measure.

streamflow run deploy/january.py --mode streaming --metrics-port 9249
"""

import streamflow as sf
from streamflow import col
from streamflow.demo.replay import Replay

job = sf.Job("january")

delays = (
    job.read(
        Replay(speed=sf.setting("speed", 1.0)),
        event_time=col("departed_at").fill_null(col("scheduled")),
        watermark=sf.bounded_disorder("4h"),
    )
    .key_by("origin")
    .window(sf.sliding("1h", every="10m"), allowed_lateness="24h")
    .aggregate(flights=sf.count(), mean_delay=sf.mean("dep_delay"), worst=sf.max("dep_delay"))
    .named("delays")
)
delays.write(sf.ConsoleSink())

if __name__ == "__main__":
    job.run()
