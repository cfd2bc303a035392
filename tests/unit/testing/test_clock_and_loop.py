"""Virtual time: sleepers wake in order, each at its own moment, and nothing waits for real."""

import asyncio
from collections.abc import Iterator

import pytest

from streamflow.errors import JobDefinitionError, JobFailedError
from streamflow.testing import SteppedLoop, TestClock, stepping


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def loop(clock: TestClock) -> Iterator[SteppedLoop]:
    stepped = SteppedLoop(clock)
    yield stepped
    stepped.close_quietly()


def test_it_stands_still_until_it_is_moved(clock: TestClock) -> None:
    before = clock.now(), clock.monotonic()
    assert (clock.now(), clock.monotonic()) == before
    clock.advance("1h")
    assert clock.now() == before[0] + 3_600_000_000
    assert clock.monotonic() == 3600.0


def test_it_never_goes_back(clock: TestClock) -> None:
    before = clock.now()
    clock.advance_to(before - 1)
    assert clock.now() == before
    with pytest.raises(JobDefinitionError, match="longer than zero"):
        clock.advance("-1s")


def test_sleepers_wake_in_the_order_of_their_deadlines(clock: TestClock, loop: SteppedLoop) -> None:
    woken: list[tuple[str, float]] = []

    async def nap(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    for name, seconds in (("c", 3), ("a", 1), ("b", 2), ("also a", 1)):
        loop.create_task(nap(name, seconds))
    loop.settle()
    loop.advance_to(clock.now() + 2_500_000)
    assert woken == [("a", 1.0), ("also a", 1.0), ("b", 2.0)]
    loop.advance_to(clock.now() + 500_000)
    assert woken[-1] == ("c", 3.0)


def test_a_periodic_task_wakes_at_every_period(clock: TestClock, loop: SteppedLoop) -> None:
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await clock.sleep(0.25)
            ticks.append(clock.monotonic())

    loop.create_task(tick())
    loop.advance_to(clock.now() + 1_000_000)
    assert ticks == [0.25, 0.5, 0.75, 1.0]


def test_asyncios_own_timers_run_on_it(clock: TestClock, loop: SteppedLoop) -> None:
    seen: list[object] = []

    async def work() -> None:
        await asyncio.sleep(5)
        seen.append(clock.monotonic())
        try:
            async with asyncio.timeout(2):
                await asyncio.sleep(60)
        except TimeoutError:
            seen.append(clock.monotonic())

    loop.create_task(work())
    loop.advance_to(clock.now() + 60_000_000)
    assert seen == [5.0, 7.0]


def test_a_wait_too_short_for_microseconds_still_ends(clock: TestClock, loop: SteppedLoop) -> None:
    nap = loop.create_task(clock.sleep(1e-9))
    loop.settle()
    assert not nap.done()
    loop.advance_to(clock.now() + 1)
    assert nap.done()


def test_a_cancelled_sleeper_holds_nothing(clock: TestClock, loop: SteppedLoop) -> None:
    nap = loop.create_task(clock.sleep(10))
    loop.settle()
    nap.cancel()
    loop.settle()
    assert clock.next_wake is None


def test_running_virtually_jumps_over_the_waits(clock: TestClock, loop: SteppedLoop) -> None:
    async def work() -> str:
        await asyncio.sleep(3600)
        await clock.sleep(1800)
        return "done"

    assert loop.run_virtually(work()) == "done"
    assert clock.monotonic() == 5400.0


def test_waiting_for_what_never_comes_is_an_error(loop: SteppedLoop) -> None:
    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(JobFailedError, match="everything waits"):
        loop.run_virtually(work())


def test_what_never_rests_is_an_error(loop: SteppedLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping, "_MOST_ROUNDS", 100)

    async def spin() -> None:
        while True:  # noqa: ASYNC110 — this is the mistake
            await asyncio.sleep(0)

    loop.create_task(spin())
    with pytest.raises(JobFailedError, match="does not come to rest"):
        loop.settle()
