"""Steps whose end the job does not decide, told after a second: of a sink that does not answer, of a barrier."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from streamflow.core.batch import RowBatch
from streamflow.core.elements import Barrier
from streamflow.graph.logical import Input
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.contract.waiting import Waiting
from streamflow.runtime.exchange.channel import Channel, Inbox
from streamflow.runtime.exchange.outlet import SinkOutlet
from streamflow.runtime.task.loop import Task
from streamflow.testing import TestClock


class Silent:
    """A writer that answers when it is told to."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()

    async def write(self, batch: object) -> None:
        await self.answer.wait()

    async def prepare(self, epoch: int) -> list[Any]:
        await self.answer.wait()
        return []

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("step", "what", "rows"),
    [("flush", "the writing of a batch", 2), ("seal", "the sealing of its output of epoch 3", 0)],
)
def test_a_sink_that_does_not_answer_is_named_with_what_it_is_at(step: str, what: str, rows: int) -> None:
    clock = TestClock(0)

    async def run() -> None:
        writer = Silent()
        outlet = SinkOutlet(Input("map-1"), "write-1", writer, OperatorMetrics("write-1", 0), clock)
        outlet.put(RowBatch(["a", "b"], None))
        at_it = asyncio.ensure_future(outlet.flush() if step == "flush" else outlet.seal(3))
        await asyncio.sleep(0)
        clock.advance("999ms")
        assert outlet.waiting() == []
        clock.advance("1ms")
        assert outlet.waiting() == [("write-1", Waiting.under_way(what, 0, rows))]
        writer.answer.set()
        await at_it
        assert outlet.waiting() == []

    asyncio.run(run())


def test_a_barrier_that_has_not_come_on_all_inputs_is_told_with_the_operators_that_owe_it() -> None:
    clock = TestClock(0)

    async def run() -> None:
        async def nothing(*_: object) -> None: ...

        async def wait(news: asyncio.Future[None]) -> None:
            await news

        subtask: Any = SimpleNamespace(
            chain=SimpleNamespace(hears_inputs=False), wait=wait, checkpointing=False, busy=False
        )
        for name in ("take_turn", "fire_timers", "settle", "end_epoch"):
            setattr(subtask, name, nothing)
        channels = [Channel(sender=name) for name in ("clicks", "orders")]
        loop = Task(subtask, Inbox(channels), clock=clock)
        running = asyncio.ensure_future(loop.run())
        await channels[0].send(Barrier(4))
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance("2s")
        what = "the barrier of epoch 4, which has not come from orders,"
        assert subtask.aligning() == (Waiting.under_way(what, 0, 0),)
        await channels[1].send(Barrier(4))
        for _ in range(5):
            await asyncio.sleep(0)
        assert subtask.aligning() == ()
        running.cancel()

    asyncio.run(run())
