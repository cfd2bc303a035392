"""Grants of splits while messages are on their way: a checkpoint has every split once, whenever its barrier comes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from streamflow.operators.contract.source import Discovery, Split
from streamflow.runtime.control.assignment import SplitAssigner
from streamflow.runtime.control.messages import (
    FromCoordinator,
    FromWorker,
    Inject,
    Passed,
    SplitEnded,
    SplitGranted,
    SplitNews,
    SplitWanted,
)
from streamflow.runtime.control.split_grants import SplitGrants, SplitShare


def share_of(*answers: SplitGranted | SplitNews) -> tuple[SplitShare, list[FromWorker]]:
    sent: list[FromWorker] = []
    share = SplitShare("read-1", 0, sent.append)
    for answer in answers:
        share.hear(answer)
    return share, sent


def news(**changed: bool) -> SplitNews:
    known = {"discovered": True, "holds_watermark": False, "exhausted": False, "all_started": True}
    return SplitNews("read-1", **{**known, **changed})


def test_a_share_knows_nothing_before_it_hears_something() -> None:
    share, sent = share_of()
    assert (share.discovered, share.holds_watermark, share.exhausted, share.all_started) == (
        False,
        True,
        False,
        False,
    )
    assert sent == []


def test_a_wish_is_sent_once_until_it_is_answered() -> None:
    share, sent = share_of(news())
    assert share.take(0) is None
    assert share.take(0) is None
    assert sent == [SplitWanted("read-1", 0, 0)]


def test_a_wish_that_was_refused_is_sent_again_when_there_is_news_or_more_room() -> None:
    share, sent = share_of(news())
    share.take(1)
    share.hear(SplitGranted("read-1", 0, None, news()))
    share.take(1)
    assert sent == [SplitWanted("read-1", 0, 1)]
    share.take(0)
    share.hear(SplitGranted("read-1", 0, None, news()))
    share.hear(news())
    share.take(0)
    assert sent == [SplitWanted("read-1", 0, fetching) for fetching in (1, 0, 0)]


def test_while_an_answer_may_be_on_its_way_the_watermark_is_held_and_nothing_is_exhausted() -> None:
    share, _ = share_of(news(exhausted=True))
    assert (share.holds_watermark, share.exhausted) == (False, True)
    share.take(0)
    assert (share.holds_watermark, share.exhausted) == (True, False)
    share.hear(SplitGranted("read-1", 0, None, news(exhausted=True)))
    assert (share.holds_watermark, share.exhausted) == (False, True)


def test_a_split_that_has_been_granted_and_not_opened_belongs_to_the_snapshot() -> None:
    share, _ = share_of()
    assigner = SplitAssigner(1, side_by_side=1)
    grants = SplitGrants("read-1", assigner)
    assigner.found(Discovery([Split("a")], final=True))
    assert share.take(0) is None
    answer = grants.wanted(SplitWanted("read-1", 0, 0))
    assert answer is not None
    share.hear(answer)
    assert [state.split.id for state in share.unopened] == ["a"]
    assert share.holds_watermark
    taken = share.take(0)
    assert taken is not None
    assert (taken.split.id, share.unopened, share.holds_watermark) == ("a", (), False)


def test_inside_one_process_the_answer_comes_at_once() -> None:
    assigner = SplitAssigner(1, side_by_side=16)
    grants = SplitGrants("read-1", assigner)

    def answer(message: FromWorker) -> None:
        assert isinstance(message, SplitWanted)
        granted = grants.wanted(message)
        assert granted is not None
        share.hear(granted)

    share = SplitShare("read-1", 0, answer)
    assigner.found(Discovery([Split("a"), Split("b")], final=True))
    taken = [share.take(fetching) for fetching in range(3)]
    assert [state and state.split.id for state in taken] == ["a", "b", None]
    assert share.exhausted


def test_nothing_is_granted_between_the_injection_and_the_barrier() -> None:
    assigner = SplitAssigner(2, side_by_side=1)
    grants = SplitGrants("read-1", assigner)
    assigner.found(Discovery([Split("a"), Split("b")], final=True))
    grants.inject([0])
    assert grants.wanted(SplitWanted("read-1", 0, 0)) is None
    other = grants.wanted(SplitWanted("read-1", 1, 0))
    assert other is not None
    assert other.state is not None
    assert other.state.split.id == "a"
    answer = grants.passed(0)
    assert answer is not None
    assert answer.state is not None
    assert answer.state.split.id == "b"
    assert grants.passed(0) is None


SUBTASKS = 3


@dataclass
class Subtask:
    """A source's subtask, and what is on its way to and from it."""

    share: SplitShare
    out: deque[FromWorker]
    into: deque[FromCoordinator] = field(default_factory=deque)
    opened: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    barrier: int | None = None


class Network:
    """A coordinator and subtasks whose messages take as long as the schedule says."""

    def __init__(self, splits: list[Split]) -> None:
        self.holding = {split.id for split in splits if split.holds_watermark}
        self.assigner = SplitAssigner(SUBTASKS, side_by_side=2)
        self.grants = SplitGrants("read-1", self.assigner)
        self.subtasks: list[Subtask] = []
        for number in range(SUBTASKS):
            out: deque[FromWorker] = deque()
            share = SplitShare("read-1", number, out.append)
            self.subtasks.append(Subtask(share, out))
        self.assigner.found(Discovery(splits, final=True))
        self.all = {split.id for split in splits}
        self.epoch = 0
        self.waiting: set[int] = set()
        self.parts: list[str] = []
        self.gone: list[str] = []
        self.tell(self.grants.untold())

    def tell(self, message: SplitNews | None) -> None:
        for each in self.subtasks:
            if message is not None:
                each.into.append(message)

    def steps(self) -> list[partial[None]]:
        """Everything that may happen next."""
        steps: list[partial[None]] = []
        for number, each in enumerate(self.subtasks):
            if each.out:
                steps.append(partial(self.to_coordinator, each))
            if each.into:
                steps.append(partial(self.to_subtask, each))
            if each.barrier is None:
                steps.append(partial(self.take, each))
            else:
                steps.append(partial(self.pass_barrier, number, each))
            steps += [partial(self.end, each, split) for split in each.opened]
        if not self.waiting:
            steps.append(partial(self.inject))
        return steps

    def to_coordinator(self, subtask: Subtask) -> None:
        message = subtask.out.popleft()
        answer = None
        match message:
            case SplitWanted():
                answer = self.grants.wanted(message)
            case SplitEnded():
                self.assigner.ended(message.split)
            case Passed():
                number = int(message.subtask)
                answer = self.grants.passed(number)
                self.waiting.discard(number)
                if not self.waiting:
                    self.check_checkpoint()
            case _:
                raise AssertionError(message)
        if answer is not None:
            subtask.into.append(answer)
        self.tell(self.grants.untold())

    def to_subtask(self, subtask: Subtask) -> None:
        message = subtask.into.popleft()
        if isinstance(message, Inject):
            subtask.barrier = message.epoch
        elif isinstance(message, SplitGranted | SplitNews):
            subtask.share.hear(message)

    def take(self, subtask: Subtask) -> None:
        state = subtask.share.take(len(subtask.opened))
        if state is not None:
            subtask.opened.append(state.split.id)

    def end(self, subtask: Subtask, split: str) -> None:
        subtask.opened.remove(split)
        subtask.ended.append(split)
        subtask.share.end(split)

    def inject(self) -> None:
        self.epoch += 1
        self.waiting = set(range(SUBTASKS))
        self.parts = [state.split.id for state in self.assigner.pending]
        self.gone = []
        self.grants.inject(range(SUBTASKS))
        for each in self.subtasks:
            each.into.append(Inject(self.epoch, last=False))

    def pass_barrier(self, number: int, subtask: Subtask) -> None:
        self.parts += [*subtask.opened, *(state.split.id for state in subtask.share.unopened)]
        self.gone += subtask.ended
        subtask.barrier = None
        subtask.out.append(Passed(str(number), self.epoch))

    def check_checkpoint(self) -> None:
        assert sorted([*self.parts, *self.gone]) == sorted(self.all)

    def check_watermarks(self) -> None:
        """Checks that a subtask without a held watermark is right, also about messages on their way to others."""
        if all(each.share.holds_watermark for each in self.subtasks):
            return
        assert not any(state.split.holds_watermark for state in self.assigner.pending)


splits = st.lists(st.booleans(), max_size=7).map(
    lambda holding: [Split(str(number), holds_watermark=holds) for number, holds in enumerate(holding)]
)


@given(splits, st.lists(st.integers(0, 1_000), max_size=150))
def test_a_checkpoint_has_every_split_once(splits: list[Split], schedule: list[int]) -> None:
    network = Network(splits)
    for choice in schedule:
        steps = network.steps()
        steps[choice % len(steps)]()
        network.check_watermarks()
    # However it began, every split is read in the end, and every subtask hears that there are no more.
    for _ in range(100):
        for step in network.steps():
            if step.func != network.inject:
                step()
                break
        for number, each in enumerate(network.subtasks):
            while each.out or each.into:
                if each.out:
                    network.to_coordinator(each)
                if each.into:
                    network.to_subtask(each)
            if each.barrier is not None:
                network.pass_barrier(number, each)
            network.take(each)
            for split in list(each.opened):
                network.end(each, split)
    assert sorted(split for each in network.subtasks for split in each.ended) == sorted(network.all)
    assert all(each.share.exhausted for each in network.subtasks)
