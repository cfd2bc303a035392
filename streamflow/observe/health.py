"""Whether a job is well: what `/healthz` and `/readyz` answer. Decides, does no I/O.

The job's event loop beats; whoever asks looks from another thread at how long ago that was. So a loop that does not
come back, in a function of the user's or in a client's library, is told from a job that merely has nothing to do.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from streamflow.time.clock import Clock

__all__ = ["STATES", "STUCK_SECONDS", "Health", "JobState"]

JobState = Literal["starting", "running", "restarting", "stopping", "failed"]

STATES: Final[tuple[JobState, ...]] = ("starting", "running", "restarting", "stopping", "failed")

STUCK_SECONDS: Final = 10.0
"""An event loop that has not beaten for so long counts as stuck."""


class Health:
    """One job's health. `state` and `beat` are the job's to set; the rest is safe from any thread."""

    def __init__(self, job: str, clock: Clock) -> None:
        self._job = job
        self._clock = clock
        self._beaten = clock.monotonic()
        self.state: JobState = "starting"
        self.failure: str | None = None
        """What made it fail, or start again the last time."""

    def beat(self) -> None:
        """The event loop has come round."""
        self._beaten = self._clock.monotonic()

    def alive(self) -> tuple[bool, dict[str, Any]]:
        """Whether the process is worth keeping, and why not. A job that starts, starts again or stops is."""
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
