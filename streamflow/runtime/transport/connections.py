"""The two ends of a connection for one channel, on an event loop: the handshake first, then frames one way.

The receiving end reads straight into the buffers of the frames and reads no further while the channel is full, so that
the system's buffers fill up and the sending end waits.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, cast

from streamflow.core.elements import EndOfInput, StreamElement
from streamflow.runtime.exchange.channel import Channel
from streamflow.runtime.transport.acknowledgements import Acknowledgements
from streamflow.runtime.transport.cutting import Cutter
from streamflow.runtime.transport.frames import Decoder, Frame, Kind, head
from streamflow.runtime.transport.handshake import MOST_GREETING, Answering, Opening, refusal, verdict
from streamflow.runtime.transport.port import ChannelName, TransportError

__all__ = ["Connection", "Incoming", "Outgoing"]

_UNSENT: Final = 64 << 10
"""Bytes that wait in this process, beside those in the system's buffers, before a sender waits."""
_JOINED: Final = 32 << 10
"""Bytes up to which a body is copied behind its head; larger ones are written by themselves."""


class Connection(asyncio.BufferedProtocol, ABC):
    """The common part of both ends: frames in, bytes out, and the reason for which it broke."""

    def __init__(self, among: set[Connection], ended: Callable[[Connection], None]) -> None:
        """`among` are all that are open; `ended` is called once this one is no more."""
        self.name: ChannelName | None = None
        self.live = False
        """Whether the handshake is over, and nobody here has closed the connection."""
        self.finished = False
        """Whether the end of the input has passed."""
        self.acknowledged: Acknowledgements | None = None
        """Those of what was sent here, if the other end may be on another host."""
        self.broken: str | None = None
        """The reason for which the connection is gone."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._among = among
        self._ended = ended
        self._cutter = Cutter(MOST_GREETING)
        self._way: asyncio.Transport | None = None

    @abstractmethod
    def came(self, kind: int, body: memoryview, *, lasts: bool) -> bool:
        """Takes a frame. False: no more for now."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._way = way = cast("asyncio.Transport", transport)
        self._among.add(self)
        way.set_write_buffer_limits(high=_UNSENT)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._cutter.room()

    def buffer_updated(self, nbytes: int) -> None:
        self._cutter.came(nbytes)
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self.break_off("the other side closed it" if exc is None else f"{type(exc).__name__}: {exc}")
        if not self.closed.done():
            self.closed.set_result(None)
        self._among.discard(self)
        self._ended(self)

    def break_off(self, why: str) -> None:
        """Closes the connection at once; the first reason stays."""
        if self.broken is None:
            self.broken = why
        if self._way is not None:
            self._way.abort()

    def _go_on(self) -> bool:
        """Takes the frames that are there. False: one of them has to wait."""
        try:
            while self.broken is None and (frame := self._cutter.next()) is not None:
                kind, body, lasts = frame
                if not self.came(kind, body, lasts=lasts):
                    return False
        except TransportError as error:
            self.failed(error)
        return True

    def failed(self, error: TransportError) -> None:
        """Ends the connection for an error of the other side."""
        self.break_off(error.message)

    def _greet(self, body: bytes) -> None:
        assert self._way is not None
        self._way.write(head(Kind.GREETING, len(body)) + body)


class Incoming(Connection):
    """The receiving end. `admit` gives the channel for a name of which the peer has proven that it belongs to the
    run, or raises TransportError; `settled` is called once the handshake is over, either way."""

    def __init__(
        self,
        answering: Answering,
        *,
        most: int,
        admit: Callable[[Incoming, str], Channel],
        settled: Callable[[], None],
        among: set[Connection],
        ended: Callable[[Connection], None],
    ) -> None:
        super().__init__(among, ended)
        self._answering = answering
        self._most = most
        self._admit = admit
        self._settled = settled
        self._greetings = 0
        self._channel: Channel | None = None
        self._decoder = Decoder()
        self._waiting: asyncio.Task[None] | None = None

    def came(self, kind: int, body: memoryview, *, lasts: bool) -> bool:
        channel = self._channel
        if channel is None:
            self._greeted(kind, bytes(body))
            return True
        if self.finished:
            raise TransportError("a frame came behind the end of the input")
        element = self._decoder.element(kind, body, lasts=lasts)
        if element is None:
            return True
        self.finished = isinstance(element, EndOfInput)
        if channel.send_nowait(element):
            return True
        assert self._way is not None
        self._way.pause_reading()
        self._waiting = asyncio.get_running_loop().create_task(self._wait(channel, element))
        return False

    async def _wait(self, channel: Channel, element: StreamElement) -> None:
        """Goes on once the channel has room."""
        await channel.send(element)
        self._waiting = None
        if self._go_on() and self.broken is None and self._way is not None:
            self._way.resume_reading()

    def _greeted(self, kind: int, body: bytes) -> None:
        if kind != Kind.GREETING:
            raise TransportError("something else came than a greeting")
        self._greetings += 1
        if self._greetings == 1:
            self._greet(self._answering.challenge(body))
            return
        self._channel = self._admit(self, self._answering.subject(body))
        self._cutter.most = self._most
        self.live = True
        self._greet(verdict())
        self._settled()

    def failed(self, error: TransportError) -> None:
        if self._channel is not None or self._way is None:
            super().failed(error)
            return
        self.broken = error.message
        self._greet(refusal(error.message) if self._greetings < 2 else verdict(error.message))
        self._way.close()

    def break_off(self, why: str) -> None:
        super().break_off(why)
        self._settled()
        if self._waiting is not None:
            self._waiting.cancel()


class Outgoing(Connection):
    """The sending end."""

    def __init__(
        self,
        opening: Opening,
        name: ChannelName,
        *,
        among: set[Connection],
        ended: Callable[[Connection], None],
    ) -> None:
        super().__init__(among, ended)
        self.name = name
        self.opened: asyncio.Future[None] = self.closed.get_loop().create_future()
        self._opening = opening
        self._greetings = 0
        self._schema: bytes | None = None
        self._room: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._greet(self._opening.hello())

    def came(self, kind: int, body: memoryview, *, lasts: bool) -> bool:
        self._greetings += 1
        if kind != Kind.GREETING or self._greetings > 2:
            raise TransportError("something came that is no answer to a greeting")
        if self._greetings == 1:
            self._greet(self._opening.proof(bytes(body)))
        else:
            self._opening.welcome(bytes(body))
            self.live = True
            self.opened.set_result(None)
        return True

    def write(self, frame: Frame) -> asyncio.Future[None] | None:
        """Writes a frame. A future that is done once there is room again, or None if there is."""
        way = self._way
        assert way is not None
        if frame.schema is not None and frame.schema != self._schema:
            self._schema = frame.schema
            way.write(head(Kind.SCHEMA, len(frame.schema)) + frame.schema)
        first = head(frame.kind, len(frame.body))
        if len(frame.body) <= _JOINED:
            way.write(first + frame.body)
        else:
            way.write(first)
            way.write(frame.body)
        return self._room

    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def close(self) -> None:
        """Closes the connection once everything is written."""
        self.live = False
        if self.broken is None:
            self.broken = "it was closed here"
        if self._way is not None:
            self._way.close()
        self.resume_writing()

    def failed(self, error: TransportError) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
        super().failed(error)

    def break_off(self, why: str) -> None:
        super().break_off(why)
        if not self.opened.done():
            self.opened.set_exception(TransportError(f"the connection broke: {self.broken}"))
        self.resume_writing()  # a sender that waits sees that the connection is gone
