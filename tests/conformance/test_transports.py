"""One suite for every transport between workers. A scenario is a coroutine of workers that can reach one another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest
import uvloop

from streamflow.config import Secret
from streamflow.core.batch import RowBatch
from streamflow.core.elements import Active, Barrier, End, EndOfInput, Idle, StreamElement, Watermark
from streamflow.core.frame import FrameBatch
from streamflow.errors import RecordError
from streamflow.runtime.exchange.channel import Channel, Inbox
from streamflow.runtime.transport.port import ChannelName, Sender, Transport, TransportError
from streamflow.runtime.transport.sockets import SocketTransport
from streamflow.testing.workers.network import Network
from streamflow.testing.workers.transport import LoopTransport

FIRST = ChannelName(attempt=1, edge=0, upper=0, lower=1)
SECOND = ChannelName(attempt=1, edge=0, upper=2, lower=1)
LATER = ChannelName(attempt=2, edge=0, upper=0, lower=1)
BATCH = FrameBatch(pl.DataFrame({"key": ["a", "b"], "n": [1, None]}))


@dataclass
class Workers:
    """Workers of one run; `open_one` makes the transport of the next, which listens."""

    open_one: Callable[[int], Awaitable[Transport]]
    all: list[Transport] = field(default_factory=list)
    lost: list[tuple[int, ChannelName]] = field(default_factory=list)
    """Connections that were lost, and the number of the worker that told."""

    async def another(self) -> Transport:
        number = len(self.all)
        transport = await self.open_one(number)
        self.all.append(transport)
        transport.lost = lambda name, why: self.lost.append((number, name))
        return transport

    async def pair(self, name: ChannelName = FIRST, channel: Channel | None = None) -> tuple[Sender, Inbox]:
        """Both ends of an open channel from worker 0 to worker 1."""
        sending = self.all[0] if self.all else await self.another()
        receiving = self.all[1] if len(self.all) > 1 else await self.another()
        channel = channel or Channel()
        receiving.expect(name, channel)
        sender = sending.sender(receiving.address, name, operator="map-1")
        await sender.open()
        return sender, Inbox([channel])


Scenario = Callable[[Workers], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture(params=["unix", "tcp", "unix on uvloop", "tcp on uvloop", "loop"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a scenario with one kind of transport."""
    tmp_path.chmod(0o700)
    secret = Secret("only this run knows it")
    network = Network()

    async def open_one(number: int) -> Transport:
        if request.param == "loop":
            beside = LoopTransport(network, f"worker {number}")
            beside.listen()
            return beside
        transport = SocketTransport(secret, max_frame=1 << 20)
        place = f"unix:{tmp_path}/{number}" if request.param.startswith("unix") else "tcp:127.0.0.1:0"
        await transport.listen(place)
        return transport

    async def all_of(scenario: Scenario) -> None:
        workers = Workers(open_one)
        try:
            async with asyncio.timeout(60):
                await scenario(workers)
        finally:
            for transport in workers.all:
                await transport.close()

    def run(scenario: Scenario) -> None:
        made = uvloop.new_event_loop if request.param.endswith("uvloop") else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=made) as runner:
            runner.run(all_of(scenario))

    return run


async def received(inbox: Inbox, count: int) -> list[StreamElement]:
    """The next elements, in order."""
    elements: list[StreamElement] = []
    while len(elements) < count:
        found = inbox.receive_nowait()
        if found is None:
            await inbox.news()
        else:
            elements.append(found[1])
    return elements


async def until(true: Callable[[], bool]) -> None:
    """Lets others run until something is true."""
    while not true():  # noqa: ASYNC110 — no transport has an event for each of these
        await asyncio.sleep(0)


def test_elements_come_as_they_were_sent_and_in_order(run: Run) -> None:
    sent = [
        Watermark(5),
        RowBatch([{"k": ("a", 2**70)}, None], [3, 4], [-1, 2]),
        Barrier(7),
        Idle(),
        Active(),
        RowBatch(["x"]),
        Watermark(2**63 - 1, End(9, 8)),
        EndOfInput(drained=False),
    ]

    async def scenario(workers: Workers) -> None:
        sender, inbox = await workers.pair()
        for element in sent:
            await sender.send(element)
        assert await received(inbox, len(sent)) == sent

    run(scenario)


def test_columns_come_as_they_were_sent(run: Run) -> None:
    large = pl.DataFrame({"n": range(100_000)}).with_columns(
        text=pl.col("n").cast(pl.String) + " is a number"
    )

    async def scenario(workers: Workers) -> None:
        sender, inbox = await workers.pair(channel=Channel(merges=False))
        sending = asyncio.ensure_future(sender.send(FrameBatch(large)))
        parts: list[pl.DataFrame] = []
        while sum(part.height for part in parts) < large.height:
            [batch] = await received(inbox, 1)
            assert isinstance(batch, FrameBatch)
            parts.append(batch.frame)
        await sending
        assert pl.concat(parts).equals(large)

    run(scenario)


def test_a_full_channel_makes_its_sender_wait_and_no_other(run: Run) -> None:
    async def fill(sender: Sender) -> None:
        for _ in range(100):
            await sender.send(RowBatch(["x" * 500_000]))

    async def scenario(workers: Workers) -> None:
        full, slow = await workers.pair(FIRST, Channel(max_bytes=1_000_000))
        other, inbox = await workers.pair(SECOND)
        filling = asyncio.ensure_future(fill(full))
        await until(lambda: slow.channels[0].rows > 0)
        await other.send(Barrier(1))
        assert await received(inbox, 1) == [Barrier(1)]
        # 50 MB fit nowhere: not into the channel, nor into any buffer on the way.
        assert not filling.done()
        assert slow.channels[0].rows <= 2
        assert len(await received(slow, 100)) == 100
        await filling

    run(scenario)


def test_a_channel_that_nobody_expects_is_refused(run: Run) -> None:
    async def scenario(workers: Workers) -> None:
        await workers.pair()
        sender = workers.all[0].sender(workers.all[1].address, SECOND)
        with pytest.raises(TransportError, match="nobody expects attempt 1, edge 0, subtask 2 to 1"):
            await sender.open()
        with pytest.raises(TransportError, match="not open"):
            await sender.send(Idle())
        assert workers.lost == []

    run(scenario)


def test_a_channel_is_connected_once(run: Run) -> None:
    async def scenario(workers: Workers) -> None:
        first, inbox = await workers.pair()
        with pytest.raises(TransportError, match="nobody expects"):
            await workers.all[0].sender(workers.all[1].address, FIRST).open()
        await first.send(Barrier(1))
        assert await received(inbox, 1) == [Barrier(1)]

    run(scenario)


def test_a_worker_that_is_gone_cannot_be_reached(run: Run) -> None:
    async def scenario(workers: Workers) -> None:
        sending, gone = await workers.another(), await workers.another()
        address = gone.address
        await gone.close()
        with pytest.raises(TransportError, match="no connection"):
            await sending.sender(address, FIRST).open()

    run(scenario)


def test_an_attempt_that_is_forgotten_ends_quietly_at_both_ends(run: Run) -> None:
    async def scenario(workers: Workers) -> None:
        sender, inbox = await workers.pair()
        after, later = await workers.pair(LATER)
        for transport in workers.all * 2:
            transport.forget(1)
        with pytest.raises(TransportError):
            await sender.send(Idle())
        assert inbox.receive_nowait() is None
        sending, receiving = workers.all
        receiving.expect(SECOND, Channel())
        with pytest.raises(TransportError, match="over"):
            await sending.sender(receiving.address, SECOND).open()
        # Another worker has not heard yet that the attempt is over.
        with pytest.raises(TransportError, match="nobody expects"):
            await (await workers.another()).sender(receiving.address, SECOND).open()
        await after.send(Barrier(3))
        assert await received(later, 1) == [Barrier(3)]
        assert workers.lost == []

    run(scenario)


def test_a_sender_that_waits_learns_that_the_attempt_is_over(run: Run) -> None:
    async def fill(sender: Sender) -> None:
        while True:
            await sender.send(RowBatch(["x" * 500_000]))

    async def scenario(workers: Workers) -> None:
        sender, slow = await workers.pair(channel=Channel(max_bytes=1_000_000))
        filling = asyncio.ensure_future(fill(sender))
        await until(lambda: slow.channels[0].rows > 0)
        workers.all[0].forget(1)
        with pytest.raises(TransportError):
            await filling

    run(scenario)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_broken_connection_is_told_once_at_the_other_end(run: Run, gone: int) -> None:
    async def scenario(workers: Workers) -> None:
        sender, inbox = await workers.pair()
        await sender.send(Barrier(1))
        await received(inbox, 1)
        await workers.all[gone].close()
        await until(lambda: bool(workers.lost))
        assert workers.lost == [(1 - gone, FIRST)]

    run(scenario)


def test_what_was_sent_before_the_break_is_there(run: Run) -> None:
    async def scenario(workers: Workers) -> None:
        sender, inbox = await workers.pair()
        await sender.send(BATCH)
        await sender.send(Barrier(1))
        sender.close()
        sender.close()
        assert (await received(inbox, 2))[1] == Barrier(1)
        await until(lambda: bool(workers.lost))
        assert workers.lost == [(1, FIRST)]

    run(scenario)


def test_nothing_is_lost_behind_the_end_of_the_input(run: Run) -> None:
    async def scenario(workers: Workers) -> None:
        sender, inbox = await workers.pair()
        other, waits = await workers.pair(SECOND)
        await sender.send(EndOfInput())
        assert await received(inbox, 1) == [EndOfInput()]
        sender.close()
        other.close()
        await until(lambda: bool(workers.lost))
        assert workers.lost == [(1, SECOND)]
        assert waits.receive_nowait() is None

    run(scenario)


def test_a_broadcast_batch_comes_to_all(run: Run) -> None:
    async def scenario(workers: Workers) -> None:
        sending = await workers.another()
        senders, inboxes = [], []
        for lower in range(3):
            receiving, channel = await workers.another(), Channel(merges=False)
            name = ChannelName(1, 0, 0, lower)
            receiving.expect(name, channel)
            senders.append(sending.sender(receiving.address, name, broadcast=True))
            inboxes.append(Inbox([channel]))
            await senders[-1].open()
        for n in range(1_000, 1_003):
            batch = FrameBatch(pl.DataFrame({"n": range(n), "text": ["long enough for a buffer"] * n}))
            for sender in senders:
                await sender.send(batch)
        for inbox in inboxes:
            assert [len(batch) for batch in await received(inbox, 3)] == [1_000, 1_001, 1_002]

    run(scenario)


def test_a_record_that_cannot_leave_names_its_operator(run: Run) -> None:
    class Mine:
        pass

    async def scenario(workers: Workers) -> None:
        sender, inbox = await workers.pair()
        with pytest.raises(RecordError) as raised:
            await sender.send(RowBatch([{"fine": 1}, {"own": Mine()}]))
        assert raised.value.where.operator == "map-1"
        assert "Mine" in raised.value.message
        assert "own" in raised.value.record
        await sender.send(Idle())
        assert await received(inbox, 1) == [Idle()]

    run(scenario)
