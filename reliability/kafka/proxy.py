"""A proxy in front of the broker that mistreats the ends of transactions; everything else passes as it is.

The broker has to advertise the proxy's port, or clients go round it. Three things may happen to an EndTxn:

* held: the connection is cut, the client asks again on another, and the request that was held reaches the broker later;
* cut: the broker carries it out, and the connection is cut in place of the answer;
* repeated: it passes, answer and all, and reaches the broker once more later.

"Later" is when it hurts: shortly behind one of the next writes of the same transactional id, hence in the middle of a
later transaction, if there is one; else after `LATEST_SECONDS`. A broker that takes such an end for that of the later
transaction publishes half of it. (Networks do that by
themselves, when a connection breaks and its bytes are on the way.)
"""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Final, Literal

from reliability.kafka.frames import (
    END_TXN,
    NAMES,
    PRODUCE,
    Request,
    correlation_of,
    end_txn_answer,
    framed,
    read_frame,
    request,
)

Fault = Literal["held", "cut", "repeated"]
FAULTS: Final[tuple[Fault, ...]] = ("held", "cut", "repeated")
LATEST_SECONDS: Final = 1.0
CUT_AFTER_SECONDS: Final = 0.01


class Schedule:
    """The faults of the next ends of transactions; the same seed gives the same ones in the same order."""

    def __init__(self, seed: int, share: float) -> None:
        self._chance = random.Random(seed)
        self._share = share

    def fault(self) -> Fault | None:
        chosen = self._chance.choice(FAULTS)
        return chosen if self._chance.random() < self._share else None

    def writes(self) -> int:
        """Behind how many writes of the same transactional id a late request comes."""
        return self._chance.randint(1, 3)

    def pause(self) -> float:
        """How long behind the write, in seconds."""
        return self._chance.choice((0.0, 0.001, 0.004))


@dataclass
class Late:
    """A request that has yet to reach the broker."""

    head: Request
    body: bytes
    writes: int
    pause: float


@dataclass
class Proxy:
    """Listens on `port` of this machine and passes to `upstream`. Used in a running loop: `async with Proxy(…)`."""

    port: int
    upstream: int
    schedule: Schedule
    most: int | None = None
    """No more faults than this."""
    ends: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    """The broker's answers to requests that came late."""
    _waiting: dict[str | None, list[Late]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(Connection(self, reader, writer).run())

    def fault(self) -> Fault | None:
        """To be asked once for each end of a transaction."""
        self.ends += 1
        if self.most is not None and self.faults.total() >= self.most:
            return None
        fault = self.schedule.fault()
        if fault is not None:
            self.faults[fault] += 1
        return fault

    def keep(self, head: Request, body: bytes) -> None:
        """Deliver it later."""
        late = Late(head, body, self.schedule.writes(), self.schedule.pause())
        self._waiting.setdefault(head.transaction, []).append(late)
        self._spawn(self._at_last(late))

    def written(self, head: Request) -> None:
        """A write of a transaction has been passed on: what waits for it is due."""
        for late in list(self._waiting.get(head.transaction, ())):
            late.writes -= 1
            if late.writes <= 0:
                self._waiting[head.transaction].remove(late)
                self._spawn(self._deliver(late))

    async def _at_last(self, late: Late) -> None:
        await asyncio.sleep(LATEST_SECONDS)
        waiting = self._waiting.get(late.head.transaction, [])
        if late in waiting:
            waiting.remove(late)
            await self._deliver(late)

    async def _deliver(self, late: Late) -> None:
        await asyncio.sleep(late.pause)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            self.late["nobody there"] += 1
            return
        try:
            writer.write(framed(late.body))
            answer = await read_frame(reader)
        finally:
            writer.close()
        if answer is None:
            self.late["not answered"] += 1
            return
        code = end_txn_answer(late.head.version, answer)
        self.late[NAMES.get(code, f"error {code}")] += 1


class Connection:
    """One connection of a client, and its counterpart to the broker."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._unanswered: set[int] = set()
        """Requests in place of whose answers the connection is cut."""

    async def run(self) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._proxy.upstream)
        except OSError:
            self._writer.close()
            return
        ways = [asyncio.ensure_future(self._requests(writer)), asyncio.ensure_future(self._answers(reader))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            self._writer.close()

    async def _requests(self, broker: asyncio.StreamWriter) -> None:
        """From the client to the broker, until the connection ends or is to be cut."""
        while (body := await read_frame(self._reader)) is not None:
            head = request(body)
            if head.api == END_TXN:
                fault = self._proxy.fault()
                if fault == "held":
                    self._proxy.keep(head, body)
                    await asyncio.sleep(CUT_AFTER_SECONDS)
                    return
                if fault == "cut":
                    self._unanswered.add(head.correlation)
                elif fault == "repeated":
                    self._proxy.keep(head, body)
            broker.write(framed(body))
            await broker.drain()
            if head.api == PRODUCE:
                self._proxy.written(head)

    async def _answers(self, broker: asyncio.StreamReader) -> None:
        while (body := await read_frame(broker)) is not None:
            if correlation_of(body) in self._unanswered:
                return
            self._writer.write(framed(body))
            await self._writer.drain()
