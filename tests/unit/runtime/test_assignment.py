"""Which subtask gets which split, and when."""

from streamflow.operators.contract.source import Discovery, Split
from streamflow.runtime.control.assignment import SplitAssigner


def side_by_side(*ids: str) -> list[Split]:
    return [Split(id) for id in ids]


def one_after_another(*ids: str) -> list[Split]:
    return [Split(id, holds_watermark=False) for id in ids]


def taken(assigner: SplitAssigner, fetching: int) -> str | None:
    split = assigner.take(fetching)
    return None if split is None else split.split.id


def test_splits_come_in_the_order_in_which_they_were_found() -> None:
    assigner = SplitAssigner(1, side_by_side=16)
    assigner.found(Discovery(side_by_side("a", "b", "c"), final=True))
    assert [taken(assigner, n) for n in range(4)] == ["a", "b", "c", None]
    assert assigner.exhausted


def test_side_by_side_a_subtask_opens_its_share_at_once() -> None:
    assigner = SplitAssigner(2, side_by_side=16)
    assigner.found(Discovery(side_by_side("a", "b", "c", "d"), final=True))
    assert [taken(assigner, n) for n in (0, 1, 2)] == ["a", "b", None]
    assert [taken(assigner, n) for n in (0, 1)] == ["c", "d"]


def test_no_more_are_open_at_once_than_allowed() -> None:
    assigner = SplitAssigner(1, side_by_side=2)
    assigner.found(Discovery(side_by_side("a", "b", "c"), final=True))
    assert [taken(assigner, n) for n in (0, 1, 2)] == ["a", "b", None]
    assert taken(assigner, 1) == "c"


def test_splits_that_follow_one_another_are_read_one_at_a_time() -> None:
    assigner = SplitAssigner(2, side_by_side=16)
    assigner.found(Discovery(one_after_another("a", "b", "c"), final=True))
    assert [taken(assigner, n) for n in (0, 1)] == ["a", None]
    assert taken(assigner, 0) == "b"


def test_the_watermark_waits_for_splits_that_nobody_reads_yet() -> None:
    assigner = SplitAssigner(1, side_by_side=1)
    assert assigner.holds_watermark
    assigner.found(Discovery(side_by_side("a", "b"), final=True))
    assigner.take(0)
    assert assigner.holds_watermark
    assigner.take(0)
    assert not assigner.holds_watermark


def test_it_does_not_wait_for_what_comes_later_in_time_anyway() -> None:
    assigner = SplitAssigner(1, side_by_side=1)
    assigner.found(Discovery(one_after_another("a", "b"), final=True))
    assert not assigner.holds_watermark


def test_it_is_exhausted_only_when_no_more_can_be_found() -> None:
    assigner = SplitAssigner(1, side_by_side=1)
    assigner.found(Discovery([], final=False))
    assert not assigner.exhausted
    assigner.found(Discovery(side_by_side("a"), final=True))
    assert not assigner.exhausted
    assigner.take(0)
    assert assigner.exhausted


def test_listeners_hear_of_what_is_found_and_of_the_last_that_held_the_watermark() -> None:
    heard: list[str] = []
    assigner = SplitAssigner(1, side_by_side=2)
    assigner.listen(lambda: heard.append("news"))
    assigner.found(Discovery(side_by_side("a", "b"), final=True))
    assert heard == ["news"]
    assigner.take(0)
    assert heard == ["news"]
    assigner.take(1)
    assert heard == ["news", "news"]
