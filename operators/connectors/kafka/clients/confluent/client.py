"""`ConfluentClient`: Kafka through confluent-kafka (librdkafka), for users who trust it more; the default is faster.

It reads and looks things up; writing goes through aiokafka, whose transactions are the ones that were tested.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamflow.operators.connectors.kafka.clients.aiokafka.client import AiokafkaClient
from streamflow.operators.connectors.kafka.clients.confluent.metadata import ConfluentMetadata
from streamflow.operators.connectors.kafka.clients.confluent.reader import ConfluentReader
from streamflow.operators.connectors.kafka.clients.port import UNPACKED_BYTES, LogWriter
from streamflow.operators.connectors.kafka.cluster import Cluster

__all__ = ["ConfluentClient"]


@dataclass(frozen=True, slots=True)
class ConfluentClient:
    """The port's `KafkaClient` for a cluster; connects nowhere itself. `unpacked_bytes` is the largest size of an
    unpacked batch, as far as librdkafka checks it."""

    cluster: Cluster
    unpacked_bytes: int = UNPACKED_BYTES

    def reader(self, *, client_id: str) -> ConfluentReader:
        return ConfluentReader(self.cluster, client_id, unpacked_bytes=self.unpacked_bytes)

    def metadata(self, *, client_id: str) -> ConfluentMetadata:
        return ConfluentMetadata(self.cluster, client_id)

    def writer(
        self,
        *,
        client_id: str,
        transactional_id: str | None,
        transaction_timeout: int,
        compression: str | None,
    ) -> LogWriter:
        return AiokafkaClient(self.cluster).writer(
            client_id=client_id,
            transactional_id=transactional_id,
            transaction_timeout=transaction_timeout,
            compression=compression,
        )
