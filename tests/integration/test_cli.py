"""The command as a user has it: exit codes and messages; and as a process: signals, closed and full streams, its line
in a terminal."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from streamflow.cli.main import app, main
from tests.architecture.repository import package_modules

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "streamflow"]
PATIENCE = 60.0

WORDS = """
import streamflow as sf
job = sf.Job("words")
lines = job.read(sf.MemorySource([{"word": w} for w in sf.setting("text", "a b a").split()]))
lines.key_by("word").aggregate(n=sf.count()).write(sf.ConsoleSink())
"""
ENDLESS = """
import asyncio
import streamflow as sf

async def ticks():
    n = 0
    while True:
        yield {"n": n}
        n += 1
        await asyncio.sleep(0.01)

job = sf.Job("endless")
job.read(sf.source(ticks)).write(sf.ConsoleSink())
"""
STUCK = """
import itertools
import streamflow as sf

def stuck(row):
    print("stuck", flush=True)
    for _ in itertools.count():
        row
    return row

job = sf.Job("stuck")
job.read(sf.MemorySource([{"n": 1}])).map(stuck).write(sf.ConsoleSink())
"""


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMFLOW_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "200", "NO_COLOR": "1"}


def streamflow(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env={**_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command within this process, for what does not depend on a process."""
    for name in [name for name in os.environ if name.startswith("STREAMFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as during:
            for name, value in {"COLUMNS": "200", "NO_COLOR": "1", **environment}.items():
                during.setenv(name, value)
            during.setattr(sys, "argv", ["streamflow", *arguments])
            capsys.readouterr()
            code = main()
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"words.py": WORDS, "endless.py": ENDLESS, "stuck.py": STUCK}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_job_runs_and_says_how_it_went(folder: Path) -> None:
    done = streamflow("run", "words.py", cwd=folder)
    assert done.returncode == 0
    assert "a" in done.stdout
    *logged, told = done.stderr.splitlines()
    assert told.startswith("words done (batch): 3 read · 2 written · ")
    assert [line.partition(" INFO ")[2] for line in logged[:2]] == [
        "job words: job started mode=batch",
        "job words: job is running",
    ]


def test_all_that_is_said_can_be_json(folder: Path, here: Command) -> None:
    done = streamflow("run", "words.py", "--set", "log_format=json", cwd=folder)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["message"] for line in lines if line["logger"] == "streamflow.job"] == [
        "job started",
        "job is running",
        "job finished",
    ]
    assert (lines[-1]["job"], lines[-1]["read"], lines[-1]["written"]) == ("words", 3, 2)
    (folder / "raises.py").write_text(
        "import streamflow as sf\n"
        'job = sf.Job("raises")\n'
        "numbers = job.read(sf.MemorySource([{'n': 0}]))\n"
        "numbers.map(lambda row: {'x': 8 // row['n']}, schema={'x': sf.Int64}).named('inverse').collect()\n"
    )
    failed = here("run", "raises.py", "--set", "log_format=json")
    error = json.loads(failed.stderr.splitlines()[-1])
    assert (failed.returncode, error["level"], error["message"]) == (1, "error", "job failed")


def test_the_result_as_json(here: Command, folder: Path) -> None:
    (folder / "quiet.py").write_text(WORDS.replace("write(sf.ConsoleSink())", "collect()"))
    done = here("run", "quiet.py", "--json", "--quiet", "--mode", "micro-batch")
    assert (done.returncode, done.stderr) == (0, "")
    result: dict[str, Any] = json.loads(done.stdout)
    assert (result["job"], result["mode"], result["stopped"]) == ("words", "micro-batch", False)
    assert sum(result["records_in"].values()) >= 3


def test_a_job_is_told_its_settings(here: Command) -> None:
    done = here("run", "words.py", "--set", "text=x y x z", "--set", "checkpoint_interval=1s", "--quiet")
    assert done.returncode == 0
    assert done.stderr == ""
    assert sorted(line.split()[1:] for line in done.stdout.splitlines()[1:]) == [
        ["x", "2"],
        ["y", "1"],
        ["z", "1"],
    ]


GOLDEN = {
    "missing file": (["run", "word.py"], 2, "error: no file word.py\n  hint: did you mean words.py?\n"),
    "no job": (
        ["run", "none.py"],
        2,
        'error: none.py has no job\n  hint: assign one at the top level of the file: job = sf.Job("name")\n',
    ),
    "syntax error": (
        ["run", "syntax.py"],
        2,
        "error: syntax.py, line 2: invalid syntax\n    x = = 1\n        ^\n",
    ),
    "wrong mode": (
        ["run", "words.py", "--mode", "steaming"],
        2,
        (
            "error: mode is 'steaming', not one of auto, streaming, micro-batch, batch\n"
            "  hint: did you mean 'streaming'?\n"
        ),
    ),
    "wrong parallelism": (
        ["run", "words.py", "--parallelism", "0"],
        2,
        "error: parallelism is 0\n  hint: it must be at least 1 and at most 32768\n",
    ),
    "set without a value": (
        ["run", "words.py", "--set", "restore"],
        2,
        "error: --set 'restore' is not key=value\n  hint: write it like --set restart_delay=20ms\n",
    ),
    "unknown format": (
        ["plan", "words.py", "--format", "mermade"],
        2,
        "error: no format 'mermade'; there are: mermaid, svg, text\n  hint: did you mean 'mermaid'?\n",
    ),
    "unknown option": (
        ["run", "words.py", "--mod", "batch"],
        2,
        "error: Unknown option: --mod. Did you mean --mode?\n  hint: see streamflow run --help\n",
    ),
    "no file at all": (
        ["run"],
        2,
        'error: Command "run" parameter FILE[:job] requires an argument.\n  hint: see streamflow run --help\n',
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_wrong_usage_is_one_readable_message(case: str, here: Command, folder: Path) -> None:
    (folder / "none.py").write_text("x = 1\n")
    (folder / "syntax.py").write_text("\nx = = 1\n")
    arguments, code, message = GOLDEN[case]
    done = here(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", message)


def test_a_misspelt_setting_is_refused(here: Command) -> None:
    done = here("run", "words.py", "--set", "txet=a")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --set txet: no setting 'txet'; there are: allow_dropped_state")
    assert done.stderr.endswith("hint: did you mean 'text'?\n")
    done = here("run", "words.py", STREAMFLOW_PARALELISM="2")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "error: environment variable STREAMFLOW_PARALELISM names no setting",
    )


def test_an_unknown_column_names_the_line_and_the_nearest(folder: Path) -> None:
    (folder / "bad.py").write_text(WORDS.replace('key_by("word")', 'key_by("wrod")'))
    done = streamflow("run", "bad.py", cwd=folder)
    assert done.returncode == 2
    assert "no column 'wrod'; there are: word" in done.stderr
    assert "bad.py, line 5, in <module>: lines.key_by" in done.stderr
    assert "hint: did you mean 'word'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_function_that_raises_fails_the_job_with_the_record(folder: Path, here: Command) -> None:
    (folder / "raises.py").write_text(
        "import streamflow as sf\n"
        'job = sf.Job("raises")\n'
        "numbers = job.read(sf.MemorySource([{'n': 4}, {'n': 0}]))\n"
        "numbers.map(lambda row: {'x': 8 // row['n']}, schema={'x': sf.Int64}).named('inverse').collect()\n"
    )
    done = streamflow("run", "raises.py", cwd=folder)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "where: operator inverse" in done.stderr
    assert "record: {'n': 0}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in here("run", "raises.py", "--debug").stderr


def test_plans_as_text_and_mermaid(here: Command) -> None:
    text = here("plan", "words.py")
    assert (text.returncode, text.stdout.splitlines()[0]) == (0, "job words")
    physical = here("plan", "words.py", "--physical", "--parallelism", "3")
    assert "×3" in physical.stdout
    mermaid = here("plan", "words.py", "--format", "mermaid")
    assert mermaid.stdout.startswith("flowchart LR\n")


def test_version_and_help(here: Command) -> None:
    assert here("--version").stdout.startswith("streamflow ")
    listed = here("--help")
    assert listed.returncode == 0
    assert [word for word in ("demo", "run", "plan", "bench") if word not in listed.stdout] == []


@pytest.fixture
def endless(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """An unbounded job that has written its first line."""
    with subprocess.Popen(
        [*COMMAND, "run", "endless.py"],
        cwd=folder,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().strip() for _ in range(2)] == ["n", "0"]
        yield process
        if process.poll() is None:
            process.kill()


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 0, "stopped")]
)
def test_a_signal_ends_an_unbounded_job_cleanly(
    endless: subprocess.Popen[str], number: signal.Signals, code: int, word: str
) -> None:
    endless.send_signal(number)
    out, err = endless.communicate(timeout=PATIENCE)
    assert endless.returncode == code
    assert f"endless {word} (streaming): " in err
    assert "Traceback" not in err
    assert out.count("\n") < 10_000


def test_a_second_signal_ends_a_job_whose_function_is_stuck(folder: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "run", "stuck.py"],
        cwd=folder,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        stdout: IO[bytes] | None = process.stdout
        assert stdout is not None
        assert stdout.readline() == b"stuck\n"
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
        assert process.returncode == 130


def test_a_terminal_shows_a_progress_line(folder: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "run", "endless.py"],
        cwd=folder,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    try:
        while b"read-1" not in seen:
            ready, _, _ = select.select([ours], [], [], PATIENCE)
            assert ready, f"nothing but {seen!r}"
            seen += os.read(ours, 4_096)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    finally:
        process.kill()
        os.close(ours)
    assert b"\r\x1b[2Kendless: " in seen
    assert b" read" in seen


PROGRAM = """
import streamflow as sf

job = sf.Job("program")
job.read(sf.MemorySource([{"n": 1}])).write(sf.ConsoleSink())
job.run()
"""


# Each writes its own way to standard output; the others are opened before a command is known.
@pytest.mark.parametrize(
    ("command", "closed"),
    [
        ("-m streamflow run words.py", ">&-"),
        ("-m streamflow run words.py", "2>&-"),
        ("-m streamflow run words.py", "<&- >&- 2>&-"),
        ("-m streamflow plan words.py", ">&-"),
        ("-m streamflow --help", ">&-"),
        ("program.py", ">&-"),
        ("program.py", "2>&-"),
        ("program.py", "<&- >&- 2>&-"),
    ],
)
def test_closed_streams_are_no_reason_to_fail(folder: Path, command: str, closed: str) -> None:
    (folder / "program.py").write_text(PROGRAM)
    line = f"exec {sys.executable} {command} {closed}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=folder, env=_environment(), capture_output=True, check=False
    )
    assert (done.returncode, b"Error" in done.stderr) == (0, False), done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["run words.py", "plan words.py", "--help"])
def test_a_full_disk_behind_standard_output_is_said(folder: Path, command: str) -> None:
    line = f"exec {sys.executable} -m streamflow {command} >/dev/full"
    done = subprocess.run(
        ["sh", "-c", line], cwd=folder, env=_environment(), capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"error: cannot write" in done.stderr
    assert b"standard output: No space left on device" in done.stderr


def test_what_a_terminal_cannot_show_is_written_as_an_escape(folder: Path) -> None:
    done = streamflow("plan", "words.py", cwd=folder, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert r"\u2190 read-1" in done.stdout
    shown = streamflow("run", "words.py", "--set", "text=\u00e4", cwd=folder, PYTHONIOENCODING="ascii")
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize("columns", ["0", "2", "-1", "many"])
def test_a_terminal_may_say_any_width(here: Command, columns: str) -> None:
    for command in (["--help"], ["plan", "words.py"]):
        done = here(*command, COLUMNS=columns)
        assert done.returncode == 0, done.stderr
        assert any("streamflow" in line or "read-1" in line for line in done.stdout.splitlines())


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["plan", "words.py"]])
def test_a_reader_that_has_gone_is_no_error_to_tell(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "words.py").write_text(WORDS)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [*COMMAND, *command],
            stdout=writing,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            text=True,
            timeout=PATIENCE,
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_every_option_that_a_message_names_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    commands = [[name] for name in app] + [["checkpoints", name] for name in app["checkpoints"]]
    for command in commands:
        main([*command, "--help"])
    there = {*re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out), "--help", "--version"}
    option_like = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
    named = {
        (option, file.name)
        for file in package_modules()
        if option_like.search(text := file.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for option in option_like.findall(node.value)
    }
    pips = {("--no-deps", "distribution.py")}
    assert [each for each in sorted(named - pips) if each[0] not in there] == []
