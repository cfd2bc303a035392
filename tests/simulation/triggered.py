"""Random windows under random triggers in seeded lives, judged by the laws of panes against plain Python.

Triggers go by the clock, which is virtual, by counts, by the watermark, and by all of them at once; lives crash, are
restored and rescaled at any step, also while windows wait for the clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import streamflow as sf
from streamflow.testing.simulation.campaign import Campaign
from tests.properties.job_model import Event, Way, read
from tests.properties.pane_laws import broken
from tests.properties.trigger_jobs import TriggeredJob, random_job, whole, windowed, windows_in
from tests.properties.trigger_model import lasts

__all__ = ["failures"]


def failures(seed: int, lives: int) -> list[str]:
    """The faults of one random job in some random lives."""
    random = Random(seed)
    # Late by no more than windows wait: which records are there at last is certain then.
    job = replace(random_job(random, clock=True), late=False)
    campaign = Campaign(
        made(job, random),
        rows=len(job.records),
        late=f"{min(job.lateness, 20) * job.unit}us",
        judge=lambda given, written: judged(job, given, written),
    )
    for _ in campaign.run(range(seed * lives, (seed + 1) * lives)):
        pass
    replay = f"tests.simulation.triggered.failures({seed}, {lives})"
    return [f"{failure.text(replay)}\n{job}" for failure in campaign.simulation.failures]


def made(job: TriggeredJob, random: Random) -> sf.Job:
    """The job, in any layout."""
    way = Way(rows=1_000, layout=random.choice(["columns", "columns", "functions", "objects"]))  # type: ignore[arg-type]
    built = sf.Job("triggered")
    records = [event._replace(ts=event.ts * job.unit) for event in job.records]
    windowed(job, read(built, records, way, bound=job.bound * job.unit), way).collect()
    return built


def judged(
    job: TriggeredJob, given: Mapping[str, Sequence[Any]], written: Mapping[str, Sequence[Any]]
) -> str | None:
    """The first law that the output breaks."""
    ((_, rows),) = given.items()
    ((_, output),) = written.items()
    records = [Event(row["key"], row["ts"] // job.unit, row["value"]) for row in rows]
    return broken(
        windows_in(output, job.unit),
        whole(job, records),
        job.accumulation,
        lasts=lasts(job.asked),
        merging=job.merging,
        told=job.pane_info,
    )
