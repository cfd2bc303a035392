"""The settings of a topic, asked of a broker through aiokafka's client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["topic_settings"]

_TOPIC: Final = 2
_NOT_ALLOWED: Final = frozenset({29, 31})


async def topic_settings(client: Any, topic: str) -> Mapping[str, str]:
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
