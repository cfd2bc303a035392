"""Errors: each says whose fault it is, where it happened, and what to do next.

Every error a user can meet derives from `StreamflowError` and carries its place (operator, split, offset) and a hint
as data, so that the command line prints one readable message and never a traceback for a user's mistake. Third-party
exceptions are mapped to these where they enter, exceptions of user code by `user_code`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Self

from streamflow.user_lines import calling_line

__all__ = [
    "ConfigError",
    "DamagedError",
    "ElsewhereError",
    "GoneError",
    "JobDefinitionError",
    "JobFailedError",
    "RawRecord",
    "RecordError",
    "SinkError",
    "SourceError",
    "StateError",
    "StreamflowError",
    "Where",
    "cut",
    "legible",
    "represented",
    "unknown_name",
]

_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Where:
    """The place an error belongs to; each part is optional. `code` is the line of the user's own file.

    >>> str(Where(operator="window", split="flights.ndjson", offset="line 7", code="job.py:12 in delay"))
    'operator window, split flights.ndjson, line 7, job.py:12 in delay'
    """

    operator: str | None = None
    split: str | None = None
    offset: str | None = None
    code: str | None = None

    def __str__(self) -> str:
        parts: list[str] = []
        if self.operator:
            parts.append(f"operator {self.operator}")
        if self.split:
            parts.append(f"split {self.split}")
        if self.offset:
            parts.append(self.offset)
        if self.code:
            parts.append(self.code)
        return ", ".join(parts)


class StreamflowError(Exception):
    """The base of all errors raised on purpose. `final`: trying again is of no use, so no restart strategy tries.

    >>> str(StreamflowError("no column 'orgin'", hint="did you mean 'origin'?"))
    "no column 'orgin'; did you mean 'origin'?"
    """

    final = False

    def __init__(self, message: str, *, where: Where | None = None, hint: str | None = None) -> None:
        self.message = message
        self.where = where or Where()
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        place = str(self.where)
        text = f"{place}: {self.message}" if place else self.message
        return f"{text}; {self.hint}" if self.hint else text

    def at(self, where: Where) -> Self:
        """The same error, with the missing parts of its place filled in from `where`."""
        mine = self.where
        self.where = Where(
            operator=mine.operator or where.operator,
            split=mine.split or where.split,
            offset=mine.offset or where.offset,
            code=mine.code or where.code,
        )
        return self


class JobDefinitionError(StreamflowError):
    """A user's mistake: the job cannot be built (unknown column, wrong type, no event time, negative size). Its place
    has the line of the user's file that asked for it."""

    def __init__(self, message: str, *, where: Where | None = None, hint: str | None = None) -> None:
        super().__init__(message, where=where, hint=hint)
        self.at(Where(code=calling_line()))


class ConfigError(StreamflowError):
    """A user's mistake: a setting, flag or environment variable has a value that makes no sense."""


class SourceError(StreamflowError):
    """An external cause: input that is missing, unreadable or not of its schema."""


class SinkError(StreamflowError):
    """An external cause: output that cannot be written."""


class StateError(StreamflowError):
    """State that is missing, damaged, locked or written by a newer version."""


class DamagedError(StateError):
    """Stored state that differs from what was written (missing, cut, changed); an older checkpoint may be intact."""


class GoneError(DamagedError):
    """Checkpoints that existed and are gone: trying again does not bring them back."""

    final = True


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record's bytes in a log that could not be decoded, and their place. `timestamp` is in microseconds since
    1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class RecordError(StreamflowError):
    """One record that could not be decoded or whose function raised; `record` shows it, cut. `raw` is the record
    itself if it came from a log and was not decoded."""

    def __init__(
        self,
        message: str,
        *,
        record: object = None,
        where: Where | None = None,
        hint: str | None = None,
        raw: RawRecord | None = None,
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.record = cut(record)
        self.raw = raw

    def __str__(self) -> str:
        return f"{super().__str__()}\n  record: {self.record}"


class JobFailedError(StreamflowError):
    """A job stopped because a task failed for an unforeseen reason; the cause is attached."""


class ElsewhereError(Exception):
    """The cause of an error that came from another process: there it was `described` like this (empty: the error had no
    cause), and its text is the `traceback` there."""

    def __init__(self, described: str, traceback: str) -> None:
        super().__init__(traceback)
        self.described = described

    def __str__(self) -> str:
        return f"in another process\n{self.args[0]}"


def cut(value: object, limit: int = _SHOWN) -> str:
    """A record as text, at most `limit` characters.

    >>> cut("x" * 10, limit=4)
    'xxxx… (10 characters)'
    """
    text = str.__str__(value) if isinstance(value, str) else represented(value)
    return legible(text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)")


def represented(value: object) -> str:
    """The `repr` of a value, which may be of a class whose `repr` raises anything.

    >>> represented("a")
    "'a'"
    """
    try:
        return str.__str__(repr(value))
    except KeyboardInterrupt:
        raise
    except BaseException as raised:  # noqa: BLE001 — a value's own text is user code, too
        return f"a {type(value).__name__} (its text raised {type(raised).__name__})"


def legible(text: str) -> str:
    """The text with halves of surrogate pairs escaped, so that it can be written anywhere.

    >>> len(legible(chr(0xD800)))
    6
    """
    return text.encode("utf-8", "backslashreplace").decode()


def unknown_name(kind: str, name: str, known: Iterable[str]) -> tuple[str, str]:
    """The message and the hint for an unknown name: the known ones, and the nearest.

    >>> unknown_name("column", "orgin", ["origin", "dest"])
    ("no column 'orgin'; there are: dest, origin", "did you mean 'origin'?")
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "use one of those"
    return f"no {kind} {name!r}; there are: {', '.join(names) or 'none'}", hint
