"""Log lines of a running job: one per event, as text or JSON, on stderr.

Loggers are the standard library's, below `streamflow`; fields beside the message go in as `extra=told(…)`. A program
with a logging configuration of its own gets the same records through it. This module makes lines safe to read: it
escapes control characters, so that no name of a file or topic forges a line (CWE-117), and removes secrets. Records
of a stream are never logged, nor are texts of errors that may quote one.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Literal, TextIO, cast

from streamflow.errors import RecordError, StreamflowError, cut
from streamflow.time.timestamps import format_time

__all__ = [
    "CURRENT_JOB",
    "LineFormatter",
    "Redaction",
    "configured",
    "log_to_stderr",
    "printable",
    "reason",
    "told",
]

CURRENT_JOB: ContextVar[str] = ContextVar("streamflow_job", default="")
"""The job of the running asyncio task, named in each of its lines."""

_ROOT: Final = logging.getLogger("streamflow")
# A library prints nothing unless asked to; the last resort of `logging` would.
_ROOT.addHandler(logging.NullHandler())

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_PLAIN: Final = re.compile(r"[^\s\"'=]+")
_SECRET_NAME: Final = re.compile(r"token|passw|secret|credential|authorization|(^|_)key$", re.IGNORECASE)
_SECRETS: Final = (
    (re.compile(r"(?<=://)[^\s/@]+@"), "***@"),
    (re.compile(r"\b(bearer|basic) +[\w.~+/=-]{8,}", re.IGNORECASE), r"\1 ***"),
    (
        re.compile(
            r"((?:token|password|passwd|secret|credentials?|(?:api|access)[_-]?key)[\"']?\s*[=:]\s*)"
            r"(\"[^\"]*\"|'[^']*'|[^\s,;&)]+)",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
)


def told(**fields: Any) -> dict[str, Any]:
    """Fields of an event beside its message: `log.info("checkpoint published", extra=told(number=7))`."""
    return {"told": fields}


def reason(error: BaseException) -> str:
    """An error as text for a log line, without texts that quote a record.

    >>> reason(StreamflowError("the disk is full")), reason(RecordError("ValueError: 'Alice'", record="Alice"))
    ('StreamflowError: the disk is full', 'RecordError')
    """
    kind = type(error).__name__
    if isinstance(error, RecordError):
        return f"{kind} at {error.where}" if str(error.where) else kind
    if isinstance(error, StreamflowError):
        place = f"{error.where}: " if str(error.where) else ""
        return f"{kind}: {place}{error.message}"
    return f"{kind}: {cut(str(error))}"


class Redaction:
    """Takes secrets out of texts and fields: those named in `hidden`, and everything that looks like one.

    >>> redaction = Redaction(["hunter2"])
    >>> redaction.text("password=x, or hunter2"), redaction.value("token", 7)
    ('password=***, or ***', '***')
    """

    def __init__(self, hidden: Iterable[str] = ()) -> None:
        self._hidden = sorted({secret for secret in hidden if secret}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._hidden:
            text = text.replace(secret, "***")
        for pattern, instead in _SECRETS:
            text = pattern.sub(instead, text)
        return text

    def value(self, name: str, value: Any) -> Any:
        """The value of a field as plain values without secrets; the name may say that it is one."""
        if _SECRET_NAME.search(name) and value is not None:
            return "***"
        match value:
            case None | bool() | int() | float():
                return value
            case dict():
                nested = cast("dict[object, Any]", value)
                return {str(key): self.value(str(key), each) for key, each in nested.items()}
            case list() | tuple():
                return [self.value(name, each) for each in cast("list[Any]", value)]
            case _:
                return self.text(str(value))


class LineFormatter(logging.Formatter):
    """A record as one line of text, or as one JSON object. `hidden` are secrets to be removed anywhere in the line.

    >>> record = logging.LogRecord("streamflow.files", logging.INFO, "", 1, "split %s ended", ("a\\nb.csv",), None)
    >>> record.created, record.told = 0.25, {"records": 3, "password": "hunter2"}
    >>> LineFormatter("text").format(record)
    '1970-01-01T00:00:00.250Z INFO files: split a\\\\nb.csv ended records=3 password=***'
    >>> LineFormatter("json").format(record)[:61]
    '{"time": "1970-01-01T00:00:00.250Z", "level": "info", "logger'
    """

    def __init__(self, kind: Literal["text", "json"], hidden: Iterable[str] = ()) -> None:
        super().__init__()
        self._kind = kind
        self._redaction = Redaction(hidden)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if job := CURRENT_JOB.get():
            line["job"] = job
        line["message"] = self._redaction.text(record.getMessage())
        fields: Mapping[str, Any] = getattr(record, "told", {})
        clean = {
            name: self._redaction.value(name, value) for name, value in fields.items() if name not in line
        }
        if record.exc_info and record.exc_info[0] is not None:
            clean["exception"] = self._redaction.text(self.formatException(record.exc_info))
        if self._kind == "json":
            return json.dumps({**line, **clean}, default=str)
        parts = [f"{name}={_shown(value)}" for name, value in clean.items()]
        of = printable(f"{line['logger'].removeprefix('streamflow.')}{' ' + job if job else ''}")
        return " ".join([line["time"], record.levelname, f"{of}: {printable(line['message'])}", *parts])


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to the present stderr: a terminal's progress line gives way to text written there."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


@contextmanager
def log_to_stderr(kind: Literal["text", "json"], level: str, hidden: Iterable[str] = ()) -> Generator[None]:
    """Writes log records below `streamflow` to stderr inside this context, from `level` ("info", "warning", …) on."""
    handler, before = _Stderr(), _ROOT.level
    handler.setFormatter(LineFormatter(kind, hidden))
    _ROOT.addHandler(handler)
    _ROOT.setLevel(level.upper())
    try:
        yield
    finally:
        _ROOT.removeHandler(handler)
        _ROOT.setLevel(before)


def configured() -> bool:
    """Whether the program has configured where log lines go."""
    handlers = [*_ROOT.handlers, *logging.getLogger().handlers]
    return any(not isinstance(each, logging.NullHandler) for each in handlers)


def printable(text: str) -> str:
    """The text with control characters escaped, so that it moves no cursor and begins no line.

    >>> printable("a\\x1b[2Jb\\n")
    'a\\\\x1b[2Jb\\\\n'
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _moment(seconds: float) -> str:
    millis = round(seconds * 1_000)
    return f"{format_time(millis // 1_000 * 1_000_000).removesuffix('Z')}.{millis % 1_000:03d}Z"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    escaped = printable(text)
    return escaped if _PLAIN.fullmatch(escaped) else json.dumps(escaped, ensure_ascii=False)
