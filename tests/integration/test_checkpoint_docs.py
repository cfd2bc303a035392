"""The commands of docs/checkpoints.md, run one after the other as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import polars as pl
import pytest

import streamflow as sf
from streamflow.cli.loading import load
from streamflow.cli.main import main
from streamflow.config import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^\$ streamflow (.+)$", TEXT, re.MULTILINE)
URL = "http://127.0.0.1:7070"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("STREAMFLOW_")]:
        monkeypatch.delenv(name)
    (tmp_path / "visits.py").write_text(PROGRAMS[0])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.ndjson").write_text('{"page": "/"}\n{"page": "/help"}\n{"page": "/"}\n')
    return tmp_path


def started(folder: Path, arguments: list[str]) -> tuple[subprocess.Popen[str], str]:
    """A job in a process of its own, at any free port, once its first checkpoint has been told of."""
    arguments = ["0" if each == "7070" else each for each in arguments]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamflow", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    url = ""
    for line in process.stderr:
        if line.startswith("control: "):
            url = line.removeprefix("control: ").strip()
        if " checkpoint " in line or (
            "run" in arguments and "--checkpoint-interval" not in arguments and url
        ):
            return process, url
    raise AssertionError(f"{arguments} ended with {process.wait()}")


def test_every_command_works(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running: subprocess.Popen[str] | None = None
    url = ""
    try:
        for command in COMMANDS:
            arguments = shlex.split(command)
            if arguments[0] == "run":
                assert running is None, "the page runs two jobs at once"
                running, url = started(folder, arguments)
                continue
            with chdir(folder):
                code = main([url if each == URL else each for each in arguments])
            told = capsys.readouterr()
            assert (code, told.err) == (0, ""), command
            if arguments[0] == "stop":
                assert running is not None
                running.communicate(timeout=60)
                assert running.returncode == 0
                running = None
        assert running is None, "the page leaves a job running"
        assert pl.read_parquet(folder / "often.parquet").rows() == [("/", 2)]
        saved = sf.read_checkpoint(folder / "checkpoints")
        assert dict(saved.frame("count", "n").rows()) == {"/": 2, "/help": 1}
    finally:
        if running is not None:
            running.kill()
            running.communicate()


def test_every_kind_of_command_is_shown() -> None:
    shown = {tuple(command.split()[: 2 if command.startswith("checkpoints") else 1]) for command in COMMANDS}
    assert shown == {
        ("run",), ("savepoint",), ("stop",), ("state",), ("checkpoints", "list"), ("checkpoints", "show"),
        ("checkpoints", "verify"), ("checkpoints", "prune"),
    }  # fmt: skip


def test_every_setting_in_the_table_is_one_with_that_default() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", TEXT, re.MULTILINE))
    settings = {name: says for name, says in table.items() if name in Settings.names()}
    assert {"checkpoint_interval", "checkpoint_keep", "restore", "restart"} <= set(settings)
    assert "10 s" in settings["checkpoint_interval"]
    assert Settings().checkpoint_interval == 10_000_000
    for name in ("checkpoint_keep", "checkpoint_physical_every", "checkpoint_failures"):
        assert re.search(rf"\b{getattr(Settings(), name)}\b", settings[name]), name


def test_a_job_starts_with_given_state_as_the_page_says(folder: Path) -> None:
    [program] = [each for each in PROGRAMS if "sf.bootstrap" in each]
    with chdir(folder):
        job, _ = load("visits.py")
        exec(program.partition("job.run")[0], {"pl": pl, "sf": sf, "job": job})  # noqa: S102 - the page's own program
        assert sf.read_checkpoint("checkpoints").frame("count", "n").rows() == [("/", 1200), ("/help", 34)]
