"""The output that a committer gets when a run has other sinks than the run that it continues."""

from dataclasses import dataclass, replace

import pytest

from streamflow.config import Settings
from streamflow.operators.contract.sink import Committer, Sink, SinkContext
from streamflow.runtime.checkpoints.committing import Committing
from streamflow.runtime.ports import Inline
from streamflow.runtime.profile import profile_for
from streamflow.time.clock import SeededRandom, SystemClock


class Nothing(Committer):
    async def commit(self, epoch, committables): ...

    async def restore(self, epoch, committables, carried=()): ...


@dataclass(frozen=True)
class Log(Sink):
    cluster: str | None

    @property
    def committed_with(self):
        return self.cluster

    def writer(self, input_type, ctx):
        raise NotImplementedError

    def committer(self, ctx):
        return None if self.cluster is None else Nothing()


class File(Log):
    """Another kind."""


def committing(*sinks):
    ctx = SinkContext("", 0, 1, SystemClock(), SeededRandom(1), Inline())
    made = Committing(profile_for("streaming", Settings(), bounded=False), lambda point: None, ctx.clock)
    for number, sink in enumerate(sinks, 1):
        made.add(f"write-{number}", sink, replace(ctx, operator_id=f"write-{number}"))
    return made


BEFORE = (Log("a"), File("b"), Log("a"))
SEALED = [("write-1", {"n": 1}), ("write-2", {"n": 2}), ("write-3", {"n": 3})]


@pytest.mark.parametrize(
    ("now", "takers", "unfit"),
    [
        (BEFORE, {1: "write-1", 2: "write-2", 3: "write-3"}, []),
        # Committed together before: what is left of them commits it.
        ((Log("a"), File("b")), {1: "write-1", 2: "write-2", 3: "write-1"}, []),
        ((File("b"), File("b"), Log("a")), {1: "write-3", 2: "write-2", 3: "write-3"}, []),
        ((Log("a"), File("b"), Log(None)), {1: "write-1", 2: "write-2", 3: "write-1"}, []),
        # None is left, or one of another kind.
        ((Log(None), File("b")), {2: "write-2"}, ["write-1", "write-3"]),
        ((Log("a"), Log("a")), {1: "write-1", 3: "write-1"}, ["write-2"]),
        ((), {}, ["write-1", "write-2", "write-3"]),
    ],
)
def test_output_goes_to_the_sink_that_sealed_it_or_to_one_committed_with_it(now, takers, unfit):
    fit, left = committing(*now).fitting(SEALED, committing(*BEFORE).sinks)
    assert ({piece["n"]: sink for sink, piece in fit}, left) == (takers, unfit)


def test_a_checkpoint_that_does_not_say_what_its_sinks_were_is_believed():
    fit, left = committing(Log("a"), File("b")).fitting(SEALED, {})
    assert ([sink for sink, _ in fit], left) == (["write-1", "write-2"], ["write-3"])
