"""`ConfluentClient`: topics read through confluent-kafka (librdkafka), for users who trust it more; the default is
faster.

All else goes through aiokafka, whose transactions are the ones that were tried.
"""

from __future__ import annotations

from streamflow.operators.connectors.kafka.clients.aiokafka.client import AiokafkaClient
from streamflow.operators.connectors.kafka.clients.confluent.reader import ConfluentReader
from streamflow.operators.connectors.kafka.clients.port import LogReader

__all__ = ["ConfluentClient"]


class ConfluentClient(AiokafkaClient):
    """The port's `KafkaClient` for a cluster. `unpacked_bytes` is the largest size of an unpacked batch, as far as
    librdkafka checks it."""

    def reader(self, *, client_id: str) -> LogReader:
        return ConfluentReader(self.cluster, client_id, unpacked_bytes=self.unpacked_bytes)
