"""How long a transaction may take: as long as its output needs to be sent, where the brokers allow it."""

import asyncio
import random
from collections.abc import Sequence

import polars as pl
import pytest

from streamflow.core.frame import FrameBatch
from streamflow.errors import SinkError
from streamflow.operators.connectors.kafka.clients.port import ProducedRecords, RefusedError
from streamflow.operators.connectors.kafka.sink import KafkaSink
from streamflow.operators.contract.sink import Committable
from streamflow.testing.simulation.loop import SimLoop
from tests.kafka.epochs import Run
from tests.kafka.simulated_client import SimKafka, SimWriter
from tests.kafka.simulated_log import SimLog

PART_SECONDS = 0.3


class SlowWriter(SimWriter):
    """Each request takes a while, and the broker ends a transaction that takes too long."""

    def __init__(self, log: SimLog, transactional_id: str | None, seconds: float, longest: float) -> None:
        super().__init__(log, transactional_id, seconds)
        self.seconds, self.longest, self.until = seconds, longest, 0.0

    async def start(self) -> None:
        if self.seconds > self.longest:
            raise RefusedError("the transaction timeout is longer than the broker allows", hint="lower it")
        await super().start()

    async def begin(self) -> None:
        self.until = asyncio.get_running_loop().time() + self.seconds

    async def write(self, records: ProducedRecords) -> None:
        await asyncio.sleep(PART_SECONDS)
        if asyncio.get_running_loop().time() > self.until:
            raise SinkError("the transaction took too long")
        await super().write(records)


class SlowKafka(SimKafka):
    def __init__(self, log: SimLog, longest: float = 900) -> None:
        super().__init__(log)
        self.longest = longest
        self.timeouts: list[float] = []

    def writer(self, *, client_id, transactional_id, transaction_timeout, compression):
        self.timeouts.append(transaction_timeout / 1e6)
        return SlowWriter(self.log, transactional_id, transaction_timeout / 1e6, self.longest)


def sink(client: SimKafka) -> KafkaSink:
    client.log.create("out", 1)
    return KafkaSink("out", client=client, transaction_timeout="1s", patience="1s")


async def publish(client: SlowKafka, parts: int) -> None:
    """An epoch of so many parts of the outbox, a million characters each."""
    async with Run(sink(client)) as run:
        await run.committer.begin()
        sealed: list[Committable] = []
        for number in range(parts):
            text = random.Random(number).randbytes(500_000).hex()
            await run.writer.write(FrameBatch(pl.DataFrame({"k": [text], "n": [number]})))
        sealed.extend(await run.writer.prepare(1))
        await run.committer.commit(1, sealed)


def published(log: SimLog) -> Sequence[int]:
    return range(len(log.committed("out")))


def test_a_large_epoch_gets_the_time_that_it_takes():
    client = SlowKafka(SimLog())
    SimLoop(1).run(publish(client, 12))
    assert len(published(client.log)) == 12
    assert client.timeouts[0] == 1.0
    assert max(client.timeouts) > 2.0


def test_a_small_epoch_gets_what_was_set():
    client = SlowKafka(SimLog())
    SimLoop(1).run(publish(client, 1))
    assert all(timeout < 1.3 for timeout in client.timeouts)


def test_where_brokers_allow_less_what_was_set_is_tried():
    client = SlowKafka(SimLog(), longest=1.0)
    SimLoop(1).run(publish(client, 2))
    assert len(published(client.log)) == 2
    assert client.timeouts[-1] == 1.0


def test_what_cannot_be_sent_in_time_fails_in_the_end():
    client = SlowKafka(SimLog(), longest=1.0)
    with pytest.raises(
        SinkError, match=r"epoch 1 could not be published within .*the transaction took too long"
    ):
        SimLoop(1).run(publish(client, 12))
    assert published(client.log) == range(0)
