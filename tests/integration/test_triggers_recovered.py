"""Triggers of whole jobs over a crash: windows go on to wait for the clock and the watermark, at any parallelism."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.testing import TestJob

EARLY = sf.after_watermark(early=sf.after_processing_time("5s"), late=sf.after_count(1))


@pytest.mark.parametrize("combined", [False, True])
@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("window", [sf.tumbling("10s"), sf.session(gap="10s")], ids=str)
def test_panes_come_as_if_nothing_had_happened(window: Any, parallelism: int, combined: bool) -> None:
    job = sf.Job("recovered")
    source = sf.MemorySource([], schema={"k": str, "ts": int, "v": int})
    events = job.read(source, event_time=sf.epoch("ts", unit="s")).named("in")
    windows = events.key_by("k").window(window, trigger=EARLY, allowed_lateness="1h", pane_info=True)
    results = windows.aggregate(total=sf.sum("v"))
    if not combined:
        results.late.collect()
    panes = results.collect()

    def new() -> list[tuple[Any, ...]]:
        rows = t.output(panes).new_rows()
        return sorted((r["k"], r["total"], r["pane_timing"], r["pane_index"]) for r in rows)

    with TestJob(job, watermarks="script", parallelism=1) as t:
        t.source("in").push([{"k": k, "ts": 1, "v": v} for v, k in enumerate("abcdef")])
        t.advance_processing_time("3s")
        t.checkpoint()
        t.crash()
        t.restore(parallelism=parallelism)
        t.advance_processing_time("2s")
        assert new() == [(k, v, "EARLY", 0) for v, k in enumerate("abcdef")]
        t.source("in").push([{"k": "a", "ts": 1, "v": 10}])
        t.checkpoint()
        t.crash()
        t.restore(parallelism=2)
        t.source("in").advance_watermark(20_000_000)
        assert new() == [("a", 10, "ON_TIME", 1), *((k, v, "ON_TIME", 1) for v, k in enumerate("bcdef", 1))]
        t.source("in").push([{"k": "b", "ts": 1, "v": 5}])
        assert new() == [("b", 6, "LATE", 2)]
        t.source("in").end()
        assert new() == []


def test_state_of_another_trigger_is_refused(tmp_path: Path) -> None:
    def job(trigger: Any) -> sf.Job:
        made = sf.Job("changed")
        rows = [{"k": "a", "ts": n, "v": n} for n in range(5)]
        events = made.read(sf.MemorySource(rows), event_time=sf.epoch("ts", unit="s"))
        events.key_by("k").window(sf.tumbling("10s"), trigger=trigger).sum("v").named("sums").collect()
        return made

    job(EARLY).run(mode="streaming", checkpoint_dir=str(tmp_path))
    with pytest.raises(sf.StateError, match="trigger was"):
        job(sf.repeatedly(sf.after_count(2))).run(mode="streaming", checkpoint_dir=str(tmp_path))
