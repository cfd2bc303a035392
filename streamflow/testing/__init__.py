"""Testing a job: virtual time, harnesses, transcripts. A part of the product."""

from streamflow.testing.clock import TestClock
from streamflow.testing.harness import OperatorHarness, check_batchings
from streamflow.testing.job import TestJob, TestOutput, TestSource
from streamflow.testing.modes import check_modes_agree
from streamflow.testing.results import difference, final_rows
from streamflow.testing.simulation.campaign import simulate
from streamflow.testing.snapshots import check_snapshots
from streamflow.testing.stepping import SteppedLoop
from streamflow.testing.transcripts import TranscriptError, run_transcript

__all__ = [
    "OperatorHarness",
    "SteppedLoop",
    "TestClock",
    "TestJob",
    "TestOutput",
    "TestSource",
    "TranscriptError",
    "check_batchings",
    "check_modes_agree",
    "check_snapshots",
    "difference",
    "final_rows",
    "run_transcript",
    "simulate",
]
