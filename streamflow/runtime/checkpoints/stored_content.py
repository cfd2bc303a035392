"""The content of a checkpoint's packed files, by type: checked before any of it is used.

A digest tells that a file is as it was stored. It does not tell that the file was stored by a program that means the
same by it, or by streamflow at all.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NotRequired, Required, TypedDict, TypeVar

import msgspec
from msgspec import Meta

from streamflow.core.serde import unpack
from streamflow.errors import DamagedError

__all__ = [
    "ELSEWHERE",
    "JobContent",
    "OperatorContent",
    "SourceContent",
    "SplitContent",
    "WaitingContent",
    "content_of",
]

ELSEWHERE: Final = "restore another checkpoint or a savepoint, or start with nothing: restore='none'"
"""A hint for a checkpoint that cannot be used."""

Time = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Content = TypeVar("Content")


class SplitContent(TypedDict):
    """A split and how far it has been read."""

    id: str
    payload: dict[str, Any]
    holds_watermark: bool
    unbounded: NotRequired[bool]
    order: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    position: dict[str, Any] | None
    watermark: Time
    idle: NotRequired[bool]


class SourceContent(TypedDict):
    """The splits that one subtask of a source was reading."""

    splits: list[SplitContent]
    watermark: Time


class WaitingContent(TypedDict):
    """The part of a source's state that no subtask had."""

    splits: list[SplitContent]
    final: bool
    enumerator: dict[str, Any] | None


class JobContent(TypedDict, total=False):
    """The content outside of subtasks. `sealed` is missing if it is in files of its own."""

    sources: Required[dict[str, WaitingContent]]
    line: Required[str]
    sinks: dict[str, tuple[str, str]]
    notes: dict[str, dict[str, Any]]
    sealed: list[tuple[str, dict[str, Any]]]


class OperatorContent(TypedDict):
    """An operator's values, and the names of its key columns and tables."""

    values: dict[str, Any]
    keys: list[str]
    tables: list[str]


def content_of(data: bytes, kind: type[Content], name: str) -> Content:
    """The content of the file `name`. Raises DamagedError if it is of another kind."""
    try:
        return msgspec.convert(unpack(data, bounded=False), kind)
    except (msgspec.ValidationError, ValueError, TypeError, RecursionError) as error:
        raise DamagedError(
            f"{name} has another content than a checkpoint's: {error}", hint=ELSEWHERE
        ) from error
