"""Sliding event-time windows over really disordered data: delays per airport, an hour every ten minutes.

Flights arrive in scheduled order; event time is the actual departure. The watermark waits four hours; what comes later
than a day after its window's end would go to `late`.

    python examples/sliding_delays.py
    streamflow run examples/sliding_delays.py --mode streaming --set out=delays
"""

from pathlib import Path

import streamflow as sf
from streamflow import col
from streamflow.demo.build_data import DATA

job = sf.Job("sliding-delays")

flights = job.read(
    sf.FileSource(str(DATA)),
    event_time=col("departed_at").fill_null(col("scheduled")),
    watermark=sf.bounded_disorder("4h"),
)
delays = (
    flights.filter(col("departed_at").is_not_null())
    .key_by("origin")
    .window(sf.sliding("1h", every="10m"), allowed_lateness="1d")
    .aggregate(flights=sf.count(), mean_delay=sf.mean("dep_delay"), worst=sf.max("dep_delay"))
)
delays.write(sf.FileSink(sf.setting("out", "delays"), format="ndjson"))
delays.late.write(sf.FileSink(str(Path(sf.setting("out", "delays")) / "late"), format="ndjson"))

if __name__ == "__main__":
    result = job.run()
    print(f"{sum(result.records_in.values()):,} records through all operators, {result.late} late")
