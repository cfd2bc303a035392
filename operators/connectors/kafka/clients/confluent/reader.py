"""A reader of assigned partitions through confluent-kafka (librdkafka), which fetches and unpacks on its own
threads.

One consumer serves all partitions. A thread of its own calls it, and only while a fetch waits for records: other
records wait in librdkafka's queue, which is bounded. Of a partition that is taken more slowly than its neighbours a
bounded amount waits here, then it is paused. Every record costs one Python object for a moment, made in C, and one
call for each part of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from streamflow.errors import SourceError, Where
from streamflow.observe.logs import told
from streamflow.operators.connectors.kafka.clients.confluent.chunk import MessageColumns
from streamflow.operators.connectors.kafka.clients.confluent.connection import (
    LIBRARY_LOG,
    OneThread,
    properties,
    reach,
)
from streamflow.operators.connectors.kafka.clients.confluent.queue import MessageQueue
from streamflow.operators.connectors.kafka.clients.port import (
    UNPACKED_BYTES,
    Chunk,
    GonePartitionError,
    LostRecordsError,
    TopicPartition,
)
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.diagnosis import diagnose

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

__all__ = ["ConfluentReader"]

_PATIENCE: Final = 120.0
"""Seconds for which the job tries on while no broker answers."""
_START_PATIENCE: Final = 30.0
_ASK_AFTER: Final = 5.0
"""Seconds without a record after which the reader asks whether brokers answer at all."""

_LOOK_EVERY: Final = 5.0
_GONE_AFTER: Final = 15.0
"""Seconds for which brokers may say that they do not know a topic: after a restart they have to learn it first."""

_MOST: Final = 40_000
_AT_ONCE: Final = 500
"""Messages that exist at a time: fewer than those at which Python looks for garbage among them."""
_MANY: Final = 1_000
"""The number of records at once after which more are probably on their way: it is worth waiting for them a little."""
_LINGER: Final = 0.005
_POLL: Final = 0.05
_PARTITION_BYTES: Final = 16 << 20
"""Bytes of a partition that may wait here while other partitions are taken, before it is paused."""
_QUEUE_RECORDS: Final = 20_000
"""Records of each partition that librdkafka fetches ahead. More is slower: the same memory is not used again and
again."""
_QUEUE_KIB: Final = 65_536

_MOST_OF_REQUEST: Final = 16 << 20
_FRAME: Final = 1024

_LOG = logging.getLogger("streamflow.kafka")


class _Came:
    """One delivery: messages by partition, and events."""

    def __init__(self) -> None:
        self.columns: defaultdict[TopicPartition, MessageColumns] = defaultdict(MessageColumns)
        self.events: list[Message] = []


class ConfluentReader:
    """A `LogReader`; see there."""

    def __init__(
        self,
        cluster: Cluster,
        client_id: str,
        *,
        patience: float = _PATIENCE,
        unpacked_bytes: int = UNPACKED_BYTES,
    ) -> None:
        self._cluster = cluster
        self._unpacked_bytes = unpacked_bytes
        self._client_id = client_id
        self._patience = patience
        self._thread = OneThread("streamflow-kafka")
        self._consumer: Consumer | None = None
        self._queues: dict[TopicPartition, MessageQueue] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._answered = 0.0
        self._looked = 0.0
        self._missing: dict[TopicPartition, float] = {}
        """The time since when brokers do not know a partition."""

    async def start(self) -> None:
        from confluent_kafka import Consumer

        self._consumer = Consumer(
            {
                **properties(self._cluster, self._client_id),
                # A group is never joined: librdkafka asks for a name all the same.
                "group.id": self._client_id,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 250,
                "fetch.max.bytes": _MOST_OF_REQUEST,
                # Also what a batch of zstd may unpack to. For the other codecs librdkafka knows no limit: what they
                # unpack to is bounded by what is sent (a topic's max.message.bytes) and by what they can do at best,
                # 1,032 times for gzip, 255 for lz4, 21 for snappy.
                "receive.message.max.bytes": max(self._unpacked_bytes, _MOST_OF_REQUEST + _FRAME),
                # By default fetching pauses for a second whenever the queue is full.
                "fetch.queue.backoff.ms": 5,
                "queued.min.messages": _QUEUE_RECORDS,
                "queued.max.messages.kbytes": _QUEUE_KIB,
            },
            logger=LIBRARY_LOG,
        )
        try:
            await reach(self._cluster, self._thread, self._consumer, patience=_START_PATIENCE)
        except BaseException:
            await self.close()
            raise
        loop = asyncio.get_running_loop()
        self._answered = self._looked = loop.time()
        self._task = loop.create_task(self._run())

    async def add(self, partition: TopicPartition, offset: int) -> None:
        from confluent_kafka import TopicPartition as Place

        await self.remove(partition)
        await self._thread(self._connected.incremental_assign, [Place(*partition, offset)])
        self._queues[partition] = MessageQueue(offset)

    async def remove(self, partition: TopicPartition) -> None:
        from confluent_kafka import TopicPartition as Place

        queue = self._queues.pop(partition, None)
        self._missing.pop(partition, None)
        if queue is not None:
            queue.interrupt()
            await self._thread(self._connected.incremental_unassign, [Place(*partition)])

    async def fetch(self, partition: TopicPartition, *, seconds: float, most: int | None) -> Chunk | None:
        queue = self._queues[partition]
        if not queue.ready:
            self._wanted.set()
            await queue.wait(seconds)
        return queue.take(most)

    def end(self, partition: TopicPartition) -> int | None:
        queue = self._queues.get(partition)
        if queue is None:
            return None
        if queue.at_end:
            return queue.reached
        known = self._ends.get(partition)
        return None if known is None else max(known, queue.reached)

    async def close(self) -> None:
        for queue in self._queues.values():
            queue.interrupt()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await self._thread(consumer.close)
            self._thread.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                if not any(queue.waiting for queue in self._queues.values()):
                    self._wanted.clear()
                    await self._wanted.wait()
                    # The fetch that set it comes to wait now.
                    await asyncio.sleep(0)
                    continue
                await self._balance()
                came = await self._thread(self._consume)
                for partition, columns in came.columns.items():
                    if (queue := self._queues.get(partition)) is not None:
                        queue.put(columns)
                for event in came.events:
                    await self._event(event)
                if came.columns or came.events:
                    self._answered = loop.time()
                    await self._thread(self._look_up_ends, list(came.columns))
                elif loop.time() - self._answered > _ASK_AFTER:
                    await self._ask()
                await self._look_for_missing()
        except SourceError as error:
            self._fail(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 — a client's exceptions do not leave its adapter
            self._fail(SourceError(f"Kafka's client failed: {type(error).__name__}: {error}"))

    def _consume(self) -> _Came:
        """The delivered messages; waits a little if there are none. On the reader's thread."""
        consumer = self._connected
        came = _Came()
        messages = consumer.consume(_AT_ONCE, 0)
        if not messages:
            first = consumer.poll(_POLL)
            if first is None:
                return came
            messages = [first]
        count, lingered = 0, False
        while messages:
            count += len(messages)
            _sort(messages, came)
            messages = consumer.consume(_AT_ONCE, 0) if count < _MOST else []
            if not messages and _MANY <= count < _MOST and not lingered:
                lingered = True
                messages = consumer.consume(_AT_ONCE, _LINGER)
        return came

    async def _event(self, event: Message) -> None:
        from confluent_kafka import KafkaError

        partition, error, offset = _place(event), event.error(), event.offset()
        queue = self._queues.get(partition)
        if queue is None:
            return
        assert error is not None
        code = error.code()
        where = Where(split=str(partition))
        if code == KafkaError._PARTITION_EOF:
            assert offset is not None
            queue.end_at(offset)
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            queue.fail(await self._out_of_range(partition, queue.reached))
        elif code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION):
            self._missing.setdefault(partition, asyncio.get_running_loop().time())
        elif code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            queue.fail(
                SourceError(
                    f"reading topic {partition.topic!r} is not allowed",
                    where=where,
                    hint="the user needs READ and DESCRIBE on the topic",
                )
            )
        elif code in (KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG):
            # librdkafka asks for it again and again.
            queue.fail(
                SourceError(
                    f"a batch of records cannot be unpacked: {error.str()}",
                    where=Where(split=str(partition), offset=f"offset {queue.reached}"),
                    hint=f'client="aiokafka" treats it by on_error; max_batch_bytes={self._unpacked_bytes}',
                )
            )
        elif error.fatal():
            queue.fail(SourceError(f"{partition} cannot be read: {error.str()}", where=where))
        else:
            _LOG.warning(
                "partition cannot be read; trying again", extra=told(split=str(partition), why=error.str())
            )

    async def _out_of_range(self, partition: TopicPartition, offset: int) -> SourceError:
        """Handles an offset outside of the log: never a silent reset, since missing records are lost data."""
        first, last = await self._thread(self._log_range, partition)
        lost = "has been deleted by then" if offset < first else "is beyond its end: the topic was made again"
        error = (LostRecordsError if offset < first else SourceError)(
            f"offset {offset} is not in the log any more: it has offsets {first} to {last}, "
            f"and the next record to read {lost}",
            where=Where(split=str(partition), offset=f"offset {offset}"),
            hint=f"start over with start= an offset from {first} on, or restore a checkpoint that fits the log",
        )
        if isinstance(error, LostRecordsError):
            error.first = first
        return error

    def _log_range(self, partition: TopicPartition) -> tuple[int, int]:
        from confluent_kafka import TopicPartition as Place

        return self._connected.get_watermark_offsets(Place(*partition), timeout=10.0)

    def _look_up_ends(self, partitions: list[TopicPartition]) -> None:
        """Looks up the ends that came along with fetched records. On the reader's thread."""
        from confluent_kafka import TopicPartition as Place

        for partition in dict.fromkeys(partitions):
            _, high = self._connected.get_watermark_offsets(Place(*partition), cached=True)
            if high >= 0:
                self._ends[partition] = high

    async def _balance(self) -> None:
        """Pauses partitions that no fetch takes, resumes those that a fetch waits for."""
        from confluent_kafka import TopicPartition as Place

        pause: list[Any] = []
        resume: list[Any] = []
        for partition, queue in self._queues.items():
            if queue.paused and queue.waiting:
                queue.paused = False
                resume.append(Place(*partition))
            elif not queue.paused and not queue.waiting and queue.nbytes > _PARTITION_BYTES:
                queue.paused = True
                pause.append(Place(*partition))
        if pause:
            await self._thread(self._connected.pause, pause)
        if resume:
            await self._thread(self._connected.resume, resume)

    async def _ask(self) -> None:
        """Asks whether any broker answers, after a while without records; raises SourceError when the patience is
        over."""
        from confluent_kafka import KafkaException

        loop = asyncio.get_running_loop()
        topic = next(iter(self._queues)).topic
        try:
            await self._thread(self._connected.list_topics, topic, 1.0)
        except KafkaException as error:
            if loop.time() - self._answered < self._patience:
                return
            trouble = await diagnose(self._cluster)
            if trouble is not None:
                raise trouble.error() from error
        self._answered = loop.time()

    async def _look_for_missing(self) -> None:
        """Asks whether brokers still know the partitions that are read: librdkafka does not report a deleted topic."""
        from confluent_kafka import KafkaException

        now = asyncio.get_running_loop().time()
        if now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        try:
            there = (await self._thread(lambda: self._connected.list_topics(timeout=1.0))).topics
        except KafkaException:
            return
        for partition, queue in self._queues.items():
            topic = there.get(partition.topic)
            if topic is not None and partition.partition in topic.partitions:
                self._missing.pop(partition, None)
            elif now - self._missing.setdefault(partition, now) > _GONE_AFTER:
                queue.fail(GonePartitionError.of(partition))

    def _fail(self, error: SourceError) -> None:
        for partition, queue in self._queues.items():
            queue.fail(SourceError(error.message, where=Where(split=str(partition)), hint=error.hint))

    @property
    def _connected(self) -> Consumer:
        if self._consumer is None:
            raise SourceError("the reader is closed")
        return self._consumer


def _sort(messages: list[Message], came: _Came) -> None:
    """Sorts librdkafka's messages, which come in runs of one partition after the other."""
    from confluent_kafka import Message

    if any(map(Message.error, messages)):
        came.events += [message for message in messages if message.error() is not None]
        messages = [message for message in messages if message.error() is None]
    if not messages:
        return
    topics, numbers = list(map(Message.topic, messages)), list(map(Message.partition, messages))
    if topics.count(topics[0]) == numbers.count(numbers[0]) == len(messages):
        came.columns[_place(messages[0])].add(messages)
        return
    start = 0
    for _, group in groupby(zip(topics, numbers, strict=True)):
        stop = start + sum(1 for _ in group)
        came.columns[_place(messages[start])].add(messages[start:stop])
        start = stop


def _place(message: Message) -> TopicPartition:
    topic, partition = message.topic(), message.partition()
    assert topic is not None
    assert partition is not None
    return TopicPartition(topic, partition)
