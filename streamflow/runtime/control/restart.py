"""Restart strategies: decide whether a job that failed is started again, and after which delay. No I/O.

The two of Flink's that matter: a fixed delay, and one that doubles up to a bound. Attempts are counted from the last
checkpoint on: a job that gets on is not given up for failures long past. A cause that comes back soon still counts
as the same failure, since restarting has not helped.
"""

from __future__ import annotations

import re
from typing import Final

from streamflow.config import Settings
from streamflow.errors import ConfigError, GoneError, JobDefinitionError, RecordError, StreamflowError
from streamflow.state.checkpoints.store import FencedError

__all__ = ["RestartPolicy"]


_STEADY: Final = 600.0
"""Seconds that a run has to last so that its end counts as a new failure even for the old cause."""
_NUMBER: Final = re.compile(r"\d+")


class RestartPolicy:
    """The state machine of one job; all delays are in microseconds.

    >>> policy = RestartPolicy("exponential", attempts=3, delay=1_000_000, longest=3_000_000)
    >>> [policy.after(OSError("gone"), progress=False) for _ in range(4)]
    [1000000, 2000000, 3000000, None]
    """

    def __init__(self, kind: str, *, attempts: int, delay: int, longest: int) -> None:
        self._kind = kind
        self._attempts = attempts
        self._delay = delay
        self._longest = longest
        self._failures = 0
        self._cause: object = None
        self.restarts = 0

    @classmethod
    def of(cls, settings: Settings) -> RestartPolicy:
        """The policy of the settings; without checkpoints there is no restart."""
        kind = "none" if settings.checkpoint_dir is None else settings.restart
        if settings.checkpoint_dir is None and settings.restart in ("fixed", "exponential"):
            raise ConfigError(
                f"restart is {settings.restart!r}, and no checkpoints are taken",
                hint="give a checkpoint_dir to start again from",
            )
        return cls(
            kind,
            attempts=settings.restart_attempts,
            delay=settings.restart_delay,
            longest=settings.restart_max_delay,
        )

    def after(self, error: BaseException, *, progress: bool, ran: float = _STEADY) -> int | None:
        """The microseconds to wait before the next start; None: the job has failed. `progress`: a checkpoint has
        been taken since the last start, `ran` seconds ago."""
        again, self._cause = self._cause == (cause := _cause(error)), cause
        if progress and (ran >= _STEADY or not again):
            self._failures = 0
        if self._kind == "none" or isinstance(
            error, (ConfigError, JobDefinitionError, FencedError, GoneError)
        ):
            return None
        if isinstance(error, StreamflowError) and error.final:
            return None
        if self._kind == "auto" and isinstance(error, RecordError):
            # The same record would fail again.
            return None
        if self._failures >= self._attempts:
            return None
        delay = self._delay if self._kind == "fixed" else self._delay << self._failures
        self._failures += 1
        self.restarts += 1
        return min(delay, self._longest)


def _cause(error: BaseException) -> object:
    """The identity of an error's cause: all of its text except numbers, such as offsets and times."""
    where = (error.where.operator, error.where.split) if isinstance(error, StreamflowError) else None
    message = error.message if isinstance(error, StreamflowError) else str(error)
    return type(error), where, _NUMBER.sub("#", message)
