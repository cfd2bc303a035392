"""Threads of a simulated process: a blocking function runs on the loop, at once as a whole, after a seeded while.

Until then the loop runs callbacks, as it could while a thread works: a snapshot that is written later must not see
later changes. As with real threads, cancelling the waiting task does not always stop the work; the task then waits
for its end, unless the work is droppable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from streamflow.runtime.ports import Inline
from streamflow.runtime.waiting import outlasting
from streamflow.testing.simulation.chance import Chance

__all__ = ["SimThreads"]

T = TypeVar("T")


class SimThreads(Inline):
    """A stand-in for `Threads`; `mean` is the usual delay in seconds of virtual time.

    >>> from streamflow.testing.simulation.loop import SimLoop
    >>> loop = SimLoop(1)
    >>> loop.run(SimThreads(Chance(1), 0.002)(len, "abc")), loop.now > 0
    (3, True)
    """

    def __init__(self, chance: Chance, mean: float) -> None:
        self._chance = chance
        self._mean = mean

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            return await self._run(function, args, ended)
        except asyncio.CancelledError:
            await outlasting(ended)
            raise

    async def droppable(self, function: Callable[..., T], *args: Any) -> T:
        return await self._run(function, args, asyncio.get_running_loop().create_future())

    async def _run(self, function: Callable[..., T], args: tuple[Any, ...], ended: asyncio.Future[None]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        started = self._chance.happens(0.5)

        def work() -> None:
            ended.set_result(None)
            if done.cancelled() and not started:
                return
            try:
                result = function(*args)
            except Exception as error:  # noqa: BLE001 — raised where the result is awaited
                if not done.cancelled():
                    done.set_exception(error)
                return
            if not done.cancelled():
                done.set_result(result)

        loop.call_later(self._chance.wait(self._mean), work)
        return await done
