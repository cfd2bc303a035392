"""Every example, run with `streamflow run` or as a program, against an independent computation in Polars."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from streamflow.cli.loading import load
from streamflow.cli.main import main
from streamflow.demo.build_data import DATA

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DEPARTED = pl.col("departed_at").fill_null(pl.col("scheduled"))


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def streamflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`streamflow run` of an example in an empty folder, within this process."""
    monkeypatch.chdir(tmp_path)

    def run(example: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        code = main(["run", str(EXAMPLES / example), *arguments])
        done = subprocess.CompletedProcess(arguments, code, *capsys.readouterr())
        assert done.returncode == 0, done.stderr
        return done

    return run


def _words() -> Counter[str]:
    texts = (path.read_text(encoding="utf-8") for path in (EXAMPLES / "data").glob("*.txt"))
    return Counter(word for text in texts for word in re.findall("[a-z]+", text.lower()))


def _loaded(example: str, **settings: Any) -> pl.DataFrame:
    """The rows that an example collects as `out`, run in this process."""
    import sys as interpreter

    job, _ = load(str(EXAMPLES / example))
    job.run(**settings)
    frame: pl.DataFrame = vars(interpreter.modules[f"__job_{Path(example).stem}__"])["out"].frame()
    return frame


def test_every_example_is_tested_here_and_says_how_to_run_it() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in tested
        text = path.read_text(encoding="utf-8")
        assert f"python examples/{path.name}" in text
        assert f"streamflow run examples/{path.name}" in text
        assert len(text.splitlines()) <= 60


def test_readings_are_averaged_by_the_second(tmp_path: Path, streamflow: Command) -> None:
    streamflow("readings.py", "--mode", "batch", "--set", "rows=40000")
    means = pl.concat(pl.read_ndjson(path) for path in (tmp_path / "windows").glob("*.ndjson"))
    assert means.height == 200
    assert means["n"].sum() == 40_000
    assert means["mean"].is_between(0, 1).all()


@pytest.mark.parametrize("parallelism", [1, 2])
def test_words_counted_in_columns(parallelism: int) -> None:
    frame = _loaded("wordcount_columns.py", mode="batch", parallelism=parallelism)
    assert dict(frame.iter_rows()) == _words()


@pytest.mark.parametrize("parallelism", [1, 2])
def test_words_counted_by_functions(parallelism: int) -> None:
    frame = _loaded("wordcount_functions.py", mode="batch", parallelism=parallelism)
    assert {row["word"]: row["value"]["n"] for row in frame.iter_rows(named=True)} == _words()


@pytest.mark.parametrize("example", ["wordcount_columns.py", "wordcount_functions.py"])
def test_word_counts_as_programs(example: str, tmp_path: Path) -> None:
    most = _words().most_common(1)[0]
    said = _run(tmp_path, str(EXAMPLES / example)).stdout
    assert re.search(rf"\b{most[0]}\b", said)
    assert f"{len(_words()):,} different words" in said


@pytest.mark.parametrize("mode", ["streaming", "batch"])
def test_sliding_delays(mode: str, tmp_path: Path, streamflow: Command) -> None:
    streamflow("sliding_delays.py", "--mode", mode, "--set", "out=delays")
    panes = pl.concat(
        [pl.read_ndjson(path) for path in sorted((tmp_path / "delays" / "windows").glob("*.ndjson"))]
    )
    starts = pl.col("window_start").str.to_datetime(time_unit="us", time_zone="UTC", strict=True)
    final = (
        panes.with_columns(starts)
        .sort("flights")
        .unique(["origin", "window_start"], keep="last", maintain_order=True)
        .drop("window_end")
        .sort("origin", "window_start")
    )
    expected = (
        pl.read_parquet(DATA)
        .filter(pl.col("departed_at").is_not_null())
        .sort("departed_at")
        .group_by_dynamic(
            "departed_at", every="10m", period="1h", offset="-50m", group_by="origin", closed="left"
        )
        .agg(flights=pl.len(), mean_delay=pl.col("dep_delay").mean(), worst=pl.col("dep_delay").max())
        .rename({"departed_at": "window_start"})
        .sort("origin", "window_start")
    )
    assert_frame_equal(final, expected, check_dtypes=False, check_column_order=False)


def _sessions() -> pl.DataFrame:
    pause = pl.col("departed_at").diff().over("tailnum", order_by="departed_at")
    return (
        pl.read_parquet(DATA)
        .filter(pl.col("departed_at").is_not_null(), pl.col("tailnum").is_not_null())
        .sort("tailnum", "departed_at")
        .with_columns(session=(pause >= timedelta(hours=8)).fill_null(value=True).cum_sum().over("tailnum"))
        .group_by("tailnum", "session")
        .agg(
            window_start=pl.col("departed_at").min(),
            window_end=pl.col("departed_at").max() + timedelta(hours=8),
            departures=pl.len(),
            miles=pl.col("distance").sum(),
            last_stop=pl.col("dest").last(),
        )
        .drop("session")
    )


@pytest.mark.parametrize("mode", ["streaming", "batch"])
def test_aircraft_sessions(mode: str) -> None:
    frame = _loaded("aircraft_sessions.py", mode=mode)
    expected = _sessions().filter(pl.col("departures") >= 4)
    assert_frame_equal(frame, expected, check_dtypes=False, check_column_order=False, check_row_order=False)


@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
def test_carriers_by_day(mode: str, tmp_path: Path, streamflow: Command) -> None:
    streamflow("micro_batch.py", "--mode", mode, "--set", "out=by-carrier")
    actual = pl.concat([pl.read_parquet(path) for path in (tmp_path / "by-carrier").glob("*.parquet")])
    expected = (
        pl.read_parquet(DATA)
        .group_by("carrier", window_start=DEPARTED.dt.truncate("1d"))
        .agg(
            flights=pl.len(),
            cancelled=pl.col("departed_at").is_null().sum(),
            median_delay=pl.col("dep_delay").quantile(0.5),
        )
    )
    assert_frame_equal(
        actual.drop("window_end"),
        expected,
        check_dtypes=False,
        check_column_order=False,
        check_row_order=False,
    )


def test_micro_batch_as_a_program(tmp_path: Path) -> None:
    assert "slices in" in _run(tmp_path, str(EXAMPLES / "micro_batch.py")).stdout
    assert list((tmp_path / "by-carrier").glob("*.parquet"))


@pytest.mark.parametrize("mode", ["streaming", "batch"])
def test_own_aggregator(mode: str) -> None:
    frame = _loaded("own_aggregator.py", mode=mode)
    flights = pl.read_parquet(DATA).filter(pl.col("departed_at").is_not_null()).sort("departed_at", "flight")
    expected: dict[tuple[str, object], int] = {}
    by_day = flights.group_by("origin", day=pl.col("departed_at").dt.truncate("1d"), maintain_order=True)
    for (origin, day), rows in by_day:
        late = (rows.sort("departed_at", "flight")["dep_delay"] >= 15).to_list()
        expected[str(origin), day] = max(
            (len(list(run)) for is_late, run in groupby(late) if is_late), default=0
        )
    assert {
        (row["origin"], row["window_start"]): row["longest"] for row in frame.iter_rows(named=True)
    } == expected


def test_dead_letters(tmp_path: Path, streamflow: Command) -> None:
    done = streamflow("dead_letters.py")
    assert "2 bad" in done.stderr
    [bad] = (tmp_path / "readings" / "bad").glob("*.ndjson")
    letters = pl.read_ndjson(bad)
    assert letters.height == 2
    assert [record for record in letters["record"] if "warm" in record or '"cels' in record]
    [means] = (tmp_path / "readings" / "means").glob("*.csv")
    assert pl.read_csv(means).sort("sensor").rows() == [("a", 21.0, 2), ("b", 18.0, 1)]


def _alerts() -> tuple[set[tuple[str, object]], list[tuple[str, float]]]:
    alerts: set[tuple[str, object]] = set()
    recoveries: list[tuple[str, float]] = []
    for (origin,), rows in pl.read_parquet(DATA).group_by("origin", maintain_order=True):
        since = rows["scheduled"][0]
        late = (rows["dep_delay"] >= 15).fill_null(value=True).to_list()
        for is_late, run in groupby(zip(rows["scheduled"], late, strict=True), key=lambda row: row[1]):
            times = [time for time, _ in run]
            if is_late:
                since = times[0]
            elif times[0] > rows["scheduled"][0] and times[0] >= since + timedelta(hours=2):
                recoveries.append((str(origin), (times[0] - since) // timedelta(minutes=1)))
                alerts.add((str(origin), since))
        if late[-1]:
            alerts.add((str(origin), since))
    return alerts, recoveries


@pytest.mark.parametrize(("mode", "parallelism"), [("streaming", 1), ("streaming", 2), ("batch", 1)])
def test_delay_alerts(mode: str, parallelism: int) -> None:
    import sys as interpreter

    frame = _loaded("delay_alerts.py", mode=mode, parallelism=parallelism)
    recovered = vars(interpreter.modules["__job_delay_alerts__"])["recoveries"].frame()
    alerts, recoveries = _alerts()
    assert set(frame.select("origin", "since").iter_rows()) == alerts
    assert frame.height == len(alerts)
    assert sorted(recovered.iter_rows()) == sorted(recoveries)


@pytest.mark.parametrize("mode", ["streaming", "batch"])
def test_inherited_delays(mode: str) -> None:
    found = _loaded("inherited_delays.py", mode=mode, parallelism=2)
    flights = pl.read_parquet(DATA).drop_nulls(["departed_at", "tailnum"])
    flights = flights.select("tailnum", "departed_at", "dep_delay")
    late = flights.filter(pl.col("dep_delay") > 60).with_row_index("number")
    before = flights.rename({"departed_at": "before", "dep_delay": "delay_before"})
    distance = pl.col("departed_at") - pl.col("before")
    pairs = late.join(before, on="tailnum").filter(
        distance.is_between(timedelta(hours=1), timedelta(hours=24))
    )
    alone = late.filter(~pl.col("number").is_in(pairs["number"].implode()))
    expected = pl.concat([pairs, alone], how="diagonal").drop("number")
    assert_frame_equal(found, expected.select(found.columns), check_row_order=False)
    assert found.height > late.height


def _line_by_gradient_descent(rows: int, steps: int) -> tuple[float, float]:
    points = [(i * 37 % 1000 / 500 - 1, i * 61 % 100 / 100 - 0.5) for i in range(rows)]
    points = [(x, 1 + 2 * x + noise) for x, noise in points]
    base = slope = 0.0
    for _ in range(steps):
        errors = [(base + slope * x - y, x) for x, y in points]
        base -= 1.5 * math.fsum(error for error, _ in errors) / rows
        slope -= 1.5 * math.fsum(error * x for error, x in errors) / rows
    return base, slope


@pytest.mark.parametrize(("mode", "parallelism"), [("streaming", 1), ("streaming", 2), ("batch", 2)])
def test_allreduce_finds_the_model_of_one_process(mode: str, parallelism: int) -> None:
    frame = _loaded("allreduce.py", mode=mode, parallelism=parallelism)
    expected = _line_by_gradient_descent(rows=1_000, steps=12)
    assert frame.row(0) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx((1, 2), abs=0.02)


def test_allreduce_leaves_the_examples_where_they_are_read(streamflow: Command) -> None:
    done = streamflow("allreduce.py", "--parallelism", "2", "--set", "steps=2", "--json")
    read = json.loads(done.stdout)["records_in"]
    assert read["table-join-2"] == 1_000 + 2  # the model once for each subtask
    assert read["window-2"] <= 20  # sums of a subtask's batches
