"""A worker's end of the control connection: threads of its own send and hear, whatever the event loop does.

A user's function may hold up the loop for as long as it likes: the coordinator hears all the while that the worker
lives. A worker that does not hear the coordinator ends itself, wherever its loop is: another may be in its place.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final, NoReturn

from streamflow.config import Secret
from streamflow.runners.processes.control_server import CONTROL
from streamflow.runtime.control.framing import MAX_FRAME_BYTES, Frames, ProtocolError, framed
from streamflow.runtime.control.messages import Alive, FromProcess, Told, ToProcess
from streamflow.runtime.control.wire import encoded, to_process
from streamflow.runtime.transport.addresses import UnixAddress, parse_address
from streamflow.runtime.transport.handshake import MOST_GREETING, NONCE, Opening
from streamflow.runtime.transport.port import TransportError
from streamflow.runtime.transport.tls import Tls, TlsClient
from streamflow.time.clock import SystemClock, entropy

__all__ = ["ORPHANED", "ControlLink"]

ORPHANED: Final = 70
"""The exit code of a worker that has lost its coordinator."""
_EVERY: Final = 1.0
"""Seconds between two words to the coordinator."""
_PATIENCE: Final = 10.0
_PIECE: Final = 256 << 10


class ControlLink:
    """The connection to the coordinator at `address`. Raises TransportError if there is none, or if one of the two does
    not know the secret. `silence` is the number of seconds without a word after which the coordinator is lost."""

    def __init__(self, address: str, secret: Secret, *, silence: float, tls: Tls | None = None) -> None:
        self._silence = silence
        self._socket = _connected(address)
        self._tls = None if tls is None else TlsClient(tls)
        self._frames = Frames(limit=MOST_GREETING)
        self._bodies: list[bytes] = []
        self._queue: SimpleQueue[tuple[bytes, ...] | None] = SimpleQueue()
        self._closing = False
        self._writer = threading.Thread(target=self._write, name="streamflow-control-writer", daemon=True)
        try:
            self._prove(Opening(secret, CONTROL, entropy(NONCE)))
        except BaseException:
            self._socket.close()
            raise
        self._frames.limit = MAX_FRAME_BYTES

    def open(self, loop: asyncio.AbstractEventLoop, hear: Callable[[int, ToProcess], None]) -> None:
        """Sends from now on, and calls `hear` on the loop with each message."""
        self._writer.start()
        read = threading.Thread(
            target=self._read, args=(loop, hear), name="streamflow-control-reader", daemon=True
        )
        read.start()

    def send(self, attempt: int, message: FromProcess) -> None:
        """Sends a message, behind all that were sent before; from any thread. Raises RecordError for a message with a
        value that cannot be sent."""
        self._queue.put(framed(encoded(Told[FromProcess](attempt, message))))

    def close(self) -> None:
        """Closes the connection once everything is sent."""
        self._closing = True
        self._queue.put(None)
        self._writer.join(_PATIENCE)
        self._socket.close()

    def _prove(self, opening: Opening) -> None:
        self._socket.settimeout(_PATIENCE)
        try:
            if self._tls is not None:
                self._shake(self._tls)
            self._send(b"".join(framed(opening.hello())))
            self._send(b"".join(framed(opening.proof(self._next()))))
            opening.welcome(self._next())
        except OSError as error:
            raise TransportError(f"the coordinator does not answer: {error}") from error
        self._socket.settimeout(None)

    def _shake(self, tls: TlsClient) -> None:
        came = b""
        while True:
            data, over = tls.shake(came)
            self._socket.sendall(data)
            if over:
                return
            came = self._received()

    def _next(self) -> bytes:
        while not self._bodies:
            self._bodies += self._frames.feed(self._unsealed(self._received()))
        return self._bodies.pop(0)

    def _received(self) -> bytes:
        data = self._socket.recv(_PIECE)
        if not data:
            raise TransportError("the coordinator has closed the connection")
        return data

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data if self._tls is None else self._tls.seal(data))

    def _unsealed(self, data: bytes) -> bytes:
        return data if self._tls is None else self._tls.unseal(data)

    def _write(self) -> None:
        alive = framed(encoded(Told[FromProcess](0, Alive())))
        with suppress(OSError):  # the reading thread notices
            while True:
                try:
                    parts = self._queue.get(timeout=_EVERY)
                except Empty:
                    parts = alive
                if parts is None:
                    return
                for part in parts:
                    self._send(part)

    def _read(self, loop: asyncio.AbstractEventLoop, hear: Callable[[int, ToProcess], None]) -> None:
        clock = SystemClock()
        heard = clock.monotonic()
        while True:
            for body in self._bodies:
                told = to_process(body)
                with suppress(RuntimeError):  # a worker that has left has closed its loop
                    loop.call_soon_threadsafe(hear, told.attempt, told.message)
            self._bodies = []
            data, why = None, None
            try:
                # A socket with a timeout could not be written to by the other thread at the same time.
                there, _, _ = select.select([self._socket], [], [], _EVERY)
                data = self._socket.recv(_PIECE) if there else None
                if data:
                    heard = clock.monotonic()
                    self._bodies = self._frames.feed(self._unsealed(data))
            except (OSError, ValueError, ProtocolError) as error:
                why = str(error)
            if data == b"":
                why = "it has ended"
            elif clock.monotonic() - heard > self._silence:
                why = f"no word for {self._silence:g} s"
            if why is not None:
                if not self._closing:
                    _end(why)
                return


def _end(why: str) -> NoReturn:
    """Ends the process at once: nothing that it does counts any more."""
    with suppress(OSError, ValueError):
        os.write(2, f"worker {os.getpid()} ends: the coordinator is lost: {why}\n".encode())
    os._exit(ORPHANED)


def _connected(address: str) -> socket.socket:
    at = parse_address(address)
    try:
        if isinstance(at, UnixAddress):
            made = socket.socket(socket.AF_UNIX)
            made.settimeout(_PATIENCE)
            made.connect(str(at.path))
            return made
        made = socket.create_connection((at.host, at.ports[0]), timeout=_PATIENCE)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise TransportError(f"no connection to the coordinator at {address}: {error}") from error
    return made
