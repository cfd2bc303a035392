"""Members of an attempt: exact instructions for each event, and laws over random histories."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from streamflow.runtime.control.membership import (
    Cancel,
    Deploy,
    Failed,
    Instruction,
    Member,
    Membership,
    Over,
    Replace,
)

A, B = Member(0), Member(1)
NEXT_B = Member(1, 1)


def running() -> Membership:
    membership = Membership(2, silence=10.0, patience=5.0)
    membership.ask(0.0)
    membership.hello(A, 0.0)
    assert membership.hello(B, 0.0) == (Deploy(A, 1), Deploy(B, 1))
    return membership


def test_an_attempt_begins_when_it_is_asked_for_and_every_worker_is_up() -> None:
    membership = Membership(1, silence=10.0, patience=5.0)
    assert membership.hello(A, 0.0) == ()
    assert membership.ask(1.0) == (Deploy(A, 1),)


def test_what_is_said_of_another_attempt_or_by_a_replaced_process_does_not_count() -> None:
    membership = running()
    assert membership.heard(A, 1, 1.0)
    assert not membership.heard(A, 0, 1.0)
    membership.gone(B, 2.0, "exit code -9")
    assert not membership.heard(B, 1, 3.0)
    assert membership.hello(B, 3.0) == ()
    assert membership.fenced == 3


def test_after_a_death_the_others_let_go_and_the_next_attempt_waits_for_the_new_process() -> None:
    membership = running()
    assert membership.gone(B, 2.0, "exit code -9") == (
        Failed(1, B, "exit code -9"),
        Replace(B, NEXT_B),
        Cancel(A, 1),
    )
    assert membership.gone(B, 2.5, "connection lost") == ()
    assert membership.let_go(A, 1, 3.0) == (Over(1),)
    assert membership.ask(4.0) == ()
    assert membership.hello(NEXT_B, 5.0) == (Deploy(A, 2), Deploy(NEXT_B, 2))


def test_workers_of_an_attempt_that_ends_live_on() -> None:
    membership = running()
    assert membership.end(1.0) == (Failed(1, None, ""), Cancel(A, 1), Cancel(B, 1))
    assert membership.end(1.0) == ()
    assert membership.let_go(B, 1, 1.0) == ()
    assert membership.let_go(A, 1, 1.0) == (Over(1),)
    assert membership.ask(2.0) == (Deploy(A, 2), Deploy(B, 2))


def test_a_worker_that_is_silent_is_taken_for_dead() -> None:
    membership = running()
    assert membership.due == 10.0
    membership.heard(A, 1, 6.0)
    assert membership.tick(9.9) == ()
    assert membership.tick(10.0) == (
        Failed(1, B, "no word for 10 s"),
        Replace(B, NEXT_B),
        Cancel(A, 1),
    )
    assert not membership.heard(B, 1, 11.0)


@given(st.floats(0, 1e6), st.floats(1e-3, 1e3))
def test_what_is_due_is_done_at_that_very_moment(now: float, silence: float) -> None:
    membership = Membership(1, silence=silence, patience=5.0)
    membership.hello(A, now)
    membership.ask(now)
    due = membership.due
    assert due is not None
    assert Replace(A, Member(0, 1)) in membership.tick(due)


def test_a_worker_that_does_not_let_go_in_time_is_replaced() -> None:
    membership = running()
    membership.end(1.0)
    membership.let_go(A, 1, 2.0)
    assert membership.due == 6.0
    assert membership.tick(6.0) == (Replace(B, NEXT_B), Over(1))
    assert membership.due is None


def test_a_process_that_dies_before_anything_runs_is_replaced() -> None:
    membership = Membership(1, silence=10.0, patience=5.0)
    assert membership.gone(A, 0.0, "exit code 1") == (Replace(A, Member(0, 1)),)
    assert membership.ask(1.0) == ()
    assert membership.hello(Member(0, 1), 2.0) == (Deploy(Member(0, 1), 1),)


events = st.lists(
    st.tuples(
        st.sampled_from(["ask", "hello", "heard", "gone", "let_go", "end", "tick"]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 3),
        st.floats(0, 12),
    ),
    max_size=60,
)


class Processes:
    """The effects of a membership's instructions: the processes, and those of them that run something."""

    def __init__(self) -> None:
        self.membership = Membership(3, silence=10.0, patience=5.0)
        self.current = [Member(place) for place in range(3)]
        self.runs: set[Member] = set()

    def obey(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Deploy(member, attempt):
                    assert attempt == self.membership.attempt
                    assert member in self.current
                    assert member not in self.runs
                    self.runs.add(member)
                case Replace(member, by):
                    assert self.current[member.place] == member
                    self.current[member.place] = by
                    self.runs.discard(member)
                case Over(attempt):
                    assert attempt == self.membership.attempt
                    assert not self.runs
                case Cancel(member, attempt):
                    assert member in self.runs
                    assert attempt == self.membership.attempt
                case Failed(attempt):
                    assert attempt == self.membership.attempt

    def let_go(self, member: Member, attempt: int, now: float) -> None:
        fenced = self.membership.fenced
        instructions = self.membership.let_go(member, attempt, now)
        if self.membership.fenced == fenced:
            self.runs.discard(member)
        self.obey(instructions)

    def happens(self, word: str, member: Member, attempt: int, now: float) -> None:
        match word:
            case "ask" | "end" | "tick":
                self.obey(getattr(self.membership, word)(now))
            case "hello":
                self.obey(self.membership.hello(member, now))
            case "heard":
                counts = self.membership.heard(member, attempt, now)
                assert not counts or (member in self.runs and attempt == self.membership.attempt)
            case "gone":
                self.obey(self.membership.gone(member, now, "it is gone"))
            case _:
                self.let_go(member, attempt, now)


@given(events)
def test_an_attempt_begins_only_when_the_one_before_is_over_and_always_can(
    history: list[tuple[str, int, int, int, float]],
) -> None:
    processes, now = Processes(), 0.0
    for word, place, process, attempt, seconds in history:
        now += seconds
        processes.happens(word, Member(place, process), attempt, now)
    # Whatever has happened: where every worker does what it is told, another attempt begins.
    membership = processes.membership
    last = membership.attempt
    processes.obey(membership.end(now))
    for member in sorted(processes.runs):
        processes.let_go(member, membership.attempt, now)
    processes.obey(membership.ask(now))
    for member in processes.current:
        processes.obey(membership.hello(member, now))
    assert membership.attempt in (last, last + 1)
    assert processes.runs == set(processes.current)
