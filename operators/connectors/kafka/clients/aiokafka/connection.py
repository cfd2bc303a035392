"""A connection to a cluster through aiokafka's own client, made with patience; a failure has a reason.

Calls of aiokafka are made to survive cancellation, which aiokafka loses or answers by leaving connections open. While
its client closes, it waits for a task that it has cancelled and suppresses the resulting `CancelledError`, the closing
caller's own too. A job that is told to end at that moment would go on. A client that is cancelled between opening its
first connection and the answer about the cluster loses that connection, and so does one that is closed while another
task is opening a connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from streamflow.errors import SourceError
from streamflow.observe.logs import told
from streamflow.operators.connectors.kafka.clients.port import TopicPartition
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.diagnosis import diagnose, explain

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "REQUEST_SECONDS",
    "closed",
    "connect",
    "finishing",
    "heeding_cancel",
    "list_offsets",
    "metadata_will_not_come",
    "unreachable",
]

T = TypeVar("T")

_GRACE: Final = 1.0
"""Seconds within which a running broker answers."""


async def heeding_cancel(call: Awaitable[T]) -> T:
    """The result of `call`; raises CancelledError after it if the task was cancelled meanwhile."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    given = await call
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return given


async def closed(client: Any) -> None:
    """Closes a client with the connections that others are opening through it, and ends all waiting for it."""
    client._get_conn = _no_more
    try:
        # Behind all who wait for a connection of theirs.
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE), client._get_conn_lock:
                client._get_conn = _no_more
    finally:
        try:
            await heeding_cancel(client.close())
        finally:
            metadata_will_not_come(client)


async def _no_more(*_: Any, **__: Any) -> None:
    """Opens nothing, in place of the connection that a closed client would open."""


def metadata_will_not_come(client: Any) -> None:
    """Ends the waiting for a closed client's metadata, which aiokafka would continue for ever."""
    waiting: asyncio.Future[bool] | None = client._md_update_fut
    if waiting is not None and not waiting.done():
        waiting.set_result(False)


async def finishing(call: Coroutine[Any, Any, T]) -> T:
    """The result of `call`; if the caller is cancelled, `call` may finish first, for up to a second."""
    task = asyncio.create_task(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([task], timeout=_GRACE)
        finally:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


REQUEST_SECONDS: Final = 10.0
"""Seconds within which a broker has to answer; then the connection counts as broken."""

_RETRY_SECONDS: Final = 0.25
_ALL: Final = 0
_COMMITTED_ONLY: Final = 1
_CONSUMER: Final = -1
_LOG = logging.getLogger("streamflow.kafka")


async def connect(cluster: Cluster, client_id: str, *, patience: float) -> Any:
    """A client that knows the cluster's brokers. Tries for `patience` seconds; raises SourceError then, and at once
    for a reason that waiting does not change."""
    from aiokafka import AIOKafkaClient
    from aiokafka.errors import KafkaError

    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience
    warned = False
    while True:
        client = AIOKafkaClient(
            client_id=client_id, request_timeout_ms=round(REQUEST_SECONDS * 1000), **cluster.aiokafka()
        )
        try:
            await finishing(client.bootstrap())
        except KafkaError as error:
            await closed(client)
            trouble = await diagnose(cluster) or explain(cluster, error)
            if trouble.final or loop.time() >= give_up:
                raise trouble.error() from error
            if not warned:
                warned = True
                _LOG.warning("Kafka is not reached; trying again", extra=told(why=trouble.message))
        except BaseException:
            await closed(client)
            raise
        else:
            return client
        await asyncio.sleep(_RETRY_SECONDS)


def unreachable(cluster: Cluster, why: object) -> SourceError:
    """The error for a cluster that gives no answer."""
    return explain(cluster, why).error()


async def list_offsets(
    client: Any, node: int, times: Mapping[TopicPartition, int], *, committed: bool = True
) -> dict[TopicPartition, int]:
    """Offsets by time (milliseconds) from one broker: -2 is the log's start, -1 its end for readers of committed
    records, or of all.

    Partitions without a record that late are left out. Raises aiokafka's errors.
    """
    from aiokafka.errors import for_code
    from aiokafka.protocol.offset import OffsetRequest

    by_topic: dict[str, list[tuple[int, int]]] = {}
    for (topic, partition), time in times.items():
        by_topic.setdefault(topic, []).append((partition, time))
    isolation = _COMMITTED_ONLY if committed else _ALL
    response: Any = await client.send(node, OffsetRequest(_CONSUMER, isolation, list(by_topic.items())))
    found: dict[TopicPartition, int] = {}
    for topic, partitions in response.topics:
        for partition, code, _, offset in partitions:
            error = for_code(code)
            if code:
                raise error(f"{topic}-{partition}")
            if offset >= 0:
                found[TopicPartition(topic, partition)] = offset
    return found
