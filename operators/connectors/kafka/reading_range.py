"""The start and the end of reading partitions, as a user gives them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final, Literal, cast

from streamflow.errors import JobDefinitionError
from streamflow.operators.connectors.kafka.clients.port import At, TopicPartition

__all__ = ["End", "Offsets", "Start", "checked_end", "checked_start"]

Start = Literal["earliest", "latest", "committed"] | datetime | str | Mapping[str, int]
End = Literal["latest"] | datetime | str | Mapping[str, int]
Offsets = dict[TopicPartition, int]

_TIMES: Final = 'a datetime, a time like "2026-11-21T10:00:00Z", or {"topic-0": offset}'
_START_HINT: Final = f'write "earliest", "latest", "committed", {_TIMES}'
_END_HINT: Final = f'write "latest", {_TIMES}'


def checked_start(value: Start) -> At | Offsets:
    """A start as the port takes it, or offsets by partition. Raises JobDefinitionError.

    >>> checked_start("2026-11-21T10:00:00Z"), checked_start({"flights-0": 17})
    (1795255200000000, {TopicPartition(topic='flights', partition=0): 17})
    """
    if isinstance(value, str) and value in ("earliest", "latest", "committed"):
        return cast("At", value)
    return _checked("start", value, _START_HINT)


def checked_end(value: End | None) -> At | Offsets | None:
    """An end as the port takes it; None for none."""
    if value is None or (isinstance(value, str) and value == "latest"):
        return cast("At | None", value)
    return _checked("end", value, _END_HINT)


def _checked(what: str, value: object, hint: str) -> int | Offsets:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise JobDefinitionError(f"{what}={value!r} is no place in a topic", hint=hint) from None
    if isinstance(value, datetime):
        # A time without a zone is UTC, as everywhere here.
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1_000_000)
    if isinstance(value, Mapping):
        return {
            _partition(what, name, hint): _offset(what, offset)
            for name, offset in cast("Mapping[object, object]", value).items()
        }
    shown = "a date without a time" if isinstance(value, date) else repr(value)
    raise JobDefinitionError(f"{what}={shown} is no place in a topic", hint=hint)


def _partition(what: str, name: object, hint: str) -> TopicPartition:
    topic, hyphen, number = name.rpartition("-") if isinstance(name, str) else ("", "", "")
    if not hyphen or not topic or not number.isdecimal():
        raise JobDefinitionError(f"{what}= names {name!r}, which is no partition", hint=hint)
    return TopicPartition(topic, int(number))


def _offset(what: str, offset: object) -> int:
    if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
        raise JobDefinitionError(f"{what}= has offset {offset!r}", hint="offsets are integers from 0 on")
    return offset
