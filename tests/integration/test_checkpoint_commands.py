"""A job of a process of its own: what its operator does with it from another terminal, and with what it leaves."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamflow.cli.main import main

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, "-m", "streamflow", "run", "counts.py"]
PATIENCE = 60.0

COUNTS = """
import asyncio
import streamflow as sf

class Counts(sf.KeyedProcess):
    n = sf.ValueState(int, default=0)
    output = {"key": sf.String, "n": sf.Int64}

    def on_event(self, event, ctx):
        self.n.update(self.n.value() + 1)
        ctx.emit({"key": ctx.key, "n": self.n.value()})

job = sf.Job("counts")
source = sf.FileSource("in/*.ndjson", watch="50ms", schema={"key": sf.String})
job.read(source).key_by("key").process(Counts).named(sf.setting("id", "counted")).write(
    sf.FileSink("out/", format="ndjson")
)
"""


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMFLOW_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
        "NO_COLOR": "1",
        **more,
    }


@dataclass
class Told:
    """A command's output, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def streamflow(*arguments: object, cwd: Path) -> Told:
    """A command that only looks or asks, in this process: a new one would take longer than all that it does."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Told(code, out.getvalue(), err.getvalue())


class Running:
    """`streamflow run` in a process of its own, and where it answers."""

    def __init__(self, folder: Path, *arguments: str, place: str = "checkpoints", **more: str) -> None:
        command = [*RUN, "--mode", "streaming", "--checkpoint-interval", "200ms"]
        self.process = subprocess.Popen(
            [*command, "--checkpoint-dir", place, "--control-port", "0", *arguments],
            cwd=folder,
            env=environment(**more),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.told = ""
        while not (found := re.search(r"^control: (http://\S+)$", self.told, re.MULTILINE)):
            line = self.process.stderr.readline()
            assert line, f"ended with {self.process.wait()}: {self.told}"
            self.told += line
        self.url = found[1]

    def status(self, token: str | None = None) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.url}/status")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)
        except OSError as error:
            raise AssertionError(f"no answer ({error}); ended with {self.ended()}: {self.told}") from error

    def until(self, what: Callable[[dict[str, Any]], bool], token: str | None = None) -> dict[str, Any]:
        """Ask until it is so: the clock is the job's own."""
        while not what(status := self.status(token)):
            assert status["elapsed"] < PATIENCE, status
            time.sleep(0.05)
        return status

    def ended(self) -> int:
        """Wait for its end: the exit code."""
        assert self.process.stderr is not None
        self.told += self.process.stderr.read()
        return self.process.wait(PATIENCE)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("STREAMFLOW_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "counts.py").write_text(COUNTS)
    (tmp_path / "in").mkdir()
    add(tmp_path, "a.ndjson", "xyx")
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*arguments: str, **more: str) -> Running:
        started.append(Running(folder, *arguments, **more))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        assert each.process.stderr is not None
        each.process.stderr.close()


def add(folder: Path, name: str, keys: str) -> None:
    """A file with a line for each key, which appears whole."""
    (folder / "new").write_text("".join(f'{{"key": "{key}"}}\n' for key in keys))
    (folder / "new").rename(folder / "in" / name)


def written(folder: Path) -> list[tuple[str, int]]:
    rows = [
        json.loads(line)
        for path in (folder / "out").glob("*.ndjson")
        for line in path.read_text().splitlines()
    ]
    return sorted((row["key"], row["n"]) for row in rows)


def read_all(count: int) -> Callable[[dict[str, Any]], bool]:
    return lambda status: status["records_read"] >= count


def test_stop_saves_what_the_next_start_goes_on_from(folder: Path, run: Callable[..., Running]) -> None:
    job = run()
    job.until(read_all(3))
    stopped = streamflow("stop", job.url, cwd=folder)
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert re.fullmatch(r"counts stopped \(streaming\): 3 read · .* · checkpoint \d+\n", stopped.stdout)
    assert job.ended() == 0
    assert "counts stopped (streaming): 3 read" in job.told
    assert written(folder) == [("x", 1), ("x", 2), ("y", 1)]
    add(folder, "b.ndjson", "xz")
    again = run("--parallelism", "3")
    again.until(read_all(2))
    assert streamflow("stop", again.url, cwd=folder).returncode == 0
    assert again.ended() == 0
    assert written(folder) == [("x", 1), ("x", 2), ("x", 3), ("y", 1), ("z", 1)]


def test_a_savepoint_is_kept_and_started_from(folder: Path, run: Callable[..., Running]) -> None:
    job = run()
    # Until all is visible: what a savepoint has sealed itself is looked for beside the output when it is restored.
    job.until(lambda _: len(written(folder)) == 3)
    saved = streamflow("savepoint", job.url, "saves", cwd=folder)
    assert saved.returncode == 0, saved.stderr
    place = saved.stdout.strip()
    assert re.fullmatch(rf"{re.escape(str(folder))}/saves#\d+", place)
    add(folder, "b.ndjson", "xxx")
    job.until(read_all(6))
    assert streamflow("stop", job.url, cwd=folder).returncode == 0
    assert job.ended() == 0
    [row] = json.loads(streamflow("checkpoints", "list", "saves", "--json", cwd=folder).stdout)
    assert (row["kind"], row["job"]) == ("savepoint", "counts")
    state = streamflow("state", place, "--query", "select * from n", "--json", cwd=folder)
    assert json.loads(state.stdout) == [{"key": "x", "value": 2}, {"key": "y", "value": 1}]
    other = folder / "other"
    (folder / "out").rename(other)
    branch = run("--restore", place, place="branch")
    branch.until(read_all(3))
    assert streamflow("stop", branch.url, cwd=folder).returncode == 0
    assert branch.ended() == 0
    assert written(folder) == [("x", 3), ("x", 4), ("x", 5)]


def test_what_a_run_leaves_is_listed_shown_verified_read_and_pruned(
    folder: Path, run: Callable[..., Running]
) -> None:
    job = run()
    job.until(lambda status: read_all(3)(status) and status["checkpoint"]["taken"] >= 4)
    assert streamflow("stop", job.url, cwd=folder).returncode == 0
    assert job.ended() == 0
    rows = json.loads(streamflow("checkpoints", "list", "checkpoints", "--json", cwd=folder).stdout)
    numbers = [row["number"] for row in rows]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) >= 3
    shown = streamflow("checkpoints", "show", "checkpoints", cwd=folder)
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"checkpoint {numbers[0]} of counts\n")
    assert "a.ndjson" in streamflow("checkpoints", "show", "checkpoints", "--json", cwd=folder).stdout
    assert streamflow("checkpoints", "verify", "checkpoints", "all", cwd=folder).returncode == 0
    listed = streamflow("state", "checkpoints", cwd=folder)
    assert re.search(
        r"^counted +process +1 +.* n, event-timers, processing-timers$", listed.stdout, re.MULTILINE
    )
    target = folder / "n.parquet"
    said = streamflow(
        "state", f"checkpoints#{numbers[0]}", "--operator", "counted", "--to", target, cwd=folder
    )
    assert said.stdout == f"2 rows in {target}\n"
    assert pl.read_parquet(target).rows() == [("x", 2), ("y", 1)]
    pruned = streamflow("checkpoints", "prune", "checkpoints", "--keep", 1, "--yes", "--json", cwd=folder)
    assert json.loads(pruned.stdout)["removed"]
    assert streamflow("checkpoints", "verify", "checkpoints", "all", cwd=folder).returncode == 0
    job_folder = folder / "checkpoints" / "counts"
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (job_folder, *job_folder.rglob("*"))}
    assert {path: mode for path, mode in modes.items() if mode not in (0o600, 0o700)} == {}


def test_a_killed_job_goes_on_and_says_nothing_twice(folder: Path, run: Callable[..., Running]) -> None:
    job = run()
    job.until(lambda status: read_all(3)(status) and status["checkpoint"]["number"] is not None)
    job.process.send_signal(signal.SIGKILL)
    job.process.wait()
    add(folder, "b.ndjson", "xy")
    again = run()
    again.until(lambda status: status["checkpoint"]["taken"] >= 2 and status["records_written"] >= 2)
    assert streamflow("stop", again.url, cwd=folder).returncode == 0
    assert again.ended() == 0
    assert written(folder) == [("x", 1), ("x", 2), ("x", 3), ("y", 1), ("y", 2)]


def test_a_changed_job_is_refused_until_it_may_drop_state(folder: Path, run: Callable[..., Running]) -> None:
    job = run()
    job.until(read_all(3))
    assert streamflow("stop", job.url, cwd=folder).returncode == 0
    assert job.ended() == 0
    arguments = [
        "run",
        "counts.py",
        "--mode",
        "streaming",
        "--checkpoint-dir",
        "checkpoints",
        "--set",
        "id=renamed",
    ]
    refused = streamflow(*arguments, cwd=folder)
    assert refused.returncode == 1
    assert "counted" in refused.stderr
    assert "allow" in refused.stderr
    assert "Traceback" not in refused.stderr
    changed = run("--set", "id=renamed", "--allow-dropped-state")
    changed.until(lambda status: status["checkpoint"]["taken"] >= 1)
    assert streamflow("stop", changed.url, cwd=folder).returncode == 0
    assert changed.ended() == 0


def test_a_token_is_asked_for(folder: Path, run: Callable[..., Running]) -> None:
    token = "0123456789abcdef0123456789abcdef"
    job = run(STREAMFLOW_CONTROL_TOKEN=token)
    refused = streamflow("stop", job.url, cwd=folder)
    assert refused.returncode == 2
    assert "--token-file" in refused.stderr
    job.until(read_all(3), token)
    (folder / "token").write_text(token)
    assert streamflow("stop", job.url, "--token-file", "token", cwd=folder).returncode == 0
    assert job.ended() == 0
    assert token not in job.told


def test_another_address_without_a_token_is_refused(folder: Path) -> None:
    arguments = ["run", "counts.py", "--control-port", "0", "--set", "control_address=0.0.0.0"]
    refused = streamflow(*arguments, cwd=folder)
    assert refused.returncode == 2
    assert "STREAMFLOW_CONTROL_TOKEN" in refused.stderr
