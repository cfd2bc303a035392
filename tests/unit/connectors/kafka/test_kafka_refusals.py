"""A refusal names its object: the topic of the record, the topic that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import aiokafka
import pytest
from aiokafka.errors import MessageSizeTooLargeError

from streamflow.errors import SinkError, SourceError
from streamflow.operators.connectors.kafka.clients.aiokafka.writer import AiokafkaWriter
from streamflow.operators.connectors.kafka.clients.port import ProducedRecords, TopicPartition
from streamflow.operators.connectors.kafka.marker import PublishedByOthersError
from streamflow.operators.connectors.kafka.progress import Progress
from tests.unit.connectors.driving import JumpingClock


class Batch:
    def __init__(self) -> None:
        self.records = 0

    def append(self, **record: Any) -> object:
        self.records += 1
        return self

    def record_count(self) -> int:
        return self.records


class Producer:
    """Acknowledges nothing; `refused` is what the broker says of batches for a topic."""

    made: list[Producer] = []  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        self.sent: dict[str, asyncio.Future[None]] = {}
        self.made.append(self)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[None]:
        self.sent[topic] = asyncio.get_running_loop().create_future()
        return self.sent[topic]


def record(topic: str) -> ProducedRecords:
    return ProducedRecords(TopicPartition(topic, 0), [b"value"], [None], [None], [()])


@pytest.mark.parametrize("then", ["write", "flush"])
def test_a_batch_that_is_too_large_is_that_of_its_own_topic(
    monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    monkeypatch.setattr(aiokafka, "AIOKafkaProducer", Producer)

    async def run() -> SinkError:
        writer = AiokafkaWriter(
            dict, client_id="c", transactional_id=None, transaction_timeout=10_000_000, compression=None
        )
        await writer.start()
        await writer.write(record("large"))
        await writer.write(record("small"))
        sent = Producer.made[-1].sent
        sent["small"].set_result(None)
        sent["large"].set_exception(MessageSizeTooLargeError())
        await asyncio.sleep(0)
        with pytest.raises(SinkError) as caught:
            await (writer.write(record("small")) if then == "write" else writer.flush())
        return caught.value

    error = asyncio.run(run())
    assert "'large'" in str(error)
    assert "'small'" not in str(error)


class Log:
    """A client for a topic that is there, empty, until it is `gone`."""

    def __init__(self) -> None:
        self.gone = False

    def metadata(self, *, client_id: str) -> Log:
        return self

    reader = metadata

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def add(self, partition: TopicPartition, offset: int) -> None: ...

    async def partitions(self, topics: Sequence[str]) -> list[TopicPartition]:
        return [] if self.gone else [TopicPartition(topic, 0) for topic in topics]

    async def offsets(self, partitions: Sequence[TopicPartition], at: str) -> Mapping[TopicPartition, int]:
        if self.gone:
            raise SourceError("Kafka at localhost:9092 is not reached")
        return dict.fromkeys(partitions, 0)


def test_a_progress_topic_that_was_deleted_is_not_one_that_is_out_of_reach() -> None:
    log: Any = Log()

    async def run() -> None:
        progress = Progress(log, JumpingClock(), topic="progress", key="job", client_id="c", patience=1.0)
        assert await progress.newest() is None
        log.gone = True
        with pytest.raises(
            PublishedByOthersError, match="'progress' was deleted while the job ran; make no changes"
        ):
            await progress.newest()

    asyncio.run(run())
