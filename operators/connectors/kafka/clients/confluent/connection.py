"""The common part of the confluent-kafka adapters: properties, one thread for blocking calls, and errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor  # noqa: TID251 — the library blocks, and is never simulated
from typing import Any, Final, TypeVar

from streamflow.errors import SourceError
from streamflow.observe.logs import told
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.diagnosis import diagnose

__all__ = ["LIBRARY_LOG", "OneThread", "properties", "reach"]

T = TypeVar("T")

LIBRARY_LOG: Final = logging.getLogger("confluent_kafka")
"""librdkafka's own log, which it would write to stderr: it appears only if a handler is set up for it."""
LIBRARY_LOG.addHandler(logging.NullHandler())

_LOG: Final = logging.getLogger("streamflow.kafka")
_PROBE_SECONDS: Final = 0.5
_BACKOFF: Final = 0.25


def properties(cluster: Cluster, client_id: str) -> dict[str, Any]:
    """librdkafka's properties for a cluster; with secrets in clear, not to be kept."""
    return {
        "bootstrap.servers": cluster.bootstrap_servers,
        "client.id": client_id,
        # A broker that is back is found at once, also after a long while.
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1_000,
        "socket.connection.setup.timeout.ms": 5_000,
        "allow.auto.create.topics": False,
        **cluster.security.librdkafka(),
    }


class OneThread:
    """Blocking calls, one after the other on a thread of their own: the library allows no two at the same time.

    It releases the interpreter's lock while it waits. A call whose caller is cancelled runs to its end.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    def close(self) -> None:
        """Takes no more calls; the thread ends with the last one."""
        self._executor.shutdown(wait=False)


async def reach(cluster: Cluster, thread: OneThread, handle: Any, *, patience: float) -> None:
    """Waits until a broker has answered. Raises SourceError after `patience` seconds, and at once for a reason that
    waiting does not change."""
    from confluent_kafka import KafkaException

    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience
    warned = False
    while True:
        try:
            await thread(lambda: handle.list_topics(timeout=_PROBE_SECONDS))
        except KafkaException as error:
            trouble = await diagnose(cluster)
            if trouble is not None and (trouble.final or loop.time() >= give_up):
                raise trouble.error() from error
            if trouble is None and loop.time() >= give_up:
                raise SourceError(
                    f"Kafka at {cluster.bootstrap_servers} gives no answer", hint="check its log"
                ) from error
            if not warned and trouble is not None:
                warned = True
                _LOG.warning("Kafka is not reached; trying again", extra=told(why=trouble.message))
        else:
            return
        await asyncio.sleep(_BACKOFF)
