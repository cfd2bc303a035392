"""The failure of a command: one readable message on stderr, and the exit codes of the process.

A traceback is printed only with `--debug`; without it an unforeseen error says so in two lines.
"""

from __future__ import annotations

import errno
import sys
import traceback
from enum import IntEnum
from typing import Final, TextIO

from streamflow.errors import ConfigError, JobDefinitionError, JobFailedError, RecordError, StreamflowError
from streamflow.user_code import described

__all__ = ["ExitCode", "describe", "exit_code_for", "report"]


class ExitCode(IntEnum):
    """0 done, 1 the job failed, 2 wrong usage or a job that cannot be built (retrying is no use), 130 interrupted."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


_DEBUG_HINT: Final = "run the command again with --debug for the traceback"


def exit_code_for(error: BaseException) -> ExitCode:
    """The exit code that belongs to an error."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    built = not isinstance(error, (ConfigError, JobDefinitionError))
    return ExitCode.FAILED if built else ExitCode.USAGE


def describe(error: BaseException) -> str:
    """The message, and below it, indented, the place, the record, the cause, and the next step.

    >>> print(describe(ConfigError("mode is 'steam'", hint="did you mean 'streaming'?")))
    error: mode is 'steam'
      hint: did you mean 'streaming'?
    """
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"error: cannot write to {error.filename or 'standard output'}: {error.strerror}"
    if not isinstance(error, StreamflowError):
        return f"error: unforeseen {described(error)}\n  hint: {_DEBUG_HINT}"
    lines = [f"error: {error.message}"]
    if place := str(error.where):
        lines.append(f"where: {place}")
    if isinstance(error, RecordError):
        lines.append(f"record: {error.record}")
    hint = error.hint
    if isinstance(error, JobFailedError):
        if error.__cause__ is not None and (cause := described(error.__cause__)) not in error.message:
            lines.append(f"cause: {cause}")
        hint = hint or _DEBUG_HINT
    if hint:
        lines.append(f"hint: {hint}")
    return "\n  ".join(line.replace("\n", "\n    ") for line in lines)


def report(error: BaseException, *, debug: bool, stream: TextIO | None = None) -> ExitCode:
    """Prints the message (with `debug` the traceback before it); returns the exit code."""
    target = sys.stderr if stream is None else stream
    if debug and not isinstance(error, KeyboardInterrupt):
        traceback.print_exception(error, file=target)
    print(describe(error), file=target)
    return exit_code_for(error)
