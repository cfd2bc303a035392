"""Topics and offsets through aiokafka's client: look-ups, commits to consumer groups, and new topics."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from streamflow.errors import SourceError
from streamflow.operators.connectors.kafka.clients.aiokafka.connection import (
    closed,
    connect,
    finishing,
    heeding_cancel,
    list_offsets,
    unreachable,
)
from streamflow.operators.connectors.kafka.clients.port import At, RefusedLookupError, TopicPartition
from streamflow.operators.connectors.kafka.cluster import Cluster

__all__ = ["AiokafkaMetadata"]

_PATIENCE: Final = 30.0
_BACKOFF: Final = 0.2
_TIMES: Final = {"earliest": -2, "latest": -1, "appended": -1}
_NO_MEMBER: Final = ""
_NO_GENERATION: Final = -1
_GROUP: Final = 0
_EXISTS: Final = 36

T = TypeVar("T")


class AiokafkaMetadata:
    """A `Metadata`; see there. Retries for a while if a broker may answer later."""

    def __init__(self, cluster: Cluster, client_id: str) -> None:
        self._cluster = cluster
        self._client_id = client_id
        self._client: Any = None
        self._coordinators: dict[str, int] = {}

    async def start(self) -> None:
        self._client = await connect(self._cluster, self._client_id, patience=_PATIENCE)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await closed(client)

    async def partitions(self, topics: Sequence[str] | re.Pattern[str]) -> Mapping[str, int]:
        found: Any = await self._trying(lambda: self._connected.fetch_all_metadata())
        counts = {topic: len(found.partitions_for_topic(topic) or ()) for topic in found.topics()}
        if isinstance(topics, re.Pattern):
            return {
                topic: counts[topic] for topic in sorted(counts) if counts[topic] and topics.fullmatch(topic)
            }
        return {topic: counts[topic] for topic in topics if counts.get(topic)}

    async def offsets(
        self, partitions: Sequence[TopicPartition], at: At, *, group: str | None = None
    ) -> Mapping[TopicPartition, int]:
        if not partitions:
            return {}
        if at == "committed":
            if group is None:
                raise SourceError("committed offsets belong to a group", hint="give group_id=")
            return await self._trying(lambda: self._committed(group, partitions))
        # Kafka's timestamps are milliseconds: the first one that is not before the given time.
        time = _TIMES[at] if isinstance(at, str) else max(0, -(-at // 1000))
        committed = at != "appended"
        found = await self._trying(lambda: self._offsets(partitions, time, committed=committed))
        beyond = [partition for partition in partitions if partition not in found]
        if beyond:
            found |= await self._trying(lambda: self._offsets(beyond, _TIMES["latest"]))
        return found

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        if offsets:
            await self._trying(lambda: self._commit(group, offsets))

    async def create_topic(
        self, topic: str, *, partitions: int, replication: int = -1, config: Mapping[str, str] | None = None
    ) -> bool:
        created = await self._trying(lambda: self._create(topic, partitions, replication, config or {}))
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _PATIENCE
        while loop.time() < give_up:
            found: Any = await self._trying(lambda: self._connected.fetch_all_metadata())
            known = found.available_partitions_for_topic(topic)
            if known and (not created or len(known) == partitions):
                break
            await asyncio.sleep(_BACKOFF / 10)
        return created

    async def topic_settings(self, topic: str) -> Mapping[str, str]:
        return await self._trying(lambda: _topic_settings(self._connected, topic))

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        from streamflow.operators.connectors.kafka.clients.aiokafka.topic_ids import topic_ids

        return await self._trying(lambda: topic_ids(self._connected, topics)) if topics else {}

    async def _offsets(
        self, partitions: Sequence[TopicPartition], time: int, *, committed: bool = True
    ) -> dict[TopicPartition, int]:
        from aiokafka.errors import LeaderNotAvailableError

        client = self._connected
        client.set_topics({partition.topic for partition in partitions})
        by_node: dict[int, dict[TopicPartition, int]] = {}
        if any(_leader(client, partition) is None for partition in partitions):
            await client.force_metadata_update()
        for partition in partitions:
            node = _leader(client, partition)
            if node is None:
                raise LeaderNotAvailableError(str(partition))
            by_node.setdefault(node, {})[partition] = time
        answers = await asyncio.gather(
            *(list_offsets(client, node, times, committed=committed) for node, times in by_node.items())
        )
        return {partition: offset for answer in answers for partition, offset in answer.items()}

    async def _committed(self, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        from aiokafka.errors import for_code
        from aiokafka.protocol.commit import OffsetFetchRequest

        by_topic: dict[str, list[int]] = {}
        for topic, partition in partitions:
            by_topic.setdefault(topic, []).append(partition)
        response = await self._ask_group(group, OffsetFetchRequest(group, list(by_topic.items())))
        found: dict[TopicPartition, int] = {}
        for topic, answers in response.topics:
            for partition, offset, _, code in answers:
                if code:
                    raise for_code(code)(f"group {group!r}")
                if offset >= 0:
                    found[TopicPartition(topic, partition)] = offset
        return found

    async def _commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        from aiokafka.errors import for_code
        from aiokafka.protocol.commit import OffsetCommitRequest

        by_topic: dict[str, list[tuple[int, int, str]]] = {}
        for (topic, partition), offset in offsets.items():
            by_topic.setdefault(topic, []).append((partition, offset, ""))
        request = OffsetCommitRequest(group, _NO_GENERATION, _NO_MEMBER, -1, list(by_topic.items()))
        response = await self._ask_group(group, request)
        for _, answers in response.topics:
            for _, code in answers:
                if code:
                    raise for_code(code)(f"group {group!r}")

    async def _ask_group(self, group: str, request: Any) -> Any:
        if group not in self._coordinators:
            self._coordinators[group] = await self._connected.coordinator_lookup(_GROUP, group)
        return await self._connected.send(self._coordinators[group], request)

    async def _create(self, topic: str, partitions: int, replication: int, config: Mapping[str, str]) -> bool:
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic
        from aiokafka.errors import for_code

        admin = AIOKafkaAdminClient(client_id=self._client_id, **self._cluster.aiokafka())
        try:
            await finishing(admin.start())
            new = NewTopic(topic, partitions, 1, topic_configs=dict(config))
            # -1, the broker's default, is refused by the constructor only.
            new.replication_factor = replication
            answer: Any = await admin.create_topics([new])
        finally:
            await heeding_cancel(admin.close())
        for _, code, *message in answer.topic_errors:
            if code == _EXISTS:
                return False
            if code:
                raise for_code(code)(*message)
        return True

    async def _trying(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of `call`, retried while it fails for a passing reason: brokers start, leaders move."""
        from aiokafka.errors import KafkaError

        loop = asyncio.get_running_loop()
        give_up = loop.time() + _PATIENCE
        client = self._connected
        try:
            while True:
                try:
                    return await call()
                except (KafkaError, OSError, TimeoutError) as error:
                    refusal = _refusal(error)
                    if refusal is not None:
                        raise refusal from error
                    if loop.time() >= give_up:
                        raise unreachable(self._cluster, f"{type(error).__name__}: {error}") from error
                    self._coordinators.clear()
                    self._connected.force_metadata_update()
                await asyncio.sleep(_BACKOFF)
        finally:
            if client is not self._client:
                # Closed by another task meanwhile, which could not know of a connection that was just being made.
                await closed(client)

    @property
    def _connected(self) -> Any:
        if self._client is None:
            raise SourceError("the connection for metadata is not open")
        return self._client


_REFUSALS: Final = {
    "GroupAuthorizationFailedError": "the user needs READ on the group",
    "TopicAuthorizationFailedError": "the user needs DESCRIBE (and READ) on the topic",
    "ClusterAuthorizationFailedError": "the user needs CREATE on the cluster or the topic",
    "InvalidTopicError": "a topic's name has letters, digits, dots, underscores and hyphens",
    "InvalidPartitionsError": "a topic has at least one partition",
    "InvalidReplicationFactorError": "there are fewer brokers than replicas asked for",
    "InvalidConfigurationError": "see Kafka's topic configuration",
    "PolicyViolationError": "the cluster has rules for new topics",
    "UnknownMemberIdError": "the group has members that commit for themselves: take another group_id",
    "IllegalGenerationError": "the group has members that commit for themselves: take another group_id",
    "RebalanceInProgressError": "the group has members that commit for themselves: take another group_id",
}
"""aiokafka's names of errors that waiting does not change, with the reason and a hint."""


def _refusal(error: Exception) -> SourceError | None:
    hint = _REFUSALS.get(type(error).__name__)
    return None if hint is None else RefusedLookupError(f"Kafka refuses: {error}", hint=hint)


def _leader(client: Any, partition: TopicPartition) -> int | None:
    node: int | None = client.cluster.leader_for_partition(partition)
    return None if node is None or node < 0 else node


_TOPIC: Final = 2
_NOT_ALLOWED: Final = frozenset({29, 31})


async def _topic_settings(client: Any, topic: str) -> Mapping[str, str]:
    """The topic's settings by Kafka's names; empty if the user may not read them (DESCRIBE_CONFIGS), since writing
    may well be allowed. Raises aiokafka's errors."""
    from aiokafka.errors import KafkaConnectionError, for_code
    from aiokafka.protocol.admin import DescribeConfigsRequest

    node = client.get_random_node()
    if node is None:
        raise KafkaConnectionError("no broker is known")
    response: Any = await client.send(node, DescribeConfigsRequest([(_TOPIC, topic, None)]))
    settings: dict[str, str] = {}
    for code, message, _, _, entries in response.resources:
        if code in _NOT_ALLOWED:
            return {}
        if code:
            raise for_code(code)(message)
        settings |= {name: value for name, value, *_ in entries if value is not None}
    return settings
