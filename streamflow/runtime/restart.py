"""Restart strategies: whether a job that failed is started again, and after what time. Decides, does no I/O.

The two of Flink's that matter: a fixed delay, and one that doubles up to a bound. Attempts are counted from the last
checkpoint on: a job that gets on is not given up for failures long past.
"""

from __future__ import annotations

from streamflow.config import Settings
from streamflow.errors import ConfigError, JobDefinitionError, RecordError
from streamflow.state.checkpoints.store import FencedError

__all__ = ["RestartPolicy"]


class RestartPolicy:
    """The state machine of one job.

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
        self.restarts = 0

    @classmethod
    def of(cls, settings: Settings) -> RestartPolicy:
        """What the settings say; without checkpoints there is nothing to start again from."""
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

    def after(self, error: BaseException, *, progress: bool) -> int | None:
        """Microseconds to wait before the next start; None: the job has failed. `progress`: a checkpoint has been
        taken since the last start."""
        if progress:
            self._failures = 0
        if self._kind == "none" or isinstance(error, (ConfigError, JobDefinitionError, FencedError)):
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
