"""`KafkaSource`: topics as a source, unbounded, or replayed up to an end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from streamflow.arguments import chosen, mapping, names, text
from streamflow.config import parse_bytes
from streamflow.core.schema import Objects, Schema
from streamflow.core.stream_type import EVERY_CHANGE, ChangeKind, StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.connectors.kafka.clients.port import KafkaClient, TopicPartition, topic_name
from streamflow.operators.connectors.kafka.cluster import Cluster, KafkaSecurity, checked_client
from streamflow.operators.connectors.kafka.enumerator import KafkaEnumerator, Reading
from streamflow.operators.connectors.kafka.formats.codecs import decoder
from streamflow.operators.connectors.kafka.formats.values import VALUE, Decoder, KafkaFormat, checked_format
from streamflow.operators.connectors.kafka.instance_group import InstanceGroup
from streamflow.operators.connectors.kafka.reading_range import End, Start, checked_end, checked_start
from streamflow.operators.connectors.kafka.record_batches import (
    KeyFormat,
    RecordBatches,
    Tombstones,
    included_schema,
)
from streamflow.operators.connectors.kafka.schema_registry import checked_registry
from streamflow.operators.connectors.kafka.session import KafkaSession
from streamflow.operators.connectors.kafka.split_reader import PartitionReader
from streamflow.operators.contract.source import (
    Enumerator,
    InstanceClaim,
    Position,
    Source,
    SourceContext,
    Split,
    SplitReader,
    counted_in,
)
from streamflow.time.timestamps import Duration, parse_duration

__all__ = ["KafkaSource"]


@dataclass(frozen=True, slots=True)
class KafkaSource(Source):
    """Reads topics: one, several, or all whose whole name fits a pattern (`re.compile("flights-.*")`).

    Only committed records are read. Each partition is a split; the offsets are in the job's checkpoints, and are
    committed to the group `group_id` as information for others. `start`: "earliest", "latest", "committed" (that
    group's, or the beginning), a time (the first record at or after it; text without a zone is UTC) or offsets by
    partition (`{"flights-0": 17}`; others from their beginning). `end` makes the source bounded, the same way: a
    topic replayed as a batch job. Both are looked up once, when the job first starts. Partitions and topics that
    come later are found every `discover_every` and read from their beginning.

    A partition that is deleted while it is read ends the job, or with `deleted="end"`, the default for a pattern,
    comes to its end there, with a warning and a count in `streamflow_kafka_deleted_partitions_total`. A job that
    continues with other topics than before reads the new ones from `start`, and the removed ones no further. A topic
    that was deleted and made again since the job began to read it ends the job.

    An offset that retention has deleted before it was read ends the job; with `lost="skip"` the job continues, with
    its state, at the first offset left, and `streamflow_kafka_lost_records_total` counts the offsets between.

    Brokers look up times, and treat the end of a transaction as a record of the time at which it ended: if records
    in transactions have older timestamps, give offsets.

    `format` is that of the values: json, msgpack, text, bytes, arrow (a record holds an Arrow stream of many rows)
    avro (with `registry` for schemas in a registry) or debezium (JSON of a change of a database's row: the stream is a
    changing result, and `schema` gives the row's columns). `schema` gives columns and types; without it the records are
    Python objects (text and bytes: the column `value`). `include` appends parts of the record as columns: "key"
    (`key_format` text or bytes), "headers", "topic", "partition", "offset", "timestamp", or a mapping of these to
    column names; objects become dicts then, the value under "value". The event time is the record's timestamp unless
    `job.read` says otherwise.

    A record without a value (a tombstone) is left out, or with `tombstones="keep"` becomes a row of nulls (None
    among objects). Values longer than `max_record_bytes` are bad records; a compressed batch that would unpack to
    more than `max_batch_bytes` is not unpacked and counts as one. `client`: "aiokafka", or "confluent" if
    `streamflow-engine[confluent]` is installed; that is librdkafka, which unpacks by itself and keeps to
    `max_batch_bytes` for zstd alone.

    A record without a timestamp (-1), or with one outside of the calendar, is a bad record if its timestamp is the
    event time or is included; so is one with a header name that is not UTF-8 if headers are included.

    Raises JobDefinitionError for options that make no sense. While running: SourceError for missing topics, offsets
    that the log no longer has (never a silent reset), and brokers out of reach for more than two minutes.

    >>> import polars as pl
    >>> KafkaSource("flights", schema={"origin": pl.String, "delay": pl.Float64}, include=["key"]).output_type()
    StreamType(schema=Schema(origin: String, delay: Float64, key: String), timed=True, changes=frozenset())
    """

    topics: str | Sequence[str] | re.Pattern[str]
    bootstrap_servers: str | Sequence[str] = "localhost:9092"
    group_id: str | None = field(default=None, kw_only=True)
    format: KafkaFormat = field(default="json", kw_only=True)
    schema: Mapping[str, Any] | Objects | None = field(default=None, kw_only=True)
    start: Start = field(default="earliest", kw_only=True)
    end: End | None = field(default=None, kw_only=True)
    include: Sequence[str] | Mapping[str, str] = field(default=(), kw_only=True)
    key_format: KeyFormat = field(default="text", kw_only=True)
    tombstones: Tombstones = field(default="skip", kw_only=True)
    discover_every: Duration | None = field(default="30s", kw_only=True)
    lost: Literal["fail", "skip"] = field(default="fail", kw_only=True)
    deleted: Literal["fail", "end"] | None = field(default=None, kw_only=True)
    security: KafkaSecurity = field(default_factory=KafkaSecurity, kw_only=True)
    registry: Any = field(default=None, kw_only=True)
    client: str | KafkaClient = field(default="aiokafka", kw_only=True)
    max_record_bytes: int | str = field(default="1MiB", kw_only=True)
    max_batch_bytes: int | str = field(default="64MiB", kw_only=True)
    _cluster: Cluster = field(init=False, repr=False, compare=False)
    _reading: Reading = field(init=False, repr=False, compare=False)
    _include: Mapping[str, str] = field(init=False, repr=False, compare=False)
    _max_bytes: int = field(init=False, repr=False, compare=False)
    _unpacked: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked_format(self.format)
        checked_client(self.client)
        checked_registry(self.registry)
        if self.group_id is not None:
            text(self.group_id, "group_id")
        chosen(self.key_format, "key_format", ("text", "bytes"))
        chosen(self.tombstones, "tombstones", ("skip", "keep"))
        if self.format == "debezium" and self.tombstones == "keep":
            raise JobDefinitionError(
                "a tombstone behind a deletion is no change", hint='leave tombstones="keep" out'
            )
        chosen(self.lost, "lost", ("fail", "skip"))
        if self.deleted is not None:
            chosen(self.deleted, "deleted", ("fail", "end"))
        if self.schema is not None and not isinstance(self.schema, Objects):
            object.__setattr__(self, "schema", Schema(self.schema))
        include = self.include
        if isinstance(include, Mapping):
            include = mapping(include, "include")
            names(list(include.values()), "include")
        else:
            include = {name: name for name in names(include, "include")}
        object.__setattr__(self, "_include", include)
        object.__setattr__(self, "_cluster", Cluster(self.bootstrap_servers, self.security))
        object.__setattr__(self, "bootstrap_servers", self._cluster.bootstrap_servers)
        object.__setattr__(self, "_max_bytes", parse_bytes(self.max_record_bytes, "max_record_bytes"))
        object.__setattr__(self, "_unpacked", parse_bytes(self.max_batch_bytes, "max_batch_bytes"))
        object.__setattr__(self, "_reading", self._range())
        self.output_type()

    @property
    def bounded(self) -> bool:
        return self.end is not None

    @property
    def input(self) -> Mapping[str, Any]:
        topics = _topics(self.topics)
        return {"pattern": topics.pattern} if isinstance(topics, re.Pattern) else {"topics": list(topics)}

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Reasons why positions do not fit. Topics may be added and removed; with none in common it is another
        source.

        The topics that a pattern has chosen are in the state: the enumerator compares these.
        """
        mine = self.input
        if "pattern" in saved or "pattern" in mine or not saved["topics"]:
            return []
        if set(saved["topics"]) & set(mine["topics"]):
            return []
        return [f"it read {', '.join(saved['topics'])} and reads {', '.join(mine['topics'])}"]

    def output_type(self) -> StreamType:
        schema = self._decoder(None).schema
        added = included_schema(self._include, self.key_format)
        if isinstance(schema, Objects):
            if VALUE in added:
                raise JobDefinitionError(
                    f"include= calls a part {VALUE!r}", hint="the record's value is under that name"
                )
            return StreamType(schema, timed=True)
        for column in added:
            if column in schema:
                raise JobDefinitionError(
                    f"include= appends the column {column!r}, which the schema has, too",
                    hint='name it otherwise: include={"key": "record_key"}',
                )
        changes = EVERY_CHANGE if self.format == "debezium" else frozenset[ChangeKind]()
        return StreamType(Schema({**schema, **added}), timed=True, changes=changes)

    def enumerator(self, ctx: SourceContext) -> Enumerator:
        return KafkaEnumerator(self._reading, self._session(ctx), ctx)

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        payload = split.payload
        session = self._session(ctx)
        if "topic_id" in payload:
            session.expect(payload["topic"], payload["topic_id"])
        columns = ctx.columns
        include = {
            what: column
            for what, column in self._include.items()
            if columns is None or column in columns or isinstance(self.output_type().schema, Objects)
        }
        batches = RecordBatches(
            self._decoder(columns),
            include=include,
            key_format=self.key_format,
            tombstones=self.tombstones,
            on_error=ctx.on_error,
            dropped=session.tombstones,
            stamped=ctx.stamped,
        )
        return PartitionReader(
            session,
            TopicPartition(payload["topic"], payload["partition"]),
            start=payload["start"] if position is None else counted_in(position, "offset"),
            end=payload["end"],
            batches=batches,
            most=ctx.batch_rows,
            goes_on=(self.deleted or ("end" if isinstance(self.topics, re.Pattern) else "fail")) == "end",
            skips_lost=self.lost == "skip",
        )

    def describe(self) -> str:
        return f"KafkaSource({self._reading.shown}{'' if self.end is None else ', bounded'})"

    @property
    def shareable(self) -> bool:
        return True

    def share(self, job: str, count: int) -> InstanceClaim:
        return InstanceGroup(self._cluster, self._cluster.client(self.client), job, count)

    def starting(self, at: datetime | Mapping[str, int]) -> KafkaSource:
        """The same source, beginning at a moment or at offsets by partition."""
        return replace(self, start=at)

    def _session(self, ctx: SourceContext) -> KafkaSession:
        name = f"streamflow-{ctx.job}-{ctx.operator_id}"
        return KafkaSession.of(lambda: self._cluster.client(self.client, self._unpacked), name, ctx)

    def _decoder(self, columns: Sequence[str] | None) -> Decoder:
        schema = self.schema
        assert schema is None or isinstance(schema, (Schema, Objects))
        if columns is not None:
            columns = [name for name in columns if name not in self._include.values()]
        return decoder(
            self.format, schema, registry=self.registry, max_bytes=self._max_bytes, columns=columns
        )

    def _range(self) -> Reading:
        every = None
        if self.discover_every is not None:
            every = parse_duration(self.discover_every, what="discover_every", positive=True) / 1e6
        end = checked_end(self.end)
        start = checked_start(self.start)
        if start == "committed" and self.group_id is None:
            raise JobDefinitionError('start="committed" needs a group', hint="give group_id=")
        return Reading(_topics(self.topics), start, end, self.group_id, None if end is not None else every)


def _topics(given: str | Sequence[str] | re.Pattern[str]) -> Sequence[str] | re.Pattern[str]:
    several: object = given
    if isinstance(given, re.Pattern) and isinstance(given.pattern, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return given
    if isinstance(several, str | bytes | Mapping | re.Pattern) or not isinstance(several, Iterable):
        several = [several]
    several = list(several)
    if not several:
        raise JobDefinitionError("KafkaSource got no topic", hint='give one, like "flights"')
    return tuple(dict.fromkeys(map(topic_name, several)))
