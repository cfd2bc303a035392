"""Whole jobs with a process, crashed and gone on with at other parallelisms, and as other versions of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.errors import StateError
from streamflow.testing import TestJob

KEYS = "abcdefgh"


class Watch(sf.KeyedProcess):
    """Counts by key, remembers names, and reports ten seconds after a key's first event on each clock."""

    seen = sf.ValueState(int, default=0)
    names = sf.MapState(str, int)
    log = sf.ListState(int)
    scale = sf.BroadcastState(str, int)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        if not self.seen.value():
            ctx.set_timer(timedelta(seconds=10))
            ctx.set_processing_timer("10s")
        self.seen.update(self.seen.value() + self.scale.get("by", 1))
        self.names.put(event["name"], self.names.get(event["name"], 0) + 1)
        self.log.add(event["n"])

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        names = tuple(sorted(self.names.items()))
        ctx.emit((timer.clock, ctx.key, self.seen.value(), names, tuple(self.log.get())))

    def on_broadcast(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.scale.put("by", event["by"])


EVENTS = {"at": sf.Datetime, "k": sf.String, "name": sf.String, "n": sf.Int64}


def watching() -> sf.Job:
    job = sf.Job("watch")
    events = job.read(sf.MemorySource([], schema=EVENTS), event_time="at").named("events")
    rules = job.read(sf.MemorySource([], schema={"at": sf.Datetime, "by": sf.Int64}), event_time="at").named(
        "rules"
    )
    events.key_by("k").process(Watch, broadcast=rules).collect()
    return job


def rows(second: int, name: str, n: int) -> list[dict[str, Any]]:
    return [{"at": f"2013-01-01T00:00:{second:02}Z", "k": key, "name": name, "n": n} for key in KEYS]


@pytest.mark.parametrize("widths", [(1, 1, 1), (1, 3, 2), (4, 1, 3)])
def test_state_timers_and_broadcast_state_outlive_crashes(widths: tuple[int, int, int]) -> None:
    first, second, third = widths
    with TestJob(watching(), parallelism=first) as t:
        t.source("rules").push([{"at": "2013-01-01T00:00:00Z", "by": 3}])
        t.source("events").push(rows(0, "x", 1))
        t.checkpoint()
        t.source("events").push(rows(1, "lost", 2))
        t.crash().restore(parallelism=second)
        t.source("events").push(rows(2, "y", 3))
        t.checkpoint().crash().restore(parallelism=third)
        t.source("events").push(rows(3, "y", 4))
        for name in ("rules", "events"):
            t.source(name).advance_watermark("2013-01-01T00:00:30Z")
        t.advance_processing_time("10s")
        said = sorted(t.output().rows())
    names, log = (("lost", 1), ("x", 1), ("y", 2)), (1, 2, 3, 4)
    assert said == sorted((clock, key, 12, names, log) for clock in ("event", "processing") for key in KEYS)


# Other versions of a job.


@dataclass
class One:
    n: int


@dataclass
class Two:
    n: int
    label: str = "none"


@dataclass
class Other:
    total: int


def version(shape: Any, field: str = "state") -> sf.Job:
    def on_event(self: Any, event: Any, ctx: sf.ProcessContext) -> None:
        before = getattr(self, field).value()
        after = shape(1) if before is None else shape(getattr(before, "n", 0) + 1)
        ctx.emit((ctx.key, None if before is None else repr(before)))
        getattr(self, field).update(after)

    process = type("P", (sf.KeyedProcess,), {field: sf.ValueState(shape), "on_event": on_event})
    job = sf.Job("versions")
    job.read(sf.MemorySource([{"k": "a"}, {"k": "b"}])).key_by("k").process(process).named(
        "process"
    ).collect()
    return job


def test_changed_state_is_refused_by_name(tmp_path: Path) -> None:
    version(One).run(checkpoint_dir=str(tmp_path), mode="streaming")
    with pytest.raises(StateError, match="state 'state': its type: field 'n' is gone"):
        version(Other).run(checkpoint_dir=str(tmp_path), mode="streaming")
    with pytest.raises(StateError, match="state 'state' is no longer declared"):
        version(One, "renamed").run(checkpoint_dir=str(tmp_path), mode="streaming")
    version(Two).run(checkpoint_dir=str(tmp_path), mode="streaming")
