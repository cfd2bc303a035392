"""When epochs begin and what a failing commit does, seen from outside a whole job on the virtual clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.core.elements import AnyBatch
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.sink import Committable, Committer, Sink, SinkContext, SinkWriter
from streamflow.runners.local import LocalJob
from streamflow.runtime.ports import Inline, Ports
from streamflow.testing import SteppedLoop, TestClock, TestJob


def totals() -> sf.Job:
    job = sf.Job("totals")
    job.read(sf.MemorySource([{"k": "a", "ts": 0}]), event_time=sf.epoch("ts", unit="s")).collect()
    return job


def test_an_epoch_takes_the_interval_and_no_less() -> None:
    with TestJob(totals(), checkpoint_interval="10s") as t:
        t.advance_processing_time("9s")
        assert t.status().epoch == 0
        t.advance_processing_time("1s")
        assert t.status().epoch == 1
        t.advance_processing_time("25s")
        assert t.status().epoch == 3


def test_micro_batches_advance_the_watermark_at_epoch_ends_only() -> None:
    with TestJob(totals(), mode="micro-batch", micro_batch_interval="1s") as t:
        t.source().push([{"k": "a", "ts": 5}]).advance_watermark(5_000_000)
        before = t.status().watermark
        t.advance_processing_time("1s")
        assert before is None
        assert t.status().watermark == 5_000_000


def test_a_full_slice_ends_the_epoch_at_once() -> None:
    with TestJob(totals(), mode="micro-batch", micro_batch_interval="1h", batch_rows=2) as t:
        for second in range(3):
            t.source().push([{"k": "a", "ts": second}] * 4)
        assert t.status().epoch == 1  # a slice is 4 × batch_rows
        assert t.status().records_written == 12


def test_batch_has_one_epoch_at_the_end() -> None:
    with TestJob(totals(), mode="batch") as t:
        t.source().push([{"k": "a", "ts": 1}])
        t.advance_processing_time("1h")
        assert t.status().epoch == 0
        assert t.finish().epochs == 1


@dataclass(frozen=True, eq=False)
class TwoPhase(Sink):
    """A sink whose committer notes what it is told, and fails in the epoch it is told to."""

    committed: list[tuple[int, int]] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    fails_in: int = -1

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        return _Writer(self, ctx.subtask)

    def committer(self, ctx: SinkContext) -> Committer:
        return _Committer(self)


class _Writer:
    def __init__(self, sink: TwoPhase, subtask: int) -> None:
        self._sink = sink
        self._subtask = subtask
        self._rows = 0

    async def write(self, batch: AnyBatch) -> None:
        self._rows += len(batch)

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        rows, self._rows = self._rows, 0
        return [{"rows": rows}] if rows else []

    async def close(self) -> None:
        self._sink.closed.append(self._subtask)


@dataclass
class _Committer(Committer):
    sink: TwoPhase

    async def restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable] = ()
    ) -> None:
        await self.commit(epoch, committables)

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        if epoch == self.sink.fails_in:
            raise sf.SinkError("the disk is full")
        self.sink.committed.append((epoch, sum(int(each["rows"]) for each in committables)))


def run(job: sf.Job, *, fail: type[Exception] | None = None, **settings: object) -> None:
    clock = TestClock()
    loop = SteppedLoop(clock)

    async def start() -> LocalJob:
        ports = Ports(clock=clock, io=Inline(), cpu=Inline())
        return await job.start(ports=ports, state_backend="memory", **settings)

    async def whole() -> None:
        await (await start()).wait()

    try:
        loop.run_virtually(whole())
    finally:
        loop.close_quietly()


def numbers(sink: Sink) -> sf.Job:
    job = sf.Job("numbers")
    job.read(sf.MemorySource([{"n": n} for n in range(20)], batch_rows=2)).write(sink)
    return job


def test_each_epoch_commits_what_was_sealed_in_it() -> None:
    sink = TwoPhase()
    run(numbers(sink), mode="micro-batch", batch_rows=2)
    assert sink.committed == [(1, 8), (2, 8), (3, 4)]
    assert sink.closed == [0]


def test_a_failing_commit_ends_the_job_with_the_committers_error() -> None:
    sink = TwoPhase(fails_in=2)
    with pytest.raises(sf.SinkError, match="the disk is full"):
        run(numbers(sink), mode="micro-batch", batch_rows=2, parallelism=2)
    assert sink.committed == [(1, 8)]
    assert sorted(sink.closed) == [0, 1]


def test_a_failing_operator_commits_nothing_of_its_epoch() -> None:
    sink = TwoPhase()
    job = sf.Job("numbers")
    source = sf.MemorySource([{"n": n} for n in range(20)], batch_rows=2)
    job.read(source).map(lambda row: {"n": 1 // (19 - row["n"])}, schema={"n": sf.Int64}).write(sink)
    with pytest.raises(sf.RecordError, match=r"map-1, .*: ZeroDivisionError"):
        run(job, mode="micro-batch", batch_rows=2)
    assert sink.committed == [(1, 8), (2, 8)]


@dataclass(frozen=True, eq=False)
class Careful(TwoPhase):
    """A sink that takes no more than it can hold."""

    held: list[int] = field(default_factory=list)

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        return _CarefulWriter(self, ctx)


class _CarefulWriter(_Writer):
    def __init__(self, sink: Careful, ctx: SinkContext) -> None:
        super().__init__(sink, ctx.subtask)
        self._held = sink.held
        self._ctx = ctx

    async def write(self, batch: AnyBatch) -> None:
        await super().write(batch)
        self._held.append(self._rows)
        if self._rows >= 4:
            self._ctx.end_epoch()
            await self._ctx.settled()


@pytest.mark.parametrize("slow", ["_publish", "put"])
def test_a_writer_that_holds_much_waits_for_a_checkpoint_that_takes_long(tmp_path: Path, slow: str) -> None:
    """Nothing bounds what it would take meanwhile."""

    class Slow(Inline):
        async def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
            if function.__name__ == slow:
                await clock.sleep(5)
            return function(*args)

    async def whole() -> None:
        ports = Ports(clock=clock, io=Slow(), cpu=Inline())
        job = sf.Job("numbers")
        job.read(sf.MemorySource([{"n": n} for n in range(400)], batch_rows=2)).write(sink)
        await (await job.start(ports=ports, state_backend="memory", checkpoint_dir=tmp_path)).wait()

    clock, sink = TestClock(), Careful()
    loop = SteppedLoop(clock)
    try:
        loop.run_virtually(whole())
    finally:
        loop.close_quietly()
    assert sum(rows for _, rows in sink.committed) == 400
    assert max(sink.held) < 40
