"""Operators of two inputs: keys by another name on each, a watermark for each, an output watermark that is held back
and moves by itself (SEMANTICS §3).

`Crossing` stands for all joins: a record leaves when the other input's watermark has passed its time, with the next
record or watermark that comes, and holds the output watermark back until then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

import streamflow as sf
from streamflow.api.stream import builder_of, read_of, through
from streamflow.core.batch import Layout
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.keys import key_groups, subtask_of
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.graph.logical import Input
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import Collector, Operator, OperatorContext, OperatorSpec
from streamflow.testing import OperatorHarness
from tests.properties.job_model import MAX, MIN, Event, Way, disordered, read, share, ways
from tests.properties.probes import Probe

BOUND = 10
OUT = Schema({"port": pl.Int64, "key": pl.String, "ts": pl.Int64})


@dataclass(frozen=True, eq=False)
class Crossing(OperatorSpec):
    """Holds each record until the other input's watermark has passed its time. `waits`: nothing leaves with a
    watermark but +∞, so that the output watermark moves with a record only."""

    kind: ClassVar[str] = "crossing"
    emits: ClassVar[Layout] = Layout.FRAME
    waits: bool = False
    built: list[_Crossing] = field(default_factory=list["_Crossing"])

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, keys=("name",) if port else ("key",))

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return StreamType(OUT, timed=True)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        self.built.append(_Crossing(ctx, waits=self.waits))
        return self.built[-1]


class _Crossing(Operator):
    def __init__(self, ctx: OperatorContext, *, waits: bool) -> None:
        self._ctx, self._waits = ctx, waits
        self._held: list[tuple[int, int, str]] = []
        self._of_input = {0: MIN, 1: MIN}
        self._of_all = MIN
        self._reached = MIN
        self.said: list[tuple[str, int]] = []
        """The records and watermarks that have to come behind it, in order, as a probe writes them down."""

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        key = "name" if port else "key"
        owners = subtask_of(
            key_groups(batch.frame, (key,), self._ctx.max_parallelism),
            self._ctx.parallelism,
            self._ctx.max_parallelism,
        )
        assert set(owners) <= {self._ctx.subtask}, "a record came to a subtask that does not own its key"
        self._release(out)
        times = batch.frame[EVENT_TIME].to_physical()
        self._held += [(time, port, name) for time, name in zip(times, batch.frame[key], strict=True)]
        self._reach(self.output_watermark)

    def on_input_watermark(self, port: int, watermark: int) -> None:
        assert watermark > self._of_input[port], "the watermark of an input went back"
        self._of_input[port] = watermark

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        assert watermark == min(self._of_input.values())
        self._of_all = watermark
        if not self._waits or watermark == MAX:
            self._release(out)
        return self._reach(self.output_watermark)

    @property
    def output_watermark(self) -> int:
        return min([self._of_all, *(time - 1 for time, _, _ in self._held)])

    def _reach(self, watermark: int) -> int:
        if watermark > self._reached:
            self._reached = watermark
            self.said.append(("watermark", watermark))
        return watermark

    def _release(self, out: Collector) -> None:
        due = [each for each in self._held if each[0] <= self._of_input[1 - each[1]]]
        if due:
            self.said += [("time", time) for time, _, _ in due]
            self._held = [each for each in self._held if each not in due]
            rows = [{"port": port, "key": key, "ts": time, EVENT_TIME: time} for time, port, key in due]
            frame = pl.DataFrame(rows, schema={**OUT, EVENT_TIME: pl.Int64})
            out.emit(FrameBatch(frame.with_columns(pl.col(EVENT_TIME).cast(EVENT_TIME_TYPE))))


@dataclass(frozen=True, eq=False)
class Delaying(OperatorSpec):
    """Holds the latest three records, and the output watermark with them: it moves with records alone."""

    kind: ClassVar[str] = "delaying"
    built: list[_Delaying] = field(default_factory=list["_Delaying"])

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return inputs[0]

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        self.built.append(_Delaying())
        return self.built[-1]


class _Delaying(Operator):
    def __init__(self) -> None:
        self._held: list[AnyBatch] = []
        self._of_input = self._reached = MIN
        self.said: list[tuple[str, int]] = []

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        for at in range(len(batch)):
            self._held.append(batch.part(at, at + 1))
        self._release(out, left=3)
        self._reach()

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        self._of_input = watermark
        if watermark == MAX:
            self._release(out, left=0)
        return self._reach()

    @property
    def output_watermark(self) -> int:
        return min([self._of_input, *(_time(each) - 1 for each in self._held)])

    def _reach(self) -> int:
        watermark = self.output_watermark
        if watermark > self._reached:
            self._reached = watermark
            self.said.append(("watermark", watermark))
        return watermark

    def _release(self, out: Collector, *, left: int) -> None:
        while len(self._held) > left:
            record = self._held.pop(0)
            self.said.append(("time", _time(record)))
            out.emit(record)


def _time(record: AnyBatch) -> int:
    assert record.max_time is not None
    return record.max_time


def crossed(left: sf.Stream, right: sf.Stream, spec: Crossing) -> sf.Stream:
    builder = builder_of(left)
    return sf.Stream(builder, Input(builder.add_operator(spec, (read_of(left), read_of(right)))))


@share(2)
@given(
    left=disordered(BOUND, most=15),
    right=disordered(BOUND, most=15),
    parts=st.integers(1, 3),
    waits=st.booleans(),
    way=ways(),
)
@example(
    # The last records move no watermark themselves, and let records go that had held one back.
    left=[Event("a", time, 1) for time in (0, 20, 15, 16, 17)],
    right=[Event("a", time, 1) for time in (10, 30, 25, 26, 27)],
    parts=1,
    waits=True,
    way=Way(rows=1),
)
def test_records_of_two_inputs_meet_by_key_and_none_comes_behind_the_watermark(
    left: list[Event], right: list[Event], parts: int, waits: bool, way: Way
) -> None:
    spec, probe = Crossing(waits=waits), Probe()
    job = sf.Job("crossed")
    renamed = read(job, right, way, bound=BOUND)
    columns = {"key": sf.String, "ts": sf.Int64, "value": sf.Int64}
    if way.layout == "objects":
        first = read(job, left, way, bound=BOUND).map(dict, schema=columns)
        second = renamed.map(dict, schema=columns).rename({"key": "name"})
    else:
        first, second = read(job, left, way, bound=BOUND), renamed.rename({"key": "name"})
    out = crossed(first, second, spec).parallel(parts)
    behind = through(out, probe)
    counted = behind.key_by("key").window(sf.tumbling("1s")).aggregate(n=sf.count())
    kept, windows = behind.collect(), counted.collect()
    result = job.run(**way.settings)
    rows = [(row["port"], row["key"], row["ts"]) for row in kept.rows()]
    wanted = [(0, e.key, e.ts) for e in left] + [(1, e.key, e.ts) for e in right]
    assert Counter(rows) == Counter(wanted)
    assert sum(row["n"] for row in windows.rows()) == len(wanted)
    assert result.late == 0
    probe.check()
    if parts == 1:
        assert [seen.log for seen in probe.seen] == [each.said for each in spec.built]


@share(2)
@given(records=disordered(BOUND, most=15), way=ways(), again=st.booleans())
@example(
    # The last records move no watermark themselves, and let the one go that had held one back.
    records=[Event("a", time, 1) for time in (0, 30, 21, 22, 23)],
    way=Way(rows=1),
    again=False,
)
def test_a_watermark_moves_behind_a_source_and_in_the_middle_of_a_chain(
    records: list[Event], way: Way, again: bool
) -> None:
    job = sf.Job("delayed")
    spec, last, probe = Delaying(), Delaying(), Probe()
    stream = through(read(job, records, way, bound=BOUND), spec)
    kept = through(through(stream, last) if again else stream, probe).collect()
    job.run(**way.settings)
    assert Counter(row["ts"] for row in kept.rows()) == Counter(event.ts for event in records)
    probe.check()
    if not again:
        assert [seen.log for seen in probe.seen] == [each.said for each in spec.built]
    # Records that an operator lets go with +∞ may move the one behind it: that goes out with +∞.
    for seen, each in zip(probe.seen, (last if again else spec).built, strict=True):
        assert {*seen.log} <= {*each.said}


def test_the_output_watermark_moves_with_a_record_alone() -> None:
    """No watermark comes between: the record that held the output watermark back leaves with the next one."""
    left = StreamType(Schema({"key": pl.String}), timed=True)
    right = StreamType(Schema({"name": pl.String}), timed=True)
    harness = OperatorHarness(Crossing(waits=True), left, right)
    harness.push([{"key": "a"}], times=[5]).watermark(20, port=1)
    harness.watermark(10, port=0)
    assert harness.watermarks == [4]
    harness.push([{"name": "a"}], times=[30], port=1)
    assert (harness.event_times(), harness.watermarks) == ([5], [4, 10])
    harness.finish()
    assert (harness.event_times(), harness.watermarks) == ([5, 30], [4, 10, MAX])
