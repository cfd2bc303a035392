"""Functions on threads: who is cancelled waits for what has begun, unless its result is all there is to it."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from streamflow.runtime.ports import Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads(1, "test")
    yield made
    made.close()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Work:
    """A function that has begun, or not, and ends when it may."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.done = False

    def __call__(self) -> str:
        self.begun.set()
        assert self.may_end.wait(10)
        self.done = True
        return "done"


def test_what_has_begun_is_waited_for(threads: Threads) -> None:
    async def whole() -> None:
        work = Work()
        task = asyncio.create_task(threads(work))
        await asyncio.to_thread(work.begun.wait, 10)
        for _ in range(3):
            task.cancel()
            await turns()
            assert not task.done()
        work.may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.done

    asyncio.run(whole())


def test_what_has_not_begun_never_does(threads: Threads) -> None:
    async def whole() -> None:
        first, second = Work(), Work()
        before = asyncio.create_task(threads(first))
        await asyncio.to_thread(first.begun.wait, 10)
        task = asyncio.create_task(threads(second))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        first.may_end.set()
        assert await before == "done"
        assert await threads(len, "abc") == 3
        assert not second.begun.is_set()

    asyncio.run(whole())


def test_nobody_waits_for_what_changes_nothing(threads: Threads) -> None:
    async def whole() -> None:
        work = Work()
        task = asyncio.create_task(threads.droppable(work))
        await asyncio.to_thread(work.begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not work.done
        work.may_end.set()

    asyncio.run(whole())


def test_a_failure_behind_a_cancellation_is_dropped(threads: Threads) -> None:
    async def whole() -> None:
        work = Work()

        def fails() -> None:
            work()
            raise OSError("the disk is full")

        task = asyncio.create_task(threads(fails))
        await asyncio.to_thread(work.begun.wait, 10)
        task.cancel()
        work.may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(whole())
