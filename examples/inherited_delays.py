"""An interval join: late departures, and what the same aircraft had done in the day before.

Each departure more than an hour late is joined with those of its aircraft from 24 hours to one hour before it; one
without any is there alone. The watermark waits for 24 hours, longer than any flight in the data was delayed.

    python examples/inherited_delays.py
    streamflow run examples/inherited_delays.py --mode streaming
"""

import streamflow as sf
from streamflow import col
from streamflow.demo.build_data import DATA

job = sf.Job("inherited-delays")

departures = (
    job.read(
        sf.FileSource(str(DATA)),
        event_time=col("departed_at").fill_null(col("scheduled")),
        watermark=sf.bounded_disorder("24h"),
    )
    .filter(col("departed_at").is_not_null() & col("tailnum").is_not_null())
    .select("tailnum", "departed_at", "dep_delay")
)
late = departures.filter(col("dep_delay") > 60)
before = departures.rename({"departed_at": "before", "dep_delay": "delay_before"})
out = late.join(before, on="tailnum", within=("-24h", "-1h"), how="left").collect()

if __name__ == "__main__":
    job.run()
    found = out.frame()
    inherited = found.filter(col("delay_before") > 30)["departed_at", "tailnum"].unique().height
    flights = found["departed_at", "tailnum"].unique().height
    print(f"of {flights:,} late departures {inherited:,} had the aircraft late before, in the day before")
