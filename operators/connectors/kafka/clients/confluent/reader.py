"""A reader of assigned partitions through confluent-kafka (librdkafka), which fetches and unpacks on its own
threads.

One consumer for all partitions. A thread of its own calls it, and only while somebody waits for records: what nobody
takes waits in librdkafka's queue, which is bounded, and of a partition that is taken more slowly than its neighbours a
bounded amount waits here, then it is paused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor  # noqa: TID251 — the library blocks, and is never simulated
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from streamflow.errors import SourceError, Where
from streamflow.observe.logs import told
from streamflow.operators.connectors.kafka.clients.aiokafka.cancelling import closed
from streamflow.operators.connectors.kafka.clients.aiokafka.connection import connect
from streamflow.operators.connectors.kafka.clients.confluent.chunk import MessageChunk
from streamflow.operators.connectors.kafka.clients.confluent.queue import MessageQueue
from streamflow.operators.connectors.kafka.clients.port import (
    Chunk,
    GonePartitionError,
    TopicPartition,
    not_allowed,
    out_of_range,
)
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.diagnosis import diagnose

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

__all__ = ["ConfluentReader"]

T = TypeVar("T")

_PATIENCE: Final = 120.0
"""Seconds for which the job tries on while no broker answers."""
_START_PATIENCE: Final = 30.0
_LOOK_EVERY: Final = 5.0
"""Seconds after which the reader asks again whether brokers answer and know the partitions."""
_GONE_AFTER: Final = 15.0
"""Seconds for which brokers may say that they do not know a topic: after a restart they have to learn it first."""

_MOST: Final = 40_000
_AT_ONCE: Final = 500
"""Messages that exist at a time: fewer than those at which Python looks for garbage among them."""
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
_LIBRARY_LOG: Final = logging.getLogger("confluent_kafka")
"""librdkafka's own log, which it would write to stderr: it appears only if a handler is set up for it."""
_LIBRARY_LOG.addHandler(logging.NullHandler())


class ConfluentReader:
    """A `LogReader`; see there."""

    def __init__(self, cluster: Cluster, client_id: str, *, unpacked_bytes: int) -> None:
        self._cluster = cluster
        self._unpacked_bytes = unpacked_bytes
        self._client_id = client_id
        # The library blocks, and allows no two calls at the same time.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="streamflow-kafka")
        self._consumer: Consumer | None = None
        self._queues: dict[TopicPartition, MessageQueue] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._looked = 0.0
        self._silent_since: float | None = None
        self._missing: dict[TopicPartition, float] = {}
        """The time since when brokers do not know a partition."""

    async def start(self) -> None:
        from confluent_kafka import Consumer

        # Says at once, and in the same words, why a cluster cannot be reached.
        await closed(await connect(self._cluster, self._client_id, patience=_START_PATIENCE))
        self._consumer = Consumer(
            {
                "bootstrap.servers": self._cluster.bootstrap_servers,
                "client.id": self._client_id,
                # A broker that is back is found at once, also after a long while.
                "reconnect.backoff.ms": 100,
                "reconnect.backoff.max.ms": 1_000,
                "socket.connection.setup.timeout.ms": 5_000,
                "allow.auto.create.topics": False,
                **self._cluster.security.librdkafka(),
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
            logger=_LIBRARY_LOG,
        )
        loop = asyncio.get_running_loop()
        self._looked = loop.time()
        self._task = loop.create_task(self._run())

    async def add(self, partition: TopicPartition, offset: int) -> None:
        from confluent_kafka import TopicPartition as Place

        await self.remove(partition)
        await self._call(self._connected.incremental_assign, [Place(*partition, offset)])
        self._queues[partition] = MessageQueue(offset)

    async def remove(self, partition: TopicPartition) -> None:
        from confluent_kafka import TopicPartition as Place

        queue = self._queues.pop(partition, None)
        self._missing.pop(partition, None)
        if queue is not None:
            queue.interrupt()
            await self._call(self._connected.incremental_unassign, [Place(*partition)])

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
            await self._call(consumer.close)
        self._executor.shutdown(wait=False)

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Calls the library on its thread. A call whose caller is cancelled runs to its end."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

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
                chunks, events = await self._call(self._consume)
                for partition, chunk in chunks.items():
                    if (queue := self._queues.get(partition)) is not None:
                        queue.put(chunk)
                for event in events:
                    await self._event(event)
                if chunks:
                    await self._call(self._look_up_ends, chunks)
                if loop.time() - self._looked > _LOOK_EVERY:
                    await self._look_around(loop.time())
                    self._looked = loop.time()
        except SourceError as error:
            self._fail(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 — a client's exceptions do not leave its adapter
            self._fail(SourceError(f"Kafka's client failed: {type(error).__name__}: {error}"))

    def _consume(self) -> tuple[dict[TopicPartition, MessageChunk], list[Message]]:
        """The delivered messages by partition, and events; waits a little if there are none. On the reader's thread."""
        from confluent_kafka import Message

        consumer, count = self._connected, 0
        chunks: dict[TopicPartition, MessageChunk] = {}
        events: list[Message] = []
        first = consumer.poll(_POLL)
        messages = [] if first is None else [first, *consumer.consume(_AT_ONCE, 0)]
        while messages:
            count += len(messages)
            if any(map(Message.error, messages)):
                events += [message for message in messages if message.error() is not None]
                messages = [message for message in messages if message.error() is None]
            # The messages come in runs of one partition after the other.
            start, places = (
                0,
                zip(map(Message.topic, messages), map(Message.partition, messages), strict=True),
            )
            for place, run in groupby(places):
                stop = start + sum(1 for _ in run)
                partition = TopicPartition(*cast("tuple[str, int]", place))
                queue = self._queues.get(partition)
                if queue is not None:
                    chunk = chunks.setdefault(partition, MessageChunk(queue.reached))
                    chunk.add(messages[start:stop])
                start = stop
            messages = consumer.consume(_AT_ONCE, 0) if count < _MOST else []
        return chunks, events

    async def _event(self, event: Message) -> None:
        from confluent_kafka import KafkaError

        error, offset = event.error(), event.offset()
        partition = TopicPartition(*cast("tuple[str, int]", (event.topic(), event.partition())))
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
            queue.fail(out_of_range(partition, queue.reached, *await self._call(self._log_range, partition)))
        elif code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION):
            self._missing.setdefault(partition, asyncio.get_running_loop().time())
        elif code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            queue.fail(not_allowed(partition))
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

    def _log_range(self, partition: TopicPartition) -> tuple[int, int]:
        from confluent_kafka import TopicPartition as Place

        return self._connected.get_watermark_offsets(Place(*partition), timeout=10.0)

    def _look_up_ends(self, partitions: Iterable[TopicPartition]) -> None:
        """Looks up the ends that came along with fetched records. On the reader's thread."""
        from confluent_kafka import TopicPartition as Place

        for partition in partitions:
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
            await self._call(self._connected.pause, pause)
        if resume:
            await self._call(self._connected.resume, resume)

    async def _look_around(self, now: float) -> None:
        """Asks whether brokers answer, and know the partitions: librdkafka does not report a deleted topic. Raises
        SourceError when no broker has answered for the patience."""
        from confluent_kafka import KafkaException

        try:
            there = (await self._call(lambda: self._connected.list_topics(timeout=1.0))).topics
        except KafkaException as error:
            self._silent_since = self._silent_since or now
            if now - self._silent_since < _PATIENCE:
                return
            trouble = await diagnose(self._cluster)
            if trouble is not None:
                raise trouble.error() from error
            self._silent_since = None
            return
        self._silent_since = None
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
