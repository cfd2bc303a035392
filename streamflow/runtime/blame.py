"""Whose error it is: what operators, sources and sinks raise gets their name on its way to the job."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from streamflow.errors import DamagedError, JobFailedError, StreamflowError, Where
from streamflow.runtime.checkpoints.stored_content import ELSEWHERE
from streamflow.user_code import awaited_failure, described, line_of_error

__all__ = ["blamed", "taking_up"]


@contextmanager
def blamed(operator: str) -> Generator[None]:
    """Errors raised inside name the operator; one that is nobody's own becomes the job's failure. Whatever is raised
    inside is an error of the operator, a SystemExit of a user's function too."""
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
    """As `blamed`, while an operator takes up what a checkpoint has of it: what it cannot make anything of is damaged,
    unless it was the user's own code that failed."""
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
