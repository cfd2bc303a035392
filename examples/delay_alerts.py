"""State and timers of one's own: an alert when for two hours no flight has left an airport in time.

A `KeyedProcess` sees one airport's departures. The first late one sets a timer, the next punctual one deletes it; if
that comes too late, the timer has been an alert, and a record on `recoveries` says how long it lasted.

    python examples/delay_alerts.py
    streamflow run examples/delay_alerts.py --mode streaming
"""

from datetime import datetime, timedelta
from typing import Any

import streamflow as sf
from streamflow import col
from streamflow.demo.build_data import DATA

PATIENCE = timedelta(hours=2)
LATE_MINUTES = 15


class DelayAlerts(sf.KeyedProcess):
    """Says when an airport has been late for too long, and when that is over."""

    late_since = sf.ValueState(datetime)
    output = {"origin": sf.String, "since": sf.Datetime}  # noqa: RUF012
    outputs = {"recoveries": {"origin": sf.String, "minutes": sf.Int64}}  # noqa: RUF012

    def on_event(self, event: dict[str, Any], ctx: sf.ProcessContext) -> None:
        since, now = self.late_since.value(), event["scheduled"]
        if event["dep_delay"] is None or event["dep_delay"] >= LATE_MINUTES:
            if since is None:
                self.late_since.update(now)
                ctx.set_timer(now + PATIENCE)
        elif since is not None:
            if now < since + PATIENCE:
                ctx.delete_timer(since + PATIENCE)
            else:
                ctx.emit_to(
                    "recoveries", {"origin": ctx.key, "minutes": (now - since) // timedelta(minutes=1)}
                )
            self.late_since.clear()

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        ctx.emit({"origin": ctx.key, "since": timer.time - PATIENCE})


job = sf.Job("delay-alerts")
flights = job.read(sf.FileSource(str(DATA)), event_time=col("scheduled"), watermark=sf.bounded_disorder("0s"))
alerts = flights.key_by("origin").process(DelayAlerts)
out, recoveries = alerts.collect(), alerts.output("recoveries").collect()

if __name__ == "__main__":
    job.run()
    print(out.frame(), recoveries.frame().sort("minutes", descending=True).head(5), sep="\n")
