"""The message of a failed command, word for word, and its exit code."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from streamflow.cli.failure import ExitCode, describe, exit_code_for, report
from streamflow.cli.main import main
from streamflow.errors import ConfigError, JobDefinitionError, JobFailedError, RecordError, SourceError, Where


def test_an_error_names_its_place_and_what_to_do() -> None:
    error = JobDefinitionError(
        "no column 'orgin'; there are: dest, origin",
        where=Where(operator="filter-1", code="job.py:3 in <module>"),
        hint="did you mean 'origin'?",
    )
    assert describe(error) == (
        "error: no column 'orgin'; there are: dest, origin\n"
        "  where: operator filter-1, job.py:3 in <module>\n"
        "  hint: did you mean 'origin'?"
    )


def test_a_bad_record_is_shown() -> None:
    error = RecordError("no number", record={"x": "y"}, where=Where(split="a.ndjson", offset="line 7"))
    assert describe(error) == "error: no number\n  where: split a.ndjson, line 7\n  record: {'x': 'y'}"


def test_lines_of_a_long_message_stay_under_it() -> None:
    assert describe(ConfigError("a.py, line 1: invalid syntax\nx = = 1\n    ^")) == (
        "error: a.py, line 1: invalid syntax\n    x = = 1\n        ^"
    )


def test_an_unforeseen_failure_says_how_to_get_the_traceback() -> None:
    failed = JobFailedError("task window-1 failed")
    failed.__cause__ = ZeroDivisionError("division by zero")
    assert describe(failed) == (
        "error: task window-1 failed\n"
        "  cause: ZeroDivisionError: division by zero\n"
        "  hint: run the command again with --debug for the traceback"
    )
    assert describe(KeyError("x")) == (
        "error: unforeseen KeyError: 'x'\n  hint: run the command again with --debug for the traceback"
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), ExitCode.USAGE),
        (JobDefinitionError("x"), ExitCode.USAGE),
        (SourceError("x"), ExitCode.FAILED),
        (ValueError("x"), ExitCode.FAILED),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    ],
)
def test_exit_codes(error: BaseException, code: ExitCode) -> None:
    assert exit_code_for(error) == code


def test_a_traceback_is_printed_only_on_request() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        quiet, loud = io.StringIO(), io.StringIO()
        report(error, debug=False, stream=quiet)
        report(error, debug=True, stream=loud)
    assert "Traceback" not in quiet.getvalue()
    assert "test_failure.py" in loud.getvalue()
    assert loud.getvalue().endswith(quiet.getvalue())


def test_an_interrupt_while_a_file_is_loaded_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text("raise KeyboardInterrupt\n")
    for command in ("run", "plan", "simulate"):
        assert main([command, str(tmp_path / "a.py")]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n" * 3
