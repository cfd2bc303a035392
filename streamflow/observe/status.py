"""The status of a running job (`JobStatus`) and the result of an ended one (`JobResult`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from streamflow.core.html_table import html_table

__all__ = ["CheckpointStatus", "JobResult", "JobStatus", "OperatorStatus", "PublicationStatus"]


@dataclass(frozen=True, slots=True)
class OperatorStatus:
    """One operator's figures, summed over its subtasks. Times are microseconds of event time; ratios are 0 to 1.

    `watermark` is the smallest of its subtasks' watermarks; None before the first one and after the last, when all
    input has `ended`. `held_back_by` names the split that holds a source's watermark back. `lag_records` is the
    number of records between a source's position and the end of its log, if the log says it.
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
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class PublicationStatus:
    """Output that becomes visible with each epoch in one step: waiting records and bytes, the number of publications
    and of repeated attempts, the seconds that the last one took, and the seconds since (None before the first)."""

    waiting_records: int
    waiting_bytes: int
    published: int
    retries: int
    duration: float
    age: float | None


@dataclass(frozen=True, slots=True)
class CheckpointStatus:
    """The last checkpoint: its number (None before the first), seconds since it was published, seconds from its
    barrier to its publication, bytes; and the numbers of checkpoints taken and failed."""

    number: int | None
    age: float
    duration: float
    nbytes: int
    taken: int
    failed: int


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A running job at one moment. `elapsed` is in seconds, `time` is the job's clock.

    `watermark` is the smallest of all operators' in microseconds (None before the first, and after the last, when all
    input has `ended`). `state` is starting, running, restarting, stopping, failed, finished or stopped.
    """

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
    """None if no checkpoints are taken."""
    restarts: int = 0
    notes: tuple[str, ...] = ()
    """Notes for the user: the place the job went on from, what was passed over, why it was restarted."""
    publication: PublicationStatus | None = None
    """None if no sink publishes epochs in one step."""
    time: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job that has ended. Records by operator id; `duration` in seconds.

    `dropped` counts late records that no `.late` stream took, `in_no_window` records whose time lies between two
    windows, `errors` records that the error policy skipped or sent to a sink, `duplicates` those that `deduplicate`
    left out.
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
    """The place of the savepoint that the job was stopped with, as `restore` takes it."""
    duplicates: int = 0

    def as_dict(self) -> dict[str, Any]:
        """All fields as plain values, for `--json`."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """An HTML view for notebooks: the job's operators."""
        ended = "stopped" if self.stopped else "finished"
        caption = f"job {self.job}: {ended} after {self.duration:.1f} s in {self.mode} mode"
        caption += f", {self.dropped} dropped, {self.errors} errors"
        ids = list(dict.fromkeys([*self.records_in, *self.records_out]))
        rows = ([id, self.records_in.get(id, ""), self.records_out.get(id, "")] for id in ids)
        return html_table(caption, ["operator", "records in", "records out"], rows)
