"""Testing a job: virtual time, harnesses, transcripts. A part of the product."""

from streamflow.testing.clock import TestClock
from streamflow.testing.job import TestJob, TestOutput, TestSource
from streamflow.testing.stepping import SteppedLoop
from streamflow.testing.transcripts import TranscriptMismatch, run_transcript

__all__ = ["SteppedLoop", "TestClock", "TestJob", "TestOutput", "TestSource", "TranscriptMismatch", "run_transcript"]
