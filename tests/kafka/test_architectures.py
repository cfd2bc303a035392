"""Lambda and Kappa as their examples show them: run as programs, and judged against Polars over all flights."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from streamflow.demo.build_data import DATA
from tests.kafka.topics import Topics

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "kafka"
DAY = pl.col("scheduled").dt.date()
ORDINAL = pl.col("scheduled").dt.ordinal_day()
DAYS = {"flights": pl.len(), "minutes": pl.sum("dep_delay").cast(pl.Int64)}


@contextmanager
def _run(example: str, kafka: Topics, tmp_path: Path, *topics: str) -> Generator[tuple[str, Path]]:
    """The example's printed text, and its folder, which gives its topics their names."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / example), kafka.bootstrap],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(tmp_path),
            "POLARS_FMT_MAX_COLS": "9",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    folders = list(tmp_path.iterdir())
    for topic in topics:
        if done.returncode == 0:
            kafka.wait_for(topic.format(folders[0].name))
    assert done.returncode == 0, done.stderr
    [folder] = folders
    yield done.stdout, folder


def _tables(printed: str) -> Iterator[list[list[str]]]:
    """The rows of each table that Polars printed."""
    for table in printed.split("╡")[1:]:
        lines = table[: table.index("└")].splitlines()
        yield [[cell.strip() for cell in line.strip("│").split("┆")] for line in lines if "┆" in line]


def _values(kafka: Topics, topic: str) -> pl.DataFrame:
    """A topic's values with their places, in the order of each partition."""
    return pl.DataFrame(
        [
            {**json.loads(record.value or b""), "partition": record.partition, "offset": record.offset}
            for record in kafka.read(topic)
        ]
    )


def _time(name: str) -> pl.Expr:
    return pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC", strict=True)


@pytest.mark.slow
def test_lambda_counts_each_flight_in_one_of_the_two_views(kafka: Topics, tmp_path: Path) -> None:
    topics = [
        "{}-flights",
        *(
            f"{before}{{}}-speed-{n}{after}"
            for n in (1, 2)
            for before, after in (("", ""), ("streamflow.", ".progress"))
        ),
    ]
    with _run("lambda_views.py", kafka, tmp_path, *topics) as (printed, folder):
        departed = pl.read_parquet(DATA).filter(pl.col("dep_delay").is_not_null())
        tables = list(_tables(printed))
        assert len(tables) == 3
        for last, rows in zip((20, 25, 32), tables, strict=True):
            expected = (
                departed.filter(ORDINAL.le(last))
                .group_by("origin")
                .agg(flights=pl.len(), mean_delay=pl.col("dep_delay").mean())
                .sort("origin")
            )
            for (origin, flights, of_batch, of_speed, mean), truth in zip(rows, expected.rows(), strict=True):
                assert (origin, int(flights), float(mean)) == (*truth[:2], pytest.approx(truth[2], abs=1e-5))
                assert int(of_batch) + int(of_speed) == int(flights)
                assert int(of_batch) > 0
                assert last == 25 or int(of_speed) > 0, "all of it is history: nothing was shown"

        # The horizon, from what is in files and topics: what is archived is every offset below it, each once.
        archive = pl.read_parquet(folder / "archive" / "*.parquet")
        live = _values(kafka, f"{folder.name}-flights").with_columns(_time("scheduled"))
        held = archive.group_by("partition").agg(pl.len(), pl.n_unique("offset"), end=pl.max("offset") + 1)
        for _, rows_held, offsets_held, end in held.rows():
            assert rows_held == offsets_held == end
        after = live.join(held.select(pl.col("partition").cast(pl.Int64), "end"), on="partition").filter(
            pl.col("offset") >= pl.col("end")
        )
        assert archive.height + after.height == pl.read_parquet(DATA).height
        by = ["origin", "day"]
        for records, view in (
            (archive, pl.read_parquet(folder / "batch-2.parquet")),
            (
                after,
                _values(kafka, f"{folder.name}-speed-2")
                .sort("offset")
                .unique(by, keep="last")
                .with_columns(pl.col("day").str.to_date())
                .drop("partition", "offset"),
            ),
        ):
            expected = (
                records.filter(pl.col("dep_delay").is_not_null()).group_by("origin", day=DAY).agg(**DAYS)
            )
            assert_frame_equal(view, expected, check_dtypes=False, check_row_order=False)


def _hours(delay: pl.Expr) -> pl.DataFrame:
    end = pl.col("scheduled").dt.truncate("1h") + timedelta(hours=1)
    return (
        pl.read_parquet(DATA)
        .group_by("origin", window_end=end)
        .agg(flights=pl.len(), mean_delay=delay.mean())
    )


@pytest.mark.slow
def test_kappa_readers_see_one_series(kafka: Topics, tmp_path: Path) -> None:
    versions = ["{}-delays-v1", "{}-delays-v2"]
    topics = ["{}-flights", "{}-pointer", *versions, *(f"streamflow.{topic}.progress" for topic in versions)]
    with _run("kappa_switch.py", kafka, tmp_path, *topics) as (printed, folder):
        old, new = (topic.format(folder.name) for topic in versions)
        delay = pl.col("dep_delay")
        before, after = _hours(delay), _hours(delay.clip(0))

        first, second = kafka.read(f"{folder.name}-pointer")
        assert (first.key, second.key) == (old.encode(), new.encode())
        switch = datetime.fromisoformat(json.loads(second.value or b"")["behind"])
        series = pl.read_parquet(folder / "hours.parquet")
        until = series["window_end"].max()
        columns, end = before.columns, pl.col("window_end")

        # Open hours are not published: as far as the slowest partition has come.
        flights = _values(kafka, f"{folder.name}-flights").with_columns(_time("scheduled"))
        complete = flights.group_by("partition").agg(pl.max("scheduled"))["scheduled"].min()
        assert complete - until < timedelta(hours=3)  # type: ignore[operator]

        def same(frame: pl.DataFrame, expected: pl.DataFrame) -> None:
            assert_frame_equal(frame.select(columns), expected, check_dtypes=False, check_row_order=False)

        expected = pl.concat([before.filter(end <= switch), after.filter(end > switch, end <= until)])
        same(series, expected)
        assert set(series.filter(end <= switch)["topic"]) == {old}
        assert set(series.filter(end > switch)["topic"]) == {new}
        # Each version's own topic is whole, too: the old up to where it was stopped, the new from the start.
        same(_values(kafka, old).with_columns(_time("window_end")), before.filter(end <= switch))
        same(_values(kafka, new).with_columns(_time("window_end")), after.filter(end <= until))

        [shown] = _tables(printed)
        assert sum(int(hours) for _, hours, *_ in shown) == expected.height
        assert f"{expected.height:,} hours, {expected.height:,} different" in printed


def test_the_page_goes_on_live_where_its_archive_ends(
    kafka: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its two programs as they stand, but for the names, and an end."""
    topic = kafka.topic(3)
    flights = pl.read_parquet(DATA).head(3_000)
    records = [(row["tailnum"], json.dumps(row, default=datetime.isoformat)) for row in flights.to_dicts()]
    page = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")
    text = page.replace('"flights"', f'"{topic}"').replace("127.0.0.1:9092", kafka.bootstrap)
    archive, backfill = re.findall("```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "archive.py").write_text(archive, encoding="utf-8")
    ended = backfill.replace("include=PLACE)", 'include=PLACE, end="latest")')
    (tmp_path / "backfill.py").write_text(archive + ended, encoding="utf-8")

    monkeypatch.chdir(tmp_path)
    kafka.produce(topic, records[:2_000])
    runpy.run_path("archive.py")["archive"].run()
    kafka.produce(topic, records[2_000:])
    # Late records would show: many batches a file.
    result = runpy.run_path("backfill.py")["job"].run(mode="streaming", batch_rows=100)
    assert result.dropped == 0
    said = capsys.readouterr().out
    counted = [int(line.split()[-1]) for line in said.splitlines() if line.startswith(("EWR", "JFK", "LGA"))]
    assert sum(counted) == 3_000, said
