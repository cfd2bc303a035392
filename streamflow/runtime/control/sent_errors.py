"""Errors on their way to another process: as texts and the name of a class out of a fixed table, never as objects.

A class that is not in the table comes back as the nearest class that it is derived from. Causes stay behind: their
traceback comes along as text, for `--debug`.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Final

import msgspec

from streamflow.errors import (
    ConfigError,
    DamagedError,
    ElsewhereError,
    GoneError,
    JobDefinitionError,
    JobFailedError,
    RawRecord,
    RecordError,
    SinkError,
    SourceError,
    StateError,
    StreamflowError,
    Where,
    cut,
    legible,
)
from streamflow.runtime.blame import unforeseen
from streamflow.runtime.transport.port import TransportError
from streamflow.state.checkpoints.blobs import UnreachableError, UnsyncedError
from streamflow.state.checkpoints.claims import FencedError
from streamflow.state.checkpoints.manifest import SignatureError, UnsignedError
from streamflow.user_code import described

__all__ = ["SentError"]

_LONGEST: Final = 16 << 10
"""The characters of a text that are sent."""
_TRACEBACK: Final = 64 << 10
"""The characters of a traceback that are sent, the last ones."""
_RAW: Final = 1 << 20
"""The size in bytes of the largest raw record that is sent."""
_CLASSES: Final[Mapping[str, type[StreamflowError]]] = {
    each.__name__: each
    for each in (
        ConfigError,
        DamagedError,
        GoneError,
        JobDefinitionError,
        JobFailedError,
        RecordError,
        SinkError,
        SourceError,
        StateError,
        StreamflowError,
        FencedError,
        SignatureError,
        TransportError,
        UnreachableError,
        UnsignedError,
        UnsyncedError,
    )
}
_OS: Final = "OSError"


class SentError(msgspec.Struct, frozen=True):
    """An error in the form in which it is sent. `where`: the parts of its place; `cause`: its own cause in one line, if
    it has one, and the traceback of both.

    >>> SentError.of(ValueError("7")).error().message
    'ValueError: 7'
    """

    kind: str
    message: str
    hint: str | None
    final: bool
    where: tuple[str | None, str | None, str | None, str | None]
    cause: tuple[str, str]
    record: str | None = None
    raw: RawRecord | None = None

    @classmethod
    def of(cls, error: BaseException) -> SentError:
        """The form of an error. One that is neither a StreamflowError nor an OSError becomes a job's failure that was
        not foreseen."""
        if isinstance(error, OSError):
            return cls(_OS, _sent(str(error)), None, False, (None, None, None, None), _cause(error))
        known = error if isinstance(error, StreamflowError) else unforeseen(error)
        where = known.where
        record, raw = (known.record, known.raw) if isinstance(known, RecordError) else (None, None)
        return cls(
            next(each.__name__ for each in type(known).__mro__ if _CLASSES.get(each.__name__) is each),
            _sent(known.message),
            None if known.hint is None else _sent(known.hint),
            known.final,
            (_part(where.operator), _part(where.split), _part(where.offset), _part(where.code)),
            _cause(known),
            record,
            _small(raw),
        )

    def error(self) -> StreamflowError | OSError:
        """The error; raises ValueError for one of a class that is not in the table."""
        if self.kind == _OS:
            failed = OSError(self.message)
            failed.__cause__ = ElsewhereError(*self.cause)
            return failed
        known = _CLASSES.get(self.kind)
        if known is None:
            raise ValueError(f"there is no error {self.kind[:64]!r}")
        # The classes' own ways of being made would cut a record again, or look for the calling line.
        error = known.__new__(known)
        StreamflowError.__init__(error, self.message, where=Where(*self.where), hint=self.hint)
        if isinstance(error, RecordError):
            error.record, error.raw = self.record or "", self.raw
        if error.final != self.final:
            error.final = self.final
        error.__cause__ = ElsewhereError(*self.cause)
        return error


def _cause(error: BaseException) -> tuple[str, str]:
    cause = error.__cause__
    lines = "".join(traceback.format_exception(error))
    return "" if cause is None else _sent(described(cause)), legible(lines[-_TRACEBACK:])


def _sent(text: str) -> str:
    return cut(text, _LONGEST)


def _part(text: str | None) -> str | None:
    return None if text is None else _sent(text)


def _small(raw: RawRecord | None) -> RawRecord | None:
    if raw is None:
        return None
    headers = sum(len(name) + len(value or b"") for name, value in raw.headers)
    size = len(raw.key or b"") + len(raw.value or b"") + headers
    return raw if size <= _RAW else None
