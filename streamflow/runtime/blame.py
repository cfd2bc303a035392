"""Errors with their owners: errors of operators, sources and sinks get their name on the way to the job."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from streamflow.errors import DamagedError, JobFailedError, StreamflowError, Where
from streamflow.runtime.checkpoints.stored_content import ELSEWHERE
from streamflow.user_code import awaited_failure, described, line_of_error

__all__ = ["blamed", "taking_up", "unforeseen"]


@contextmanager
def blamed(operator: str) -> Generator[None]:
    """A context whose errors name the operator; a foreign exception becomes the job's failure. Any exception inside
    is an error of the operator, a SystemExit of a user's function too."""
    try:
        yield
    except StreamflowError as error:
        raise error.at(Where(operator=operator)) from error.__cause__
    except BaseException as raised:
        cause = awaited_failure(raised)
        where = Where(operator=operator, code=line_of_error(cause))
        raise JobFailedError(described(cause), where=where) from raised


@contextmanager
def taking_up(operator: str, checkpoint: int) -> Generator[None]:
    """A context like `blamed`, while an operator restores its part of a checkpoint: an exception means damage,
    unless the user's own code failed."""
    try:
        with blamed(operator):
            yield
    except JobFailedError as failure:
        if failure.where.code is not None or failure.__cause__ is None:
            raise
        raise DamagedError(
            f"checkpoint {checkpoint} has something of it that it cannot take up: {failure.message}",
            where=failure.where,
            hint=ELSEWHERE,
        ) from failure.__cause__


def unforeseen(error: BaseException) -> JobFailedError:
    """The failure of a job by an error that nobody has foreseen, which is its cause.

    >>> unforeseen(KeyError("origin")).message
    "KeyError: 'origin'"
    """
    failure = JobFailedError(described(error), hint="this is not expected: please report it")
    failure.__cause__ = error
    return failure
