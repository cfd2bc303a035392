"""Control connections: both directions at once, under TLS with certificates of the authority only, and to the end."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from pathlib import Path
from typing import TypeVarTuple

import pytest

from streamflow.config import Secret
from streamflow.runners.processes.control_link import ControlLink
from streamflow.runners.processes.control_port import Connection
from streamflow.runners.processes.control_server import ControlServer
from streamflow.runtime.control.messages import Deploy, FromProcess, Hello, Leave, Logged, Pulse, ToProcess
from streamflow.runtime.transport.port import TransportError
from streamflow.runtime.transport.tls import Tls
from tests.unit.runtime.test_socket_transport import certified

SECRET = Secret("s" * 64)
LARGE = "x" * 300_000
Ts = TypeVarTuple("Ts")


def deploy(text: str) -> Deploy:
    return Deploy(1, 0, [], {"text": text}, "run-1", 1, False, None, None, None, "plan")


def test_messages_pass_both_ways_under_tls(tmp_path: Path) -> None:
    certified(tmp_path, "worker", certified(tmp_path, "ca", None))
    certified(tmp_path, "stranger", certified(tmp_path, "other", None))

    def tls(name: str) -> Tls:
        return Tls(f"{tmp_path}/{name}.crt", f"{tmp_path}/{name}.key", f"{tmp_path}/ca.crt")

    async def exchanged() -> None:
        loop = asyncio.get_running_loop()
        there: list[FromProcess] = []
        here: list[ToProcess] = []
        joined: asyncio.Future[Connection] = loop.create_future()
        left = asyncio.Event()

        def hear(_: int, message: ToProcess) -> None:
            here.append(message)
            if isinstance(message, Leave):
                left.set()

        server = ControlServer(SECRET, tls=tls("worker"))
        await server.open("tcp:127.0.0.1:0", lambda hello, connection: joined.set_result(connection))
        for other in (None, tls("stranger")):
            with pytest.raises(TransportError):
                await asyncio.to_thread(ControlLink, server.address, SECRET, silence=10.0, tls=other)
        link = await asyncio.to_thread(ControlLink, server.address, SECRET, silence=10.0, tls=tls("worker"))
        link.open(loop, hear)
        link.send(0, Hello(0, 0, 1, "here", "", {}))
        connection = await joined
        carrying = asyncio.create_task(connection.carry(lambda _, message: there.append(message)))
        for number in range(20):
            link.send(0, Logged(20, "streamflow", f"{number} {LARGE}"[:4_000], {}, 0.0))
            connection.send(1, deploy(f"{number} {LARGE}"))
            connection.send(0, Pulse())
        connection.send(0, Leave())
        await left.wait()
        await asyncio.to_thread(link.close)
        await carrying
        await server.close()
        assert [each.settings["text"] for each in here if isinstance(each, Deploy)] == [
            f"{number} {LARGE}" for number in range(20)
        ]
        assert len([each for each in there if isinstance(each, Logged)]) == 20

    asyncio.run(exchanged())


class Closed(asyncio.SelectorEventLoop):
    """A loop that is closed, and says when it is called all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.close()
        self.called = threading.Event()

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self.called.set()
        return super().call_soon_threadsafe(callback, *args, context=context)


def test_a_word_to_a_worker_that_has_left_does_nothing(tmp_path: Path) -> None:
    async def told() -> None:
        joined: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        server = ControlServer(SECRET)
        await server.open(f"unix:{tmp_path}/c", lambda hello, connection: joined.set_result(connection))
        link = await asyncio.to_thread(ControlLink, server.address, SECRET, silence=10.0)
        loop = Closed()
        link.open(loop, lambda _, message: None)
        (reader,) = (each for each in threading.enumerate() if each.name == "streamflow-control-reader")
        link.send(0, Hello(0, 0, 1, "here", "", {}))
        connection = await joined
        for _ in range(2):
            loop.called.clear()
            connection.send(0, Pulse())
            assert await asyncio.to_thread(loop.called.wait, 10)
        link.send(0, Logged(20, "streamflow", "the last word", {}, 0.0))
        carrying = asyncio.create_task(connection.carry(lambda _, message: there.append(message)))
        there: list[FromProcess] = []
        await asyncio.to_thread(link.close)
        await carrying
        await asyncio.to_thread(reader.join, 10)
        assert any(isinstance(each, Logged) for each in there)
        await server.close()

    asyncio.run(told())
