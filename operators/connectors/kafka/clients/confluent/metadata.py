"""Topics and offsets through confluent-kafka: look-ups, commits to consumer groups, and new topics."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from streamflow.errors import SourceError
from streamflow.operators.connectors.kafka.clients.confluent.connection import (
    LIBRARY_LOG,
    OneThread,
    properties,
    reach,
)
from streamflow.operators.connectors.kafka.clients.port import NO_ID, At, TopicPartition
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.diagnosis import diagnose

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

__all__ = ["ConfluentMetadata"]

_PATIENCE: Final = 30.0
_REQUEST_SECONDS: Final = 5.0
_BACKOFF: Final = 0.2
_URL_SAFE: Final = str.maketrans("+/", "-_")
"""A translation of librdkafka's ids to the form of Kafka's own tools and aiokafka's requests."""
_INTERNAL: Final = ("__consumer_offsets", "__transaction_state", "__share_group_state")

_REFUSALS: Final = {
    "GROUP_AUTHORIZATION_FAILED": "the user needs READ on the group",
    "TOPIC_AUTHORIZATION_FAILED": "the user needs DESCRIBE (and READ) on the topic",
    "CLUSTER_AUTHORIZATION_FAILED": "the user needs CREATE on the cluster or the topic",
    "TOPIC_EXCEPTION": "a topic's name has letters, digits, dots, underscores and hyphens",
    "INVALID_PARTITIONS": "a topic has at least one partition",
    "INVALID_REPLICATION_FACTOR": "there are fewer brokers than replicas asked for",
    "INVALID_CONFIG": "see Kafka's topic configuration",
    "POLICY_VIOLATION": "the cluster has rules for new topics",
    "UNKNOWN_MEMBER_ID": "the group has members that commit for themselves: take another group_id",
    "ILLEGAL_GENERATION": "the group has members that commit for themselves: take another group_id",
    "REBALANCE_IN_PROGRESS": "the group has members that commit for themselves: take another group_id",
    "_INVALID_ARG": "check the name and the numbers",
}
"""Errors that waiting does not change, with the reason and a hint."""

T = TypeVar("T")


class ConfluentMetadata:
    """A `Metadata`; see there. Retries for `patience` seconds if a broker may answer later."""

    def __init__(self, cluster: Cluster, client_id: str, *, patience: float = _PATIENCE) -> None:
        self._cluster = cluster
        self._client_id = client_id
        self._patience = patience
        self._thread = OneThread("streamflow-kafka-metadata")
        # Its annotations are too vague to check anything against.
        self._admin: Any = None

    async def start(self) -> None:
        from confluent_kafka.admin import AdminClient

        self._admin = AdminClient(properties(self._cluster, self._client_id), logger=LIBRARY_LOG)
        try:
            await reach(self._cluster, self._thread, self._admin, patience=self._patience)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._admin = None
        self._thread.close()

    async def partitions(self, topics: Sequence[str] | re.Pattern[str]) -> Mapping[str, int]:
        counts = await self._trying(self._counts)
        if isinstance(topics, re.Pattern):
            wanted = [topic for topic in sorted(counts) if topic not in _INTERNAL and topics.fullmatch(topic)]
        else:
            wanted = [topic for topic in topics if topic in counts]
        return {topic: counts[topic] for topic in wanted}

    async def offsets(
        self, partitions: Sequence[TopicPartition], at: At, *, group: str | None = None
    ) -> Mapping[TopicPartition, int]:
        if not partitions:
            return {}
        if at == "committed":
            if group is None:
                raise SourceError("committed offsets belong to a group", hint="give group_id=")
            return await self._trying(lambda: self._committed(group, partitions))
        found = await self._trying(lambda: self._offsets(partitions, at))
        beyond = [partition for partition in partitions if partition not in found]
        if beyond:
            found |= await self._trying(lambda: self._offsets(beyond, "latest"))
        return found

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        if offsets:
            await self._trying(lambda: self._commit(group, offsets))

    async def create_topic(
        self, topic: str, *, partitions: int, replication: int = -1, config: Mapping[str, str] | None = None
    ) -> bool:
        created = await self._trying(lambda: self._create(topic, partitions, replication, config or {}))
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._patience
        while loop.time() < give_up:
            led = await self._trying(lambda: self._led(topic))
            if led and (not created or led == partitions):
                break
            await asyncio.sleep(_BACKOFF / 10)
        return created

    async def topic_settings(self, topic: str) -> Mapping[str, str]:
        return await self._trying(lambda: self._settings(topic))

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        return await self._trying(lambda: self._ids(topics)) if topics else {}

    # On the thread.

    def _counts(self) -> dict[str, int]:
        topics = self._connected.list_topics(timeout=_REQUEST_SECONDS).topics
        return {name: len(each.partitions) for name, each in topics.items() if each.partitions}

    def _led(self, topic: str) -> int:
        """The number of the topic's partitions that have a leader."""
        found = self._connected.list_topics(timeout=_REQUEST_SECONDS).topics.get(topic)
        return 0 if found is None else sum(each.leader >= 0 for each in found.partitions.values())

    def _offsets(self, partitions: Sequence[TopicPartition], at: At) -> dict[TopicPartition, int]:
        from confluent_kafka import IsolationLevel, admin
        from confluent_kafka import TopicPartition as Place

        specs: Any = vars(admin)["OffsetSpec"]
        if at == "earliest":
            spec = specs.earliest()
        elif isinstance(at, int):
            # Kafka's timestamps are milliseconds: the first one that is not before the given time.
            spec = specs.for_timestamp(max(0, -(-at // 1000)))
        else:
            spec = specs.latest()
        everything = at == "appended"
        answers = self._connected.list_offsets(
            {Place(*partition): spec for partition in partitions},
            isolation_level=IsolationLevel.READ_UNCOMMITTED if everything else IsolationLevel.READ_COMMITTED,
            request_timeout=_REQUEST_SECONDS,
        )
        found = {
            TopicPartition(place.topic, place.partition): answer.result().offset
            for place, answer in answers.items()
        }
        return {partition: offset for partition, offset in found.items() if offset >= 0}

    def _committed(self, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        from confluent_kafka import ConsumerGroupTopicPartitions
        from confluent_kafka import TopicPartition as Place

        asked = ConsumerGroupTopicPartitions(group, [Place(*partition) for partition in partitions])
        answers = self._connected.list_consumer_group_offsets([asked], request_timeout=_REQUEST_SECONDS)
        found: Any = answers[group].result().topic_partitions
        return {
            TopicPartition(place.topic, place.partition): place.offset for place in found if place.offset >= 0
        }

    def _commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
        from confluent_kafka import TopicPartition as Place

        places = [Place(*partition, offset) for partition, offset in offsets.items()]
        asked = ConsumerGroupTopicPartitions(group, places)
        answers = self._connected.alter_consumer_group_offsets([asked], request_timeout=_REQUEST_SECONDS)
        for place in answers[group].result().topic_partitions:
            if place.error is not None:
                raise KafkaException(place.error)

    def _create(self, topic: str, partitions: int, replication: int, config: Mapping[str, str]) -> bool:
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.cimpl import NewTopic

        new = NewTopic(topic, partitions, replication, config=dict(config))
        try:
            self._connected.create_topics([new], request_timeout=_REQUEST_SECONDS)[topic].result()
        except KafkaException as error:
            if _cause(error).code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise
        return True

    def _settings(self, topic: str) -> dict[str, str]:
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin._config import ConfigResource
        from confluent_kafka.admin._resource import ResourceType

        resource = ConfigResource(ResourceType.TOPIC, topic)
        try:
            found = self._connected.describe_configs([resource], request_timeout=_REQUEST_SECONDS)
            entries: Any = found[resource].result()
        except KafkaException as error:
            if _cause(error).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                return {}
            raise
        return {name: entry.value for name, entry in entries.items() if entry.value is not None}

    def _ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        from confluent_kafka import KafkaException, TopicCollection

        asked: Any = self._connected.describe_topics(
            TopicCollection(list(topics)), request_timeout=_REQUEST_SECONDS
        )
        ids: dict[str, str] = {}
        for topic, described in asked.items():
            # A user who may read a topic may be refused everything else about it.
            with suppress(KafkaException):
                ids[topic] = str(described.result().topic_id).translate(_URL_SAFE)
        return {topic: id for topic, id in ids.items() if id != NO_ID}

    async def _trying(self, call: Callable[[], T]) -> T:
        """The result of `call`, retried while it fails for a passing reason: brokers start, leaders move."""
        from confluent_kafka import KafkaException

        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._patience
        while True:
            try:
                return await self._thread(_kept, call, self._connected)
            except KafkaException as error:
                cause = _cause(error)
                hint = _REFUSALS.get(cause.name())
                if hint is not None:
                    raise SourceError(f"Kafka refuses: {cause.str()}", hint=hint) from error
                if loop.time() >= give_up:
                    trouble = await diagnose(self._cluster)
                    if trouble is not None:
                        raise trouble.error() from error
                    raise SourceError(f"Kafka does not answer as it should: {cause.str()}") from error
            except ValueError as error:
                raise SourceError(f"Kafka refuses: {error}", hint=_REFUSALS["_INVALID_ARG"]) from error
            await asyncio.sleep(_BACKOFF)

    @property
    def _connected(self) -> Any:
        if self._admin is None:
            raise SourceError("the connection for metadata is not open")
        return self._admin


def _kept(call: Callable[[], T], handle: object) -> T:
    """The result of `call`, with the handle kept alive: without one the answer never comes, and the thread would
    wait for ever."""
    return call()


def _cause(error: Any) -> KafkaError:
    cause: KafkaError = error.args[0]
    return cause
