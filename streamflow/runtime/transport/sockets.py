"""The transport over sockets: Unix sockets on one host, TCP between hosts.

Each channel has a connection of its own: the system's buffers are its credit, and a channel that is full holds no
other back. A connection proves first that it belongs to the run (`handshake`); until then it may say little, and not
for long.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from streamflow.config import Secret
from streamflow.core.batch import RowBatch
from streamflow.core.elements import EndOfInput, StreamElement
from streamflow.core.frame import FrameBatch
from streamflow.observe.logs import told
from streamflow.runtime.exchange.channel import Channel
from streamflow.runtime.transport.acknowledgements import Acknowledgements
from streamflow.runtime.transport.addresses import TcpAddress, UnixAddress, parse_address
from streamflow.runtime.transport.columns import pyarrow
from streamflow.runtime.transport.connections import Connection, Incoming, Outgoing
from streamflow.runtime.transport.frames import Encoder, Frame
from streamflow.runtime.transport.handshake import NONCE, Answering, Opening
from streamflow.runtime.transport.port import ChannelName, TransportError
from streamflow.runtime.transport.tls import Tls
from streamflow.time.clock import entropy

__all__ = ["SocketTransport"]

_LOG: Final = logging.getLogger("streamflow.runtime")
_BUFFER: Final = 1 << 20
"""Bytes of the system's buffers at each end. Left to itself, the system would let them grow to several times as much,
which a barrier would have to wait for."""
_BACKLOG: Final = 4_096
_UNPROVEN: Final = 64
"""Connections that have not proven yet that they belong to the run. Further ones wait in the backlog."""
_AT_ONCE: Final = 32
"""Connections that are being opened at a time."""
_OPENING: Final = 6
"""Times the patience of a listener that an opening waits, since others may be served before."""
_FULL: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LOOKS: Final = 4
"""Looks at each connection in the time that a peer has to acknowledge."""
_PAUSE: Final = 1.0
"""Seconds after which connections are accepted again if there were no more files to open."""


def _nobody(name: ChannelName, why: str) -> None:
    """Tells nobody that a connection was lost."""


class SocketTransport:
    """The connections of one worker. No frame may be larger than `max_frame` bytes; a handshake has `patience`
    seconds, and a peer on another host `silence` to acknowledge what it was sent. `lz4` compresses columns, for slow
    networks."""

    def __init__(
        self,
        secret: Secret,
        *,
        max_frame: int,
        lz4: bool = False,
        tls: Tls | None = None,
        patience: float = 5.0,
        silence: float = 10.0,
    ) -> None:
        self.lost: Callable[[ChannelName, str], None] = _nobody
        self.fenced = 0
        """Connections that were refused because nobody expects their channel, most often of an attempt that is over."""
        self._secret = secret
        self._max_frame = max_frame
        self._lz4 = lz4
        self._served = None if tls is None else tls.context(server=True)
        self._asking = None if tls is None else tls.context(server=False)
        self._patience = patience
        self._silence = silence
        self._address: UnixAddress | TcpAddress | None = None
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._greeting: set[asyncio.Task[None]] = set()
        self._unproven = asyncio.Semaphore(_UNPROVEN)
        self._opening = asyncio.Semaphore(_AT_ONCE)
        self._expected: dict[ChannelName, Channel] = {}
        self._connections: set[Connection] = set()
        self._together: dict[tuple[int, int, int], _Together] = {}
        self._forgotten = 0

    @property
    def address(self) -> str:
        """The address for the other workers; raises TransportError before `listen`."""
        if self._address is None:
            raise TransportError("nothing listens yet")
        return str(self._address)

    async def listen(self, address: str) -> None:
        """Listens at `unix:/folder/name`, or on the first free port of `tcp:host:first-last` (0: any); raises
        TransportError if that is not possible."""
        await asyncio.to_thread(pyarrow)  # before anything is sent
        self._listener, self._address = await _listening(parse_address(address))
        loop = asyncio.get_running_loop()
        self._accepting = loop.create_task(self._accept(self._listener))
        if isinstance(self._address, TcpAddress):
            self._watching = loop.create_task(self._watch())

    def expect(self, name: ChannelName, channel: Channel) -> None:
        if name.attempt > self._forgotten:
            self._expected[name] = channel

    def sender(
        self, address: str, name: ChannelName, *, operator: str = "", broadcast: bool = False
    ) -> SocketSender:
        if not broadcast:
            return SocketSender(
                self, address, name, Encoder(most=self._max_frame, operator=operator, lz4=self._lz4)
            )
        which = (name.attempt, name.edge, name.upper)
        together = self._together.get(which)
        if together is None:
            together = self._together[which] = _Together(
                most=self._max_frame, operator=operator, lz4=self._lz4
            )
        together.members += 1
        return SocketSender(self, address, name, together)

    def forget(self, attempt: int) -> None:
        self._forgotten = max(self._forgotten, attempt)
        for name in [name for name in self._expected if name.attempt <= self._forgotten]:
            del self._expected[name]
        for which in [which for which in self._together if which[0] <= self._forgotten]:
            del self._together[which]
        for connection in list(self._connections):
            if connection.name is not None and connection.name.attempt <= self._forgotten:
                connection.break_off("the attempt is over")

    async def close(self) -> None:
        own = [task for task in (self._accepting, self._watching) if task is not None]
        tasks = [*self._greeting, *own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        open_still = list(self._connections)
        self._expected.clear()
        for connection in open_still:
            connection.live = False
            connection.break_off("the worker has ended")
        if self._listener is not None:
            self._listener.close()
            if isinstance(self._address, UnixAddress):
                with suppress(OSError):
                    self._address.path.unlink()
            self._listener = None
        await asyncio.gather(*(connection.closed for connection in open_still))

    # --- Opening -----------------------------------------------------------------------------------------------------

    async def open(self, address: str, name: ChannelName) -> Outgoing:
        """A connection to the worker at `address` for a channel, after the handshake; raises TransportError."""
        if name.attempt <= self._forgotten:
            raise TransportError(f"{name}: the attempt is over")
        opening = Opening(self._secret, _subject(name), entropy(NONCE))
        made: list[Outgoing] = []

        def protocol() -> Outgoing:
            connection = Outgoing(opening, name, among=self._connections, ended=self._gone)
            made.append(connection)
            return connection

        try:
            async with self._opening, asyncio.timeout(_OPENING * self._patience):
                await self._connect(parse_address(address), protocol)
                await made[0].opened
        except TimeoutError:
            error = TransportError("no answer in time", hint="the worker may be gone, or cut off")
        except OSError as refused:
            error = TransportError(f"no connection: {refused}", hint="the worker may be gone, or cut off")
        except TransportError as told_why:
            error = told_why
        else:
            return made[0]
        for connection in made:
            connection.opened.cancel()
            connection.break_off(error.message)
        raise TransportError(f"{name} to {address}: {error.message}", hint=error.hint) from error.__cause__

    async def _connect(self, to: UnixAddress | TcpAddress, protocol: Callable[[], Outgoing]) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(to, UnixAddress):
            way, _ = await loop.create_unix_connection(protocol, str(to.path))
            _tune(way.get_extra_info("socket"), tcp=False)
            return
        way, connection = await loop.create_connection(protocol, to.host, to.ports[0], ssl=self._asking)
        sock = way.get_extra_info("socket")
        _tune(sock, tcp=True)
        connection.acknowledged = Acknowledgements(sock, self._silence)

    async def _watch(self) -> None:
        """Breaks off the connections whose other ends acknowledge nothing any more."""
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._silence / _LOOKS)
            for connection in list(self._connections):
                # One that is being opened has a time of its own.
                if not connection.live or connection.broken is not None or connection.acknowledged is None:
                    continue
                if connection.acknowledged.missing(now()):
                    connection.break_off(f"nothing that was sent is acknowledged for {self._silence:g} s")

    # --- Listening ---------------------------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._unproven.acquire()
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._unproven.release()
                _LOG.warning("no connection accepted", extra=told(error=str(error)))
                if error.errno in _FULL:
                    await asyncio.sleep(_PAUSE)
                continue
            except BaseException:
                self._unproven.release()
                raise
            task = loop.create_task(self._greet(accepted))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _greet(self, accepted: socket.socket) -> None:
        """Serves a connection until its handshake is over."""
        over = asyncio.get_running_loop().create_future()

        def settled() -> None:
            if not over.done():
                over.set_result(None)

        connection = Incoming(
            Answering(self._secret, entropy(NONCE)),
            most=self._max_frame,
            admit=self._admit,
            settled=settled,
            among=self._connections,
            ended=self._gone,
        )
        tcp = isinstance(self._address, TcpAddress)
        try:
            async with asyncio.timeout(self._patience):
                _tune(accepted, tcp=tcp)
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: connection, accepted, ssl=self._served if tcp else None
                )
                await over
        except (TimeoutError, OSError) as error:
            connection.break_off("no handshake in time" if isinstance(error, TimeoutError) else str(error))
        finally:
            self._unproven.release()
        if connection.name is None:
            _LOG.warning("connection refused", extra=told(error=connection.broken))

    def _admit(self, connection: Incoming, subject: str) -> Channel:
        name = _name(subject)
        channel = self._expected.pop(name, None)
        if channel is None:
            self.fenced += 1
            raise TransportError(f"nobody expects {name}, or not any more")
        connection.name = name
        return channel

    def _gone(self, connection: Connection) -> None:
        name = connection.name
        if name is None or not connection.live or connection.finished or name.attempt <= self._forgotten:
            return
        self.lost(name, connection.broken or "")


class SocketSender:
    """The sending end of one channel."""

    def __init__(self, transport: SocketTransport, address: str, name: ChannelName, encoder: Encoder) -> None:
        self._transport = transport
        self._address = address
        self._name = name
        self._encoder = encoder
        self._connection: Outgoing | None = None

    async def open(self) -> None:
        self._connection = await self._transport.open(self._address, self._name)

    async def send(self, element: StreamElement) -> None:
        for piece, frame in enumerate(self._encoder.frames(element)):
            if piece:
                await asyncio.sleep(0)  # a large batch keeps nobody else waiting
            connection = self._whole()
            connection.finished = isinstance(element, EndOfInput)
            room = connection.write(frame)
            if room is not None:
                await room
                self._whole()

    def _whole(self) -> Outgoing:
        connection = self._connection
        if connection is None or connection.broken is not None:
            why = "it is not open" if connection is None else connection.broken
            raise TransportError(f"{self._name} to {self._address}: {why}")
        return connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class _Together(Encoder):
    """The encoder of several senders that are sent the same batches, each of which is encoded once."""

    members = 0

    def __init__(self, *, most: int, operator: str, lz4: bool) -> None:
        super().__init__(most=most, operator=operator, lz4=lz4)
        self._batch: object = None
        self._frames: list[Frame] = []
        self._left = 0

    def frames(self, element: StreamElement) -> Iterator[Frame]:
        if not isinstance(element, (FrameBatch, RowBatch)):
            yield from super().frames(element)
            return
        batch = element.frame if isinstance(element, FrameBatch) else element.values
        if batch is not self._batch:
            self._frames = list(super().frames(element))
            self._batch, self._left = batch, self.members
        frames = self._frames
        self._left -= 1
        if not self._left:
            self._batch, self._frames = None, []
        yield from frames


def _subject(name: ChannelName) -> str:
    return f"channel {name.attempt} {name.edge} {name.upper} {name.lower}"


def _name(subject: str) -> ChannelName:
    kind, *numbers = subject.split(" ")
    if kind != "channel" or len(numbers) != 4 or not all(each.isdecimal() for each in numbers):
        raise TransportError("only channels are connected here")
    return ChannelName(*map(int, numbers))


async def _listening(at: UnixAddress | TcpAddress) -> tuple[socket.socket, UnixAddress | TcpAddress]:
    """A socket that listens, and the address at which it is reached."""
    if isinstance(at, UnixAddress):
        at.make_folder()
        return _bound(socket.AF_UNIX, str(at.path), f"at {at}"), at
    loop = asyncio.get_running_loop()
    try:
        family, *_, place = (await loop.getaddrinfo(at.host, 0, type=socket.SOCK_STREAM))[0]
    except OSError as error:
        raise TransportError(f"no listening at {at}: {error}", hint="give an address of this host") from error
    for port in at.ports:
        try:
            listener = _bound(family, (place[0], port, *place[2:]), f"at {at}")
        except TransportError:
            if port == at.ports[-1]:
                raise
            continue
        return listener, at.at(listener.getsockname()[1])
    raise AssertionError("an address has a port")


def _bound(family: int, place: str | tuple[Any, ...], shown: str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        if family != socket.AF_UNIX:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)  # connections get it from here
        listener.bind(place)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise TransportError(f"no listening {shown}: {error}", hint="give another port or folder") from error
    return listener


def _tune(sock: socket.socket, *, tcp: bool) -> None:
    with suppress(OSError):  # the system may have a smaller limit
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    if tcp:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
