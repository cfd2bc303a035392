"""Committing: decides which committer makes which output visible, and when.

Sinks that are committed together share one committer, which gets all of their output in one call. Output of a sink
that follows the mode waits for the end of a batch job; that of one which commits with each epoch never does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamflow.operators.contract.sink import Committable, Committer, Sink, SinkContext
from streamflow.operators.contract.waiting import Waiting
from streamflow.runtime.blame import blamed, taking_up
from streamflow.runtime.control.epochs import Sealed
from streamflow.runtime.profile import ExecutionProfile
from streamflow.runtime.steps import Step
from streamflow.time.clock import Clock

__all__ = ["Committing"]


@dataclass(slots=True)
class _Group:
    """One committer and the sinks it serves."""

    committer: Committer | None
    at_each_epoch: bool
    kind: str
    sinks: list[str] = field(default_factory=list[str])


class Committing:
    """The committers of one run; `add` every sink first, then `begin` or `restore`, `close` last."""

    def __init__(self, profile: ExecutionProfile, reach: Callable[[str], None], clock: Clock) -> None:
        self._each_epoch = profile.commits == "epoch"
        self._reach = reach
        self._step = Step(clock)
        self._committed: str | None = None
        """The sink whose output is being committed."""
        self._groups: dict[Hashable, _Group] = {}
        self._by_sink: dict[str, _Group] = {}

    def add(self, id: str, sink: Sink, ctx: SinkContext) -> None:
        """Adds a sink of the plan; called for each of its subtasks, and only the first call counts."""
        if id in self._by_sink:
            return
        key: Hashable = ("alone", id) if sink.committed_with is None else ("shared", sink.committed_with)
        if key not in self._groups:
            at_each_epoch = self._each_epoch or sink.commits == "epoch"
            self._groups[key] = _Group(sink.committer(ctx), at_each_epoch, type(sink).__name__)
        self._groups[key].sinks.append(id)
        self._by_sink[id] = self._groups[key]

    @property
    def sinks(self) -> Mapping[str, Sequence[str]]:
        """The kind of each sink, since no other kind can take its output, and the first of those it is committed
        with: `fitting` needs them again."""
        return {id: (group.kind, group.sinks[0]) for id, group in self._by_sink.items()}

    @property
    def notes(self) -> Mapping[str, Mapping[str, Any]]:
        """The committers' notes for a restore, by sink."""
        found = {
            id: None if group.committer is None else group.committer.note()
            for id, group in self._by_sink.items()
        }
        return {id: note for id, note in found.items() if note is not None}

    def fitting(self, sealed: Sealed, sinks: Mapping[str, Sequence[str]]) -> tuple[Sealed, Sequence[str]]:
        """Output that an earlier run with those `sinks` had sealed, by sinks of this one, and the sinks whose output
        no committer takes now. Output that was committed together still is, although one of those sinks is gone."""
        fit: list[tuple[str, Committable]] = []
        unfit: dict[str, None] = {}
        for id, piece in sealed:
            kind, first = sinks.get(id, (None, id))
            mates = [id, *(other for other, (_, theirs) in sinks.items() if theirs == first)]
            taker = next((mate for mate in mates if self._takes(mate, kind)), None)
            if taker is None:
                unfit[id] = None
            else:
                fit.append((taker, piece))
        return fit, list(unfit)

    def divided(self, sealed: Sealed, *, final: bool) -> tuple[Sealed, Sealed]:
        """The parts of an epoch's output that are committed with it, and those carried over to the next."""
        if final:
            return tuple(sealed), ()
        now = [(sink, piece) for sink, piece in sealed if self._now(sink)]
        later = [(sink, piece) for sink, piece in sealed if not self._now(sink)]
        return now, later

    async def begin(self) -> None:
        """Begins a run that starts over."""
        for group in self._groups.values():
            if group.committer is not None:
                with blamed(group.sinks[0]):
                    await group.committer.begin()

    async def restore(self, epoch: int, sealed: Sealed, carried: Sealed) -> None:
        """Begins a run that continues from the checkpoint of `epoch`, which had sealed this output."""
        for group in self._groups.values():
            if group.committer is not None:
                with taking_up(group.sinks[0], epoch):
                    await group.committer.restore(epoch, _of(group, sealed), _of(group, carried))

    async def commit(self, epoch: int, sealed: Sealed) -> None:
        """Makes output visible; calls the committers that have output."""
        self._reach("commit.before")
        for group in self._groups.values():
            pieces = _of(group, sealed)
            if not pieces:
                continue
            if group.committer is not None:
                self._committed = group.sinks[0]
                with blamed(group.sinks[0]), self._step.of(f"the commit of epoch {epoch}"):
                    await group.committer.commit(epoch, pieces)
                self._reach("commit.sink_done")
        self._reach("commit.after")

    @property
    def waiting(self) -> list[tuple[str, Waiting]]:
        """The commit that has been under way for long, by its sink."""
        return [(self._committed, each) for each in self._step.waiting if self._committed is not None]

    async def close(self) -> None:
        """Closes the committers."""
        for group in self._groups.values():
            if group.committer is not None:
                await group.committer.close()

    def _takes(self, sink: str, kind: str | None) -> bool:
        group = self._by_sink.get(sink)
        return group is not None and group.committer is not None and kind in (None, group.kind)

    def _now(self, sink: str) -> bool:
        return self._by_sink[sink].at_each_epoch


def _of(group: _Group, sealed: Sealed) -> Sequence[Committable]:
    pieces: list[Any] = [piece for sink, piece in sealed if sink in group.sinks]
    return pieces
