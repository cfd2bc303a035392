"""A topic's limits, looked up before any record is written to it.

A record that the broker refuses once its epoch is in a checkpoint could never be published, and the job would be
stuck with it: so limits are looked up at the start and each record is checked before it is sealed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from streamflow.errors import SinkError, SourceError
from streamflow.operators.connectors.kafka.clients.port import (
    BATCH_BYTES,
    KafkaClient,
    Metadata,
    RefusedError,
    UnfitRecordError,
)
from streamflow.operators.connectors.kafka.formats.record_parts import RecordParts, headers_size

__all__ = ["NewTopic", "TopicLimits", "checked_topic"]

_BATCH_HEADER: Final = 61
_RECORD_HEADER: Final = 21
_LISTED: Final = 5


@dataclass(frozen=True, slots=True)
class NewTopic:
    """The settings for making a missing topic; -1: the broker's default."""

    partitions: int = 1
    replication: int = -1
    config: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TopicLimits:
    """The limits of a topic. Times in microseconds, None if there is no limit or it may not be read."""

    topic: str
    partitions: int
    record_bytes: int
    batch_bytes: int = BATCH_BYTES
    keys_needed: bool = False
    past: int | None = None
    future: int | None = None

    @property
    def content_bytes(self) -> int:
        """The bytes that key, value and headers of a record may take."""
        return self.record_bytes - _BATCH_HEADER - _RECORD_HEADER

    def check(self, parts: RecordParts, now: int) -> None:
        """Raises UnfitRecordError for the first record that the topic would not take."""
        limit = self.content_bytes
        for row, (key, value) in enumerate(zip(parts.keys, parts.values, strict=True)):
            size = len(key or b"") + len(value or b"")
            if size > limit or (parts.headers[row] and size + headers_size(parts.headers[row]) > limit):
                raise UnfitRecordError(
                    f"row {row} of a batch is a record of {size + headers_size(parts.headers[row]):,} bytes; topic "
                    f"{self.topic!r} takes {limit:,}",
                    hint="make it smaller, or raise max_record_bytes= and the topic's max.message.bytes",
                )
        if self.keys_needed and None in parts.keys:
            raise UnfitRecordError(
                f"topic {self.topic!r} is compacted and takes no record without a key",
                hint="give key=, and fill nulls in its column",
            )
        if self.past is not None or self.future is not None:
            self._check_times(parts.timestamps, now)

    def _check_times(self, timestamps: Sequence[int | None], now: int) -> None:
        given = [at for at in timestamps if at is not None]
        if not given:
            return
        early, late = min(given), max(given)
        if (self.past is not None and early < now - self.past) or (
            self.future is not None and late > now + self.future
        ):
            raise UnfitRecordError(
                f"topic {self.topic!r} takes no timestamps as far from now as those given",
                hint="raise message.timestamp.before.max.ms or message.timestamp.after.max.ms of the topic, or leave "
                "timestamp= out",
            )


async def checked_topic(
    client: KafkaClient, topic: str, *, create: NewTopic | None, record_bytes: int, client_id: str
) -> TopicLimits:
    """The topic's partitions and limits; makes a missing topic if `create` says how.

    Raises RefusedError for a missing topic, SinkError if the limits cannot be found.
    """
    metadata = client.metadata(client_id=client_id)
    try:
        try:
            await metadata.start()
            return await _limits(metadata, topic, create, record_bytes)
        finally:
            await metadata.close()
    except SourceError as error:
        raise SinkError(f"topic {topic!r} cannot be looked up: {error.message}", hint=error.hint) from error


async def _limits(metadata: Metadata, topic: str, create: NewTopic | None, record_bytes: int) -> TopicLimits:
    there = await metadata.partitions([topic])
    if topic not in there and create is not None:
        await metadata.create_topic(
            topic, partitions=create.partitions, replication=create.replication, config=create.config
        )
        there = await metadata.partitions([topic])
    if topic not in there:
        raise RefusedError(f"there is no topic {topic!r}", hint=await _instead(metadata, topic))
    config = await metadata.topic_settings(topic)
    own_time = config.get("message.timestamp.type") == "LogAppendTime"
    most = int(config.get("max.message.bytes", max(record_bytes, BATCH_BYTES)))
    return TopicLimits(
        topic,
        there[topic],
        min(record_bytes, most),
        min(BATCH_BYTES, most),
        keys_needed="compact" in config.get("cleanup.policy", ""),
        past=None if own_time else _limit(config.get("message.timestamp.before.max.ms")),
        future=None if own_time else _limit(config.get("message.timestamp.after.max.ms")),
    )


async def _instead(metadata: Metadata, topic: str) -> str:
    known = sorted(await metadata.partitions(re.compile(".*")))
    near = get_close_matches(topic, known, n=1)
    if near:
        return f"did you mean {near[0]!r}? Or let the sink make it: create=dict(partitions=…)"
    some = ", ".join(known[:_LISTED]) + (", …" if len(known) > _LISTED else "")
    return f"let the sink make it: create=dict(partitions=…); there are: {some or 'none'}"


def _limit(milliseconds: str | None) -> int | None:
    """A limit in microseconds; None if it is longer than some centuries."""
    value = None if milliseconds is None else int(milliseconds)
    return None if value is None or value > 1 << 53 else value * 1000
