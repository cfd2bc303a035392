"""`ConsoleSink`: readable rows, and what happens when nobody reads them."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.errors import JobDefinitionError, SinkError
from streamflow.operators.connectors.console import ConsoleSink
from tests.unit.connectors.driving import frame, objects, write


def test_columns_line_up_under_one_heading(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2013, 1, 1, 5, 17, tzinfo=UTC)
    first = frame(origin=["JFK", None], flights=[1, 250], mean=[1.5, 1 / 3], at=[at, at])
    write(
        ConsoleSink(),
        [first],
        [frame(origin=["LaGuardia\n"], flights=[7], mean=pl.Series([None], dtype=pl.Float64), at=[at])],
    )
    assert capsys.readouterr().out.splitlines() == [
        "origin  flights      mean  at",
        "JFK           1       1.5  2013-01-01T05:17:00Z",
        "-           250  0.333333  2013-01-01T05:17:00Z",
        "LaGuardia\\n        7         -  2013-01-01T05:17:00Z",
    ]


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    write(ConsoleSink(format="json"), [frame(a=[1, 2], t=[datetime(2013, 1, 1, tzinfo=UTC)] * 2)])
    write(ConsoleSink(format="json"), [objects({"b": [1]}, "x")])
    assert capsys.readouterr().out.splitlines() == [
        '{"a":1,"t":"2013-01-01T00:00:00Z"}',
        '{"a":2,"t":"2013-01-01T00:00:00Z"}',
        '{"b":[1]}',
        '"x"',
    ]


def test_objects_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    write(ConsoleSink(), [objects({"b": 1}, "x")])
    assert capsys.readouterr().out == "{'b': 1}\nx\n"


class Doubling(sf.KeyedProcess):
    output: ClassVar[object] = {"k": sf.String, "v": sf.Int64}

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.emit({"k": ctx.key, "v": 2 * event["v"]})


@pytest.mark.parametrize(
    "build",
    [
        lambda s: s.map(lambda row: {**row, "v": 2 * row["v"]}),
        lambda s: s.map(lambda row: {**row, "v": 2 * row["v"]}, schema={"k": str, "v": int}),
        lambda s: s.key_by("k").process(Doubling),
        lambda s: s.select("k", v=col("v") * 2),
    ],
)
def test_what_functions_and_processes_put_out_has_columns(
    build: Callable[[sf.Stream], sf.Stream], capsys: pytest.CaptureFixture[str]
) -> None:
    job = sf.Job("console")
    build(job.read(sf.MemorySource([{"k": "a", "v": 1}, {"k": "bb", "v": 50}]))).write(ConsoleSink())
    job.run()
    assert capsys.readouterr().out.splitlines() == ["k     v", "a     2", "bb  100"]


def test_objects_with_other_fields_get_a_heading_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2013, 1, 1, 5, 17, tzinfo=UTC)
    write(ConsoleSink(), [objects({"a": 1, "b": "x"}), objects({"b": "y"}), objects({"a": 2, "at": at})])
    assert capsys.readouterr().out.splitlines() == [
        "a  b",
        "1  x",
        "-  y",
        "a  at",
        "2  2013-01-01T05:17:00Z",
    ]


def test_a_limit_counts_over_batches(capsys: pytest.CaptureFixture[str]) -> None:
    write(ConsoleSink(limit=3, format="json"), [frame(a=[1, 2])], [frame(a=[3, 4]), frame(a=[5])])
    assert capsys.readouterr().out == '{"a":1}\n{"a":2}\n{"a":3}\n'


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_closed_pipe_is_one_readable_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(SinkError, match="nobody reads standard output any more"):
        write(ConsoleSink(), [frame(a=[1])])


def test_a_terminal_that_cannot_show_a_character_gets_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    write(ConsoleSink(format="json"), [objects("Zürich")])
    assert raw.getvalue() == b'"Z\\xfcrich"\n'


@pytest.mark.parametrize("options", [{"limit": -1}, {"format": "xml"}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(JobDefinitionError):
        ConsoleSink(**options)
