"""The coordinator's end of the control connections: takes on workers that know the secret, and carries messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from streamflow.config import Secret
from streamflow.errors import StreamflowError
from streamflow.observe.logs import reason, told
from streamflow.runners.processes.control_port import Connection
from streamflow.runtime.control.framing import HEADER_BYTES, MAX_FRAME_BYTES, ProtocolError, framed, length_in
from streamflow.runtime.control.messages import FromProcess, Hello, Told, ToProcess
from streamflow.runtime.control.wire import encoded, from_process
from streamflow.runtime.transport.addresses import UnixAddress, parse_address
from streamflow.runtime.transport.handshake import MOST_GREETING, NONCE, Answering, verdict
from streamflow.runtime.transport.port import TransportError
from streamflow.runtime.transport.tls import Tls
from streamflow.time.clock import entropy

__all__ = ["CONTROL", "ControlServer", "WorkerConnection"]

CONTROL: Final = "control"
"""The subject of a control connection."""
_PATIENCE: Final = 5.0
_UNPROVEN: Final = 64
_LOG: Final = logging.getLogger("streamflow.workers")


class WorkerConnection:
    """The connection to one worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, attempt: int, message: ToProcess) -> None:
        """Sends a message of an attempt; does nothing if the connection is gone, whose end is noted elsewhere."""
        if not self._writer.is_closing():
            self._writer.writelines(framed(encoded(Told[ToProcess](attempt, message))))

    def close(self) -> None:
        """Closes the connection."""
        self._writer.close()

    async def carry(self, hear: Callable[[int, FromProcess], None]) -> str:
        """Hands over messages until the connection ends; gives the reason of its end."""
        try:
            while True:
                message = from_process(await _body(self._reader, MAX_FRAME_BYTES))
                hear(message.attempt, message.message)
        except asyncio.IncompleteReadError:
            return "its connection ended"
        except (OSError, ProtocolError) as error:
            return f"its connection broke: {error}"
        finally:
            self.close()


class ControlServer:
    """Listens for workers that know the secret; with `tls` for those alone that have a certificate, too."""

    def __init__(self, secret: Secret, *, tls: Tls | None = None) -> None:
        self._address = ""
        self._secret = secret
        self._tls = None if tls is None else tls.context(server=True)
        self._server: asyncio.Server | None = None
        self._joined: Callable[[Hello, Connection], None] | None = None
        self._unproven = asyncio.Semaphore(_UNPROVEN)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """The address for the workers, which may have another port than the one asked for; known once it is open."""
        return self._address

    async def open(self, address: str, joined: Callable[[Hello, Connection], None]) -> None:
        """Listens from now on at `unix:…` or `tcp:…`, of whose ports the first free one is taken; `joined` is called
        with each worker that has said hello. Raises TransportError if that is not possible."""
        self._joined = joined
        at = parse_address(address)
        self._address = str(at)
        if isinstance(at, UnixAddress):
            at.make_folder()
            self._server = await asyncio.start_unix_server(self._serve, at.path)
            return
        for port in at.ports:
            try:
                self._server = await asyncio.start_server(self._serve, at.host, port, ssl=self._tls)
            except OSError as error:
                if port == at.ports[-1]:
                    raise TransportError(
                        f"the coordinator cannot listen at {at}: {error.strerror or error}",
                        hint="give network_ports that are free on this host",
                    ) from error
            else:
                self._address = str(at.at(self._server.sockets[0].getsockname()[1]))
                return

    async def close(self) -> None:
        """Listens no more, and closes all connections."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            connection = WorkerConnection(reader, writer)
            async with self._unproven, asyncio.timeout(_PATIENCE):
                await self._greet(reader, writer)
            hello = await self._hello(reader)
            assert self._joined is not None
            self._joined(hello, connection)
        except EOFError:  # somebody has looked whether anybody listens, or the end of a process tells more
            writer.close()
        except (TimeoutError, OSError, StreamflowError) as error:
            _LOG.warning("control connection refused", extra=told(error=reason(error)))
            writer.close()
        except asyncio.CancelledError:
            writer.close()
            raise
        finally:
            self._tasks.discard(task)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Returns once both sides have proven that they know the secret."""
        answering = Answering(self._secret, entropy(NONCE))
        writer.writelines(framed(answering.challenge(await _body(reader, MOST_GREETING))))
        if answering.subject(await _body(reader, MOST_GREETING)) != CONTROL:
            writer.writelines(framed(verdict("only workers are connected here")))
            raise TransportError("it is no control connection")
        writer.writelines(framed(verdict()))

    async def _hello(self, reader: asyncio.StreamReader) -> Hello:
        """The first message of a worker, which comes when it has imported the job: that may take long."""
        first = from_process(await _body(reader, MAX_FRAME_BYTES)).message
        if not isinstance(first, Hello):
            raise ProtocolError("a worker's first message is no hello")
        return first


async def _body(reader: asyncio.StreamReader, limit: int) -> bytes:
    return await reader.readexactly(length_in(await reader.readexactly(HEADER_BYTES), limit))
