"""The writers of KafkaSink: into an outbox that is published later, or to the topic at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from streamflow.core.elements import AnyBatch
from streamflow.operators.connectors.kafka.clients.port import (
    KafkaClient,
    LogWriter,
    ProducedRecords,
    TopicPartition,
)
from streamflow.operators.connectors.kafka.dead_letters import letters
from streamflow.operators.connectors.kafka.formats.record_parts import (
    ChangeRecords,
    RecordMaker,
    RecordParts,
)
from streamflow.operators.connectors.kafka.outbox import Outbox
from streamflow.operators.connectors.kafka.partitioner import Partitioner, PartitionFunction, partitioner
from streamflow.operators.connectors.kafka.topic_check import NewTopic, TopicLimits, checked_topic
from streamflow.operators.contract.error_policy import DeadLetters
from streamflow.operators.contract.sink import Committable, SinkContext, SinkWriter

__all__ = ["AtLeastOnceWriter", "OutboxWriter", "TopicOutput"]

_ON_A_THREAD: Final = 2_000
"""Rows from which on a batch is encoded on a thread, so that the event loop keeps answering."""


class TopicOutput:
    """One subtask's way from batches to the records of a topic's partitions; looks the topic up when first used."""

    def __init__(
        self,
        client: KafkaClient,
        records: RecordMaker | ChangeRecords,
        ctx: SinkContext,
        *,
        topic: str,
        partitioning: Literal["murmur2", "round_robin"] | PartitionFunction,
        create: NewTopic | None,
        record_bytes: int,
    ) -> None:
        self._client = client
        self._records = records
        self._ctx = ctx
        self._topic = topic
        self._partitioning: Literal["murmur2", "round_robin"] | PartitionFunction = partitioning
        self._create = create
        self._record_bytes = record_bytes
        self._found: tuple[TopicLimits, Partitioner] | None = None

    async def ready(self) -> tuple[TopicLimits, Partitioner]:
        """The topic's partitions and limits; raises SinkError if it is missing."""
        if self._found is None:
            ctx = self._ctx
            limits = await checked_topic(
                self._client,
                self._topic,
                create=self._create,
                record_bytes=self._record_bytes,
                client_id=f"streamflow-{ctx.job}",
            )
            self._found = limits, partitioner(self._partitioning, limits.partitions, first=ctx.subtask)
        return self._found

    async def records(self, batch: AnyBatch) -> list[ProducedRecords]:
        """The batch's records by partition, in the batch's order within each. Raises SinkError for a row that cannot
        be a record, or that the topic would refuse."""
        limits, assign = await self.ready()
        if len(batch) >= _ON_A_THREAD:
            made: list[ProducedRecords] = await self._ctx.run_blocking(self._made, batch, limits, assign)
            return made
        return self._made(batch, limits, assign)

    def _made(self, batch: AnyBatch, limits: TopicLimits, assign: Partitioner) -> list[ProducedRecords]:
        if isinstance(batch, DeadLetters):
            most, keys_needed = limits.content_bytes, limits.keys_needed
            parts = letters(batch, self._ctx.job, most=most, keys_needed=keys_needed)
        else:
            parts = self._records(batch)
        limits.check(parts, self._ctx.clock.now())
        return list(_by_partition(limits, parts, assign(parts.keys)))


class OutboxWriter(SinkWriter):
    """A writer that gathers an epoch's records and asks for the epoch to end when they grow beyond `most_bytes`."""

    def __init__(self, output: TopicOutput, ctx: SinkContext, *, most_bytes: int) -> None:
        self._output = output
        self._ctx = ctx
        self._most_bytes = most_bytes
        self._outbox = Outbox(ctx.subtask, ctx.run_blocking)
        self._bytes = ctx.metrics.gauge("streamflow_outbox_bytes", "Bytes gathered for the epoch")
        self._count = ctx.metrics.gauge("streamflow_outbox_records", "Records gathered for the epoch")

    async def write(self, batch: AnyBatch) -> None:
        await self._ctx.room()
        for records in await self._output.records(batch):
            await self._outbox.add(records)
        self._show()
        if self._outbox.nbytes >= self._most_bytes:
            self._ctx.end_epoch()
            await self._ctx.settled()

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        await self._output.ready()
        sealed = await self._outbox.seal(epoch)
        self._show()
        self._ctx.reach("outbox.sealed")
        return [sealed]

    async def close(self) -> None:
        """Drops unsealed records with the epoch that did not end."""

    def _show(self) -> None:
        self._bytes.set(self._outbox.nbytes)
        self._count.set(self._outbox.records)


class AtLeastOnceWriter(SinkWriter):
    """A writer that writes at once; an epoch ends when all of it is acknowledged."""

    def __init__(
        self,
        client: KafkaClient,
        output: TopicOutput,
        ctx: SinkContext,
        *,
        compression: str | None,
        patience: int,
    ) -> None:
        self._client = client
        self._output = output
        self._ctx = ctx
        self._compression = compression
        self._patience = patience
        self._log: LogWriter | None = None

    async def write(self, batch: AnyBatch) -> None:
        produced = await self._output.records(batch)
        if self._log is None:
            self._log = self._client.writer(
                client_id=f"streamflow-{self._ctx.job}",
                transactional_id=None,
                transaction_timeout=self._patience,
                compression=self._compression,
            )
            await self._log.start()
        for records in produced:
            await self._log.write(records)

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        await self._output.ready()
        if self._log is not None:
            await self._log.flush()
        return ()

    async def close(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            await log.close()


def _by_partition(
    limits: TopicLimits, parts: RecordParts, partitions: Sequence[int]
) -> Iterator[ProducedRecords]:
    topic, batch_bytes = limits.topic, limits.batch_bytes
    rows: dict[int, list[int]] = {}
    for row, partition in enumerate(partitions):
        rows.setdefault(partition, []).append(row)
    if len(rows) == 1:
        yield ProducedRecords(TopicPartition(topic, partitions[0]), *parts, batch_bytes=batch_bytes)
        return
    values, keys, timestamps, headers = parts
    for partition, mine in rows.items():
        yield ProducedRecords(
            TopicPartition(topic, partition),
            [values[row] for row in mine],
            [keys[row] for row in mine],
            [timestamps[row] for row in mine],
            [headers[row] for row in mine],
            batch_bytes,
        )
