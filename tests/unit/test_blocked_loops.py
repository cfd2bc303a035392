"""The watch that fails a test whose event loop was blocked: it sees what blocks, and only that."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from streamflow.runtime.ports import Inline
from tests.blocked_loops import MOST_SECONDS, BlockedLoops

pytestmark = pytest.mark.blocks_the_loop  # on purpose


@pytest.fixture
def blocked() -> Iterator[BlockedLoops]:
    watch = BlockedLoops()
    watch.install()
    yield watch
    watch.uninstall()


def compute(seconds: float) -> None:
    """Take that much processor time of this thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(1_000))


async def computes() -> None:
    compute(1.5 * MOST_SECONDS)


async def computes_in_slices() -> None:
    for _ in range(30):
        compute(MOST_SECONDS / 10)
        await asyncio.sleep(0)


def test_a_loop_that_computes_is_found_with_its_place(blocked: BlockedLoops) -> None:
    asyncio.run(computes())
    (found,) = blocked.found
    assert "compute(1.5 * MOST_SECONDS)" in found


def test_a_loop_that_computes_in_slices_is_not(blocked: BlockedLoops) -> None:
    asyncio.run(computes_in_slices())
    assert not blocked.found


def test_work_of_threads_that_a_test_runs_in_the_loop_is_not(blocked: BlockedLoops) -> None:
    async def computes_inline() -> None:
        await Inline()(compute, 1.5 * MOST_SECONDS)

    asyncio.run(computes_inline())
    assert not blocked.found


@pytest.mark.parametrize("first", ["the one that waits", "the one that works"])
def test_a_loop_that_stands_still_does_not_pay_for_another_that_works(
    blocked: BlockedLoops, first: str
) -> None:
    go_on, stands = threading.Event(), threading.Event()

    async def stand_still() -> None:
        stands.set()
        assert go_on.wait(60)

    async def work() -> None:
        if first == "the one that waits":
            assert stands.wait(60)
            await computes_in_slices()
        else:
            compute(MOST_SECONDS / 2)
            assert stands.wait(60)
            compute(MOST_SECONDS / 4)
            await asyncio.sleep(0)
            await computes_in_slices()

    waiting = threading.Thread(target=lambda: asyncio.run(stand_still()))
    working = threading.Thread(target=lambda: asyncio.run(work()))
    for thread in [waiting, working] if first == "the one that waits" else [working, waiting]:
        thread.start()
    working.join()
    go_on.set()
    waiting.join()
    assert not blocked.found
