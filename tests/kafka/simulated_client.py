"""The port to Kafka on a `SimLog`, with answers that come, come late, or do not come."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from streamflow.errors import SinkError, SourceError, Where
from streamflow.operators.connectors.kafka.clients.port import (
    At,
    GonePartitionError,
    Headers,
    LostRecordsError,
    OutcomeUnknownError,
    ProducedRecords,
    RefusedError,
    RefusedLookupError,
    TopicPartition,
)
from streamflow.testing.clock import START
from streamflow.time.timestamps import to_micros
from tests.kafka.simulated_log import Entry, FencedError, Partition, Producer, SimLog

__all__ = ["SimKafka", "SimMetadata", "SimReader", "SimWriter"]

_BEGINNING: Final = to_micros(START)
_POLL: Final = 0.01
_PATIENCE: Final = 30.0
_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_RECORD_BYTES: Final = 70


class SimKafka:
    """A `KafkaClient` of a simulated log, for `KafkaSource(client=…)` and `KafkaSink(client=…)` in simulations."""

    def __init__(self, log: SimLog) -> None:
        self.log = log

    def reader(self, *, client_id: str) -> SimReader:
        return SimReader(self.log)

    def metadata(self, *, client_id: str) -> SimMetadata:
        return SimMetadata(self.log)

    def writer(
        self,
        *,
        client_id: str,
        transactional_id: str | None,
        transaction_timeout: int,
        compression: str | None,
    ) -> SimWriter:
        return SimWriter(self.log, transactional_id, transaction_timeout / 1e6)


class _Connection:
    """The connection to the brokers: a request takes its time, and longer while they are down."""

    def __init__(self, log: SimLog) -> None:
        self._log = log
        self._down_until = 0.0

    async def request(self, patience: float) -> bool:
        """Makes a request; returns False if no broker has answered for `patience` seconds."""
        log, loop = self._log, asyncio.get_running_loop()
        if log.chance.happens(log.odds.down):
            log.happened["brokers down"] += 1
            self._down_until = loop.time() + log.chance.wait(log.odds.outage)
        wait = self._down_until - loop.time()
        await asyncio.sleep(min(max(0.0, wait), patience) + log.chance.wait(log.odds.latency))
        if wait > patience:
            return False
        log.arrived()
        return True


@dataclass(frozen=True, slots=True)
class _Chunk:
    entries: Sequence[Entry]
    next_offset: int

    @property
    def nbytes(self) -> int:
        return sum(len(each.key or b"") + len(each.value or b"") + _RECORD_BYTES for each in self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def values(self) -> list[bytes | None]:
        return [each.value for each in self.entries]

    def keys(self) -> list[bytes | None]:
        return [each.key for each in self.entries]

    def offsets(self) -> list[int]:
        return [each.offset for each in self.entries]

    def milliseconds(self) -> list[int]:
        return [each.timestamp // 1000 for each in self.entries]

    def timestamps(self) -> list[int]:
        return [each.timestamp for each in self.entries]

    def headers(self) -> list[Headers]:
        return [each.headers for each in self.entries]

    def flaws(self) -> Mapping[int, str]:
        return {}


class SimReader:
    """A `LogReader`; see there."""

    def __init__(self, log: SimLog) -> None:
        self._log = log
        self._connection = _Connection(log)
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        if not await self._connection.request(_PATIENCE):
            raise _unreachable()

    async def add(self, partition: TopicPartition, offset: int) -> None:
        self._positions[partition] = offset
        self._ends.pop(partition, None)

    async def remove(self, partition: TopicPartition) -> None:
        self._positions.pop(partition, None)

    async def fetch(self, partition: TopicPartition, *, seconds: float, most: int | None) -> _Chunk | None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            answered = await self._connection.request(max(0.0, until - loop.time()))
            log = self._log.partition(partition) if answered else None
            if answered and log is None:
                raise GonePartitionError.of(partition)
            if log is not None:
                # No await from here on: cancelling takes nothing.
                offset = self._positions[partition]
                if not log.start <= offset <= log.end:
                    raise _out_of_range(partition, offset, log)
                self._ends[partition] = log.stable
                entries, reached = log.read(offset, most)
                if reached > offset:
                    self._positions[partition] = reached
                    return _Chunk(entries, reached)
            if loop.time() >= until:
                return None
            await asyncio.sleep(min(_POLL, until - loop.time()))

    def end(self, partition: TopicPartition) -> int | None:
        return self._ends.get(partition)

    async def close(self) -> None:
        self._positions.clear()


class SimMetadata:
    """A `Metadata`; see there. Topics have no ids here."""

    def __init__(self, log: SimLog) -> None:
        self._log = log
        self._connection = _Connection(log)

    async def start(self) -> None:
        await self._asked()

    async def partitions(self, topics: Sequence[str] | re.Pattern[str]) -> Mapping[str, int]:
        await self._asked()
        known = {topic: len(partitions) for topic, partitions in self._log.topics.items()}
        if isinstance(topics, re.Pattern):
            return {topic: known[topic] for topic in sorted(known) if topics.fullmatch(topic)}
        return {topic: known[topic] for topic in topics if topic in known}

    async def offsets(
        self, partitions: Sequence[TopicPartition], at: At, *, group: str | None = None
    ) -> Mapping[TopicPartition, int]:
        await self._asked()
        found: dict[TopicPartition, int] = {}
        for each in partitions:
            log = self._log.partition(each)
            if log is None:
                raise SourceError(f"{each} is not there", hint="check the topic's name")
            if at == "committed":
                if (str(group), each) in self._log.groups:
                    found[each] = self._log.groups[str(group), each]
            elif at == "earliest":
                found[each] = log.start
            elif at == "appended":
                found[each] = log.end
            else:
                found[each] = log.stable if at == "latest" else log.first_at(math.ceil(at / 1000) * 1000)
        return found

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        await self._asked()
        self._log.groups.update({(group, partition): offset for partition, offset in offsets.items()})

    async def create_topic(
        self, topic: str, *, partitions: int, replication: int = -1, config: Mapping[str, str] | None = None
    ) -> bool:
        if not _NAME.fullmatch(topic):
            raise RefusedLookupError(f"{topic!r} is no name for a topic")
        await self._asked()
        return self._log.create(topic, partitions, dict(config or {}))

    async def topic_settings(self, topic: str) -> Mapping[str, str]:
        await self._asked()
        return self._log.settings.get(topic, {})

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        return {}

    async def close(self) -> None:
        """Closes nothing."""

    async def _asked(self) -> None:
        if not await self._connection.request(_PATIENCE):
            raise _unreachable()


class SimWriter:
    """A `LogWriter`; see there. A second transaction is not prevented: it would be the user's own fault."""

    def __init__(self, log: SimLog, transactional_id: str | None, patience: float) -> None:
        self._log = log
        self._connection = _Connection(log)
        self._transactional_id = transactional_id
        self._patience = patience
        self._producer: Producer | None = None
        self._epoch = 0

    async def start(self) -> None:
        await self._asked()
        if self._transactional_id is not None:
            self._producer, self._epoch = self._log.start_producer(self._transactional_id)

    async def begin(self) -> None:
        """Begins a transaction, known to the client only."""

    async def write(self, records: ProducedRecords) -> None:
        await self._asked()
        topic = records.partition.topic
        limit = int(self._log.settings.get(topic, {}).get("max.message.bytes", "0"))
        for key, value in zip(records.keys, records.values, strict=True):
            if limit and len(key or b"") + len(value or b"") + _RECORD_BYTES > limit:
                raise RefusedError(
                    f"a record for {records.partition} is too large", hint="raise max.message.bytes"
                )
        now = _BEGINNING + round(asyncio.get_running_loop().time() * 1e6)
        try:
            self._log.append(self._producer, self._epoch, records, now)
        except FencedError as error:
            raise _fenced() from error
        except KeyError as error:
            raise RefusedError(f"{records.partition} is not there", hint="make the topic") from error

    async def flush(self) -> None:
        """Does nothing: every record was acknowledged when it was handed in."""

    async def commit(self) -> None:
        await self._asked()
        log, producer = self._log, self._producer
        if producer is None:
            raise SinkError("a producer without a transactional id has no transactions")
        odds, chance = log.odds, log.chance
        try:
            if chance.happens(odds.lost):
                log.happened["end lost"] += 1
                raise OutcomeUnknownError("the end of the transaction was sent, and no broker answered")
            if chance.happens(odds.delayed):
                log.happened["end delayed"] += 1
                log.end_later(producer, self._epoch, "commit")
                raise OutcomeUnknownError("the end of the transaction was sent, and no broker answered")
            log.end_transaction(producer, self._epoch, "commit")
        except FencedError as error:
            raise _fenced() from error
        if chance.happens(odds.repeated):
            log.happened["end repeated"] += 1
            log.end_later(producer, self._epoch, "commit")
        if chance.happens(odds.unanswered):
            log.happened["answer lost"] += 1
            raise OutcomeUnknownError("the end of the transaction was sent, and no broker answered")
        await asyncio.sleep(chance.wait(odds.latency))

    async def abort(self) -> None:
        await self._asked()
        if self._producer is not None:
            try:
                self._log.end_transaction(self._producer, self._epoch, "abort")
            except FencedError as error:
                raise _fenced() from error

    async def close(self) -> None:
        """Ends like the end of the process: an open transaction stays open."""

    async def _asked(self) -> None:
        if not await self._connection.request(self._patience):
            raise SinkError("no broker answers", hint="check that the brokers are up")


def _unreachable() -> SourceError:
    return SourceError("no broker answers", hint="check that the brokers are up")


def _fenced() -> SinkError:
    return SinkError("the producer was fenced: there is a newer one of its transactional id")


def _out_of_range(partition: TopicPartition, offset: int, log: Partition) -> SourceError:
    error = (LostRecordsError if offset < log.start else SourceError)(
        f"offset {offset} is not in the log any more: it has offsets {log.start} to {log.stable}",
        where=Where(split=str(partition), offset=f"offset {offset}"),
        hint=f"start over with start= an offset from {log.start} on, or restore a checkpoint that fits the log",
    )
    if isinstance(error, LostRecordsError):
        error.first = log.start
    return error
