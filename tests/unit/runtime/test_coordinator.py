"""The coordinator by itself: the messages that it sends for those that it hears."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import streamflow as sf
from streamflow.api.physical import physical_plan
from streamflow.config import Settings
from streamflow.observe.registry import MetricsRegistry
from streamflow.runtime.control.messages import (
    Acknowledged,
    EpochWanted,
    Finished,
    FromCoordinator,
    FromWorker,
    Hurry,
    Inject,
    Passed,
    Raised,
    Ready,
    Settled,
    SplitEnded,
    SplitGranted,
    SplitNews,
    SplitWanted,
    Start,
    Started,
    Stop,
)
from streamflow.runtime.coordinator import Coordinator
from streamflow.runtime.deployment import Deployment
from streamflow.runtime.ports import Inline, Ports
from streamflow.runtime.profile import profile_for
from streamflow.state.backends.state_memory import StateMemory
from streamflow.testing import TestClock


class Played:
    """A coordinator whose only worker is the test."""

    def __init__(self, job: sf.Job, parallelism: int) -> None:
        settings = Settings(parallelism=parallelism, state_backend="memory")
        deployment = Deployment(
            physical_plan(job.graph, settings),
            profile_for("streaming", settings, bounded=True),
            settings,
            Ports(clock=TestClock(), io=Inline(), cpu=Inline()),
            MetricsRegistry("played"),
            run="run-1",
            memory=StateMemory(1 << 20, 1),
            state_dir=None,
            restored=None,
            first_epoch=1,
            checkpointed=False,
        )
        self.coordinator = Coordinator(deployment, None)
        self._told: list[FromCoordinator] = []
        self.coordinator.join(self._told.append)
        self.running = asyncio.create_task(self.coordinator.run(lambda: None))

    async def says(self, *messages: FromWorker) -> list[FromCoordinator]:
        """The coordinator's answers to the worker's messages."""
        for message in messages:
            self.coordinator.hear(message)
        for _ in range(20):
            await asyncio.sleep(0)
        told, self._told[:] = list(self._told), []
        return told


def played(play: Callable[[Played], Awaitable[None]], *, parallelism: int = 1) -> None:
    async def whole() -> None:
        job = sf.Job("played")
        job.read(sf.MemorySource([{"n": 1}])).collect()
        it = Played(job, parallelism)
        try:
            await play(it)
        finally:
            it.coordinator.cancel()
            it.running.cancel()
            await asyncio.gather(it.running, return_exceptions=True)
            await it.coordinator.ended()
            await it.coordinator.close()

    asyncio.run(whole())


def news(
    *, discovered: bool = True, holds: bool = False, exhausted: bool = False, started: bool = False
) -> SplitNews:
    return SplitNews(
        "read-1", discovered=discovered, holds_watermark=holds, exhausted=exhausted, all_started=started
    )


def test_it_starts_when_the_worker_is_ready_and_ends_when_every_subtask_has() -> None:
    async def play(it: Played) -> None:
        assert await it.says() == [news(discovered=False, holds=True)]
        assert await it.says(Ready()) == [Start(room=True), news(holds=True)]
        granted, told = await it.says(SplitWanted("read-1", 0, 0))
        assert isinstance(granted, SplitGranted)
        assert granted.state is not None
        assert (granted.news, told) == (news(exhausted=True), news(exhausted=True))
        [refused] = await it.says(SplitWanted("read-1", 0, 0))
        assert refused == SplitGranted("read-1", 0, None, news(exhausted=True))
        assert await it.says(Started("read-1")) == [news(exhausted=True, started=True)]
        said = await it.says(SplitEnded("read-1", granted.state.split.id), Finished("read-1-0", [], 0))
        assert said == [Settled(room=True)]
        assert it.running.done()
        assert it.coordinator.epoch == 1

    played(play)


def test_an_epoch_is_settled_when_every_subtask_has_acknowledged_it() -> None:
    async def play(it: Played) -> None:
        await it.says(Ready())
        assert await it.says(EpochWanted()) == [Inject(1, last=False)]
        assert await it.says(EpochWanted(), Passed("read-1-0", 1), Acknowledged("read-1-0", 1, [])) == []
        assert it.coordinator.awaited == ["read-1-1"]
        assert await it.says(Passed("read-1-1", 1), Acknowledged("read-1-1", 1, [])) == [
            Settled(room=True),
            Inject(2, last=False),
        ]

    played(play, parallelism=2)


def test_a_subtask_is_granted_nothing_between_the_injection_and_its_barrier() -> None:
    async def play(it: Played) -> None:
        await it.says(Ready())
        await it.says(EpochWanted())
        assert await it.says(SplitWanted("read-1", 0, 0)) == []
        granted, told = await it.says(Passed("read-1-0", 1))
        assert isinstance(granted, SplitGranted)
        assert granted.state is not None
        assert told == news(exhausted=True)

    played(play)


def test_what_a_subtask_raises_ends_the_job() -> None:
    async def play(it: Played) -> None:
        await it.says(Ready(), Raised(sf.SourceError("it is away")))
        with pytest.raises(sf.SourceError, match="it is away"):
            await it.running

    played(play)


def test_a_failure_before_the_start_ends_the_job_too() -> None:
    async def play(it: Played) -> None:
        assert Start(room=True) not in await it.says(Raised(sf.StateError("it is damaged")))
        with pytest.raises(sf.StateError, match="it is damaged"):
            await it.running

    played(play)


def test_a_stop_hurries_unless_everything_is_to_be_processed() -> None:
    async def play(it: Played) -> None:
        await it.says(Ready())
        it.coordinator.stop(drain=False)
        assert await it.says() == [Hurry(), Stop(drain=False)]
        it.coordinator.stop(drain=True)
        assert await it.says() == [Stop(drain=True)]

    played(play)
