"""The formats of a record's value, by name."""

from __future__ import annotations

from typing import Final, Literal, get_args

from streamflow.errors import JobDefinitionError, cut, represented

__all__ = ["VALUE", "KafkaFormat", "checked_format"]

KafkaFormat = Literal["json", "msgpack", "text", "bytes", "arrow", "avro"]

VALUE: Final = "value"
"""The column of text and bytes if no schema names one."""

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


def checked_format(value: object) -> KafkaFormat:
    """A format by its name; raises JobDefinitionError for an unknown one.

    >>> checked_format("json")
    'json'
    """
    known = get_args(KafkaFormat)
    if isinstance(value, str) and value in known:
        return value  # type: ignore[return-value]
    meant = _ALIASES.get(value) if isinstance(value, str) else None
    hint = f"one of: {', '.join(known)}" if meant is None else f"did you mean {meant!r}?"
    raise JobDefinitionError(f"there is no Kafka format {cut(represented(value))}", hint=hint)
