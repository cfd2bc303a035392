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
out = Path(sf.setting("out", "delays"))
out.mkdir(parents=True, exist_ok=True)
delays.write(sf.FileSink(str(out / "windows"), format="ndjson", mode="overwrite"))
delays.late.write(sf.FileSink(str(out / "late"), format="ndjson", mode="overwrite"))

if __name__ == "__main__":
    result = job.run()
    print(
        f"{result.records_in['write-1']:,} results in {out / 'windows'}, {result.late} flights were too late"
    )
