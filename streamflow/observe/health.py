"""A job's health: the answers of `/healthz` and `/readyz`. Decides, does no I/O.

The job's event loop beats; the server's threads look at how long ago the last beat was. So a loop that is stuck, in a
user's function or in a client's library, is told from a job that merely has nothing to do.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from streamflow.time.clock import Clock

__all__ = ["STATES", "STUCK_SECONDS", "Health", "JobState"]

JobState = Literal["starting", "running", "restarting", "stopping", "failed"]

STATES: Final[tuple[JobState, ...]] = ("starting", "running", "restarting", "stopping", "failed")

STUCK_SECONDS: Final = 10.0
"""Seconds without a beat after which an event loop counts as stuck."""


class Health:
    """One job's health. The job sets `state` and `beat` on its event loop; the rest is safe from any thread."""

    def __init__(self, job: str, clock: Clock) -> None:
        self._job = job
        self._clock = clock
        self._beaten = clock.monotonic()
        self.state: JobState = "starting"
        self.failure: str | None = None
        """The cause of the job's failure, or of its last restart."""

    def beat(self) -> None:
        """Records that the event loop runs."""
        self._beaten = self._clock.monotonic()

    def alive(self) -> tuple[bool, dict[str, Any]]:
        """Whether the process should be kept, and why not. True also while the job starts, restarts or stops."""
        return self._answer(self._troubles())

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether the job has been restored and runs, and why not."""
        reasons = self._troubles()
        if self.state not in ("running", "failed"):
            after = f" after {self.failure}" if self.failure and self.state == "restarting" else ""
            reasons.append(f"the job is {self.state}{after}")
        return self._answer(reasons)

    def _troubles(self) -> list[str]:
        reasons: list[str] = []
        if self.state == "failed":
            reasons.append(f"the job has failed: {self.failure}" if self.failure else "the job has failed")
        elif (silent := self._silent()) > STUCK_SECONDS:
            reasons.append(f"the event loop has not answered for {silent:.0f} s")
        return reasons

    def _answer(self, reasons: list[str]) -> tuple[bool, dict[str, Any]]:
        return not reasons, {
            "ok": not reasons,
            "job": self._job,
            "state": self.state,
            "heartbeat_seconds": round(self._silent(), 3),
            "reasons": reasons,
        }

    def _silent(self) -> float:
        return max(0.0, self._clock.monotonic() - self._beaten)
