"""`collect()` over restarts of a job: in the same process nothing is lost or there twice; memory ends with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamflow.core.serde import pack, unpack
from streamflow.errors import SinkError
from streamflow.operators.connectors.collect import Collected, CollectSink
from streamflow.operators.contract.sink import Committable, Committer, SinkWriter
from tests.unit.connectors.driving import frame, run, sink_context, stream_type

KIND = stream_type(frame(n=[1]))


class Life:
    """One run of a job with one subtask."""

    def __init__(self, out: Collected, seed: int, restored: int | None = None) -> None:
        context = replace(sink_context(seed=seed), restored=restored)
        sink = CollectSink(out)
        self.writer: SinkWriter = sink.writer(KIND, context)
        self.committer: Committer = sink.committer(context)

    def seal(self, epoch: int, *numbers: int) -> list[Committable]:
        """Committables as a checkpoint gives them back."""
        run(self.writer.write(frame(n=list(numbers))))
        stored: list[Committable] = unpack(pack([dict(each) for each in run(self.writer.prepare(epoch))]))
        return stored


def numbers(out: Collected) -> list[int]:
    return [row["n"] for row in out.rows()]


def test_a_restart_in_the_same_process_keeps_what_was_committed() -> None:
    out = Collected()
    first = Life(out, 1)
    run(first.committer.commit(1, first.seal(1, 1, 2)))
    sealed = first.seal(2, 3)
    first.seal(3, 4)
    second = Life(out, 2, restored=2)
    run(second.committer.restore(2, sealed))
    assert numbers(out) == [1, 2, 3]
    run(second.committer.commit(3, second.seal(3, 4)))
    assert numbers(out) == [1, 2, 3, 4]


def test_what_was_committed_after_the_checkpoint_is_taken_back() -> None:
    out = Collected()
    first = Life(out, 1)
    sealed = {epoch: first.seal(epoch, epoch) for epoch in (1, 2, 3)}
    for epoch in (1, 2, 3):
        run(first.committer.commit(epoch, sealed[epoch]))
    second = Life(out, 2, restored=1)
    run(second.committer.restore(1, sealed[1]))
    assert numbers(out) == [1]


def test_a_run_that_starts_anew_forgets() -> None:
    out = Collected()
    first = Life(out, 1)
    run(first.committer.commit(1, first.seal(1, 1)))
    Life(out, 2)
    assert numbers(out) == []


def test_what_a_batch_job_carries_to_its_end_is_kept_and_not_shown() -> None:
    out = Collected()
    carried = Life(out, 1).seal(1, 1)
    second = Life(out, 2, restored=1)
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
