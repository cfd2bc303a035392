"""`KafkaSink`: a stream's records to a topic, exactly once or at least once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import polars as pl

from streamflow.arguments import chosen, mapping, names, whole_number
from streamflow.config import parse_bytes
from streamflow.core.schema import CHANGE, Schema
from streamflow.core.stream_type import StreamType, lack_of_kinds
from streamflow.errors import JobDefinitionError
from streamflow.operators.connectors.kafka.clients.port import topic_name
from streamflow.operators.connectors.kafka.cluster import Cluster, KafkaSecurity, checked_client
from streamflow.operators.connectors.kafka.formats.codecs import encoder
from streamflow.operators.connectors.kafka.formats.record_parts import (
    ChangeRecords,
    HeaderColumns,
    Key,
    RecordMaker,
    TimestampColumn,
    record_maker,
)
from streamflow.operators.connectors.kafka.formats.values import KafkaFormat, checked_format
from streamflow.operators.connectors.kafka.partitioner import PartitionFunction
from streamflow.operators.connectors.kafka.publication import KafkaCommitter, PublicationSettings
from streamflow.operators.connectors.kafka.schema_registry import checked_registry
from streamflow.operators.connectors.kafka.sink_writer import AtLeastOnceWriter, OutboxWriter, TopicOutput
from streamflow.operators.connectors.kafka.topic_check import NewTopic
from streamflow.operators.contract.sink import Committer, Delivery, Sink, SinkContext, SinkWriter
from streamflow.time.timestamps import Duration, parse_duration

if TYPE_CHECKING:
    from streamflow.operators.connectors.kafka.clients.port import KafkaClient

__all__ = ["KafkaSink"]

Changes = Literal["all", "upsert", "append"]
Compression = Literal["gzip", "snappy", "lz4", "zstd"]

_COMPRESSIONS: Final = ("gzip", "snappy", "lz4", "zstd")
_DELIVERIES: Final = ("exactly_once", "at_least_once")
_CHANGES: Final = ("all", "upsert", "append")
_PARTITIONERS: Final = ("murmur2", "round_robin")
_SHORTEST_TRANSACTION: Final = 1_000_000
_SMALLEST_OUTBOX: Final = 1 << 20
_NEW_TOPIC: Final = {"partitions", "replication", "config"}


@dataclass(frozen=True, slots=True)
class KafkaSink(Sink):
    """Writes each row as a record of a topic.

    `delivery`: "exactly_once" keeps an epoch's records in the checkpoint and publishes them in one transaction when
    it is complete, for all Kafka sinks of the job on that cluster together: consumers that read as committed see
    each once, about a checkpoint interval later. Without checkpoints an epoch still appears as a whole, but nothing
    survives a crash. "at_least_once" writes at once; after a failure, records since the last checkpoint are written
    again.

    `key`: a column (its text, or its bytes), several (a JSON object), an expression, or a function of the row; records
    of one key go to one partition, in their order. `value`: the columns of the value, all by default (the key's
    included). `format`: "json", "msgpack", "text" or "bytes" (one column), "avro". `headers`: names and the columns or
    expressions for their values. `timestamp`: a Datetime column or expression; the time of publication by default.
    `partitioner`: "murmur2" (the Java client's), "round_robin", or a function (key, count) → partition.

    `changes`: "all" writes the changes of a changing result one by one, with their kind in the column `change`;
    "upsert" writes the new row of each under its key, and a record without a value (a tombstone) for a row that is
    gone, so that a compacted topic holds the result; "append" takes results whose rows never change.

    `compression`: gzip, snappy, lz4, zstd or None. `transaction_timeout`: how long the broker keeps a transaction
    open (at most its transaction.max.timeout.ms), longer for a large epoch; `patience`: how long a broker may be
    away before the job fails. `outbox_bytes`: the bytes that one subtask gathers before it asks for the epoch to
    end. `create`: makes the topic if it is missing, `dict(partitions=…, replication=…, config={…})`.
    `max_record_bytes`: larger records are an error.

    Sinks of a job on one cluster publish with the settings of the first of them. docs/kafka-delivery.md explains
    exactly once, and lists the rights that the user needs.

    Raises JobDefinitionError for arguments that cannot work (when the job is built), SinkError for a missing topic
    and for refusals of the brokers.

    >>> KafkaSink("delays", key="origin").describe()
    'KafkaSink(delays, json, by origin, exactly_once)'
    """

    topic: str
    bootstrap_servers: str | Sequence[str] = "localhost:9092"
    key: Key = field(default=None, kw_only=True)
    value: Sequence[str] | str | None = field(default=None, kw_only=True)
    format: KafkaFormat = field(default="json", kw_only=True)
    headers: HeaderColumns = field(default=None, kw_only=True)
    timestamp: TimestampColumn = field(default=None, kw_only=True)
    partitioner: Literal["murmur2", "round_robin"] | PartitionFunction = field(
        default="murmur2", kw_only=True
    )
    delivery: Delivery = field(default="exactly_once", kw_only=True)
    changes: Changes = field(default="all", kw_only=True)
    compression: Compression | None = field(default="lz4", kw_only=True)
    transaction_timeout: Duration = field(default="60s", kw_only=True)
    patience: Duration = field(default="2m", kw_only=True)
    outbox_bytes: int | str = field(default="32MB", kw_only=True)
    create: Mapping[str, Any] | None = field(default=None, kw_only=True)
    security: KafkaSecurity = field(default_factory=KafkaSecurity, kw_only=True)
    registry: Any = field(default=None, kw_only=True)
    client: str | KafkaClient = field(default="aiokafka", kw_only=True)
    max_record_bytes: int | str = field(default="1MiB", kw_only=True)
    commits: ClassVar[Literal["as_told", "epoch"]] = "epoch"

    def __post_init__(self) -> None:
        topic_name(self.topic)
        checked_format(self.format)
        checked_client(self.client)
        checked_registry(self.registry)
        if self.value is not None:
            names(self.value, "value")
        if self.headers is not None:
            mapping(self.headers, "headers")
        chosen(self.delivery, "delivery", _DELIVERIES)
        chosen(self.changes, "changes", _CHANGES)
        if self.changes == "upsert" and self.key is None:
            raise JobDefinitionError("an upsert without a key", hint='name the row\'s key, like key="origin"')
        if self.compression is not None:
            chosen(self.compression, "compression", _COMPRESSIONS)
        if not callable(self.partitioner):
            chosen(self.partitioner, "partitioner", _PARTITIONERS)
        if parse_duration(self.transaction_timeout, what="transaction_timeout") < _SHORTEST_TRANSACTION:
            raise JobDefinitionError(
                f"transaction_timeout is {self.transaction_timeout!r}",
                hint="at least a second: brokers answer that late",
            )
        parse_duration(self.patience, what="patience", positive=True)
        if parse_bytes(self.outbox_bytes, "outbox_bytes") < _SMALLEST_OUTBOX:
            raise JobDefinitionError(f"outbox_bytes is {self.outbox_bytes!r}", hint="at least 1MiB")
        parse_bytes(self.max_record_bytes, "max_record_bytes")
        self._new_topic()
        object.__setattr__(self, "bootstrap_servers", self._cluster().bootstrap_servers)

    @property
    def committed_with(self) -> Hashable | None:
        if self.delivery != "exactly_once":
            return None
        kind = self.client if isinstance(self.client, str) else id(self.client)
        return ("kafka", self._cluster(), kind)

    def check(self, input_type: StreamType) -> None:
        self._records(input_type)

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        client = self._cluster().client(self.client)
        output = TopicOutput(
            client,
            self._records(input_type),
            ctx,
            topic=self.topic,
            partitioning=self.partitioner,
            create=self._new_topic(),
            record_bytes=parse_bytes(self.max_record_bytes, "max_record_bytes"),
        )
        if self.delivery == "at_least_once":
            patience = parse_duration(self.patience)
            return AtLeastOnceWriter(client, output, ctx, compression=self.compression, patience=patience)
        return OutboxWriter(output, ctx, most_bytes=parse_bytes(self.outbox_bytes, "outbox_bytes"))

    def committer(self, ctx: SinkContext) -> Committer | None:
        if self.delivery != "exactly_once":
            return None
        settings = PublicationSettings(
            transaction_timeout=parse_duration(self.transaction_timeout),
            patience=parse_duration(self.patience),
            compression=self.compression,
        )
        return KafkaCommitter(self._cluster().client(self.client), settings, ctx)

    def row_key(self, input_type: StreamType) -> tuple[str, ...] | None:
        if self.changes != "upsert" or callable(self.key):
            return None
        given = [self.key] if isinstance(self.key, str | pl.Expr) else self.key or ()
        columns = [pl.col(each) if isinstance(each, str) else each for each in given]
        if not all(column.meta.is_column() for column in columns):
            return None
        return tuple(column.meta.output_name() for column in columns)

    def describe(self) -> str:
        key = f", by {_named(self.key)}" if self.key is not None else ""
        return f"KafkaSink({self.topic}, {self.format}{key}, {self.delivery})"

    def _records(self, input_type: StreamType) -> RecordMaker | ChangeRecords:
        schema = input_type.schema
        if self.changes == "all" or not input_type.changes or not isinstance(schema, Schema):
            return self._plain_records(input_type)
        others = sorted(kind for kind in input_type.changes if kind != "insert")
        if self.changes == "append" and others:
            raise JobDefinitionError(
                f"a topic that is appended to takes no {', '.join(others)}",
                hint='write it with changes="upsert" and a key, or changes="all"',
            )
        if CHANGE not in schema:
            raise lack_of_kinds(
                "the records", f"keep that column for changes={self.changes!r}: it is not written"
            )
        fields = {name: dtype for name, dtype in schema.items() if name != CHANGE}
        return ChangeRecords(self._plain_records(StreamType(Schema(fields), input_type.timed)), schema)

    def _plain_records(self, input_type: StreamType) -> RecordMaker:
        columns = (self.value,) if isinstance(self.value, str) else self.value
        values = encoder(self.format, input_type, registry=self.registry, columns=columns, topic=self.topic)
        return record_maker(values, input_type, key=self.key, timestamp=self.timestamp, headers=self.headers)

    def _cluster(self) -> Cluster:
        return Cluster(self.bootstrap_servers, self.security)

    def _new_topic(self) -> NewTopic | None:
        if self.create is None:
            return None
        create = mapping(self.create, "create")
        unknown = sorted(set(create) - _NEW_TOPIC)
        if unknown:
            raise JobDefinitionError(
                f"create has no {unknown[0]!r}", hint=f"there are: {', '.join(sorted(_NEW_TOPIC))}"
            )
        new = NewTopic(**create)
        whole_number(new.partitions, "partitions in create")
        whole_number(new.replication, "replication in create", least=-1)
        if new.config is not None:
            names(list(mapping(new.config, "config in create").values()), "config in create")
        return new


def _named(key: Key) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, pl.Expr):
        return str(key)
    return getattr(key, "__name__", "a function") if callable(key) else ", ".join(key or ())
