"""Execution profiles: the meaning of a mode, as data. The only place in the runtime where a mode is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamflow.config import Mode, Settings
from streamflow.operators.contract.operator import UpdateCadence

__all__ = ["ExecutionProfile", "profile_for"]


@dataclass(frozen=True, slots=True)
class ExecutionProfile:
    """The behaviour of one job run. Durations in microseconds.

    `watermarks`: forwarded as they come, held until the epoch's end, or only +∞ at the end of input. `updates`: when
    changing results are put out. `epoch_interval`: time between barriers, None for none before the end.
    `slice_rows`: a source subtask ends its part of an epoch after so many rows, None for no bound. `by_watermark`:
    among open splits the one furthest behind in event time is read next. `commits`: output becomes visible at each
    epoch's end or, whatever barriers there are, only at the end of the job.
    """

    name: str
    watermarks: Literal["continuous", "epoch", "end"]
    updates: UpdateCadence
    epoch_interval: int | None
    slice_rows: int | None
    batch_rows: int
    by_watermark: bool
    commits: Literal["epoch", "end"]


def profile_for(mode: Mode, settings: Settings, *, bounded: bool) -> ExecutionProfile:
    """The profile of a mode; "auto" is batch if every source is bounded, streaming otherwise."""
    if mode == "auto":
        mode = "batch" if bounded else "streaming"
    match mode:
        case "streaming":
            return ExecutionProfile(
                name=mode,
                watermarks="continuous",
                updates="batch",
                epoch_interval=settings.checkpoint_interval,
                slice_rows=None,
                batch_rows=settings.batch_rows,
                by_watermark=True,
                commits="epoch",
            )
        case "micro-batch":
            return ExecutionProfile(
                name=mode,
                watermarks="epoch",
                updates="epoch",
                epoch_interval=settings.micro_batch_interval,
                slice_rows=settings.batch_rows * 4,
                batch_rows=settings.batch_rows,
                by_watermark=True,
                commits="epoch",
            )
        case "batch":
            return ExecutionProfile(
                name=mode,
                watermarks="end",
                updates="end",
                epoch_interval=None if settings.checkpoint_dir is None else settings.checkpoint_interval,
                slice_rows=None,
                batch_rows=settings.batch_rows,
                by_watermark=False,
                commits="end",
            )
