"""A Kafka cluster in memory: partitions, transactions with fencing, and requests that arrive late or twice.

It keeps what real brokers keep and clients rely on, no more: a transactional id has a producer id whose epoch each
start raises; what an older epoch sends is refused; the end of a transaction ends whatever that producer has open when
it arrives, be it the next one (what KIP-890 is about). Readers of committed records see up to the first transaction
that is open. It outlives the simulated processes that use it.
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
"""So many requests later a delayed one has arrived."""


class FencedError(Exception):
    """A request of a producer that has a successor."""


@dataclass(frozen=True, slots=True)
class LogOdds:
    """How often a client of the log meets with what: probabilities per request."""

    unanswered: float = 0.0
    """The end of a transaction is carried out, and the answer is lost."""
    delayed: float = 0.0
    """It is carried out some requests later, and the client has given up by then."""
    lost: float = 0.0
    """It is never carried out."""
    repeated: float = 0.0
    """It is carried out and answered, and once more some requests later."""
    down: float = 0.0
    """No broker answers from now on, for a while."""
    latency: float = 0.0
    """Seconds of a request, on average."""
    outage: float = 2.0
    """Seconds for which brokers are down, on average."""


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
        """Where the next record goes."""
        return len(self.entries)

    @property
    def stable(self) -> int:
        """How far readers of committed records come: the first record of an open transaction, or the end."""
        return next((each.offset for each in self.entries if each.outcome is None), self.end)

    def read(self, offset: int, most: int | None) -> tuple[list[Entry], int]:
        """What readers of committed records see from there on, and where to go on."""
        found: list[Entry] = []
        for entry in self.entries[offset : self.stable]:
            if most is not None and len(found) >= most:
                return found, entry.offset
            if not entry.control and entry.outcome == "commit":
                found.append(entry)
        return found, max(offset, self.stable)

    def first_at(self, timestamp: int) -> int:
        """The first offset whose record is not older; the stable end where there is none."""
        for entry in self.entries[self.start : self.stable]:
            if not entry.control and entry.timestamp >= timestamp:
                return entry.offset
        return self.stable


@dataclass(slots=True)
class Producer:
    """What the cluster knows of a transactional id."""

    id: int
    epoch: int = -1
    open: set[TopicPartition] = field(default_factory=set[TopicPartition])
    """The partitions of the transaction that is under way."""


class SimLog:
    """The cluster. `begin` makes it an empty one with a seed; what befalls its clients follows from that.

    `happened` counts what befell them.

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
        """Empty, as at the start of a life; a calm one if nothing is to befall its clients."""
        self.odds = LogOdds() if calm else self._odds
        self.chance = Chance(f"log/{seed}")
        self.topics: dict[str, list[Partition]] = {}
        self.settings: dict[str, dict[str, str]] = {}
        self.groups: dict[tuple[str, TopicPartition], int] = {}
        self._producers: dict[str, Producer] = {}
        self._late: list[tuple[int, Callable[[], Any]]] = []
        self._requests = 0

    def create(self, topic: str, partitions: int, settings: dict[str, str] | None = None) -> bool:
        """Make a topic; False where it was there."""
        if topic in self.topics:
            return False
        self.topics[topic] = [Partition() for _ in range(partitions)]
        self.settings[topic] = {"max.message.bytes": str(_MOST_BYTES), **(settings or {})}
        return True

    def delete(self, topic: str) -> None:
        """Delete a topic with all that is in it."""
        del self.topics[topic], self.settings[topic]

    def partition(self, at: TopicPartition) -> Partition | None:
        """None where there is none."""
        partitions = self.topics.get(at.topic, ())
        return partitions[at.partition] if at.partition < len(partitions) else None

    def arrived(self) -> None:
        """A request has come in: so have, by and by, those that were delayed."""
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

    # What producers ask for.

    def start_producer(self, transactional_id: str) -> tuple[Producer, int]:
        """InitProducerId: fences every other of this id; what they left open is aborted. The producer and its epoch."""
        producer = self._producers.setdefault(transactional_id, Producer(len(self._producers)))
        producer.epoch += 1
        if producer.open:
            self.happened["open transaction aborted"] += 1
            self._decide(producer, "abort")
        return producer, producer.epoch

    def append(self, producer: Producer | None, epoch: int, records: ProducedRecords, now: int) -> None:
        """Write records; those of a producer with an id belong to its transaction. Raises FencedError, and KeyError
        where there is no such partition."""
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
        """EndTxn: ends what is under way, which may be another transaction than the one that was meant."""
        self._check(producer, epoch)
        self._decide(producer, outcome)

    def end_later(self, producer: Producer, epoch: int, outcome: Outcome) -> None:
        """The same, some requests later."""
        due = self._requests + self.chance.between(1, _LATEST)
        self._late.append((due, lambda: self.end_transaction(producer, epoch, outcome)))

    def committed(self, topic: str) -> Sequence[Entry]:
        """What readers of committed records see of a topic, by partition and offset."""
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
