"""Testing a job: virtual time, harnesses, transcripts. A part of the product."""

from streamflow.testing.clock import TestClock
from streamflow.testing.job import TestJob, TestOutput, TestSource
from streamflow.testing.stepping import SteppedLoop

__all__ = ["SteppedLoop", "TestClock", "TestJob", "TestOutput", "TestSource"]
