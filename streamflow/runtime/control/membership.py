"""Membership: the workers of a job, and what becomes of them when an attempt fails. Decides, does no I/O.

Each worker is a process in a numbered place. A process that dies, or does not answer, is replaced by another one. An
attempt begins when the process in every place is free. It fails when a worker dies, or is silent for too long, and ends
when the coordinator says so; then the others are told to let go of it, and those that do not in time are replaced.
Words about another attempt than the present one, and words of a process that has been replaced, do not count: such a
process may have been cut off, and not know of its replacement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

__all__ = ["Cancel", "Deploy", "Failed", "Instruction", "Member", "Membership", "Over", "Replace"]


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A process: its place, and its number among the processes of that place; both from 0."""

    place: int
    process: int = 0


@dataclass(frozen=True, slots=True)
class Deploy:
    """Begin an attempt on a worker."""

    member: Member
    attempt: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Note that an attempt has failed; `member` is the worker whose fault that is, None if no worker is at fault."""

    attempt: int
    member: Member | None
    why: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Tell a worker to let go of an attempt."""

    member: Member
    attempt: int


@dataclass(frozen=True, slots=True)
class Replace:
    """End a process, if it still lives, and start `by` in its place."""

    member: Member
    by: Member


@dataclass(frozen=True, slots=True)
class Over:
    """Note that no process runs anything of an attempt any more: the next one may be asked for."""

    attempt: int


Instruction = Deploy | Failed | Cancel | Replace | Over


class _State(Enum):
    STARTING = "starting"
    FREE = "free"
    RUNNING = "running"
    LETTING_GO = "letting go"


class Membership:
    """The state machine of one job. Times are seconds of one monotonic clock.

    `silence` is the time after which a worker that runs something and says nothing is taken for dead, `patience` the
    time that a worker may take to let go.

    >>> membership = Membership(2, silence=10.0, patience=10.0)
    >>> membership.ask(now=0.0), membership.hello(Member(0), now=1.0)
    ((), ())
    >>> membership.hello(Member(1), now=2.0)
    (Deploy(member=Member(place=0, process=0), attempt=1), Deploy(member=Member(place=1, process=0), attempt=1))
    >>> for instruction in membership.gone(Member(1), now=3.0, why="exit code -9"):
    ...     print(instruction)
    Failed(attempt=1, member=Member(place=1, process=0), why='exit code -9')
    Replace(member=Member(place=1, process=0), by=Member(place=1, process=1))
    Cancel(member=Member(place=0, process=0), attempt=1)
    >>> membership.let_go(Member(0), 1, now=4.0)
    (Over(attempt=1),)
    """

    def __init__(self, workers: int, *, silence: float, patience: float) -> None:
        self._silence = silence
        self._patience = patience
        self._members = [Member(place) for place in range(workers)]
        self._states = [_State.STARTING] * workers
        self._since = [0.0] * workers
        """The time at which each worker was heard last, or was told to let go."""
        self._retired: dict[int, int] = {}
        """The next process of each place that there is no more."""
        self._asked = False
        self._failed = False
        self.attempt = 0
        """The number of the present attempt, from 1."""
        self.fenced = 0
        """The number of words that did not count."""

    def ask(self, now: float) -> Sequence[Instruction]:
        """Asks for the next attempt, which begins as soon as it can."""
        self._asked = True
        return self._begin(now)

    def hello(self, member: Member, now: float) -> Sequence[Instruction]:
        """Notes that a process is up."""
        if not self._is(member, _State.STARTING):
            self.fenced += 1
            return ()
        self._states[member.place] = _State.FREE
        return self._begin(now)

    def heard(self, member: Member, attempt: int, now: float) -> bool:
        """Notes that a worker has said something of an attempt; gives whether that counts."""
        if attempt != self.attempt or not self._is(member, _State.RUNNING) or self._failed:
            self.fenced += 1
            return False
        self._since[member.place] = now
        return True

    def alive(self, member: Member, now: float) -> None:
        """Notes that a worker's process lives, whatever it runs."""
        if self._is(member, _State.RUNNING):
            self._since[member.place] = now

    def gone(self, member: Member, now: float, why: str) -> Sequence[Instruction]:
        """Notes that a process has ended, or its connection has."""
        if self._members[member.place] != member:
            return ()
        running = self._states[member.place] is _State.RUNNING
        replaced = self._replace(member)
        if running and not self._failed:
            return self._fail(member, now, why, replaced)
        return (replaced, *self._over())

    def let_go(self, member: Member, attempt: int, now: float) -> Sequence[Instruction]:
        """Notes that a worker runs nothing of an attempt any more."""
        if attempt != self.attempt or not self._is(member, _State.LETTING_GO):
            self.fenced += 1
            return ()
        self._states[member.place] = _State.FREE
        return self._over()

    def end(self, now: float) -> Sequence[Instruction]:
        """Ends the attempt, which has failed or ended for no worker's fault; one that has not begun will not."""
        self._asked = False
        return () if self._failed or not self.runs else self._fail(None, now, "")

    def tick(self, now: float) -> Sequence[Instruction]:
        """Gives up workers that are silent, or do not let go, for too long by now."""
        instructions: list[Instruction] = []
        for place, state in enumerate(self._states):
            limit = self._limit(state)
            # As `due` is told, which a difference would miss by what is rounded.
            if limit is None or now < self._since[place] + limit:
                continue
            why = f"no word for {limit:g} s"
            instructions += self.gone(self._members[place], now, why)
        return tuple(instructions)

    def resize(self, workers: int) -> None:
        """Goes on with another number of places between two attempts; processes in places that stay stay."""
        assert not self.runs
        new = range(len(self._members), workers)
        self._retired |= {member.place: member.process + 1 for member in self._members[workers:]}
        more = (Member(place, self._retired.get(place, 0)) for place in new)
        self._members = [*self._members[:workers], *more]
        self._states = [*self._states[:workers], *(_State.STARTING for _ in new)]
        self._since = [*self._since[:workers], *(0.0 for _ in new)]

    @property
    def due(self) -> float | None:
        """The time at which `tick` is to be called next; None if nothing is waited for."""
        limits = [(self._limit(state), since) for state, since in zip(self._states, self._since, strict=True)]
        return min((since + limit for limit, since in limits if limit is not None), default=None)

    def present(self, place: int) -> Member:
        """The process that is in a place now."""
        return self._members[place]

    def _limit(self, state: _State) -> float | None:
        return {_State.RUNNING: self._silence, _State.LETTING_GO: self._patience}.get(state)

    def _begin(self, now: float) -> Sequence[Instruction]:
        if not self._asked or any(state is not _State.FREE for state in self._states):
            return ()
        self._asked = self._failed = False
        self.attempt += 1
        self._states = [_State.RUNNING] * len(self._states)
        self._since = [now] * len(self._states)
        return tuple(Deploy(member, self.attempt) for member in self._members)

    def _fail(
        self, member: Member | None, now: float, why: str, *replaced: Instruction
    ) -> Sequence[Instruction]:
        self._failed = True
        cancelled: list[Instruction] = []
        for place, state in enumerate(self._states):
            if state is _State.RUNNING:
                self._states[place], self._since[place] = _State.LETTING_GO, now
                cancelled.append(Cancel(self._members[place], self.attempt))
        return (Failed(self.attempt, member, why), *replaced, *cancelled, *self._over())

    def _replace(self, member: Member) -> Replace:
        by = Member(member.place, member.process + 1)
        self._members[member.place] = by
        self._states[member.place] = _State.STARTING
        return Replace(member, by)

    def _over(self) -> Sequence[Instruction]:
        return () if self.runs or not self._failed else self._said_over()

    def _said_over(self) -> Sequence[Instruction]:
        self._failed = False
        return (Over(self.attempt),)

    @property
    def runs(self) -> bool:
        """Whether any process runs something of the attempt, or has not let go of it."""
        return any(state in (_State.RUNNING, _State.LETTING_GO) for state in self._states)

    def _is(self, member: Member, state: _State) -> bool:
        return self._members[member.place] == member and self._states[member.place] is state
