"""Probes between the operators of a job: they pass everything on and write down what they see of event time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import (
    Collector,
    OnChanges,
    Operator,
    OperatorContext,
    OperatorSpec,
)
from tests.properties.job_model import MAX


@dataclass
class Seen:
    """The elements that passed one probe in one subtask: ("time", event time) and ("watermark", time), in order."""

    log: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])

    @property
    def watermarks(self) -> list[int]:
        return [time for what, time in self.log if what == "watermark"]


@dataclass(frozen=True, eq=False)
class Probe(OperatorSpec):
    """Passes everything on and writes down what it sees."""

    kind: ClassVar[str] = "probe"
    on_changes: ClassVar[OnChanges] = "pass"
    seen: list[Seen] = field(default_factory=list[Seen])

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return inputs[0]

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        self.seen.append(Seen())
        return _Probing(self.seen[-1])

    def check(self) -> None:
        """Fails if event time went back, if a record came behind it, or if it did not come to its end."""
        assert self.seen
        for seen in self.seen:
            assert all(one < other for one, other in pairwise(seen.watermarks)), "a watermark went back"
            assert seen.watermarks[-1] == MAX
            watermark = -(2**63)
            for what, time in seen.log:
                assert what == "watermark" or time > watermark, "a record came behind the watermark"
                watermark = time if what == "watermark" else watermark


class _Probing(Operator):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        if isinstance(batch, FrameBatch):
            times = batch.frame[EVENT_TIME].to_physical().to_list()
        else:
            times = list(batch.times or ())
        self._seen.log += [("time", time) for time in times]
        out.emit(batch)

    def on_watermark(self, watermark: int, out: Collector) -> int:
        self._seen.log.append(("watermark", watermark))
        return watermark
