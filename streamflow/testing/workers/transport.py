"""The transport between workers of one event loop: elements go through the real frames, and wait where a channel is
full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import astuple
from typing import Any, Final

from streamflow.core.elements import EndOfInput, StreamElement
from streamflow.runtime.exchange.channel import Channel
from streamflow.runtime.transport.frames import Decoder, Encoder, Kind
from streamflow.runtime.transport.port import ChannelName, TransportError
from streamflow.testing.workers.network import End, Network

__all__ = ["LoopTransport"]

_PATIENCE: Final = 30.0
"""Seconds that an opening waits for its answer."""


def _nobody(name: ChannelName, why: str) -> None:
    """Tells nobody that a connection was lost."""


class LoopTransport:
    """The connections of one worker, which listens at `address` once `listen` was called."""

    def __init__(self, network: Network, address: str, *, max_frame: int = 1 << 20) -> None:
        self.lost: Callable[[ChannelName, str], None] = _nobody
        self.address = address
        self.network = network
        self.max_frame = max_frame
        self._expected: dict[ChannelName, Channel] = {}
        self._ends: dict[End, ChannelName] = {}
        self._finished: set[End] = set()
        """Connections through which the end of the input has passed."""
        self._reading: dict[asyncio.Task[None], End] = {}
        self._forgotten = 0

    def listen(self) -> None:
        """Takes connections of other workers from now on."""
        self.network.listen(self.address, self._accept)

    def expect(self, name: ChannelName, channel: Channel) -> None:
        if name.attempt > self._forgotten:
            self._expected[name] = channel

    def sender(
        self, address: str, name: ChannelName, *, operator: str = "", broadcast: bool = False
    ) -> LoopSender:
        return LoopSender(self, address, name, Encoder(most=self.max_frame, operator=operator))

    def forget(self, attempt: int) -> None:
        self._forgotten = max(self._forgotten, attempt)
        for name in [name for name in self._expected if self.over(name)]:
            del self._expected[name]
        for end in [end for end, name in self._ends.items() if self.over(name)]:
            self.drop(end)

    async def close(self) -> None:
        self.network.unlisten(self.address)
        for end in list(self._ends):
            self.drop(end)
        reading = list(self._reading)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

    def over(self, name: ChannelName) -> bool:
        """Whether a channel's attempt is over."""
        return name.attempt <= self._forgotten

    def keep(self, end: End, name: ChannelName) -> None:
        """Keeps an open connection, and watches for its end."""
        self._ends[end] = name
        self._do(end, self._watch(end, name))

    def drop(self, end: End) -> None:
        """Closes a connection on purpose."""
        self._ends.pop(end, None)
        self._finished.discard(end)
        end.close()
        for task in [task for task, of in self._reading.items() if of is end]:
            task.cancel()

    def finish(self, end: End) -> None:
        """Notes that the end of the input has passed."""
        self._finished.add(end)

    async def _watch(self, end: End, name: ChannelName) -> None:
        """Nothing comes back on a channel but the end of its connection."""
        while await end.into.receive() is not None:
            pass
        end.out.break_off()
        self.gone(end, name)

    def gone(self, end: End, name: ChannelName) -> None:
        """Tells that a connection which nobody here has closed has ended."""
        if self._ends.pop(end, None) is not None and end not in self._finished:
            self.lost(name, "the other side closed it")
        self._finished.discard(end)

    def _accept(self, end: End) -> None:
        self._do(end, self._receive(end))

    def _do(self, end: End, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._reading[task] = end
        task.add_done_callback(self._reading.pop)

    async def _receive(self, end: End) -> None:
        """Feeds the channel for which a connection was made."""
        asked = await end.into.receive()
        if asked is None:
            return
        name = ChannelName(*map(int, asked.split()))
        channel = self._expected.pop(name, None)
        end.out.put(b"" if channel is not None else f"nobody expects {name}, or not any more".encode())
        if channel is None:
            end.close()
            return
        self._ends[end] = name
        decoder = Decoder()
        while (message := await end.into.receive()) is not None:
            element = decoder.element(message[0], memoryview(message)[1:])
            if isinstance(element, EndOfInput):
                self.finish(end)
            if element is not None:
                await channel.send(element)
        self.gone(end, name)


class LoopSender:
    """The sending end of one channel."""

    def __init__(self, transport: LoopTransport, address: str, name: ChannelName, encoder: Encoder) -> None:
        self._transport = transport
        self._address = address
        self._name = name
        self._encoder = encoder
        self._schema: bytes | None = None
        self._end: End | None = None

    async def open(self) -> None:
        name = self._name
        if self._transport.over(name):
            raise TransportError(f"{name}: the attempt is over")
        try:
            async with asyncio.timeout(_PATIENCE):
                end = await self._transport.network.connect(self._address)
                end.out.put(" ".join(map(str, astuple(name))).encode())
                answer = await end.into.receive()
        except (OSError, TimeoutError) as error:
            raise TransportError(f"{name} to {self._address}: no connection: {error}") from error
        if answer is None or answer:
            why = "the connection broke" if answer is None else answer.decode()
            raise TransportError(f"no connection to {self._address}: {why}")
        self._end = end
        self._transport.keep(end, name)

    async def send(self, element: StreamElement) -> None:
        end = self._end
        if end is None:
            raise TransportError(f"{self._name} to {self._address}: it is not open")
        if isinstance(element, EndOfInput):
            self._transport.finish(end)
        try:
            for frame in self._encoder.frames(element):
                if frame.schema is not None and frame.schema != self._schema:
                    self._schema = frame.schema
                    end.out.put(bytes([Kind.SCHEMA]) + frame.schema)
                await end.out.send(bytes([frame.kind]) + bytes(frame.body))
        except ConnectionError as error:
            raise TransportError(f"{self._name} to {self._address}: {error}") from error

    def close(self) -> None:
        if self._end is not None:
            self._transport.drop(self._end)
