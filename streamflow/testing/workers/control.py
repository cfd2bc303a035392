"""Control connections between a coordinator and workers of one event loop: messages pass as the real bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streamflow.runners.processes.control_port import Connection
from streamflow.runtime.control.messages import FromProcess, Hello, Told, ToProcess
from streamflow.runtime.control.wire import encoded, from_process, to_process
from streamflow.testing.workers.network import End, Network

__all__ = ["COORDINATOR", "LoopLink", "LoopServer"]

COORDINATOR = "coordinator"
"""The address of a coordinator."""


class LoopServer:
    """The coordinator's end of all connections (`runners.processes.control_port.Server`)."""

    def __init__(self, network: Network, address: str = COORDINATOR) -> None:
        self._network = network
        self._address = address
        self._joined: Callable[[Hello, Connection], None] | None = None
        self._greeting: set[asyncio.Task[None]] = set()

    async def open(self, joined: Callable[[Hello, Connection], None]) -> None:
        self._joined = joined
        self._network.listen(self._address, self._accept)

    async def close(self) -> None:
        self._network.unlisten(self._address)
        for task in self._greeting:
            task.cancel()
        await asyncio.gather(*self._greeting, return_exceptions=True)

    def _accept(self, end: End) -> None:
        task = asyncio.get_running_loop().create_task(self._greet(end))
        self._greeting.add(task)
        task.add_done_callback(self._greeting.discard)

    async def _greet(self, end: End) -> None:
        first = await end.into.receive()
        if first is None:
            return
        hello = from_process(first).message
        assert isinstance(hello, Hello)
        assert self._joined is not None
        self._joined(hello, _Connection(end))


class _Connection:
    """The coordinator's end of the connection to one worker."""

    def __init__(self, end: End) -> None:
        self._end = end

    def send(self, attempt: int, message: ToProcess) -> None:
        self._end.out.put(encoded(Told[ToProcess](attempt, message)))

    def close(self) -> None:
        self._end.close()

    async def carry(self, hear: Callable[[int, FromProcess], None]) -> str:
        # Messages that have come are still heard after the connection was closed, as from a socket's buffer.
        while (body := await self._end.into.receive()) is not None:
            told = from_process(body)
            hear(told.attempt, told.message)
        self._end.close()
        return "its connection ended"


class LoopLink:
    """A worker's end of its connection to the coordinator; `open` first."""

    def __init__(self, network: Network, address: str = COORDINATOR) -> None:
        self._network = network
        self._address = address
        self._end: End | None = None

    async def open(self) -> None:
        """Connects; raises ConnectionError if nobody listens."""
        self._end = await self._network.connect(self._address)

    def send(self, attempt: int, message: FromProcess) -> None:
        """Sends a message, behind all that were sent before."""
        assert self._end is not None
        self._end.out.put(encoded(Told[FromProcess](attempt, message)))

    async def carry(self, hear: Callable[[int, ToProcess], None]) -> None:
        """Hands over messages until the connection ends."""
        assert self._end is not None
        while (body := await self._end.into.receive()) is not None:
            told = to_process(body)
            hear(told.attempt, told.message)

    def close(self) -> None:
        """Closes the connection behind what was sent."""
        if self._end is not None:
            self._end.close()
