"""A process under any script of events, watermarks, snapshots, restarts and rescales, against a few lines of Python."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamflow as sf
from streamflow.core.schema import OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.process.process import KeyedProcess, ProcessSpec
from streamflow.state.keyed import timers
from streamflow.testing.harness import OperatorHarness
from streamflow.time.timestamps import to_micros

TIMED = StreamType(Schema({"k": pl.Int64, "v": pl.Int64}), timed=True)
WAIT = 5


class Silence(KeyedProcess):
    """Emits how many events a key had when nothing came for so long, and again when still nothing has; each event puts
    the alarm off. `v` = 0 forgets the key."""

    count = sf.ValueState(int, default=0)
    alarm = sf.ValueState(int)
    names = sf.MapState(int, int)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        before = self.alarm.value()
        if before is not None:
            ctx.delete_timer(before)
        if event["v"] == 0:
            self.count.clear()
            self.alarm.clear()
            self.names.clear()
            return
        self.count.update(self.count.value() + 1)
        self.names.put(event["v"], self.names.get(event["v"], 0) + 1)
        assert ctx.timestamp is not None
        at = to_micros(ctx.timestamp) + WAIT
        ctx.set_timer(at)
        self.alarm.update(at)

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        ctx.emit((to_micros(timer.time), ctx.key, self.count.value(), tuple(sorted(self.names.items()))))
        if self.alarm.value() == to_micros(timer.time):
            ctx.set_timer(timedelta(microseconds=WAIT))


class Model:
    """The same with dictionaries."""

    def __init__(self) -> None:
        self.count: Counter[int] = Counter()
        self.names: dict[int, Counter[int]] = {}
        self.alarm: dict[int, int] = {}
        self.timers: set[tuple[int, int]] = set()
        self.out: list[tuple[int, int, int, tuple[tuple[int, int], ...]]] = []

    def event(self, key: int, value: int, time: int) -> None:
        self.timers.discard((self.alarm.get(key, -1), key))
        if value == 0:
            self.count.pop(key, None)
            self.alarm.pop(key, None)
            self.names.pop(key, None)
            return
        self.count[key] += 1
        self.names.setdefault(key, Counter())[value] += 1
        self.alarm[key] = time + WAIT
        self.timers.add((time + WAIT, key))

    def watermark(self, time: int) -> None:
        while self.timers and min(self.timers)[0] <= time:
            at, key = min(self.timers)
            self.timers.remove((at, key))
            self.out.append((at, key, self.count[key], tuple(sorted(self.names.get(key, {}).items()))))
            if self.alarm.get(key) == at:
                self.timers.add((at + WAIT, key))


_events = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=6
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("events"), _events),
        st.tuples(st.just("watermark"), st.integers(1, 12)),
        st.tuples(st.just("restore"), st.integers(1, 4)),
    ),
    max_size=25,
)


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("held", [0, timers.HELD])
def test_any_script_agrees_with_the_model(backend: Any, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers.TimerQueue.__init__, "__kwdefaults__", {"held": held})

    @settings(max_examples=60 if backend == "memory" else 4, deadline=None)
    @given(_steps, st.sampled_from([1, 2, None]))
    def agree(steps: list[tuple[str, Any]], batch_rows: int | None) -> None:
        spec = ProcessSpec(("k",), Silence(), ("k", "v"), OBJECTS)
        harness = OperatorHarness(spec, TIMED, batch_rows=batch_rows, backend=backend)
        model, watermark = Model(), 0
        for kind, value in steps:
            match kind:
                case "events":
                    times = [watermark + 1 + ahead for _, _, ahead in value]
                    harness.push([{"k": key, "v": v} for key, v, _ in value], times=times)
                    for (key, v, _), time in zip(value, times, strict=True):
                        model.event(key, v, time)
                case "watermark":
                    watermark += value
                    harness.watermark(watermark)
                    model.watermark(watermark)
                case _:
                    harness.restore(harness.snapshot(), parallelism=value)
        assert Counter(harness.output()) == Counter(model.out)
        for key in {row[1] for row in model.out}:
            assert [row for row in harness.output() if row[1] == key] == [
                row for row in model.out if row[1] == key
            ]

    agree()
