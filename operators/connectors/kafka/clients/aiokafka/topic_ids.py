"""The ids of topics, asked of a broker through aiokafka's client, whose own requests are older than these ids."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from streamflow.operators.connectors.kafka.clients.port import NO_ID

__all__ = ["topic_ids"]


async def topic_ids(client: Any, topics: Sequence[str]) -> Mapping[str, str]:
    """The id of each topic; none if brokers are older than Kafka 3.0. Raises aiokafka's errors."""
    from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError

    node = client.get_random_node()
    if node is None:
        raise KafkaConnectionError("no broker is known")
    try:
        response: Any = await client.send(node, _Metadata(topics))
    except (NotImplementedError, IncompatibleBrokerVersion):
        return {}
    return {name: id for code, name, id, *_ in response.topics if not code and id != NO_ID}


class _Id(AbstractType[str]):  # type: ignore[misc]
    """Sixteen bytes, as Kafka's own tools show them."""

    @classmethod
    def encode(cls, value: str) -> bytes:
        return urlsafe_b64decode(f"{value}==")

    @classmethod
    def decode(cls, data: BytesIO) -> str:
        return urlsafe_b64encode(data.read(16)).decode().rstrip("=")


_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)
_NUMBERS = CompactArray(Int32)


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    API_VERSION = 12  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(("id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS)),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                ("id", _Id),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", _NUMBERS),
                        ("in_sync", _NUMBERS),
                        ("offline", _NUMBERS),
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("id", _Id), ("name", _TEXT), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class _Metadata(Request[_MetadataRequest]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics: list[tuple[str, str, dict[int, bytes]]] = [(NO_ID, topic, {}) for topic in topics]

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        return request_struct_class(self._topics, False, False, {})
