"""What a job says of itself while it runs (`JobStatus`) and when it has ended (`JobResult`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from streamflow.core.html_table import html_table

__all__ = ["CheckpointStatus", "JobResult", "JobStatus", "OperatorStatus", "PublicationStatus"]


@dataclass(frozen=True, slots=True)
class OperatorStatus:
    """One operator's figures, summed over its subtasks. Times are microseconds of event time; ratios 0 to 1.

    `watermark` is the smallest of its subtasks'; None where there is none: before the first, and after the last, when
    all input has `ended`.
    `held_back_by` names the split that holds a source's watermark back; `lag_records` is how many records lie before
    where a source reads, in a log that says so.
    """

    operator: str
    kind: str
    parallelism: int
    records_in: int
    records_out: int
    bytes_in: int
    late_dropped: int
    errors: int
    watermark: int | None
    busy: float
    backpressured: float
    held_back_by: str | None = None
    late: int = 0
    in_no_window: int = 0
    lag_records: int | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class PublicationStatus:
    """Output that becomes visible with each epoch in one step: what waits for it (records, bytes), how often that has
    been done, how often it was tried again, how many seconds the last took, and how many ago it was (None: not yet)."""

    waiting_records: int
    waiting_bytes: int
    published: int
    retries: int
    duration: float
    age: float | None


@dataclass(frozen=True, slots=True)
class CheckpointStatus:
    """The last checkpoint: its number (None before the first), seconds since it was published, seconds from its barrier
    to its publication, bytes; and how many were taken and how many failed."""

    number: int | None
    age: float
    duration: float
    nbytes: int
    taken: int
    failed: int


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A running job at one moment. `elapsed` in seconds, `watermark` the smallest of all operators' in microseconds
    (None before the first, and after the last, when all input has `ended`), `time` the job's clock. `state`: starting,
    running, restarting, stopping; failed, finished, stopped once it has ended."""

    job: str
    mode: str
    state: str
    elapsed: float
    records_read: int
    records_written: int
    watermark: int | None
    epoch: int
    operators: tuple[OperatorStatus, ...]
    checkpoint: CheckpointStatus | None = None
    """None where no checkpoints are taken."""
    restarts: int = 0
    notes: tuple[str, ...] = ()
    """What a user should know: from where it went on, what was passed over, why it was restarted."""
    publication: PublicationStatus | None = None
    """None where no sink publishes epochs in one step."""
    time: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job that has ended. Records by operator id; `duration` in seconds.

    `dropped` counts late records that nothing took, `in_no_window` those whose time lies between two windows,
    `errors` records that the error policy skipped or sent away.
    """

    job: str
    mode: str
    duration: float
    records_in: dict[str, int]
    records_out: dict[str, int]
    late: int = 0
    dropped: int = 0
    in_no_window: int = 0
    errors: int = 0
    epochs: int = 0
    restarts: int = 0
    stopped: bool = False
    checkpoint: CheckpointStatus | None = None
    notes: tuple[str, ...] = ()
    operators: tuple[OperatorStatus, ...] = field(default=(), repr=False)
    savepoint: str | None = None
    """Where the savepoint is with which it was stopped, as `restore` takes it."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for `--json`."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """For notebooks: its operators."""
        ended = "stopped" if self.stopped else "finished"
        caption = f"job {self.job}: {ended} after {self.duration:.1f} s in {self.mode} mode"
        caption += f", {self.dropped} dropped, {self.errors} errors"
        ids = list(dict.fromkeys([*self.records_in, *self.records_out]))
        rows = ([id, self.records_in.get(id, ""), self.records_out.get(id, "")] for id in ids)
        return html_table(caption, ["operator", "records in", "records out"], rows)
