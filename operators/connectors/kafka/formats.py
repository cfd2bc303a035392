"""What a record's value can be: the formats by name."""

from __future__ import annotations

from typing import Final, Literal, get_args

from streamflow.errors import JobDefinitionError

__all__ = ["VALUE", "KafkaFormat", "checked_format"]

KafkaFormat = Literal["json", "msgpack", "text", "bytes", "arrow", "avro"]

VALUE: Final = "value"
"""The column of text and bytes where no schema names one."""

_ALIASES: Final = {
    "ndjson": "json",
    "jsonl": "json",
    "string": "text",
    "str": "text",
    "raw": "bytes",
    "binary": "bytes",
    "messagepack": "msgpack",
    "ipc": "arrow",
}


def checked_format(value: str) -> KafkaFormat:
    """A format by its name; raises JobDefinitionError for one there is not.

    >>> checked_format("json")
    'json'
    """
    known = get_args(KafkaFormat)
    if value in known:
        return value  # type: ignore[return-value]
    hint = f"did you mean {_ALIASES[value]!r}?" if value in _ALIASES else f"one of: {', '.join(known)}"
    raise JobDefinitionError(f"there is no Kafka format {value!r}", hint=hint)
