"""The demo as a process: the same results in every mode, equal to Polars' arithmetic on the finished data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from streamflow.demo.build_data import DATA

ROOT = Path(__file__).parents[2]
MODES = ("streaming", "micro-batch", "batch")
POLARS = {
    name: value for name, value in os.environ.items() if name in ("_RJEM_MALLOC_CONF", "POLARS_MAX_THREADS")
}
"""How tests run Polars, if it is said."""


def _demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streamflow", "demo", *arguments],
        cwd=folder,
        env={**POLARS, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The demo in each mode: its folder and what it said."""
    done: dict[str, tuple[Path, dict[str, Any]]] = {}
    for mode in MODES:
        folder = tmp_path_factory.mktemp(mode)
        ended = _demo(folder, "--mode", mode, "--json", "--quiet", "--out", "out")
        assert (ended.returncode, ended.stderr) == (0, "")
        done[mode] = (folder / "out", json.loads(ended.stdout))
    return done


def test_every_mode_comes_to_the_same_results(runs: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    assert len({said["digest"] for _, said in runs.values()}) == 1
    assert [said["job"]["mode"] for _, said in runs.values()] == list(MODES)
    assert {said["job"]["dropped"] for _, said in runs.values()} == {0}
    assert runs["streaming"][1]["corrections"] > 0
    assert runs["batch"][1]["corrections"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_the_delays_are_those_polars_finds(mode: str, runs: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    event_time = pl.col("departed_at").fill_null(pl.col("scheduled"))
    expected = (
        pl.read_parquet(DATA)
        .with_columns(t=event_time)
        .sort("t")
        .group_by_dynamic(
            "t", every="10m", period="1h", offset="-50m", group_by="origin", closed="left", label="left"
        )
        .agg(
            flights=pl.len().cast(pl.Int64),
            cancelled=pl.col("departed_at").is_null().sum().cast(pl.Int64),
            mean_delay=pl.col("dep_delay").mean(),
            worst=pl.col("dep_delay").max(),
        )
        .rename({"t": "window_start"})
        .sort("origin", "window_start")
    )
    actual = pl.read_parquet(runs[mode][0] / "delays.parquet")
    assert (actual["window_end"] - actual["window_start"]).unique().to_list() == [timedelta(hours=1)]
    assert_frame_equal(actual.drop("window_end"), expected, check_dtypes=False, check_column_order=False)


def test_the_aircraft_days_are_those_polars_finds(runs: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    flights = pl.read_parquet(DATA).filter(
        pl.col("departed_at").is_not_null(), pl.col("tailnum").is_not_null()
    )
    pause = pl.col("departed_at").diff().over("tailnum", order_by="departed_at")
    expected = (
        flights.sort("tailnum", "departed_at")
        .with_columns(begins=(pause >= timedelta(hours=8)).fill_null(value=True))
        .with_columns(session=pl.col("begins").cum_sum().over("tailnum"))
        .group_by("tailnum", "session")
        .agg(
            window_start=pl.col("departed_at").min(),
            window_end=pl.col("departed_at").max() + timedelta(hours=8),
            departures=pl.len(),
            airports=pl.col("origin").n_unique(),
            miles=pl.col("distance").sum(),
            worst=pl.col("dep_delay").max(),
        )
        .drop("session")
        .sort("tailnum", "window_start")
    )
    actual = pl.read_parquet(runs["streaming"][0] / "aircraft.parquet")
    assert_frame_equal(actual, expected, check_dtypes=False, check_column_order=False)


def test_the_chart_is_a_picture_of_three_lines(runs: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    chart = ElementTree.fromstring((runs["batch"][0] / "delays.svg").read_text(encoding="utf-8"))
    lines = list(chart.iter("{http://www.w3.org/2000/svg}path"))
    assert len(lines) == 3
    assert len(list(chart.iter("{http://www.w3.org/2000/svg}circle"))) == 3 * 31


def test_a_person_gets_a_table_and_the_place_of_the_chart(tmp_path: Path) -> None:
    ended = _demo(tmp_path, "--mode", "batch", "--out", "here")
    assert (ended.returncode, ended.stderr) == (0, "")
    for expected in (
        "EWR",
        "JFK",
        "LGA",
        "Digest of the results: ",
        "dropped as too late: 0",
        "Chart: here/delays.svg",
    ):
        assert expected in ended.stdout


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    ended = _demo(tmp_path, "--mode", "batch", "--out", "taken")
    assert ended.returncode == 1
    assert (
        ended.stderr
        == "error: cannot write to taken: File exists\n  hint: choose another folder with --out\n"
    )
    ended = _demo(tmp_path, "--speed", "-1")
    assert (ended.returncode, ended.stderr.splitlines()[0]) == (2, "error: --speed is -1")
