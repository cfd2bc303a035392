"""The place of this copy among a program's copies, agreed upon by a consumer group.

The copies join a group over a topic of their own, with a partition for each share: the member assigned partition 2
of 4 is copy 3 of 4. The group only elects. Safety comes from checkpoints and transactional ids of each share: the
copy that takes a share over claims these, and a copy that was cut off and does not know it yet is fenced. So the
group may be late or wrong, as consumer groups are (aiokafka sends no member epoch with its commits), and no record
is lost or doubled.

A copy that has a share keeps it when others come and go, and has one share only: copies beyond the count stand by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from streamflow.errors import SourceError
from streamflow.observe.logs import told
from streamflow.operators.connectors.kafka.clients.aiokafka.connection import finishing, heeding_cancel
from streamflow.operators.connectors.kafka.clients.port import KafkaClient
from streamflow.operators.connectors.kafka.cluster import Cluster

__all__ = ["InstanceGroup", "assigned"]

_SESSION_MS: Final = 6_000
_HEARTBEAT_MS: Final = 1_500
_POLL_MS: Final = 500
_LOG: Final = logging.getLogger("streamflow.kafka")


def assigned(shares: int, held: Mapping[str, int | None]) -> dict[str, int]:
    """The share of each member: members keep theirs, the others get free ones, in the order of their names.

    >>> assigned(3, {"a": 2, "b": None, "c": 2})
    {'a': 2, 'b': 0, 'c': 1}
    """
    given: dict[str, int] = {}
    for member, share in sorted(held.items()):
        if share is not None and 0 <= share < shares and share not in given.values():
            given[member] = share
    free = [share for share in range(shares) if share not in given.values()]
    for member in sorted(held):
        if member not in given and free:
            given[member] = free.pop(0)
    return given


class InstanceGroup:
    """This process's membership. `take` joins and waits for a share; `lost` returns when the share has gone to
    another."""

    def __init__(self, cluster: Cluster, client: KafkaClient, job: str, count: int) -> None:
        self._cluster = cluster
        self._client = client
        self._name = f"streamflow.{job}.instances"
        self._job = job
        self._count = count
        self._share: int | None = None
        self._changed = asyncio.Event()
        self._consumer: Any = None
        self._polling: asyncio.Task[None] | None = None

    async def take(self) -> int:
        """The share of this copy, from 0; waits until one is free. Raises SourceError if the brokers refuse."""
        from aiokafka import AIOKafkaConsumer
        from aiokafka.errors import KafkaError

        await self._make_topic()
        consumer: Any = AIOKafkaConsumer(
            client_id=f"streamflow-{self._job}",
            group_id=self._name,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=_SESSION_MS,
            heartbeat_interval_ms=_HEARTBEAT_MS,
            partition_assignment_strategy=[self._assignor()],
            **self._cluster.aiokafka(),
        )
        self._consumer = consumer
        try:
            consumer.subscribe([self._name])
            await finishing(consumer.start())
        except KafkaError as error:
            await self.close()
            raise SourceError(
                f"the copies of {self._job} cannot agree on their shares: {error}",
                hint=f"the user needs the group and the topic {self._name}; or give each copy its number: 2/4",
            ) from error
        self._polling = asyncio.create_task(self._poll())
        _LOG.info("waiting for a share", extra=told(group=self._name, shares=self._count))
        while self._share is None:
            self._changed.clear()
            await self._changed.wait()
            self._raise_if_ended()
        _LOG.info("share taken", extra=told(share=f"{self._share + 1}/{self._count}"))
        return self._share

    async def lost(self) -> None:
        """Returns when the share has gone to another copy, or the group cannot be told from one that has."""
        mine = self._share
        while self._share == mine and self._polling is not None and not self._polling.done():
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Leaves the group: the share is free at once."""
        polling, self._polling = self._polling, None
        if polling is not None:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await heeding_cancel(consumer.stop())

    async def _make_topic(self) -> None:
        metadata = self._client.metadata(client_id=f"streamflow-{self._job}")
        await metadata.start()
        try:
            made = await metadata.create_topic(self._name, partitions=self._count)
            found = None if made else (await metadata.partitions([self._name])).get(self._name)
        finally:
            await metadata.close()
        if found not in (None, self._count):
            raise SourceError(
                f"copies of {self._job} have shared its input in {found}, not in {self._count} parts",
                hint=f"a share's state fits only that number; to start over, delete the topic {self._name}",
            )

    async def _poll(self) -> None:
        """Polls the empty topic: a member that never asks is taken for hung."""
        try:
            while True:
                await self._consumer.getmany(timeout_ms=_POLL_MS)
        finally:
            self._changed.set()

    def _raise_if_ended(self) -> None:
        if self._polling is not None and self._polling.done() and (error := self._polling.exception()):
            raise SourceError(f"the group {self._name} has failed: {error}") from error

    def _note(self, shares: Iterable[int]) -> None:
        self._share = next(iter(sorted(shares)), None)
        self._changed.set()

    def _assignor(self) -> Any:
        """An assignor class of this member's own, since aiokafka asks a class."""
        from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
        from aiokafka.coordinator.protocol import (
            ConsumerProtocolMemberAssignment,
            ConsumerProtocolMemberMetadata,
        )

        group = self

        class KeepingAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
            """An assignor that sends a member's share with its metadata, so that the leader leaves it there."""

            name = "streamflow-keeping"  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

            @classmethod
            def assign(cls, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
                held = {member: _held(metadata.user_data) for member, metadata in members.items()}
                given = assigned(group._count, held)
                return {
                    member: ConsumerProtocolMemberAssignment(
                        0, [(group._name, [given[member]] if member in given else [])], b""
                    )
                    for member in members
                }

            @classmethod
            def metadata(cls, topics: Iterable[str]) -> Any:
                held = b"" if group._share is None else str(group._share).encode()
                return ConsumerProtocolMemberMetadata(0, list(topics), held)

            @classmethod
            def on_assignment(cls, assignment: Any) -> None:
                group._note(share for _, shares in assignment.assignment for share in shares)

        return KeepingAssignor


def _held(data: bytes | None) -> int | None:
    return int(data) if data and data.isdigit() and len(data) < 6 else None
