"""The memory of one worker: together subtasks never hold more than there is, and what some leave the others get."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import StateError
from streamflow.state.backends.memory import MemoryBackend
from streamflow.state.backends.state_memory import StateMemory
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.memory_share import MemoryPool, MemoryShare

MIB = 1 << 20
KEYS = OwnedKeys(("k",), range(128), 128)


class Heap:
    """Holds bytes of one share, in pieces of at most `piece` that it drops when it has to make room."""

    def __init__(self, share: MemoryShare) -> None:
        self.share = share
        self.nbytes = 0
        self.dropped = 0
        share.join(self)

    def make_room(self, nbytes: int) -> None:
        gone = min(nbytes, self.nbytes)
        self.nbytes -= gone
        self.dropped += gone

    def change(self, more: int) -> None:
        more = max(more, -self.nbytes)
        self.nbytes += more
        self.share.hold(more)


_changes = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(-3_000, 3_000)), max_size=80)


@given(nbytes=st.integers(1, 10_000), subtasks=st.integers(1, 6), changes=_changes)
def test_all_together_never_hold_more_than_there_is(
    nbytes: int, subtasks: int, changes: list[tuple[int, int, int]]
) -> None:
    pool = MemoryPool(nbytes, subtasks)
    shares = [pool.share() for _ in range(subtasks)]
    heaps = [(Heap(share), Heap(share)) for share in shares]
    sure = sum(share.sure for share in shares)
    common = max(0, nbytes - sure)
    for subtask, store, more in changes:
        share, own = shares[subtask % subtasks], heaps[subtask % subtasks]
        own[store].change(more)
        assert share.held == sum(heap.nbytes for heap in own)
        assert share.limit <= share.sure + share.lent
        assert sum(max(each.held, each.sure) for each in shares) <= sure + common
        assert sum(each.held for each in shares) <= max(nbytes, subtasks)
        assert 0 <= sum(each.lent for each in shares) <= common
    for share in shares:
        for _ in range(3):
            share.give_way()
        assert share.held <= share.sure + share.lent


@given(others=st.lists(st.integers(0, 1_000), min_size=7, max_size=7))
def test_each_has_the_part_that_it_is_sure_of(others: list[int]) -> None:
    pool = MemoryPool(8_000, 8)
    heaps = [Heap(pool.share()) for _ in range(8)]
    heaps[0].change(8_000)
    for heap, more in zip(heaps[1:], others, strict=True):
        heap.change(more)
    last = heaps[1]
    last.change(-last.nbytes)
    dropped = last.dropped
    last.change(500)
    assert (last.nbytes, last.dropped) == (500, dropped)


def test_one_subtask_has_what_the_others_leave() -> None:
    pool = MemoryPool(8_000, 8)
    heaps = [Heap(pool.share()) for _ in range(8)]
    for _ in range(450):
        heaps[0].change(10)
    assert (heaps[0].nbytes, heaps[0].dropped) == (4_500, 0)
    heaps[0].change(10)
    assert heaps[0].dropped > 0


def test_what_was_borrowed_is_given_back_when_another_needs_it() -> None:
    pool = MemoryPool(8_000, 8)
    one, other = Heap(pool.share()), Heap(pool.share())
    one.change(4_000)
    other.change(600)
    assert (one.dropped, other.dropped) == (0, 0)
    one.change(400)
    other.change(1_500)
    # Together they have 5,000; nobody had asked the first one yet.
    assert one.nbytes + other.nbytes <= 5_000
    one.share.give_way()
    assert one.nbytes <= 500 + 2_000
    for _ in range(150):
        other.change(10)
    assert 2_000 < other.nbytes <= 500 + 2_000
    # The other one needs nothing any more: all that is common can be borrowed again.
    other.change(-other.nbytes)
    dropped = one.dropped
    one.change(4_500 - one.nbytes)
    assert (one.nbytes, one.dropped) == (4_500, dropped)


def test_room_is_made_by_the_store_that_holds_most() -> None:
    share = MemoryShare.alone(1_000)
    small, large = Heap(share), Heap(share)
    large.change(900)
    small.change(90)
    small.change(20)
    assert (small.dropped, large.dropped) == (0, 110)


def test_what_can_be_done_without_is_not_borrowed_at_the_cost_of_others() -> None:
    pool = MemoryPool(2_000, 2)
    one, other = Heap(pool.share()), pool.share()
    one.change(1_400)
    assert other.take(500)
    assert not other.take(200)
    assert (one.dropped, one.share.limit, other.held) == (0, 1_400, 500)


def test_nothing_is_no_share() -> None:
    with pytest.raises(StateError, match="memory budget"):
        MemoryShare.alone(0)


def rows(first: int, count: int) -> pl.DataFrame:
    numbers = range(first, first + count)
    return pl.DataFrame({"k": [f"user-{number}" for number in numbers], "n": list(numbers)})


def test_a_subtask_with_a_skewed_range_of_keys_does_not_spill_while_the_others_are_empty() -> None:
    """All three quarters of the budget that are for frames belong to eight subtasks; an eighth of that is 1.5 MiB."""
    memory = StateMemory(16 * MIB, keepers=8)
    stores = [FrameStore(MemoryBackend(), "op", lambda frame: frame, memory.share(), KEYS) for _ in range(8)]
    first = stores[0]
    for number in range(50):
        first.append(number % 4, rows(number * 2_000, 2_000))
    assert first.nbytes > 4 * MIB
    assert (first.spilled, first.rows) == (0, 100_000)
    most = 0
    for number in range(60):
        for at, store in enumerate(stores[1:4], 1):
            store.append(number % 4, rows((at * 1_000 + number) * 1_000, 1_000))
            most = max(most, sum(each.nbytes for each in stores))
        first.append(number % 4, rows(-1_000 * number, 10))
        most = max(most, sum(each.nbytes for each in stores))
    assert most <= 12 * MIB
    assert first.spilled > 0
    # Equal needs, equal parts: each has what it is sure of and a part of what is common.
    assert all(each.nbytes > 1.5 * MIB for each in stores[:4])
    assert [sum(store.rows_in(pane) for pane in store.panes()) for store in stores[1:4]] == [60_000] * 3
