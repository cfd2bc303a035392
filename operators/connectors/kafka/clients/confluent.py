"""Topics read through confluent-kafka (librdkafka), for users who trust it more; the default is faster.

All else goes through aiokafka, whose transactions are the ones that were tried. Each partition has a consumer of its
own, which fetches and unpacks on its own threads; what nobody takes waits in its queue, which is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor  # noqa: TID251 — the library blocks, and is never simulated
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from streamflow.errors import SourceError, Where
from streamflow.observe.logs import told
from streamflow.operators.connectors.blocking_steps import BlockingSteps
from streamflow.operators.connectors.kafka.clients.aiokafka.client import AiokafkaClient
from streamflow.operators.connectors.kafka.clients.aiokafka.connection import closed, connect
from streamflow.operators.connectors.kafka.clients.port import (
    Chunk,
    GonePartitionError,
    Headers,
    LogReader,
    TopicPartition,
    not_allowed,
    out_of_range,
)
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.diagnosis import diagnose

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

__all__ = ["ConfluentClient", "PartitionLog"]

T = TypeVar("T")

_PATIENCE: Final = 120.0
"""Seconds for which the job tries on while no broker answers."""
_START_PATIENCE: Final = 30.0
_LOOK_EVERY: Final = 5.0
"""Seconds without records after which the reader asks whether brokers answer and know the partition."""
_GONE_AFTER: Final = 15.0
"""Seconds for which brokers may say that they do not know a topic: after a restart they have to learn it first."""

_MOST: Final = 40_000
_AT_ONCE: Final = 500
"""Messages that exist at a time: fewer than those at which Python looks for garbage among them."""
_POLL: Final = 0.1
_QUEUE_RECORDS: Final = 20_000
"""Records that librdkafka fetches ahead. More is slower: the same memory is not used again and again."""
_QUEUE_KIB: Final = 16_384
_MOST_OF_REQUEST: Final = 16 << 20
_FRAME: Final = 1024
_MOST_THREADS: Final = 1_000

_LOG = logging.getLogger("streamflow.kafka")
_LIBRARY_LOG: Final = logging.getLogger("confluent_kafka")
"""librdkafka's own log, which it would write to stderr: it appears only if a handler is set up for it."""
_LIBRARY_LOG.addHandler(logging.NullHandler())


class ConfluentClient(AiokafkaClient):
    """The port's `KafkaClient` for a cluster. `unpacked_bytes` is the largest size of an unpacked batch, as far as
    librdkafka checks it."""

    def reader(self, *, client_id: str) -> LogReader:
        return _ConfluentReader(self.cluster, client_id, self.unpacked_bytes)


class _ConfluentReader:
    """A `LogReader`; see there."""

    def __init__(self, cluster: Cluster, client_id: str, unpacked_bytes: int) -> None:
        self._cluster = cluster
        self._client_id = client_id
        self._unpacked_bytes = unpacked_bytes
        self._executor = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="streamflow-kafka")
        self._logs: dict[TopicPartition, tuple[PartitionLog, BlockingSteps]] = {}

    async def start(self) -> None:
        # Says at once, and in the same words, why a cluster cannot be reached.
        await closed(await connect(self._cluster, self._client_id, patience=_START_PATIENCE))

    async def add(self, partition: TopicPartition, offset: int) -> None:
        await self.remove(partition)
        clock = asyncio.get_running_loop().time
        log = await self._call(lambda: PartitionLog(self._consumer(), partition, offset, clock))
        self._logs[partition] = log, BlockingSteps(self._call)

    async def remove(self, partition: TopicPartition) -> None:
        if partition in self._logs:
            log, steps = self._logs.pop(partition)
            log.closing = True
            await steps.close()
            await self._call(log.close)

    async def fetch(self, partition: TopicPartition, *, seconds: float, most: int | None) -> Chunk | None:
        from confluent_kafka import KafkaException

        if partition not in self._logs:
            raise SourceError("the reader is closed")
        log, steps = self._logs[partition]
        try:
            chunk = await steps.run(partial(log.read, seconds, min(most or _MOST, _MOST)))
        except KafkaException as error:
            raise SourceError(f"Kafka's client failed: {error}", where=Where(split=str(partition))) from error
        if log.silent > _PATIENCE:
            trouble = await diagnose(self._cluster)
            log.silent_since = None
            if trouble is not None:
                raise SourceError(trouble.message, where=Where(split=str(partition)), hint=trouble.hint)
        return chunk

    def end(self, partition: TopicPartition) -> int | None:
        return self._logs[partition][0].end if partition in self._logs else None

    async def close(self) -> None:
        await asyncio.gather(*map(self.remove, list(self._logs)))
        self._executor.shutdown(wait=False)

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Calls the library on a thread. A call whose caller is cancelled runs to its end."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    def _consumer(self) -> Consumer:
        from confluent_kafka import Consumer

        return Consumer(
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


class PartitionLog:
    """One partition, read by a consumer of its own from `offset` on. All calls block; one at a time.

    `end`: the end that readers of committed records can reach, as last reported. `closing` ends a read that waits.
    `clock` gives seconds.
    """

    def __init__(
        self, consumer: Consumer, partition: TopicPartition, offset: int, clock: Callable[[], float]
    ) -> None:
        from confluent_kafka import TopicPartition as Place

        self.end: int | None = None
        self.closing = False
        self.silent_since: float | None = None
        self._consumer = consumer
        self._partition = partition
        self._place = Place(*partition, offset)
        self._reached = offset
        self._clock = clock
        self._looked = clock()
        self._missing_since: float | None = None
        self._error: SourceError | None = None
        consumer.assign([self._place])

    @property
    def silent(self) -> float:
        """The seconds for which no broker has answered."""
        return 0.0 if self.silent_since is None else self._clock() - self.silent_since

    def read(self, seconds: float, most: int) -> Chunk | None:
        """The next records, like `LogReader.fetch`."""
        start, give_up = self._reached, self._clock() + seconds
        chunk = _MessageChunk()
        while not self.closing and (left := give_up - self._clock()) > 0:
            if self._error is not None:
                raise self._error
            first = self._consumer.poll(min(left, _POLL))
            messages = [] if first is None else [first]
            while messages:
                chunk.add(self._taken_in(messages))
                room = most - len(chunk)
                messages = self._consumer.consume(min(room, _AT_ONCE), 0) if room and not self._error else []
            if self._reached > start:
                self._looked, self._missing_since, self.silent_since = self._clock(), None, None
                chunk.next_offset = self._reached
                return chunk
        if self._clock() - self._looked > _LOOK_EVERY:
            self._look_around()
        return None

    def close(self) -> None:
        self._consumer.close()

    def _taken_in(self, messages: Sequence[Message]) -> list[Message]:
        """The records among messages and events."""
        records: list[Message] = []
        at_end = False
        for message in messages:
            error, offset = message.error(), cast("int", message.offset())
            if error is not None:
                at_end = self._event(error, offset) or at_end
            elif offset >= self._reached:
                # librdkafka may deliver some again, as when a topic's leader has changed.
                records.append(message)
                self._reached, at_end = offset + 1, False
        if records:
            high = self._consumer.get_watermark_offsets(self._place, cached=True)[1]
            self.end = self._reached if at_end else max(high, self._reached)
        return records

    def _event(self, error: KafkaError, offset: int) -> bool:
        """Takes in an event; returns whether it is the end of the log. An error is raised behind the records before
        it."""
        from confluent_kafka import KafkaError

        code, partition = error.code(), self._partition
        where = Where(split=str(partition))
        if code == KafkaError._PARTITION_EOF:
            self._reached = max(self._reached, offset)
            self.end = self._reached
            return True
        if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            first, last = self._consumer.get_watermark_offsets(self._place, timeout=10.0)
            self._error = out_of_range(partition, self._reached, first, last)
        elif code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION):
            self._missing_since = self._missing_since or self._clock()
        elif code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            self._error = not_allowed(partition)
        elif code in (KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG):
            # librdkafka asks for it again and again.
            self._error = SourceError(
                f"a batch of records cannot be unpacked: {error.str()}",
                where=Where(split=str(partition), offset=f"offset {self._reached}"),
                hint='client="aiokafka" treats it by on_error, and keeps to max_batch_bytes for every codec',
            )
        elif error.fatal():
            self._error = SourceError(f"{partition} cannot be read: {error.str()}", where=where)
        else:
            facts = told(split=str(partition), why=error.str())
            _LOG.warning("partition cannot be read; trying again", extra=facts)
        return False

    def _look_around(self) -> None:
        """Asks whether brokers answer, and know the partition: librdkafka does not report a deleted topic."""
        from confluent_kafka import KafkaException

        now = self._looked = self._clock()
        try:
            there = self._consumer.list_topics(self._partition.topic, timeout=1.0).topics.get(
                self._partition.topic
            )
        except KafkaException:
            self.silent_since = self.silent_since or now
            return
        self.silent_since = None
        if there is not None and self._partition.partition in there.partitions:
            self._missing_since = None
            return
        self._missing_since = self._missing_since or now
        if now - self._missing_since > _GONE_AFTER:
            raise GonePartitionError.of(self._partition)


class _MessageChunk:
    """Messages of one partition in their order, none of them an event, as the port's `Chunk`. `nbytes` is the size of
    their values.

    They are taken apart at once: as objects they would be gone through again and again by Python's garbage collector.
    """

    def __init__(self) -> None:
        self.next_offset = 0
        self.nbytes = 0
        self._values: list[bytes | None] = []
        self._keys: list[bytes | None] = []
        self._offsets: list[int] = []
        self._times: list[int] = []
        self._headers: list[Headers] = []

    def add(self, messages: Sequence[Message]) -> None:
        """Adds the next messages."""
        values = [message.value() for message in messages]
        self.nbytes += sum(map(len, filter(None, values)))
        self._values += values
        self._keys += [message.key() for message in messages]
        self._offsets += [cast("int", message.offset()) for message in messages]
        # Without a timestamp, in the oldest message format too, librdkafka says -1.
        self._times += [message.timestamp()[1] for message in messages]
        self._headers += map(_headers, messages)

    def __len__(self) -> int:
        return len(self._values)

    def values(self) -> list[bytes | None]:
        return self._values

    def keys(self) -> list[bytes | None]:
        return self._keys

    def offsets(self) -> list[int]:
        return self._offsets

    def milliseconds(self) -> list[int]:
        return self._times

    def timestamps(self) -> list[int]:
        return [1000 * time for time in self._times]

    def headers(self) -> list[Headers]:
        return self._headers

    def flaws(self) -> Mapping[int, str]:
        """The flaws of the messages: librdkafka gives the readable part, and an error for the rest."""
        return {}


# Unlike a call that the interpreter has specialised, `methodcaller` sees an error that the library has set beside a
# result.
_ask_headers: Final = methodcaller("headers")


def _headers(message: Message) -> Headers:
    """A message's headers, to be asked for once. Of a name that is not UTF-8 the library tells no more; asked again, it
    would crash."""
    try:
        return tuple(_ask_headers(message) or ())
    except (UnicodeDecodeError, SystemError) as error:
        cause = error if isinstance(error, UnicodeDecodeError) else error.__cause__
        name = bytes(cause.object) if isinstance(cause, UnicodeDecodeError) else b"\xff"
        return [(name.decode(errors="surrogateescape"), None)]
