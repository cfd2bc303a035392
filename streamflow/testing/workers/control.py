"""Control connections between a coordinator and workers of one event loop: messages pass as the real bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from streamflow.runners.processes.control_port import Connection
from streamflow.runtime.control.messages import FromProcess, Hello, Told, ToProcess
from streamflow.runtime.control.wire import encoded, from_process, to_process
from streamflow.testing.workers.network import End, Network
from streamflow.time.clock import Clock

__all__ = ["LoopLink", "LoopServer", "Watch"]

Watch = Callable[[Literal["sent", "heard"], int, FromProcess | ToProcess], None]
"""A function that is told of each message of an attempt: just after it was sent, or before it is heard."""


def _nobody(what: str, attempt: int, message: FromProcess | ToProcess) -> None:
    """Watches nothing."""


class LoopServer:
    """The coordinator's end of all connections (`runners.processes.control_port.Server`)."""

    def __init__(self, network: Network, watch: Watch = _nobody) -> None:
        self._network = network
        self.address = ""
        self._watch = watch
        self._joined: Callable[[Hello, Connection], None] | None = None
        self._greeting: dict[asyncio.Task[None], None] = {}

    async def open(self, address: str, joined: Callable[[Hello, Connection], None]) -> None:
        self._joined = joined
        self.address = address
        self._network.listen(self.address, self._accept)

    async def close(self) -> None:
        self._network.unlisten(self.address)
        greeting = list(self._greeting)
        for task in greeting:
            task.cancel()
        await asyncio.gather(*greeting, return_exceptions=True)

    def _accept(self, end: End) -> None:
        task = asyncio.get_running_loop().create_task(self._greet(end))
        self._greeting[task] = None
        task.add_done_callback(self._greeting.pop)

    async def _greet(self, end: End) -> None:
        first = await end.into.receive()
        if first is None:
            return
        hello = from_process(first).message
        assert isinstance(hello, Hello)
        assert self._joined is not None
        self._joined(hello, _Connection(end, self._watch))


class _Connection:
    """The coordinator's end of the connection to one worker."""

    def __init__(self, end: End, watch: Watch) -> None:
        self._end = end
        self._watch = watch

    def send(self, attempt: int, message: ToProcess) -> None:
        self._end.out.put(encoded(Told[ToProcess](attempt, message)))
        self._watch("sent", attempt, message)

    def close(self) -> None:
        self._end.close()

    async def carry(self, hear: Callable[[int, FromProcess], None]) -> str:
        # Messages that have come are still heard after the connection was closed, as from a socket's buffer.
        while (body := await self._end.into.receive()) is not None:
            told = from_process(body)
            self._watch("heard", told.attempt, told.message)
            hear(told.attempt, told.message)
        self._end.close()
        return "its connection ended"


class LoopLink:
    """A worker's end of its connection to the coordinator; `open` first."""

    def __init__(self, network: Network, address: str, clock: Clock, watch: Watch = _nobody) -> None:
        self._network = network
        self._address = address
        self._clock = clock
        self._watch = watch
        self._end: End | None = None
        self._heard = 0.0

    @property
    def silent(self) -> float:
        """The seconds since the coordinator was heard last."""
        return self._clock.monotonic() - self._heard

    async def open(self) -> None:
        """Connects; raises ConnectionError if nobody listens."""
        self._end = await self._network.connect(self._address)
        self._heard = self._clock.monotonic()

    def send(self, attempt: int, message: FromProcess) -> None:
        """Sends a message, behind all that were sent before."""
        assert self._end is not None
        self._end.out.put(encoded(Told[FromProcess](attempt, message)))
        self._watch("sent", attempt, message)

    async def carry(self, hear: Callable[[int, ToProcess], None]) -> None:
        """Hands over messages until the connection ends."""
        assert self._end is not None
        while (body := await self._end.into.receive()) is not None:
            self._heard = self._clock.monotonic()
            told = to_process(body)
            hear(told.attempt, told.message)

    def close(self) -> None:
        """Closes the connection behind what was sent."""
        if self._end is not None:
            self._end.close()
