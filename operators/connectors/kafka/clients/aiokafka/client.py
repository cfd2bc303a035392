"""`AiokafkaClient`: Kafka through aiokafka."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from streamflow.operators.connectors.kafka.clients.aiokafka.metadata import AiokafkaMetadata
from streamflow.operators.connectors.kafka.clients.aiokafka.reader import AiokafkaReader
from streamflow.operators.connectors.kafka.clients.aiokafka.writer import AiokafkaWriter
from streamflow.operators.connectors.kafka.clients.port import UNPACKED_BYTES, LogReader
from streamflow.operators.connectors.kafka.cluster import Cluster

__all__ = ["AiokafkaClient"]


@dataclass(frozen=True, slots=True)
class AiokafkaClient:
    """The port's `KafkaClient` for a cluster; connects nowhere itself. `unpacked_bytes` is the largest size of an
    unpacked batch.

    aiokafka logs each attempt of each retry. The important part is logged here, under `streamflow.kafka`; aiokafka's
    own log appears only if a handler is set up for it.
    """

    cluster: Cluster
    unpacked_bytes: int = UNPACKED_BYTES

    def __post_init__(self) -> None:
        log = logging.getLogger("aiokafka")
        if not log.handlers:
            log.addHandler(logging.NullHandler())

    def reader(self, *, client_id: str) -> LogReader:
        return AiokafkaReader(self.cluster, client_id, unpacked_bytes=self.unpacked_bytes)

    def metadata(self, *, client_id: str) -> AiokafkaMetadata:
        return AiokafkaMetadata(self.cluster, client_id)

    def writer(
        self,
        *,
        client_id: str,
        transactional_id: str | None,
        transaction_timeout: int,
        compression: str | None,
    ) -> AiokafkaWriter:
        return AiokafkaWriter(
            self.cluster.aiokafka,
            client_id=client_id,
            transactional_id=transactional_id,
            transaction_timeout=transaction_timeout,
            compression=compression,
        )
