"""`streamflow simulate`: what it prints, how it ends, and that what it prints runs a failing seed again."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from streamflow.cli.main import main
from streamflow.cli.simulate_share import Share

ROOT = Path(__file__).resolve().parents[2]

JOB = """
import streamflow as sf

rows = [{"k": "ab"[n % 2], "n": n} for n in range(sf.setting("rows", 12))]
job = sf.Job("totals")
job.read(sf.MemorySource(rows)).key_by("k").aggregate(n=sf.sum("n")).collect()
"""

WRONG = """
import streamflow as sf

class Numbered(sf.KeyedProcess):
    count = sf.ValueState(int, default=0)

    def on_event(self, event, ctx):
        self.count.update(self.count.value() + 1)
        ctx.emit({"n": event["n"], "number": self.count.value()})

rows = [{"k": "a", "n": n} for n in range(9)]
wrong = sf.Job("wrong")
wrong.read(sf.MemorySource(rows)).key_by("k").process(Numbered).collect()
"""

AWAY = """
import streamflow as sf

async def unreachable(start):
    raise sf.SourceError("the broker is away", hint="start it")
    yield start

away = sf.Job("away")
away.read(sf.source(unreachable)).collect()
"""


CHATTY = """
import streamflow as sf

print("a file may print")

def shown(row):
    print("and a function, too")
    return row

chatty = sf.Job("chatty")
chatty.read(sf.MemorySource([{"n": 1}])).map(shown).collect()
print(chatty.run())
raise AssertionError("the file is not read beyond its run")
"""


ONE_SHARE = ["--seeds", "20", "--shares", "1"]
"""A share is a process of its own."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "away.py").write_text(AWAY)
    (tmp_path / "chatty.py").write_text(CHATTY)
    return tmp_path


def streamflow(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_seeds_over_two_processes(folder):
    done = streamflow(folder, "streamflow", "simulate", "job.py", "--seeds", "7", "--shares", "2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["job"], report["seeds"], report["failures"]) == ("totals", 7, [])
    assert report["rows"] == {"read-1": 12}
    assert "commit.before" in report["reached"]
    assert report["trace"] is None


def test_one_seed_is_told_with_its_trace(folder):
    words = ["streamflow", "simulate", "job.py", "--seed", "4711", "--set", "rows=6"]
    first, second = (streamflow(folder, *words) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "totals: 1 seed" in first.stdout
    assert "read-1: 6 records" in first.stdout
    traces = [done.stdout.splitlines()[-1] for done in (first, second)]
    assert traces[0].startswith("trace ")
    assert traces[0] == traces[1]


def test_a_failing_seed_is_told_and_its_replay_fails_alike(folder):
    done = streamflow(folder, "streamflow", "simulate", "wrong.py:wrong", "--rows", "8", *ONE_SHARE)
    assert done.returncode == 1
    assert "the results are not those of the batch run" in done.stderr
    replay = done.stderr.splitlines()[-1].removeprefix("replay: ")
    assert replay.startswith("streamflow simulate wrong.py:wrong --seed ")
    again = streamflow(folder, *shlex.split(replay))
    assert again.returncode == 1
    assert again.stderr == done.stderr


def test_a_job_that_cannot_be_loaded_is_told_once(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["simulate", "nothing.py"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: no file nothing.py")
    assert told.count("nothing.py") == 1


def test_input_that_cannot_be_read_is_told_without_a_traceback(folder):
    done = streamflow(folder, "streamflow", "simulate", "away.py", *ONE_SHARE)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["error: the broker is away", "  hint: start it"]


def test_a_job_may_print_and_run_itself(folder):
    done = streamflow(folder, "streamflow", "simulate", "chatty.py", "--seeds", "3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seeds"] == 3
    assert done.stderr.count("a file may print") == 1
    assert "the file runs its job by itself; this command runs it instead" in done.stderr
    assert "chatty.py, line 12" in done.stderr


@pytest.mark.parametrize("words", [["--seeds", "0"], ["--first", "-1"], ["--seed", "-1"], ["--rows", "0"]])
def test_no_seeds_are_wrong_usage(folder, words, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["simulate", "job.py", *words]) == 2
    assert "must" in capsys.readouterr().err


def test_shares_are_all_the_seeds():
    whole = Share("job.py", first=10, count=7, rows=5)
    assert [(share.first, share.count) for share in whole.cut(3)] == [(10, 3), (13, 2), (15, 2)]
    assert [(share.first, share.count) for share in Share("job.py", 0, 2, 5).cut(4)] == [(0, 1), (1, 1)]
