"""`streamflow state`: lists, tables, queries and files, and what a user's mistakes are answered with."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.cli.main import main


class Visits(sf.KeyedProcess):
    total = sf.ValueState(float, default=0.0)
    places = sf.ListState(str)
    raw = sf.ValueState(bytes)

    def on_event(self, event: Any, ctx: Any) -> None:
        ctx.emit(event)


class Totals(sf.KeyedProcess):
    total = sf.ValueState(int)

    def on_event(self, event: Any, ctx: Any) -> None:
        ctx.emit(event)


class Files(sf.KeyedProcess):
    """Its state is called like a function of SQL's that reads files."""

    read_csv = sf.ValueState(int)

    def on_event(self, event: Any, ctx: Any) -> None:
        ctx.emit(event)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("STREAMFLOW_CHECKPOINT_KEY", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    job = sf.Job("flights")
    stream = job.read(sf.MemorySource([{"origin": "JFK"}], schema={"origin": sf.String})).key_by("origin")
    stream.process(Visits).named("visits").collect()
    stream.process(Totals).named("totals").collect()
    stream.process(Files).named("files").collect()
    origins = ["EWR", "JFK", "LGA"]
    timers = pl.DataFrame({"origin": ["JFK"], "time": [datetime(2013, 1, 1, tzinfo=UTC)]})
    frames = {
        "visits": {
            "total": pl.DataFrame({"origin": origins, "value": [1.0, 2.0, 3.0]}),
            "places": pl.DataFrame({"origin": ["JFK", "JFK"], "value": ["a", "b"]}),
            "raw": pl.DataFrame({"origin": ["JFK"], "value": [b"\x00\xff"]}),
            "processing-timers": timers,
        },
        "totals": {"total": pl.DataFrame({"origin": origins, "value": [10, 20, 30]})},
        "files": {"read_csv": pl.DataFrame({"origin": ["JFK"], "value": [7]})},
    }
    return sf.bootstrap(job, frames, to=tmp_path / "checkpoints", state_backend="memory")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["state", *arguments])
    return code, *capsys.readouterr()


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, error = told(capsys, *arguments, "--json")
    assert code == 0, error
    return json.loads(out)


def test_without_more_it_lists_what_there_is(place: str, capsys) -> None:
    code, out, _ = told(capsys, place)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "checkpoint 1 of flights"
    assert lines[3].split()[:2] == ["visits", "process"]
    assert lines[3].endswith("places, raw, total, event-timers, processing-timers")
    listed = rows(capsys, place)
    assert (listed["job"], listed["number"]) == ("flights", 1)
    assert [each["operator"] for each in listed["operators"]] == ["visits", "totals", "files"]


def test_an_operators_states_are_shown(place: str, capsys) -> None:
    code, out, _ = told(capsys, place.removesuffix("#1"), "--operator", "visits")
    assert code == 0
    assert "total\nshape: (3, 2)" in out
    assert out.endswith("\n\nnothing in event-timers\n")
    shown = rows(capsys, place, "--operator", "visits")
    assert shown["places"] == [
        {"origin": "JFK", "index": 0, "value": "a"},
        {"origin": "JFK", "index": 1, "value": "b"},
    ]
    assert shown["raw"] == [{"origin": "JFK", "value": "AP8="}]
    assert shown["processing-timers"] == [{"origin": "JFK", "time": "2013-01-01T00:00:00Z"}]


@pytest.mark.parametrize(
    ("query", "operator", "result"),
    [
        ("select sum(value) as s from total", "visits", [{"s": 6.0}]),
        ("select sum(value) as s from total", "totals", [{"s": 60}]),
        ('select sum(value) as s from "totals.total"', None, [{"s": 60}]),
        ("select count(*) as n from places", None, [{"n": 2}]),
        (
            "select value as read_count, 1 as thread_id from read_csv",
            None,
            [{"read_count": 7, "thread_id": 1}],
        ),
        ('select r.value from "read_csv" as r', None, [{"value": 7}]),
        ("select origin from processing_timers", "visits", [{"origin": "JFK"}]),
        (
            "select origin, total.value as v from total join places using (origin) where index = 1",
            "visits",
            [{"origin": "JFK", "v": 2.0}],
        ),
    ],
)
def test_queries_are_answered(place: str, capsys, query: str, operator: str | None, result: Any) -> None:
    chosen = [] if operator is None else ["--operator", operator]
    assert rows(capsys, place, *chosen, "--query", query) == result


@pytest.mark.parametrize(
    ("suffix", "read"),
    [
        ("parquet", lambda path: pl.read_parquet(path).rows()),
        ("csv", lambda path: pl.read_csv(path).rows()),
        ("ndjson", lambda path: pl.read_ndjson(path).rows()),
    ],
)
def test_files_hold_what_was_asked_for(place: str, tmp_path: Path, capsys, suffix: str, read: Any) -> None:
    target = tmp_path / f"totals.{suffix}"
    code, out, _ = told(capsys, place, "--operator", "totals", "--to", str(target))
    assert (code, out) == (0, f"3 rows in {target}\n")
    assert read(target) == [("EWR", 10), ("JFK", 20), ("LGA", 30)]
    assert told(capsys, place, "--query", "select value from raw", "--to", str(target))[0] == 0
    assert read(target)[0][0] == (b"\x00\xff" if suffix == "parquet" else "AP8=")


def test_lists_in_csv_are_json(place: str, tmp_path: Path, capsys) -> None:
    target = tmp_path / "lists.csv"
    query = "select origin, array_agg(value) as v from places group by origin"
    assert told(capsys, place, "--query", query, "--to", str(target))[0] == 0
    assert pl.read_csv(target).rows() == [("JFK", '["a", "b"]')]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--operator", "visit"], "did you mean 'visits'"),
        (["--query", "select * from total"], "visits.total, "),
        (["--query", "select * from read_csv('/etc/passwd')"], "read_csv reads files"),
        (["--query", "select * from total, READ_Parquet/* */('/x')"], "READ_Parquet reads files"),
        (["--query", "select * from \"read_ipc\"('/x')"], "read_ipc reads files"),
        (["--query", "create table t as select * from read_json('http://127.0.0.1:1/x')"], "reads files"),
        (["--query", "select * from read_csv -- a state, too\n('/etc/passwd')"], "read_csv reads files"),
        (
            ["--query", "select * from total where 1 in (select 1 from read_csv ('/x'))"],
            "read_csv reads files",
        ),
        (["--query", "selekt"], "the query cannot be answered"),
        (["--query", "select nothing from places"], "the query cannot be answered"),
        (["--operator", "visits", "--to", "out.xlsx"], "'out.xlsx' names no format"),
        (["--operator", "visits", "--to", "out.csv"], "operator visits has 4 states that are not empty"),
        (["--to", "out.csv"], "nothing to write"),
    ],
)
def test_a_users_mistake_is_wrong_usage(place: str, capsys, arguments: list[str], message: str) -> None:
    code, out, error = told(capsys, place, *arguments)
    assert (code, out) == (2, "")
    assert message in error.replace("\n", " ")
    assert "Traceback" not in error


def test_a_checkpoint_that_is_not_there_is_wrong_usage(place: str, tmp_path: Path, capsys) -> None:
    assert told(capsys, place.replace("#1", "#9"))[0] == 2
    assert told(capsys, str(tmp_path / "none"))[0] == 2


def test_a_file_that_cannot_be_written_is_a_failure(place: str, tmp_path: Path, capsys) -> None:
    target = tmp_path / "no" / "such" / "folder.csv"
    code, _, error = told(capsys, place, "--operator", "totals", "--to", str(target))
    assert code == 1
    assert f"cannot write {target}" in error
