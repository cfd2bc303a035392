"""A producer on aiokafka for the port: a single transaction, or idempotent without transactions.

Three things that aiokafka leaves to its user are done here. `commit_transaction` succeeds although a record of the
transaction was refused, so every batch is awaited first. An idempotent producer retries for ever, so all calls here
have a time limit. And `stop` waits for records that will never be sent, so a producer that failed is taken down
without it: the next producer, which fences it, decides on its transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, NamedTuple

from streamflow.distribution import install_hint
from streamflow.errors import SinkError
from streamflow.operators.connectors.kafka.clients.aiokafka.connection import (
    finishing,
    heeding_cancel,
    metadata_will_not_come,
)
from streamflow.operators.connectors.kafka.clients.port import (
    BATCH_BYTES,
    OutcomeUnknownError,
    ProducedRecords,
    RefusedError,
)

__all__ = ["AiokafkaWriter", "as_sink_error"]

_RECORD_BYTES: Final = 21
"""The most that a record takes in bytes beside key, value and headers."""
_HEADER_BYTES: Final = 10
_REQUEST_SECONDS: Final = 5.0
_DECISION_SECONDS: Final = 3.0
"""Seconds for the end of a transaction to be answered; after that the next producer's start settles it."""
_DENIALS: Final = 3
"""The number of times that a broker has to say that a topic does not exist until it is believed."""
_BACKOFF: Final = 0.02
_BETWEEN_ATTEMPTS: Final = 0.2
_LAST_WORDS: Final = 1.0


class AiokafkaWriter:
    """A `LogWriter`; see there.

    `options` are aiokafka's (addresses and security), read at the last moment since they hold secrets. No call waits
    longer than `transaction_timeout` (microseconds), also without transactions.
    """

    def __init__(
        self,
        options: Callable[[], Mapping[str, Any]],
        *,
        client_id: str,
        transactional_id: str | None,
        transaction_timeout: int,
        compression: str | None,
    ) -> None:
        self._options = options
        self._client_id = client_id
        self._transactional_id = transactional_id
        self._patience = transaction_timeout / 1e6
        self._compression = compression
        self._producer: Any = None
        self._pending: set[asyncio.Future[Any]] = set()
        self._failure: BaseException | None = None
        self._broken = False

    async def start(self) -> None:
        async with self._limited("reach Kafka"):
            while True:
                producer = self._made()
                self._producer = producer
                try:
                    await finishing(producer.start())
                except BaseException as error:
                    await self.close()
                    if not _connecting(error):
                        raise
                else:
                    return
                await asyncio.sleep(_BETWEEN_ATTEMPTS)

    async def begin(self) -> None:
        async with self._limited("begin a transaction"):
            await self._started.begin_transaction()

    async def write(self, records: ProducedRecords) -> None:
        producer = self._started
        topic, partition = records.partition
        async with self._limited(f"write to {records.partition}", records.partition.topic):
            if partition not in await self._partitions(topic):
                raise RefusedError(
                    f"topic {topic!r} has no partition {partition}",
                    hint="the topic was made again with fewer partitions while the job had output for it: delete it "
                    "and make it with as many as before",
                )
            tight = records.batch_bytes < BATCH_BYTES
            batch = producer.create_batch()
            rows = zip(records.timestamps, records.keys, records.values, records.headers, strict=True)
            for at, key, value, headers in rows:
                stamp = None if at is None else at // 1000
                named = list(headers) if headers else []
                if (
                    tight
                    and batch.record_count()
                    and batch.size() + _size(key, value, named) > records.batch_bytes
                ):
                    await self._send(batch, topic, partition)
                    batch = producer.create_batch()
                while batch.append(timestamp=stamp, key=key, value=value, headers=named) is None:
                    await self._send(batch, topic, partition)
                    batch = producer.create_batch()
            if batch.record_count():
                await self._send(batch, topic, partition)

    async def flush(self) -> None:
        async with self._limited("have records acknowledged"):
            while self._pending:
                await asyncio.wait(self._pending)
            self._check()

    async def commit(self) -> None:
        await self.flush()
        try:
            async with asyncio.timeout(min(_DECISION_SECONDS, self._patience)):
                await self._started.commit_transaction()
        except BaseException as error:
            self._broken = True
            if not isinstance(error, Exception):
                raise
            # Whatever the answer: it may be that to a second attempt after a first that was carried out.
            raise OutcomeUnknownError(
                f"the end of the transaction is not confirmed: {type(error).__name__}: {error}"
            ) from error

    async def abort(self) -> None:
        async with self._limited("abort a transaction"):
            await self._started.abort_transaction()

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            if not self._pending and not self._broken:
                with suppress(Exception):
                    async with asyncio.timeout(_LAST_WORDS):
                        await heeding_cancel(producer.stop())
                        return
            await heeding_cancel(_taken_down(producer))
        except asyncio.CancelledError:
            await _taken_down(producer)
            raise

    def _made(self) -> Any:
        from aiokafka import AIOKafkaProducer

        return AIOKafkaProducer(
            **self._options(),
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            transactional_id=self._transactional_id,
            transaction_timeout_ms=max(1, round(self._patience * 1000)),
            compression_type=self._compression,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=round(min(_REQUEST_SECONDS, self._patience) * 1000),
            retry_backoff_ms=round(_BACKOFF * 1000),
            metadata_max_age_ms=60_000,
        )

    @property
    def _started(self) -> Any:
        if self._producer is None:
            raise SinkError("a producer is used that is not started, or closed already")
        return self._producer

    async def _partitions(self, topic: str) -> Collection[int]:
        """The topic's partitions; raises UnknownTopicOrPartitionError if reachable brokers do not know the topic.

        aiokafka says that a topic does not exist also if no broker answers, and a broker that has just come up does
        not know its topics yet.
        """
        from aiokafka.errors import UnknownTopicOrPartitionError

        denials = 0
        while True:
            try:
                partitions: Collection[int] = await self._started.partitions_for(topic)
            except UnknownTopicOrPartitionError:
                denials += await self._started.client.force_metadata_update()
                if denials >= _DENIALS:
                    raise
            else:
                return partitions

    async def _send(self, batch: Any, topic: str, partition: int) -> None:
        from aiokafka.errors import KafkaTimeoutError

        while True:
            self._check()
            # The batch before it may wait for a broker to come back.
            with suppress(KafkaTimeoutError):
                sent = await self._started.send_batch(batch, topic, partition=partition)
                break
        self._pending.add(sent)
        sent.add_done_callback(partial(self._acknowledged, topic))
        # Building batches takes processor time: other tasks get a turn between two.
        await asyncio.sleep(0)

    def _acknowledged(self, topic: str, sent: asyncio.Future[Any]) -> None:
        self._pending.discard(sent)
        error = asyncio.CancelledError() if sent.cancelled() else sent.exception()
        if error is not None and self._failure is None:
            # The error comes up while others are written, perhaps for another topic.
            if isinstance(error, Exception):
                error = as_sink_error(error, "have records acknowledged", topic=topic)
            self._failure = error

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    @asynccontextmanager
    async def _limited(self, what: str, topic: str | None = None) -> AsyncGenerator[None]:
        """Limits the time of a block, and maps the client's exceptions to ours."""
        try:
            async with asyncio.timeout(self._patience):
                yield
        except BaseException as error:
            self._broken = True
            if isinstance(error, SinkError) or not isinstance(error, Exception):
                raise
            if not isinstance(error, TimeoutError):
                raise as_sink_error(error, what, topic=topic) from error
            raise SinkError(
                f"could not {what} within {self._patience:g} s",
                hint="check that the brokers are up and can be reached",
            ) from error


def _size(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> int:
    named = sum(len(name.encode()) + len(value or b"") + _HEADER_BYTES for name, value in headers)
    return len(key or b"") + len(value or b"") + named + _RECORD_BYTES


def _connecting(error: BaseException) -> bool:
    """Whether no broker answered, which may be over in a moment."""
    from aiokafka.errors import KafkaConnectionError

    return isinstance(error, KafkaConnectionError)


async def _taken_down(producer: Any) -> None:
    """Ends a producer as if its process had died: it sends nothing more and waits for nothing.

    aiokafka has no call for that; its sender, once cancelled, still awaits requests which it repeats without end.
    """
    producer._closed = True
    await producer.client.close()
    sender: asyncio.Task[None] | None = producer._sender.sender_task
    while sender is not None and not sender.done():
        sender.cancel()
        # Requests that failed with their connection wait for metadata that will never come.
        metadata_will_not_come(producer.client)
        await asyncio.wait([sender], timeout=_BACKOFF)
    # Failures inside of the producer that no task awaits: asyncio would complain. A fenced producer leaves all of
    # these.
    accumulator, manager = producer._message_accumulator, producer._txn_manager
    left: list[asyncio.Future[Any] | None] = [
        sender,
        None if manager is None else manager._transaction_waiter,
    ]
    for batches in accumulator._batches.values():
        left += [future for batch in batches for future in (batch.future, batch._drain_waiter)]
    for future in left:
        if future is not None and future.done() and not future.cancelled():
            future.exception()
    # Connections that were being opened meanwhile.
    await producer.client.close()


class _Refusal(NamedTuple):
    message: str
    hint: str


_REFUSALS: Final = {
    "MessageSizeTooLargeError": _Refusal(
        "a record or batch is larger than the topic takes",
        "raise max.message.bytes of the topic, or lower max_record_bytes= so that it is found out earlier",
    ),
    "RecordListTooLargeError": _Refusal(
        "a batch is larger than a segment of the topic", "raise segment.bytes of the topic"
    ),
    "UnknownTopicOrPartitionError": _Refusal(
        "the topic is not there", "make it, or let the sink do so: create=dict(partitions=…)"
    ),
    "InvalidTopicError": _Refusal("that is no name for a topic", "use letters, digits, '.', '_' and '-'"),
    "TopicAuthorizationFailedError": _Refusal(
        "writing to the topic is not allowed", "the user needs WRITE and DESCRIBE on the topic"
    ),
    "TransactionalIdAuthorizationFailed": _Refusal(
        "the transactional id is not allowed",
        "the user needs WRITE and DESCRIBE on transactional ids that begin with 'streamflow.'",
    ),
    "ClusterAuthorizationFailedError": _Refusal(
        "an idempotent producer is not allowed", "the user needs WRITE on a topic, or IDEMPOTENT_WRITE"
    ),
    "InvalidTransactionTimeout": _Refusal(
        "the transaction timeout is longer than the broker allows",
        "lower transaction_timeout=, or raise the broker's transaction.max.timeout.ms",
    ),
    "UnsupportedForMessageFormatError": _Refusal(
        "the topic has a message format without transactions", "use a topic of Kafka 0.11 or later"
    ),
    "InvalidTimestampError": _Refusal(
        "a record's timestamp is farther from now than the topic takes",
        "check timestamp=, or raise message.timestamp.after.max.ms of the topic",
    ),
    "InvalidMessageError": _Refusal(
        "a record arrived damaged", "check the network between here and the broker"
    ),
    "PolicyViolationError": _Refusal("a policy of the cluster forbids it", "ask the cluster's administrator"),
    "AuthenticationFailedError": _Refusal("the login was refused", "check security="),
    "UnsupportedSaslMechanismError": _Refusal("the broker has no such login", "check security="),
    "UnsupportedVersionError": _Refusal("the broker is too old", "Kafka 2.1 or later is needed"),
    "IncompatibleBrokerVersion": _Refusal("the broker is too old", "Kafka 2.1 or later is needed"),
}
"""aiokafka's names of errors that trying again does not change."""

_UNNAMED: Final = -1


def as_sink_error(error: Exception, what: str, *, topic: str | None = None) -> SinkError:
    """The SinkError for an exception while trying to do `what`; a RefusedError if trying again is no use.

    >>> as_sink_error(TimeoutError("no answer"), "begin a transaction").message
    'could not begin a transaction: TimeoutError: no answer'
    """
    refusal = _REFUSALS.get(type(error).__name__)
    if isinstance(error, RuntimeError) and "Compression library" in str(error):
        refusal = _Refusal(
            f"the compression cannot be used: {error}",
            f"{install_hint()}; or choose another: compression=",
        )
    place = f" (topic {topic!r})" if topic else ""
    if refusal is None:
        # aiokafka has no names for the younger codes (87: a record without a key for a compacted topic).
        unnamed = getattr(error, "errno", None) == _UNNAMED
        return SinkError(
            f"could not {what}{place}: {type(error).__name__}: {error}",
            hint="look into the broker's log: it refuses a record or a request for a reason of its own"
            if unnamed
            else "check that the brokers are up and can be reached, and security=",
        )
    return RefusedError(f"could not {what}{place}: {refusal.message}", hint=refusal.hint)
