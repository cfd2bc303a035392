"""Plans as people see them, kept as text: a change of the planner shows as a difference in these files.

`UPDATE_GOLDEN=1 pytest tests/golden` writes them again; look at the difference before committing it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow import col

FOLDER = Path(__file__).parent / "plans"
FLIGHTS = {"origin": sf.String, "tail": sf.String, "dep_delay": sf.Float64, "departed_at": sf.Datetime}
EVENTS = [{"k": "a", "ts": 0, "v": 1.0, "note": "x"}]


def events(job: sf.Job, **more: Any) -> sf.Stream:
    return job.read(sf.MemorySource(EVENTS), event_time=sf.epoch("ts"), **more)


def departures() -> sf.Job:
    """API §1: the late output is read, so records cross the exchange whole and no partial aggregate goes before it."""
    job = sf.Job("departures")
    flights = job.read(
        sf.FileSource("flights/*.ndjson", schema=FLIGHTS),
        event_time=col("departed_at"),
        watermark=sf.bounded_disorder("30m", idle_after="1m"),
    )
    delays = (
        flights.filter(col("dep_delay").is_not_null())
        .key_by("origin")
        .window(sf.sliding("1h", every="10m"), allowed_lateness="2h")
        .aggregate(flights=sf.count(), mean_delay=sf.mean("dep_delay"), worst=sf.max("dep_delay"))
    )
    delays.write(sf.FileSink("delays"))
    delays.late.write(sf.FileSink("late", format="ndjson"))
    return job


def tumbling() -> sf.Job:
    """Nobody reads late records: partial aggregates are made where the data is read."""
    job = sf.Job("tumbling")
    events(job).key_by("k").window(sf.tumbling("10s")).aggregate(total=sf.sum("v"), n=sf.count()).collect()
    return job


def sessions() -> sf.Job:
    """Windows over the results of windows, whose event time is their last moment."""
    job = sf.Job("sessions")
    visits = events(job).key_by("k").window(sf.session(gap="30m")).aggregate(events=sf.count())
    visits.key_by("k").window(sf.tumbling("1d")).aggregate(visits=sf.count()).named("daily").collect()
    return job


def split_line(row: dict[str, str]) -> list[str]:
    return row["line"].split()


def lower(row: dict[str, str]) -> str:
    return row["word"].lower()


def words_with_functions() -> sf.Job:
    """Python functions: fused, columns behind them again, a combiner."""
    job = sf.Job("words-functions")
    lines = job.read(sf.FileSource("text.txt", format="text"))
    words = lines.flat_map(split_line, schema={"word": sf.String}).map(lower, schema={"word": sf.String})
    words.key_by("word").aggregate(n=sf.count()).collect()
    return job


def words_with_columns() -> sf.Job:
    """The same in expressions, which stay where the file is read."""
    job = sf.Job("words-columns")
    lines = job.read(sf.FileSource("text.txt", format="text"))
    words = (
        lines.select(word=col("line").str.split(" ")).explode("word").select(col("word").str.to_lowercase())
    )
    words.key_by("word").aggregate(n=sf.count()).collect()
    return job


def objects() -> sf.Job:
    """A stream of Python objects: keys and inputs that are functions become columns once."""
    job = sf.Job("objects")
    values = job.read(sf.MemorySource([{"deep": {"k": 1}}], schema=sf.OBJECTS))
    values.key_by(lambda row: row["deep"]["k"]).aggregate(
        total=sf.sum(lambda row: row["deep"]["k"])
    ).collect()
    return job


def branches() -> sf.Job:
    """A union, a split into branches, two readers of one stream, own parallelism."""
    job = sf.Job("branches")
    both = events(job).named("left").union(events(job).named("right"))
    parts = both.split(large=col("v") > 10, small=col("v") < 1)
    parts["large"].with_columns(col("v") * 2).parallel(3).named("doubled").collect()
    parts["small"].collect()
    parts["rest"].drop("note").write(sf.ConsoleSink())
    return job


async def look_up(row: dict[str, Any]) -> dict[str, Any]:
    return row


def errors_and_coroutines() -> sf.Job:
    """Dead letters of a function, and an operator that awaits at the head of a task of its own."""
    job = sf.Job("errors")
    checked = events(job).on_error("skip").map(dict, schema={"k": sf.String, "v": sf.Float64})
    checked.on_error(sf.FileSink("dead", format="ndjson")).map_async(
        look_up, capacity=10, ordered=False, schema={"k": sf.String, "v": sf.Float64}
    ).collect()
    return job


JOBS: list[Callable[[], sf.Job]] = [
    departures,
    tumbling,
    sessions,
    words_with_functions,
    words_with_columns,
    objects,
    branches,
    errors_and_coroutines,
]


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flights").mkdir()
    (tmp_path / "flights" / "january.ndjson").write_text(
        '{"origin": "JFK", "tail": "N1", "dep_delay": 1.5, "departed_at": "2013-01-01T05:17:00Z"}\n'
    )
    (tmp_path / "text.txt").write_text("to be or not to be\n")


def golden(file: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("make", JOBS, ids=lambda make: make.__name__)
def test_text(make: Callable[[], sf.Job]) -> None:
    job = make()
    parts = [
        ("logical", job.plan()),
        ("physical", job.plan(physical=True)),
        ("physical, parallelism 2", job.plan(physical=True, parallelism=2)),
    ]
    text = f"# {make.__doc__}\n" + "".join(f"\n## {title}\n{plan.text()}\n" for title, plan in parts)
    golden(FOLDER / f"{make.__name__}.txt", text)


@pytest.mark.parametrize("make", [departures, branches], ids=lambda make: make.__name__)
def test_mermaid(make: Callable[[], sf.Job]) -> None:
    job = make()
    text = f"{job.plan().mermaid()}\n\n{job.plan(physical=True, parallelism=2).mermaid()}\n"
    golden(FOLDER / f"{make.__name__}.mmd", text)


def test_the_same_program_gives_the_same_plan() -> None:
    first, second = (departures().plan(physical=True, parallelism=2).text() for _ in range(2))
    assert first == second


def test_nothing_is_left_over() -> None:
    expected = {f"{make.__name__}.txt" for make in JOBS} | {"departures.mmd", "branches.mmd"}
    assert {file.name for file in FOLDER.iterdir()} == expected
