"""`run_transcript`: window semantics as readable YAML files, run against the real runtime.

The idea is Beam's and the Dataflow Model's: a windowed job as data, and steps with their input and exact output.
Negative transcripts (`expect_failure: true`) prove that a wrong pane would be noticed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from streamflow.api.job import Job
from streamflow.api.stream import Stream
from streamflow.core.schema import CHANGE
from streamflow.errors import JobDefinitionError
from streamflow.operators.connectors.collect import Collected
from streamflow.operators.connectors.memory import MemorySource
from streamflow.testing.job import TestJob
from streamflow.testing.transcript import Step, Transcript, read_transcript
from streamflow.time.timestamps import MAX_TIME, MIN_TIME, epoch, format_time

__all__ = ["TranscriptError", "run_transcript"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RECORD: Final = {"time": pl.Int64, "key": pl.String, "value": pl.Int64}
_PANE: Final = {"pane_timing": "timing", "pane_index": "index", "is_first": "first", "is_last": "last"}


_COUNTERS: Final = {
    "dropped": "streamflow_late_records_dropped_total",
    "in_no_window": "streamflow_records_in_no_window_total",
}


class TranscriptError(AssertionError):
    """The output differs from the transcript."""


def run_transcript(path: str | Path, *, parallelism: int = 1) -> None:
    """Runs one transcript; raises TranscriptError, an AssertionError, that shows missing and unexpected output.

    A file looks like this; times are numbers in `time_unit` (default s), quoted ISO 8601, or "+inf":

        about: Late records within the allowed lateness fire again.
        job:
          window: {tumbling: 10s}            # offset; {sliding: 10s, every: 5s}; {cumulative: 10s, step: 5s};
                                             # {calendar: 1d, tz: Asia/Tokyo}; {session: 10s}; {count: 3}; global
          trigger: default                   # {after_watermark: {early: {after_count: 3}}}, {repeatedly: …}, never, …
          allowed_lateness: 5s               # default 0s
          accumulation: accumulating         # discarding, retracting
          aggregates: {total: sum}           # over each event's value; this is the default
          late_output: true                  # .late is read; otherwise late records are dropped and counted
          pane_info: true                    # panes then have timing, index and last; first, if one has it
          inputs: [a, b]                     # sources, whose union is windowed; default one
          splits: 1                          # splits of each source
          watermark: script                  # or {bound: 5s, idle_after: 1m, …}: the job's own strategy
        steps:
          - events: [[3, x, 1], [4, x, 2]]   # [time, key, value]; with `input: a`, `split: 0`
          - watermark: 10                    # no more events with a time ≤ 10; watermark_before: no more < 10
            panes: [{key: x, window: [0, 10], total: 3}]
          - idle: true                       # also: end, processing_time: 10s
        expect_failure: false                # true: the transcript is wrong on purpose, and must be found so

    After each step exactly the panes (as a multiset), the `late` events, the number `dropped` for being late and the
    number `in_no_window` (between two windows) that it names have come, and nothing else; `window_watermark` is the
    watermark of the window operator. Each pane's own event time has to be its window's last microsecond. Raises
    JobDefinitionError for a file that is not a transcript.
    """
    transcript = read_transcript(path)
    try:
        _Run(transcript, parallelism).run()
    except TranscriptError:
        if not transcript.expect_failure:
            raise
    else:
        if transcript.expect_failure:
            raise TranscriptError(f"{transcript.name} is wrong on purpose, and it was not noticed")


class _Run:
    def __init__(self, transcript: Transcript, parallelism: int) -> None:
        self._transcript = transcript
        self._parallelism = parallelism
        job = Job("transcript")
        streams = [self._input(job, name) for name in transcript.inputs]
        stream = streams[0].union(*streams[1:]) if len(streams) > 1 else streams[0]
        windowed = stream.key_by("key", null_keys="group").window(
            transcript.assigner,
            trigger=transcript.trigger,
            allowed_lateness=transcript.allowed_lateness,
            accumulation=transcript.accumulation,
            pane_info=transcript.pane_info,
        )
        results = windowed.aggregate(**transcript.aggregates)
        first = any("first" in pane for step in transcript.steps for pane in step.panes)
        self._left_out = () if first else ("is_first",)
        self._late: Collected | None = results.late.collect() if transcript.late_used else None
        self._panes = results.named("window").collect()
        self._job = job
        self._counted = dict.fromkeys(_COUNTERS, 0)
        self._times = 0

    def run(self) -> None:
        test = TestJob(
            self._job,
            watermarks="script" if self._transcript.watermark is None else "job",
            splits=self._transcript.splits,
            parallelism=self._parallelism,
        )
        with test as running:
            for step in self._transcript.steps:
                self._do(running, step)
                self._check(running, step)

    def _input(self, job: Job, name: str) -> Stream:
        source = MemorySource([], schema=_RECORD)
        stream = job.read(source, event_time=epoch("time", unit="us"), watermark=self._transcript.watermark)
        return stream.named(name)

    def _do(self, running: TestJob, step: Step) -> None:
        if step.action == "processing_time":
            running.advance_processing_time(step.value)
            return
        names = self._transcript.inputs if step.input is None else (step.input,)
        for source in (running.source(name) for name in names):
            match step.action:
                case "events":
                    rows = [dict(zip(_RECORD, event, strict=True)) for event in step.value]
                    source.push(rows, split=step.split or 0)
                case "idle":
                    source.idle(split=step.split)
                case "end":
                    source.end(split=step.split)
                case "watermark" | "watermark_before":
                    source.advance_watermark(step.value, split=step.split)
                case other:
                    raise JobDefinitionError(f"a step cannot {other!r}")

    def _check(self, running: TestJob, step: Step) -> None:
        output = running.output(self._panes)
        rows = output.new_rows()
        times = output.event_times()[self._times :]
        self._times += len(times)
        problems = _differences("pane", map(self._wanted, step.panes), map(self._shown, rows))
        for row, time in zip(rows, times, strict=True):
            if "window_end" in row and time != _micros(row["window_end"]) - 1:
                problems.append(f"the event time of {self._shown(row)} is {format_time(time)}")
        if self._late is not None:
            late = [(row["time"], row["key"], row["value"]) for row in running.output(self._late).new_rows()]
            problems += _differences("late record", map(self._event, step.late), map(self._event, late))
        for name, metric in _COUNTERS.items():
            total = int(running.metric(metric, "window"))
            new, self._counted[name] = total - self._counted[name], total
            if new != step.counts[name]:
                problems.append(f"{name} {new}, not {step.counts[name]}")
        if step.window_watermark is not None:
            window = next(o for o in running.status().operators if o.operator == "window")
            mark = (
                window.watermark if window.watermark is not None else MAX_TIME if window.ended else MIN_TIME
            )
            if mark != step.window_watermark:
                problems.append(
                    f"the window's watermark is {self._number(mark)}, not {self._number(step.window_watermark)}"
                )
        if problems:
            lines = "\n".join(f"  {problem}" for problem in problems)
            raise TranscriptError(f"{self._transcript.name}, step {step.number} ({step.action}):\n{lines}")

    def _wanted(self, pane: Mapping[str, Any]) -> str:
        return self._line({**pane, "window": pane.get("window")})

    def _shown(self, row: Mapping[str, Any]) -> str:
        bounds = None
        if "window_start" in row:
            bounds = (_micros(row["window_start"]), _micros(row["window_end"]))
        pane = {"key": row["key"], "window": bounds}
        pane |= {name: row[name] for name in self._transcript.aggregates}
        pane |= {
            short: row[name] for name, short in _PANE.items() if name in row and name not in self._left_out
        }
        if CHANGE in row:
            pane[CHANGE] = row[CHANGE]
        return self._line(pane)

    def _line(self, pane: Mapping[str, Any]) -> str:
        fields = dict(sorted(pane.items()))
        window = fields.pop("window")
        key = fields.pop("key", None)
        bounds = "" if window is None else f" [{self._number(window[0])}, {self._number(window[1])})"
        return f"{_told(key)}{bounds} " + ", ".join(
            f"{name}={_told(value)}" for name, value in fields.items()
        )

    def _event(self, event: tuple[int, Any, Any]) -> str:
        return f"{_told(event[1])} at {self._number(event[0])} value {_told(event[2])}"

    def _number(self, micros: int) -> str:
        if micros in (MAX_TIME, MIN_TIME):
            return format_time(micros)
        return f"{micros / self._transcript.unit:.15g}"


def _differences(what: str, wanted: Iterable[str], came: Iterable[str]) -> list[str]:
    expected, actual = Counter(wanted), Counter(came)
    return [
        *(f"missing {what}: {line}" for line in (expected - actual).elements()),
        *(f"unexpected {what}: {line}" for line in (actual - expected).elements()),
    ]


def _told(value: Any) -> str:
    """A value as in the file; a text that looks like another value in quotes."""
    return value if isinstance(value, str) and value.isidentifier() and value != "None" else repr(value)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
