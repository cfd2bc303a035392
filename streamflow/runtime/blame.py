"""Whose error it is: what operators, sources and sinks raise gets their name on its way to the job."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from streamflow.errors import JobFailedError, StreamflowError, Where

__all__ = ["blamed"]


@contextmanager
def blamed(operator: str) -> Generator[None]:
    """Errors raised inside name the operator; one that is nobody's own becomes the job's failure."""
    try:
        yield
    except StreamflowError as error:
        raise error.at(Where(operator=operator)) from error.__cause__
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise JobFailedError(message, where=Where(operator=operator)) from error
