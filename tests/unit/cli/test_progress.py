"""Progress in a terminal and elsewhere, fed with made-up statuses."""

from __future__ import annotations

import io
import logging
import sys
from dataclasses import replace

import pytest

from streamflow.cli.terminal.progress import (
    LogLines,
    ProgressLine,
    Silent,
    SmoothedRate,
    ending,
    is_live,
    progress_for,
    summary,
)
from streamflow.config import Settings
from streamflow.observe.logs import log_to_stderr
from streamflow.observe.status import CheckpointStatus, JobResult, JobStatus, OperatorStatus
from streamflow.time.timestamps import to_micros

NOW = to_micros("2013-01-01T10:00:00Z")


class _StoppedClock:
    def now(self) -> int:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _operator(name: str, *, busy: float = 0.0, late: int = 0, errors: int = 0) -> OperatorStatus:
    return OperatorStatus(
        operator=name,
        kind="window",
        parallelism=1,
        records_in=0,
        records_out=0,
        bytes_in=0,
        late_dropped=late,
        errors=errors,
        watermark=None,
        busy=busy,
        backpressured=0.0,
    )


def _status(
    elapsed: float = 1.0,
    read: int = 1_000,
    watermark: int = NOW - 90_000_000,
    operators: tuple[OperatorStatus, ...] = (),
) -> JobStatus:
    return JobStatus("delays", "streaming", "running", elapsed, read, 7, watermark, 0, operators)


def test_the_line_says_what_a_person_wants_to_know() -> None:
    operators = (_operator("window-1", busy=0.83, late=12), _operator("read-1", busy=0.2, errors=3))
    assert summary(_status(operators=operators), 45_678.0, NOW) == (
        "delays: 1,000 read · 45.7 k/s · watermark 2013-01-01 09:58:30 (1 min 30 s behind) · 7 written · "
        "12 late · 3 bad · window-1 83% busy"
    )


def _checkpointed(number: int | None, *, failed: int = 0, restarts: int = 0) -> JobStatus:
    checkpoint = CheckpointStatus(number, 75.0, 0.1, 3 << 20, number or 0, failed)
    return replace(_status(), checkpoint=checkpoint, restarts=restarts)


def test_the_line_says_how_old_and_large_the_last_checkpoint_is() -> None:
    line = summary(_checkpointed(12, restarts=2), 0.0, NOW)
    assert line.endswith("7 written · checkpoint 12 (1 min 15 s ago, 3.00 MiB) · 2 restarts")
    assert summary(_checkpointed(None), 0.0, NOW).endswith("7 written · no checkpoint yet")
    assert summary(_checkpointed(None, failed=1), 0.0, NOW).endswith("no checkpoint yet, 1 failed")
    assert summary(_checkpointed(12, failed=3), 0.0, NOW).endswith("3.00 MiB, 3 failed)")
    assert "checkpoint" not in summary(_status(), 0.0, NOW)


def test_the_ending_says_which_checkpoint_was_the_last_and_how_often_it_was_restarted() -> None:
    result = JobResult("delays", "streaming", 2.0, {}, {}, restarts=1)
    assert ending(result).endswith("0/s · 1 restart")
    last = CheckpointStatus(12, 0.0, 0.1, 3, 12, 0)
    assert ending(replace(result, restarts=0, checkpoint=last)).endswith("0/s · checkpoint 12")
    none = CheckpointStatus(None, 0.0, 0.0, 0, 0, 2)
    assert ending(replace(result, checkpoint=none)).endswith(
        "no checkpoint · 2 checkpoints failed · 1 restart"
    )
    assert "interrupted" in ending(result, interrupted=True)


@pytest.mark.parametrize("ended", [False, True])
def test_without_a_watermark_there_is_no_lag(ended: bool) -> None:
    status = replace(_status(), watermark=None, ended=ended)
    assert "watermark" not in summary(status, 0.0, NOW)


def test_the_rate_is_smooth_and_starts_with_the_first_look() -> None:
    rate = SmoothedRate()
    assert rate.observe(_status(1.0, 1_000)) == 1_000
    assert rate.observe(_status(2.0, 3_000)) == pytest.approx(1_300)
    assert rate.observe(_status(2.0, 3_000)) == pytest.approx(1_300)


def test_no_rate_is_negative_after_a_restart() -> None:
    rate = SmoothedRate()
    rate.observe(_status(1.0, 100))
    assert 0 < rate.observe(_status(2.0, 10)) < 100


def test_a_terminal_shows_one_line_that_is_redrawn_and_then_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    terminal = _Terminal()
    with ProgressLine(terminal, _StoppedClock()) as line:
        line.update(_status())
        line.update(_status(2.0, 2_000))
    shown = terminal.getvalue()
    assert "\n" not in shown
    drawn = shown.split("\r\x1b[2K")
    assert [text[:19] for text in drawn] == ["", "delays: 1,000 read ", "delays: 2,000 read ", ""]
    assert all(len(text) <= 29 for text in drawn)


def test_what_the_job_prints_goes_above_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with ProgressLine(terminal, _StoppedClock()) as line:
        line.update(_status())
        sys.stdout.write("half")
        line.update(_status())
        sys.stdout.write(" a line\n")
        line.update(_status())
    assert sys.stdout is terminal
    wipe = "\r\x1b[2K"
    drawn, half, rest = terminal.getvalue().partition(f"{wipe}half a line\n{wipe}")
    assert half
    assert drawn.startswith(f"{wipe}delays")
    assert rest.startswith("delays")


def test_what_is_logged_goes_above_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with log_to_stderr("text", "warning"), ProgressLine(terminal, _StoppedClock()) as line:
        line.update(_status())
        logging.getLogger("streamflow.job").warning("job restarts")
        line.update(_status())
    assert sys.stderr is terminal
    wipe = "\r\x1b[2K"
    before, _, after = terminal.getvalue().partition("WARNING job: job restarts\n")
    assert before[: -len("2013-01-01T10:00:00.000Z ")].endswith(wipe)
    assert after.startswith(f"{wipe}delays")


def test_elsewhere_there_is_a_log_line_every_five_seconds(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "streamflow"), LogLines(_StoppedClock()) as lines:
        for second in range(1, 13):
            lines.update(_status(float(second)))
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("delays: 1,000 read")


@pytest.mark.parametrize(
    ("stream", "quiet", "log_format", "kind"),
    [
        (_Terminal(), False, "text", ProgressLine),
        (_Terminal(), False, "json", LogLines),
        (io.StringIO(), False, "text", LogLines),
        (_Terminal(), True, "text", Silent),
    ],
)
def test_the_stream_and_the_format_decide_how_progress_is_shown(
    stream: io.StringIO, quiet: bool, log_format: str, kind: type[object]
) -> None:
    live = is_live(stream, Settings.resolve({"log_format": log_format}, environ={}), quiet=quiet)
    assert isinstance(progress_for(stream, quiet=quiet, live=live), kind)
