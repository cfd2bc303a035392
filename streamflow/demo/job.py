"""The demo's job: departure delays per airport in sliding windows, and the days of each aircraft as sessions.

Records arrive in scheduled order; event time is the actual departure, so they really are out of order: half of them lag
the latest departure seen by two hours, the worst by 22. The two results take the two ways out. Delays do not wait
longer than four hours and correct themselves for a day after (`allowed_lateness`): nine in ten come in time. Aircraft
days wait for a whole day, because a session that has been given out is no longer easily joined with the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import streamflow as sf
from streamflow import col
from streamflow.demo.board import Board
from streamflow.operators.contract.source import Source

__all__ = ["LATENESS", "PATIENCE", "Demo", "build"]

PATIENCE: Final = "4h"
LATENESS: Final = "24h"


@dataclass(frozen=True)
class Demo:
    """The job, and the collectors of its two results: every pane of the delays, every aircraft day."""

    job: sf.Job
    delays: sf.Collected
    aircraft: sf.Collected


def build(flights: Source, board: Board | None = None) -> Demo:
    """The job over a source of flights; `board` gets every pane of the delays as it comes."""
    job = sf.Job("january")

    # A cancelled flight has no departure: it counts where it was scheduled.
    departures = job.read(
        flights,
        event_time=col("departed_at").fill_null(col("scheduled")),
        watermark=sf.bounded_disorder(PATIENCE),
    )
    delays = (
        departures.with_columns(cancelled=col("departed_at").is_null().cast(sf.Int64))
        .key_by("origin")
        .window(sf.sliding("1h", every="10m"), allowed_lateness=LATENESS)
        .aggregate(
            flights=sf.count(),
            cancelled=sf.sum("cancelled"),
            mean_delay=sf.mean("dep_delay"),
            worst=sf.max("dep_delay"),
        )
        .named("delays")
    )
    if board is not None:
        delays.write(sf.sink(board.show))

    aircraft = (
        job.read(
            flights,
            event_time=col("departed_at").fill_null(col("scheduled")),
            watermark=sf.bounded_disorder(LATENESS),
        )
        .filter(col("departed_at").is_not_null() & col("tailnum").is_not_null())
        .key_by("tailnum")
        .window(sf.session(gap="8h"))
        .aggregate(
            departures=sf.count(),
            airports=sf.n_unique("origin"),
            miles=sf.sum("distance"),
            worst=sf.max("dep_delay"),
        )
        .named("aircraft")
    )
    return Demo(job, delays.collect(), aircraft.collect())
