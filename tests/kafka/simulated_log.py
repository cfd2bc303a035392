"""A Kafka cluster in memory: partitions, transactions with fencing, and requests that arrive late or twice.

It does what clients rely on in real brokers, no more: a transactional id has a producer id whose epoch each start
raises; requests of an older epoch are refused; the end of a transaction ends the transaction that is open when it
arrives, be it the next one (see KIP-890). Readers of committed records see up to the first transaction that is open.
It outlives the simulated processes that use it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, Literal

from streamflow.operators.connectors.kafka.clients.port import Headers, ProducedRecords, TopicPartition
from streamflow.testing.simulation.chance import Chance

__all__ = ["Entry", "FencedError", "LogOdds", "Partition", "Producer", "SimLog"]

Outcome = Literal["commit", "abort"]

_MOST_BYTES: Final = 1_048_588
_LATEST: Final = 6
"""The number of further requests after which a delayed one has arrived."""


class FencedError(Exception):
    """A request of a producer that has a successor."""


@dataclass(frozen=True, slots=True)
class LogOdds:
    """The probabilities, per request, of disturbances that a client of the log meets."""

    unanswered: float = 0.0
    """The end of a transaction is carried out, and the answer is lost."""
    delayed: float = 0.0
    """The request is carried out some requests later, and the client has given up by then."""
    lost: float = 0.0
    """The request is never carried out."""
    repeated: float = 0.0
    """The request is carried out and answered, and once more some requests later."""
    down: float = 0.0
    """No broker answers from now on, for a while."""
    latency: float = 0.0
    """The mean duration of a request in seconds."""
    outage: float = 2.0
    """The mean duration of an outage in seconds."""


@dataclass(slots=True)
class Entry:
    """A record in a partition; `outcome` is None as long as its transaction is open. A marker has no record."""

    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()
    producer: int | None = None
    outcome: Outcome | None = "commit"
    control: bool = False


@dataclass(slots=True)
class Partition:
    """One partition's log. `start` is the first offset that retention has left."""

    entries: list[Entry] = field(default_factory=list[Entry])
    start: int = 0

    @property
    def end(self) -> int:
        """The offset of the next record."""
        return len(self.entries)

    @property
    def stable(self) -> int:
        """The end for readers of committed records: the first record of an open transaction, or the log's end."""
        return next((each.offset for each in self.entries if each.outcome is None), self.end)

    def read(self, offset: int, most: int | None) -> tuple[list[Entry], int]:
        """The records from there on for readers of committed records, and the offset to go on at."""
        found: list[Entry] = []
        for entry in self.entries[offset : self.stable]:
            if most is not None and len(found) >= most:
                return found, entry.offset
            if not entry.control and entry.outcome == "commit":
                found.append(entry)
        return found, max(offset, self.stable)

    def first_at(self, timestamp: int) -> int:
        """The first offset whose record is not older; the stable end if there is none."""
        for entry in self.entries[self.start : self.stable]:
            if not entry.control and entry.timestamp >= timestamp:
                return entry.offset
        return self.stable


@dataclass(slots=True)
class Producer:
    """The cluster's record of a transactional id."""

    id: int
    epoch: int = -1
    open: set[TopicPartition] = field(default_factory=set[TopicPartition])
    """The partitions of the transaction that is under way."""


class SimLog:
    """The cluster. `begin` makes it an empty one with a seed, from which all disturbances follow.

    `happened` counts them.

    >>> log = SimLog()
    >>> log.create("flights", 1)
    True
    >>> log.topics["flights"][0].stable
    0
    """

    def __init__(self, odds: LogOdds | None = None) -> None:
        self._odds = odds or LogOdds()
        self.happened: Counter[str] = Counter()
        self.begin("log")

    def begin(self, seed: int | str, *, calm: bool = False) -> None:
        """Empties the cluster, as at the start of a life; a calm one has no disturbances."""
        self.odds = LogOdds() if calm else self._odds
        self.chance = Chance(f"log/{seed}")
        self.topics: dict[str, list[Partition]] = {}
        self.settings: dict[str, dict[str, str]] = {}
        self.groups: dict[tuple[str, TopicPartition], int] = {}
        self._producers: dict[str, Producer] = {}
        self._late: list[tuple[int, Callable[[], Any]]] = []
        self._requests = 0

    def create(self, topic: str, partitions: int, settings: dict[str, str] | None = None) -> bool:
        """Makes a topic; returns False if it existed."""
        if topic in self.topics:
            return False
        self.topics[topic] = [Partition() for _ in range(partitions)]
        self.settings[topic] = {"max.message.bytes": str(_MOST_BYTES), **(settings or {})}
        return True

    def delete(self, topic: str) -> None:
        """Deletes a topic with all its records."""
        del self.topics[topic], self.settings[topic]

    def partition(self, at: TopicPartition) -> Partition | None:
        """The partition; None if it does not exist."""
        partitions = self.topics.get(at.topic, ())
        return partitions[at.partition] if at.partition < len(partitions) else None

    def arrived(self) -> None:
        """Counts an arriving request; delayed requests arrive after some others."""
        self._requests += 1
        due = [request for at, request in self._late if at <= self._requests]
        self._late = [each for each in self._late if each[0] > self._requests]
        for request in due:
            try:
                request()
            except FencedError:
                self.happened["late end refused"] += 1
            else:
                self.happened["late end carried out"] += 1

    # Requests of producers.

    def start_producer(self, transactional_id: str) -> tuple[Producer, int]:
        """Starts a producer (InitProducerId): fences all others of this id and aborts their open transactions.
        Returns the producer and its epoch."""
        producer = self._producers.setdefault(transactional_id, Producer(len(self._producers)))
        producer.epoch += 1
        if producer.open:
            self.happened["open transaction aborted"] += 1
            self._decide(producer, "abort")
        return producer, producer.epoch

    def append(self, producer: Producer | None, epoch: int, records: ProducedRecords, now: int) -> None:
        """Appends records; those of a producer with an id belong to its transaction. Raises FencedError, and
        KeyError for a missing partition."""
        if producer is not None:
            self._check(producer, epoch)
        partition = self.partition(records.partition)
        if partition is None:
            raise KeyError(records.partition)
        if producer is not None:
            producer.open.add(records.partition)
        rows = zip(records.timestamps, records.keys, records.values, records.headers, strict=True)
        for at, key, value, headers in rows:
            stamp = (now if at is None else at) // 1000 * 1000
            entry = Entry(partition.end, stamp, key, value, tuple(headers))
            if producer is not None:
                entry.producer, entry.outcome = producer.id, None
            partition.entries.append(entry)

    def end_transaction(self, producer: Producer, epoch: int, outcome: Outcome) -> None:
        """Ends the open transaction (EndTxn), which may be another than the one that was meant."""
        self._check(producer, epoch)
        self._decide(producer, outcome)

    def end_later(self, producer: Producer, epoch: int, outcome: Outcome) -> None:
        """Ends the open transaction some requests later."""
        due = self._requests + self.chance.between(1, _LATEST)
        self._late.append((due, lambda: self.end_transaction(producer, epoch, outcome)))

    def committed(self, topic: str) -> Sequence[Entry]:
        """The records of a topic for readers of committed records, by partition and offset."""
        return [entry for each in self.topics.get(topic, ()) for entry in each.read(each.start, None)[0]]

    def _check(self, producer: Producer, epoch: int) -> None:
        if epoch != producer.epoch:
            self.happened["fenced"] += 1
            raise FencedError

    def _decide(self, producer: Producer, outcome: Outcome) -> None:
        for at in sorted(producer.open):
            partition = self.partition(at)
            if partition is None:
                continue
            first = bisect_left(partition.entries, partition.stable, key=attrgetter("offset"))
            for entry in partition.entries[first:]:
                if entry.producer == producer.id and entry.outcome is None:
                    entry.outcome = outcome
            partition.entries.append(Entry(partition.end, 0, control=True))
        producer.open.clear()
