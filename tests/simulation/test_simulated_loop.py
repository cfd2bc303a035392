"""The seeded loop: one seed, one order; other seeds, other orders; what cannot be repeated is refused."""

from __future__ import annotations

import asyncio

import pytest

from streamflow.errors import JobFailedError
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.loop import Crash, SimLoop
from streamflow.testing.simulation.process import SimThreads
from streamflow.testing.simulation.trace import Trace


async def a_race() -> list[int]:
    order: list[int] = []

    async def runner(number: int) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        order.append(number)

    await asyncio.gather(*(runner(number) for number in range(4)))
    return order


def test_a_seed_is_an_order():
    orders = {}
    for seed in range(40):
        first, second = Trace(), Trace()
        orders[seed] = SimLoop(seed, trace=first).run(a_race())
        assert SimLoop(seed, trace=second).run(a_race()) == orders[seed]
        assert first.digest == second.digest
    assert len({tuple(order) for order in orders.values()}) > 12  # of 24


def test_time_passes_only_while_all_wait():
    async def nap() -> list[float]:
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        async with asyncio.timeout(10_000):
            await asyncio.sleep(3_600)
        times.append(loop.time())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 5)
        return [*times, loop.time()]

    assert SimLoop(1).run(nap()) == [0, 3_600, 3_605]


def test_a_deadlock_is_a_failure_that_says_who_waits():
    async def stuck() -> None:
        await asyncio.Event().wait()

    with pytest.raises(JobFailedError, match=r"everything waits.*stuck"):
        SimLoop(1).run(stuck())


def test_a_program_without_end_is_a_failure():
    async def busy() -> None:
        while True:  # noqa: ASYNC110 - the fault that is looked for
            await asyncio.sleep(0)

    with pytest.raises(JobFailedError, match="does not come to an end"):
        SimLoop(1, most_steps=1_000).run(busy())


@pytest.mark.parametrize("reach", ["open_connection", "start_server"])
def test_sockets_are_refused(reach):
    async def outside() -> None:
        if reach == "open_connection":
            await asyncio.open_connection("127.0.0.1", 1)
        else:
            await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)

    with pytest.raises(JobFailedError, match="outside world"):
        SimLoop(1).run(outside())


def test_a_crash_ends_everything_at_once():
    loop = SimLoop(1)
    seen: list[str] = []

    async def other() -> None:
        try:
            while True:
                await asyncio.sleep(1)
                seen.append("alive")
        finally:
            seen.append("cleaning up")
            await asyncio.sleep(1)
            seen.append("never here")

    async def main() -> None:
        task = asyncio.create_task(other())
        await asyncio.sleep(2.5)
        seen.append("crash")
        try:
            loop.crash()
        except Exception:  # noqa: BLE001 - what a program may do
            seen.append("caught")
        await task

    with pytest.raises(Crash):
        loop.run(main())
    assert seen == ["alive", "alive", "crash"]
    loop.abandon()
    assert seen == ["alive", "alive", "crash", "cleaning up"]
    assert loop.unfinished() == []


def test_a_crash_can_come_before_any_step():
    loop = SimLoop(1)
    loop.stop_at = 5
    with pytest.raises(Crash):
        loop.run(a_race())
    assert loop.steps == 5
    loop.abandon()


def test_an_exception_that_nobody_asks_for_is_kept():
    loop = SimLoop(1)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    loop.run(main())
    assert loop.reports == ["exception in a callback: ZeroDivisionError('division by zero')"]


def test_work_on_a_thread_goes_on_or_not_when_nobody_waits_any_more():
    outcomes = set()
    for seed in range(20):
        loop, done = SimLoop(seed), []

        async def main(loop=loop, done=done, seed=seed) -> None:
            threads = SimThreads(Chance(seed), 0.01)
            task = asyncio.create_task(threads(done.append, "written"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(1)

        loop.run(main())
        outcomes.add(tuple(done))
    assert outcomes == {(), ("written",)}
