"""Log records of workers, which the coordinator's process logs: it is where a user looks, and it knows where lines go.

Secrets are taken out before a record leaves the worker. Records wait in a bounded queue: one that is full costs the
latest records, and the number of them is told.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final, cast

from streamflow.errors import cut, legible
from streamflow.observe.logs import Redaction, told
from streamflow.runtime.control.messages import Logged

__all__ = ["LogRelay", "log_of", "relayed"]

_ROOT: Final = "streamflow"
_WARNINGS: Final = "py.warnings"
"""The logger of `logging.captureWarnings`."""
_OURS: Final = re.compile(r"streamflow(\.[A-Za-z0-9_]{1,64}){0,8}")
_WAITING: Final = 1_000
_LONGEST: Final = 4_096
"""The characters of a message or a fact that are sent."""
_TRACEBACK: Final = 32 << 10
_FACTS: Final = 50
_DEPTH: Final = 4
_FORMATTER: Final = logging.Formatter()


class LogRelay(logging.Handler):
    """Collects records, from any thread, until they are taken. `wake` is called when the first one waits, on the thread
    that logs it; `hidden` are secrets."""

    def __init__(self, wake: Callable[[], None], hidden: Iterable[str] = ()) -> None:
        super().__init__()
        self._wake = wake
        self._redaction = Redaction(hidden)
        self._waiting: deque[Logged] = deque()
        self._left_out = 0
        self._queue = Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a record; see `logging.Handler`."""
        try:
            logged = self._logged(record)
        except Exception as error:  # noqa: BLE001 — as for all handlers: a record that cannot be told stops no program
            # Its parts are not shown: nobody has looked for secrets in them.
            facts = {"error": type(error).__name__}
            logged = Logged(record.levelno, record.name, "log record cannot be told", facts, record.created)
        with self._queue:
            full = len(self._waiting) >= _WAITING
            if full:
                self._left_out += 1
            else:
                self._waiting.append(logged)
            first = len(self._waiting) == 1
        if first and not full:
            self._wake()

    def take(self) -> list[Logged]:
        """The records that wait, oldest first, and a word on those that found the queue full."""
        with self._queue:
            waiting, left_out = list(self._waiting), self._left_out
            self._waiting.clear()
            self._left_out = 0
        if left_out:
            time = waiting[-1].time
            facts = {"records": left_out}
            waiting.append(Logged(logging.WARNING, f"{_ROOT}.logs", "log records left out", facts, time))
        return waiting

    def _logged(self, record: logging.LogRecord) -> Logged:
        facts: dict[str, Any] = getattr(record, "told", {})
        clean = {
            cut(str(name), _LONGEST): _small(self._redaction.value(name, value))
            for name, value in list(facts.items())[:_FACTS]
        }
        if record.exc_info and record.exc_info[0] is not None:
            trace = self._redaction.text(_FORMATTER.formatException(record.exc_info))
            clean["exception"] = legible(trace[-_TRACEBACK:])
        logger = f"{_ROOT}.warnings" if record.name == _WARNINGS else record.name
        message = cut(self._redaction.text(record.getMessage()).strip(), _LONGEST)
        return Logged(record.levelno, logger, message, clean, record.created)


@contextmanager
def relayed(relay: LogRelay, level: str) -> Generator[None]:
    """Gives log records below `streamflow`, from `level` ("info", "warning", …) on, and Python's warnings to a relay
    inside this context. For a process that is a worker: warnings are captured in all of it."""
    root, warnings = logging.getLogger(_ROOT), logging.getLogger(_WARNINGS)
    before = root.level
    for logger in (root, warnings):
        logger.addHandler(relay)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(before)
        for logger in (root, warnings):
            logger.removeHandler(relay)


def log_of(logged: Logged, worker: int) -> None:
    """Logs a worker's record here, with the worker's number among its facts, by the logger of the same name."""
    name = logged.logger if _OURS.fullmatch(logged.logger) else f"{_ROOT}.logs"
    logger = logging.getLogger(name)
    if not logger.isEnabledFor(logged.level):
        return
    extra = told(**{**logged.facts, "worker": worker})
    record = logger.makeRecord(name, logged.level, "", 0, logged.message, (), None, extra=extra)
    record.created = logged.time
    record.msecs = logged.time % 1 * 1_000
    logger.handle(record)


def _small(value: object, depth: int = _DEPTH) -> object:
    """Plain values of a fact as those that can be sent, cut."""
    match value:
        case None | bool():
            return value
        case int():
            return int(value)
        case float():
            return float(value)
        case dict() if depth:
            entries = list(cast("dict[str, object]", value).items())[:_FACTS]
            return {cut(name, _LONGEST): _small(each, depth - 1) for name, each in entries}
        case list() if depth:
            return [_small(each, depth - 1) for each in cast("list[object]", value)[:_FACTS]]
        case _:
            return cut(value, _LONGEST)
