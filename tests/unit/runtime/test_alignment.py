"""Barrier alignment, as exact lists of instructions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import StreamflowError
from streamflow.runtime.control.alignment import Aligned, Alignment, Block


def told(alignment: Alignment, *events: tuple[str, int, int] | tuple[str, int]) -> list[object]:
    answers: list[object] = []
    for event in events:
        if event[0] == "barrier":
            answers.append(alignment.barrier(event[1], epoch=event[2]))  # type: ignore[misc]
        else:
            answers.append(alignment.end(event[1]))
    return answers


def test_one_channel_is_aligned_at_once() -> None:
    assert told(Alignment(1), ("barrier", 0, 1), ("barrier", 0, 2)) == [Aligned(1), Aligned(2)]


def test_each_channel_is_blocked_until_the_last_barrier() -> None:
    assert told(Alignment(3), ("barrier", 1, 1), ("barrier", 0, 1), ("barrier", 2, 1)) == [
        Block(1),
        Block(0),
        Aligned(1),
    ]


def test_the_next_epoch_starts_from_nothing() -> None:
    assert told(Alignment(2), ("barrier", 0, 1), ("barrier", 1, 1), ("barrier", 1, 2), ("barrier", 0, 2)) == [
        Block(0),
        Aligned(1),
        Block(1),
        Aligned(2),
    ]


def test_a_channel_that_ends_is_not_waited_for() -> None:
    assert told(Alignment(2), ("barrier", 0, 1), ("end", 1)) == [Block(0), Aligned(1)]


def test_one_that_has_ended_before_is_not_waited_for_either() -> None:
    assert told(Alignment(3), ("end", 2), ("barrier", 0, 1), ("end", 1), ("barrier", 0, 2)) == [
        None,
        Block(0),
        Aligned(1),
        Aligned(2),
    ]


def test_ends_without_a_barrier_ask_for_nothing() -> None:
    assert told(Alignment(2), ("end", 0), ("end", 1)) == [None, None]


def test_two_epochs_at_once_are_a_fault() -> None:
    alignment = Alignment(2)
    alignment.barrier(0, epoch=1)
    with pytest.raises(StreamflowError, match="barrier 2 came while 1 was being aligned"):
        alignment.barrier(1, epoch=2)


@given(st.integers(1, 5), st.data())
def test_in_any_order_all_block_but_the_last(channels: int, data: st.DataObject) -> None:
    alignment = Alignment(channels)
    for epoch in range(1, 4):
        order = data.draw(st.permutations(range(channels)))
        answers = [alignment.barrier(channel, epoch) for channel in order]
        assert answers == [*(Block(channel) for channel in order[:-1]), Aligned(epoch)]
