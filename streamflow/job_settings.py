"""Settings of a job file for its user: `setting("input", "*.ndjson")` there, `--set input=…` on the command line.

The command line hands its values over with `handed_over` while it loads the file; a value that the file never asks
for is an error, so that a misspelt name does not go unnoticed. A file that runs its job while it is loaded is read as
far as that line: the command decides how the job runs. Runtime settings (parallelism, checkpoints) are in
`streamflow.config`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, TypeVar

from streamflow.config import Settings
from streamflow.errors import ConfigError, JobDefinitionError

__all__ = ["HandedOver", "LeftToTheCommand", "handed_over", "leave_to_the_command", "setting"]

Value = TypeVar("Value", bool, int, float, str)

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


@dataclass(slots=True)
class HandedOver:
    """Values given by the user, and the names that a job file has asked for so far."""

    values: Mapping[str, str]
    asked: set[str] = field(default_factory=set[str])


_HANDED: Final[ContextVar[HandedOver | None]] = ContextVar("streamflow_job_settings", default=None)


class LeftToTheCommand(BaseException):
    """Ends the loading of a file that runs its own job; not an Exception, so that the file does not catch it."""


def leave_to_the_command() -> None:
    """Raises LeftToTheCommand while a command loads the file that wants to run its job."""
    if _HANDED.get() is not None:
        raise LeftToTheCommand


@contextmanager
def handed_over(values: Mapping[str, str]) -> Generator[HandedOver]:
    """Lets `setting` find these values while a job file is loaded.

    >>> with handed_over({"threshold": "7"}) as handed:
    ...     setting("threshold", 5), sorted(handed.asked)
    (7, ['threshold'])
    """
    handed = HandedOver(values)
    token = _HANDED.set(handed)
    try:
        yield handed
    finally:
        _HANDED.reset(token)


def setting(name: str, default: Value) -> Value:
    """A value that the user may set with `--set name=value`; it has the type of `default` (bool, int, float or str).

    Raises ConfigError for a value of another type, JobDefinitionError for a name that is a runtime setting's.

    >>> setting("threshold", 5)
    5
    """
    if name in Settings.names():
        raise JobDefinitionError(
            f"setting {name!r} is one of the runtime's", hint="give the job's own setting another name"
        )
    handed = _HANDED.get()
    if handed is None:
        return default
    handed.asked.add(name)
    return _typed(name, handed.values[name], default) if name in handed.values else default


def _typed(name: str, text: str, default: Value) -> Value:
    kind = type(default)
    try:
        if kind is bool:
            if text.lower() not in _TRUE | _FALSE:
                raise ValueError
            return kind(text.lower() in _TRUE)
        return kind(text)
    except ValueError:
        raise ConfigError(
            f"setting {name} is {text!r}", hint=f"it must be {_KINDS[kind]}, like its default {default!r}"
        ) from None


_KINDS: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}
