"""Session windows: the days of each aircraft. Departures less than eight hours apart belong together.

The watermark waits for 24 hours, longer than any flight in the data was delayed, so that every session is whole.

    python examples/aircraft_sessions.py
    streamflow run examples/aircraft_sessions.py --mode streaming
"""

import streamflow as sf
from streamflow import col
from streamflow.demo.build_data import DATA

job = sf.Job("aircraft-sessions")

sessions = (
    job.read(
        sf.FileSource(str(DATA)),
        event_time=col("departed_at").fill_null(col("scheduled")),
        watermark=sf.bounded_disorder("24h"),
    )
    .filter(col("departed_at").is_not_null() & col("tailnum").is_not_null())
    .key_by("tailnum")
    .window(sf.session(gap="8h"))
    .aggregate(departures=sf.count(), miles=sf.sum("distance"), last_stop=sf.last("dest"))
)
out = sessions.filter(col("departures") >= 4).collect()

if __name__ == "__main__":
    job.run()
    print(out.frame().sort(["departures", "miles"], descending=True).head(10))
