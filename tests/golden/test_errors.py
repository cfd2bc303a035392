"""The errors of wrong jobs, kept as text: the place, the known names, and the remedy.

`UPDATE_GOLDEN=1 pytest tests/golden` writes them again; look at the difference before committing it.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow import col

FILE = Path(__file__).parent / "errors.txt"
ROWS = [{"origin": "JFK", "ts": 0, "dep_delay": 1.5, "text": "x"}]


def read(job: sf.Job | None = None, **more: Any) -> sf.Stream:
    return (job or sf.Job("wrong")).read(sf.MemorySource(ROWS), **more)


def timed() -> sf.Stream:
    return read(event_time=sf.epoch("ts"))


def window(assigner: Any, **more: Any) -> Any:
    return timed().key_by("origin").window(assigner, **more)


def union_of_two_jobs() -> None:
    read().union(read())


def union_of_other_columns() -> None:
    job = sf.Job("wrong")
    read(job).union(read(job).drop("ts"))


def union_with_and_without_event_time() -> None:
    job = sf.Job("wrong")
    read(job, event_time=sf.epoch("ts")).union(read(job))


def twice_the_same_name() -> None:
    job = sf.Job("wrong")
    read(job).named("flights")
    read(job).named("flights")


def batch_of_an_endless_source() -> None:
    job = sf.Job("wrong")
    job.read(sf.DataGen(rate=10)).collect()
    job.run(mode="batch")


def writes_nothing() -> None:
    job = sf.Job("wrong")
    read(job).filter(col("ts") > 0)
    job.run()


def a_setting_that_is_none() -> None:
    job = sf.Job("wrong")
    read(job).collect()
    job.run(paralelism=2)  # type: ignore[call-arg]


def more_subtasks_than_key_groups() -> None:
    job = sf.Job("wrong")
    read(job).collect()
    job.run(parallelism=200)


WRONG: dict[str, Callable[[], object]] = {
    "unknown column in a filter": lambda: read().filter(col("orgin") == "JFK"),
    "unknown column in select": lambda: read().select("origin", "delay"),
    "unknown column in with_columns": lambda: read().with_columns(late=col("depdelay") > 15),
    "unknown column in rename": lambda: read().rename({"orig": "o"}),
    "unknown column in drop": lambda: read().drop("txt"),
    "unknown key": lambda: read().key_by("orgin"),
    "unknown column in an aggregate": lambda: window(sf.tumbling("10s")).aggregate(m=sf.mean("dep_dely")),
    "unknown event-time column": lambda: read(event_time="departed"),
    "filter that is no yes or no": lambda: read().filter(col("dep_delay") + 1),
    "no event time for a window": lambda: read().key_by("origin").window(sf.tumbling("10s")),
    "watermark without event time": lambda: read(watermark=sf.bounded_disorder("1s")),
    "event time that is a number without a unit": lambda: read(event_time="ts"),
    "event time that is text": lambda: read(event_time=col("text")),
    "negative window size": lambda: sf.tumbling("-10s"),
    "window size of zero": lambda: sf.sliding("0s", every="1s"),
    "window size that is no duration": lambda: sf.tumbling("ten seconds"),
    "window size without a unit": lambda: sf.tumbling(10),  # type: ignore[arg-type]
    "slide of zero": lambda: sf.sliding("10s", every="0s"),
    "offset not shorter than the size": lambda: sf.tumbling("10s", offset="10s"),
    "session gap of zero": lambda: sf.session(gap="0s"),
    "negative allowed lateness": lambda: window(sf.tumbling("10s"), allowed_lateness="-1s"),
    "unknown accumulation": lambda: window(sf.tumbling("10s"), accumulation="retract"),
    "a window that is none": lambda: window("10s"),
    "aggregate without an aggregate": lambda: window(sf.tumbling("10s")).aggregate(),
    "aggregate that is none": lambda: window(sf.tumbling("10s")).aggregate(n="count"),
    "sum of text": lambda: window(sf.tumbling("10s")).aggregate(total=sf.sum("text")),
    "aggregate named like a key": lambda: window(sf.tumbling("10s")).aggregate(origin=sf.count()),
    "aggregate named like a column of every result": lambda: window(sf.tumbling("10s")).aggregate(
        window_end=sf.count()
    ),
    "key_by without a key": lambda: read().key_by(),
    "two keys of one name": lambda: read().key_by("origin", "origin"),
    "unknown null_keys": lambda: read().key_by("origin", null_keys="drop"),  # type: ignore[arg-type]
    "union of other columns": union_of_other_columns,
    "union with and without event time": union_with_and_without_event_time,
    "union of two jobs": union_of_two_jobs,
    "columns of objects": lambda: (
        sf.Job("wrong").read(sf.MemorySource(ROWS, schema=sf.OBJECTS)).filter(col("ts") > 0)
    ),
    "columns after a function that does not say its own": lambda: read().map(lambda row: row).select("ts"),
    "on_error where nothing can fail": lambda: (
        window(sf.tumbling("10s")).aggregate(n=sf.count()).on_error("skip")
    ),
    "unknown error policy": lambda: read().filter(col("ts") > 0).on_error("ignore"),  # type: ignore[arg-type]
    "a name that cannot be one": lambda: read().named("My Flights"),
    "twice the same name": twice_the_same_name,
    "a source that is none": lambda: sf.Job("wrong").read("flights.ndjson"),  # type: ignore[arg-type]
    "a sink that is none": lambda: read().write("out.parquet"),  # type: ignore[arg-type]
    "a missing file": lambda: sf.Job("wrong").read(sf.FileSource("no/such/file.ndjson")).schema,
    "parallelism of zero": lambda: read().parallel(0),
    "capacity of zero": lambda: read().map_async(None, capacity=0),  # type: ignore[arg-type]
    "a branch called rest": lambda: read().split(rest=col("ts") > 0),
    "a branch that is a column's name": lambda: read().split(large="ts"),  # type: ignore[arg-type]
    "a split without branches": lambda: read().split(),
    "a column with a reserved name": lambda: sf.Schema({"__event_time": sf.Int64}),
    "unknown unit of an epoch": lambda: sf.epoch("ts", unit="minutes"),  # type: ignore[arg-type]
    "negative disorder": lambda: sf.bounded_disorder("-1s"),
    "idle after nothing": lambda: sf.bounded_disorder("1s", idle_after="0s"),
    "quantile that is none": lambda: window(sf.tumbling("10s")).aggregate(q=sf.quantile("dep_delay", 1.5)),
    "writes nothing": writes_nothing,
    "batch of an endless source": batch_of_an_endless_source,
    "a setting that is none": a_setting_that_is_none,
    "more subtasks than key groups": more_subtasks_than_key_groups,
}


def message(wrong: Callable[[], object]) -> str:
    with pytest.raises(sf.StreamflowError) as raised:
        wrong()
    raised.value.where = replace(raised.value.where, code=None)  # a line of this file, which moves
    return f"{type(raised.value).__name__}: {raised.value}"


@pytest.fixture
def expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    if os.environ.get("UPDATE_GOLDEN"):
        texts = [f"# {name}\n{message(wrong)}\n" for name, wrong in WRONG.items()]
        FILE.write_text("\n".join(texts), encoding="utf-8")
    sections = FILE.read_text(encoding="utf-8").removeprefix("# ").split("\n# ")
    return dict(section.strip().split("\n", 1) for section in sections)


@pytest.mark.parametrize("name", WRONG)
def test_message(name: str, expected: dict[str, str]) -> None:
    assert message(WRONG[name]) == expected[name]


def test_nothing_is_left_over(expected: dict[str, str]) -> None:
    assert list(expected) == list(WRONG)


def test_each_says_what_to_do(expected: dict[str, str]) -> None:
    """A hint follows the message, after a semicolon."""
    without = [name for name, text in expected.items() if ";" not in text]
    assert without == []
