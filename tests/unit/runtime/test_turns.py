"""Turns at the event loop: however many subtasks have work, others are heard in between."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from streamflow.runtime.task.turns import Turns
from streamflow.testing import TestClock

PASS = 0.01


async def heard_after(clock: TestClock, subtasks: int, seconds: float) -> tuple[list[float], list[int]]:
    """The seconds between two moments at which another task is heard, while so many subtasks take 20 turns of so many
    seconds each, and the subtasks in the order of their turns."""
    turns, order = Turns(clock), list[int]()
    heard = [clock.monotonic()]

    async def work(number: int) -> None:
        for _ in range(20):
            await turns.take()
            order.append(number)
            clock.advance_to(clock.now() + round(seconds * 1e6))

    async def listen() -> None:
        while True:
            await asyncio.sleep(0)
            heard.append(clock.monotonic())

    listening = asyncio.create_task(listen())
    await asyncio.gather(*map(work, range(subtasks)))
    listening.cancel()
    return [later - before for before, later in pairwise(heard)], order


@pytest.mark.parametrize("subtasks", [1, 2, 200])
@pytest.mark.parametrize("seconds", [0.0, 0.0002, 0.004, 0.02])
def test_others_are_heard_after_little_more_than_a_pass(subtasks: int, seconds: float) -> None:
    between, order = asyncio.run(heard_after(TestClock(), subtasks, seconds))
    assert max(between, default=0.0) <= PASS + 2 * seconds
    assert sorted(order) == sorted([*range(subtasks)] * 20)
    assert not seconds or sum(between) <= 20 * subtasks * seconds + 1e-6


def test_none_is_far_ahead_of_the_others() -> None:
    _, order = asyncio.run(heard_after(TestClock(), 50, 0.004))
    had = dict.fromkeys(range(50), 0)
    for number in order:
        had[number] += 1
        assert had[number] - min(had.values()) <= 4  # some have three turns before the others begin


def test_one_that_is_cancelled_keeps_no_turn() -> None:
    clock = TestClock()
    turns, done = Turns(clock), list[int]()

    async def work(number: int) -> None:
        await turns.take()
        clock.advance("1s")
        done.append(number)

    async def whole() -> None:
        tasks = [asyncio.create_task(work(number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.wait_for(whole(), 10))
    assert done == [0, 2, 3]
