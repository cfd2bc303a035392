"""The README's second path with its own programs: January into one topic, delays out of another, the job killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from streamflow.demo.build_data import DATA
from tests.kafka.topics import Topics

ROOT = Path(__file__).parents[2]


@contextmanager
def _running(
    program: str, kafka: Topics, topics: tuple[str, str], *flags: str
) -> Generator[subprocess.Popen[str]]:
    names = [f"--set={name}={value}" for name, value in zip(("flights", "delays"), topics, strict=True)]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamflow", "run", f"examples/kafka/{program}.py", "--quiet",
         f"--set=kafka={kafka.bootstrap}", *names, *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _ends(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


# Airport, start and number of flights, which are exact, and the mean delay, which is summed up in any order.
Windows = dict[tuple[str, str, int], float]


def _windows() -> Windows:
    rows = (
        pl.read_parquet(DATA)
        .filter(pl.col("departed_at").is_not_null(), pl.col("distance") > 500)
        .sort("departed_at")
        .group_by_dynamic(
            "departed_at", every="10m", period="1h", offset="-50m", group_by="origin", closed="left"
        )
        .agg(flights=pl.len(), mean_delay=pl.col("dep_delay").mean())
        .with_columns(pl.col("departed_at").dt.strftime("%Y-%m-%dT%H:%M"))
    )
    return {(origin, start, flights): mean for origin, start, flights, mean in rows.iter_rows()}


def _read(kafka: Topics, topic: str, count: int | None = None) -> Windows:
    rows = [json.loads(record.value or b"") for record in kafka.read(topic, count)]
    windows = {
        (row["origin"], row["window_start"][:16].replace(" ", "T"), row["flights"]): row["mean_delay"]
        for row in rows
    }
    assert len(windows) == len(rows), "a window came twice"
    return windows


@pytest.mark.slow
def test_three_commands_and_a_kill(kafka: Topics, tmp_path: Path) -> None:
    topics, again = (kafka.name(), kafka.name()), kafka.name()
    expected = _windows()
    flags = ["--mode=streaming", f"--checkpoint-dir={tmp_path}", "--checkpoint-interval=200ms"]
    # The job is there before its topics are; once something has been published it is killed.
    with (
        _running("delays", kafka, topics, *flags) as first,
        _running("flights", kafka, topics, "--mode=streaming", "--set=speed=150") as flights,
    ):
        # However slow the machine is, a part of January is still to come when the job is killed.
        kafka.wait_for(topics[0])
        kafka.read(topics[0], 5_000)
        flights.send_signal(signal.SIGSTOP)
        kafka.wait_for(topics[1])
        kafka.read(topics[1], 500)
        first.kill()
        first.wait()
        before = len(kafka.read(topics[1]))
        flights.send_signal(signal.SIGCONT)
        with _running("delays", kafka, topics, *flags) as second:
            # What ends in the last day waits for a later flight.
            closed = {window for window in expected if window[1] < "2013-01-31T00"}
            assert before < len(closed), "it was killed too late to show anything"
            live = _read(kafka, topics[1], len(closed))
            assert closed <= live.keys() <= expected.keys()
            assert live == pytest.approx({window: expected[window] for window in live})
            second.terminate()
            _ends(second)
        # On its way out it has published what was ready.
        live = _read(kafka, topics[1])
        assert live == pytest.approx({window: expected[window] for window in live})

        with _running("delays", kafka, (topics[0], again), "--set=end=latest") as replay:
            _ends(replay)
        kafka.wait_for(again)
        assert _read(kafka, again) == pytest.approx(expected)

        flights.terminate()
        shown = [line.split() for line in _ends(flights).splitlines()]
    assert shown[0] == ["origin", "window_start", "flights", "mean_delay"]
    assert {(row[0], row[1][:16], int(row[2])) for row in shown[1:]} == {
        window for window, mean in live.items() if window[2] > 9 and mean > 98
    }
