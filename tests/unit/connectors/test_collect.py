"""`collect()` over restarts of a job: in the same process nothing is lost or there twice; memory ends with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest

from streamflow.core.batch import RowBatch
from streamflow.core.serde import pack, unpack
from streamflow.errors import RecordError, SinkError
from streamflow.operators.connectors.collect import Collected, CollectSink
from streamflow.operators.contract.sink import Committable, Committer, SinkWriter
from tests.unit.connectors.driving import frame, objects, run, sink_context, stream_type

KIND = stream_type(frame(n=[1]))


class Life:
    """One run of a job with one subtask."""

    def __init__(
        self, out: Collected, seed: int, restored: int | None = None, *, apart: bool = False, subtask: int = 0
    ) -> None:
        context = replace(sink_context(seed=seed, subtask=subtask), restored=restored, apart=apart, type=KIND)
        # A worker imports the job file by itself: its handle is another.
        self.writer: SinkWriter = CollectSink(Collected() if apart else out).writer(KIND, context)
        self.committer: Committer = CollectSink(out).committer(context)
        if restored is None:
            run(self.committer.begin())

    def seal(self, epoch: int, *numbers: int) -> list[Committable]:
        """Committables as a checkpoint gives them back."""
        run(self.writer.write(frame(n=list(numbers))))
        stored: list[Committable] = unpack(pack([dict(each) for each in run(self.writer.prepare(epoch))]))
        return stored


def numbers(out: Collected) -> list[int]:
    return [row["n"] for row in out.rows()]


@pytest.mark.parametrize("apart", [False, True])
def test_a_restart_in_the_same_process_keeps_what_was_committed(apart: bool) -> None:
    out = Collected()
    first = Life(out, 1, apart=apart)
    run(first.committer.commit(1, first.seal(1, 1, 2)))
    sealed = first.seal(2, 3)
    first.seal(3, 4)
    second = Life(out, 2, restored=2, apart=apart)
    run(second.committer.restore(2, sealed))
    assert numbers(out) == [1, 2, 3]
    run(second.committer.commit(3, second.seal(3, 4)))
    assert numbers(out) == [1, 2, 3, 4]


@pytest.mark.parametrize("apart", [False, True])
def test_what_was_committed_after_the_checkpoint_is_taken_back(apart: bool) -> None:
    out = Collected()
    first = Life(out, 1, apart=apart)
    sealed = {epoch: first.seal(epoch, epoch) for epoch in (1, 2, 3)}
    for epoch in (1, 2, 3):
        run(first.committer.commit(epoch, sealed[epoch]))
    second = Life(out, 2, restored=1, apart=apart)
    run(second.committer.restore(1, sealed[1]))
    assert numbers(out) == [1]


def test_a_run_that_starts_anew_forgets() -> None:
    out = Collected()
    first = Life(out, 1)
    run(first.committer.commit(1, first.seal(1, 1)))
    Life(out, 2)
    assert numbers(out) == []


@pytest.mark.parametrize("apart", [False, True])
def test_what_a_batch_job_carries_to_its_end_is_kept_and_not_shown(apart: bool) -> None:
    out = Collected()
    carried = Life(out, 1, apart=apart).seal(1, 1)
    second = Life(out, 2, restored=1, apart=apart)
    run(second.committer.restore(1, [], carried))
    assert numbers(out) == []
    run(second.committer.commit(2, [*carried, *second.seal(2, 2)]))
    assert numbers(out) == [1, 2]


def test_in_a_new_process_it_begins_behind_the_checkpoint_and_a_batch_result_with_a_hole_is_refused() -> None:
    first = Life(Collected(), 1)
    sealed, carried = first.seal(1, 1), first.seal(2, 2)
    out = Collected()
    second = Life(out, 2, restored=1)
    run(second.committer.restore(1, sealed, carried))
    assert numbers(out) == []
    fresh = second.seal(2, 3)
    with pytest.raises(SinkError, match="1 collected pieces were lost with the process"):
        run(second.committer.commit(2, [*carried, *fresh]))


def test_rows_from_other_processes_come_in_the_committable_in_the_order_of_their_subtasks() -> None:
    out = Collected()
    lives = [Life(out, seed, apart=True, subtask=subtask) for seed, subtask in ((1, 1), (2, 0))]
    sealed = [piece for life in lives for piece in life.seal(1, *([10, 11] if life is lives[0] else [1]))]
    assert numbers(out) == []
    for _ in range(2):
        run(lives[0].committer.commit(1, sealed))
        assert numbers(out) == [1, 10, 11]


def test_a_new_coordinator_shows_what_the_checkpoint_had_sealed_and_misses_nothing_carried() -> None:
    first = Life(Collected(), 1, apart=True)
    sealed, carried = first.seal(1, 1), first.seal(2, 2)
    out = Collected()
    second = Life(out, 2, restored=1, apart=True)
    run(second.committer.restore(1, sealed, carried))
    assert numbers(out) == [1]
    run(second.committer.commit(2, [*carried, *second.seal(2, 3)]))
    assert sorted(numbers(out)) == [1, 2, 3]


def test_objects_and_event_times_cross_processes_as_they_are() -> None:
    rows = [{"k": (1, 2**70), "at": datetime(2026, 1, 1, tzinfo=UTC)}, None, "text"]
    out = Collected()
    kind = stream_type(objects(*rows))
    context = replace(sink_context(), apart=True, type=kind)
    writer, committer = CollectSink(Collected()).writer(kind, context), CollectSink(out).committer(context)

    async def cross() -> None:
        await writer.write(objects(*rows))
        await writer.write(RowBatch([{"n": 1}], [7]))
        sealed = [dict(each) for each in await writer.prepare(1)]
        await committer.commit(1, unpack(pack(sealed)))

    run(cross())
    assert out.rows() == [*rows, {"n": 1}]


def test_an_object_that_cannot_cross_processes_is_an_error_with_the_object() -> None:
    kind = stream_type(objects(object()))
    writer = CollectSink(Collected()).writer(kind, replace(sink_context(), apart=True, type=kind))
    run(writer.write(objects(1, {2})))
    with pytest.raises(RecordError, match="cannot be sent to another process: it holds a") as raised:
        run(writer.prepare(1))
    assert raised.value.record == "{2}"


def test_what_was_collected_is_told_by_its_type_before_any_row_has_come() -> None:
    out = Collected()
    Life(out, 1, apart=True)
    assert dict(out.frame().schema) == {"n": pl.Int64}
