"""The common part of transcripts of keyed operators: records with a key, a time and a value, the steps that bring them,
files that are wrong on purpose. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import streamflow as sf
from streamflow.testing import TestSource

__all__ = ["SECOND", "check", "events_of", "play"]

SECOND = 1_000_000
_EVENT = {"key": pl.String, "time": pl.Int64, "value": pl.Int64}


def events_of(job: sf.Job) -> sf.Stream:
    """The stream of a transcript's events."""
    return job.read(sf.MemorySource([], schema=_EVENT), event_time=sf.epoch("time", unit="us"))


def play(step: Mapping[str, Any], source: TestSource) -> None:
    """Gives the source what a step says: events, a watermark, the end of input."""
    if "events" in step:
        source.push(
            [{"key": key, "time": time * SECOND, "value": value} for time, key, value in step["events"]]
        )
    elif "watermark" in step:
        source.advance_watermark(step["watermark"] * SECOND)
    elif "watermark_before" in step:
        source.advance_watermark(step["watermark_before"] * SECOND - 1)
    else:
        source.end()


def check(path: Path, parallelism: int, run: Callable[[Mapping[str, Any], int], None]) -> None:
    """Runs the transcript of a file; one that is wrong on purpose has to raise AssertionError."""
    transcript = yaml.safe_load(path.read_text(encoding="utf-8"))
    if transcript.get("expect_failure"):
        with pytest.raises(AssertionError):
            run(transcript, parallelism)
    else:
        run(transcript, parallelism)
