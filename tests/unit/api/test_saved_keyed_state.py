"""State of processes that comes out of DataFrames and goes back into them: what is written, refused and read."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import streamflow as sf

THEN = datetime(2013, 1, 1, 5, 17, tzinfo=UTC)


@dataclasses.dataclass(frozen=True)
class Place:
    city: str
    visits: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)


class Everything(sf.KeyedProcess):
    total = sf.ValueState(float, default=0.0)
    place = sf.ValueState(Place)
    seen = sf.ListState(int)
    places = sf.ListState(Place)
    names = sf.MapState(str, dict[str, int])
    top = sf.ReducingState(int, max)
    recent = sf.ValueState(int, ttl="1d")
    lately = sf.ListState(int, ttl="1d", ttl_time="processing")
    limits = sf.BroadcastState(str, int)

    def on_event(self, event: Any, ctx: Any) -> None:
        ctx.emit(event)


def job_of(process: type[sf.KeyedProcess], *keys: str) -> sf.Job:
    job = sf.Job("flights")
    schema = {"origin": sf.String, "day": sf.Int64, "at": sf.Datetime}
    source = sf.MemorySource([{"origin": "JFK", "day": 1, "at": THEN}], schema=schema)
    stream = job.read(source, event_time="at")
    stream.key_by(*(keys or ("origin",))).process(process).named("totals").write(sf.ConsoleSink())
    return job


def round_trip(
    folder: Path, frames: dict[str, pl.DataFrame], process: type[sf.KeyedProcess] = Everything, *keys: str
) -> dict[str, pl.DataFrame]:
    place = sf.bootstrap(job_of(process, *keys), {"totals": frames}, to=folder, state_backend="memory")
    return sf.read_checkpoint(place).state("totals")


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_what_is_written_is_what_is_read(tmp_path: Path, backend: str) -> None:
    dictionary = pl.List(pl.Struct({"key": pl.String, "value": pl.Int64}))
    moment = pl.Datetime("us", "UTC")
    frames = {
        "total": pl.DataFrame({"origin": ["JFK", "LGA"], "value": [1.5, -2.0]}),
        "place": pl.DataFrame({"origin": ["JFK"], "city": ["New York"], "visits": [3], "tags": [["a", "b"]]}),
        "seen": pl.DataFrame(
            {"origin": ["EWR"] * 600 + ["JFK"], "index": [*range(600), 0], "value": [*range(600), 7]}
        ),
        "places": pl.DataFrame(
            {"origin": ["JFK"] * 2, "index": [0, 1], "city": ["a", "b"], "visits": [1, 2], "tags": [[], ["x"]]}
        ),
        "names": pl.DataFrame(
            {"origin": ["JFK", "JFK"], "map_key": ["x", "y"], "value": [[{"key": "z", "value": 1}], []]},
            schema_overrides={"value": dictionary},
        ),
        "top": pl.DataFrame({"origin": ["LGA"], "value": [9]}),
        "recent": pl.DataFrame({"origin": ["LGA"], "value": [4], "since": [THEN]}, schema_overrides={"since": moment}),
        "lately": pl.DataFrame(
            {"origin": ["LGA"] * 2, "index": [0, 1], "value": [4, 5], "since": [THEN] * 2},
            schema_overrides={"since": moment},
        ),
        "limits": pl.DataFrame({"map_key": ["low", "high"], "value": [1, 2]}),
        "event-timers": pl.DataFrame(
            {"origin": ["LGA", "JFK"], "time": [THEN, THEN + timedelta(days=1)]}, schema_overrides={"time": moment}
        ),
        "processing-timers": pl.DataFrame({"origin": ["JFK"], "time": [THEN]}, schema_overrides={"time": moment}),
    }  # fmt: skip
    place = sf.bootstrap(job_of(Everything), {"totals": frames}, to=tmp_path, state_backend=backend)
    assert place == f"{tmp_path}#1"
    saved = sf.read_checkpoint(tmp_path)
    assert (saved.job, saved.number) == ("flights", 1)
    assert set(saved.operators["totals"].states) == set(frames)
    read = saved.state("totals")
    for name, frame in frames.items():
        assert_frame_equal(read[name], frame)


@pytest.mark.parametrize(
    ("type_", "values", "shown"),
    [
        (str, ["a", ""], ["a", ""]),
        (int, [1, -(2**63)], [1, -(2**63)]),
        (bool, [True, False], [True, False]),
        (bytes, [b"\x00", b""], [b"\x00", b""]),
        (date, [date(2013, 1, 1)], [date(2013, 1, 1)]),
        (datetime, [THEN], [THEN]),
        (timedelta, [timedelta(microseconds=-1)], [timedelta(microseconds=-1)]),
        (Decimal, [Decimal("1.5")], [Decimal("1.5")]),
        (UUID, [str(UUID(int=7))], [str(UUID(int=7))]),
        (list[int], [[1, 2], []], [[1, 2], []]),
        (tuple[int, ...], [[1, 2]], [[1, 2]]),
        (tuple[int, str], [{"0": 1, "1": "a"}], [{"0": 1, "1": "a"}]),
        (int | None, [3], [3]),
        (Any, ["text"], ["text"]),
    ],
)
def test_each_type_comes_back(tmp_path: Path, type_: Any, values: list[Any], shown: list[Any]) -> None:
    class One(sf.KeyedProcess):
        one = sf.ValueState(type_)

        def on_event(self, event: Any, ctx: Any) -> None:
            ctx.emit(event)

    keys = [f"k{at}" for at in range(len(values))]
    read = round_trip(tmp_path, {"one": pl.DataFrame({"origin": keys, "value": values})}, One)["one"]
    assert read["value"].to_list() == shown


@pytest.mark.parametrize(
    ("keys", "rows"),
    [
        (("day",), {"day": [3, -1, None]}),
        (("origin", "day"), {"origin": ["JFK", "JFK", None], "day": [1, 2, 1]}),
        (("at",), {"at": [THEN, THEN + timedelta(days=1)]}),
    ],
)
def test_keys_of_every_kind_come_back(tmp_path: Path, keys: tuple[str, ...], rows: dict[str, Any]) -> None:
    frame = pl.DataFrame(rows).with_columns(pl.int_range(pl.len()).cast(pl.Float64).alias("value"))
    read = round_trip(tmp_path, {"total": frame}, Everything, *keys)["total"]
    assert sorted(read.rows(), key=lambda row: row[-1]) == frame.rows()


def test_keys_are_those_of_the_job_whatever_their_type_in_the_frame(tmp_path: Path) -> None:
    frame = pl.DataFrame({"day": pl.Series([1, 2], dtype=pl.UInt8), "value": [1.0, 2.0]})
    read = round_trip(tmp_path, {"total": frame}, Everything, "day")["total"]
    assert read.rows() == [(1, 1.0), (2, 2.0)]


def test_fields_with_defaults_may_be_left_out(tmp_path: Path) -> None:
    frame = pl.DataFrame({"origin": ["JFK"], "city": ["New York"]})
    assert round_trip(tmp_path, {"place": frame})["place"].rows() == [("JFK", "New York", 0, [])]


def test_nothing_written_is_read_as_no_rows(tmp_path: Path) -> None:
    read = round_trip(tmp_path, {"total": pl.DataFrame({"origin": ["JFK"], "value": [1.0]})})
    assert {name for name, frame in read.items() if frame.height} == {"total"}
    assert read["names"].columns == ["origin", "map_key", "value"]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({"totl": {"origin": ["a"], "value": [1.0]}}, "no state 'totl'; there are: .*did you mean 'total'"),
        ({"total": {"orign": ["a"], "value": [1.0]}}, "no column 'orign'|lacks the key origin"),
        ({"total": {"value": [1.0]}}, "lacks the key origin"),
        ({"total": {"origin": ["a"]}}, "has no column 'value'"),
        ({"total": {"origin": ["a"], "value": ["text"]}}, "holds float, not str"),
        ({"total": {"origin": ["a"], "value": [1.0], "more": [1]}}, "no column 'more'"),
        ({"place": {"origin": ["a"], "visits": [1]}}, "cannot hold this"),
        ({"place": {"origin": ["a"], "town": ["b"]}}, "no column 'town'"),
        ({"names": {"origin": ["a"], "value": [[]]}}, "has no column 'map_key'"),
        ({"recent": {"origin": ["a"], "value": [1]}}, "expires by event time.*'since'"),
        ({"recent": {"origin": ["a"], "value": [1], "since": ["now"]}}, "'since' holds no times"),
        ({"event-timers": {"origin": ["a"]}}, "has no column 'time'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, frames: dict[str, Any], message: str) -> None:
    with pytest.raises((sf.JobDefinitionError, sf.RecordError), match=message) as caught:
        round_trip(tmp_path, {name: pl.DataFrame(columns) for name, columns in frames.items()})
    assert caught.value.where.operator == "totals"


def test_an_operator_that_is_no_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(sf.JobDefinitionError, match="did you mean 'totals'"):
        sf.bootstrap(job_of(Everything), {"total": {}}, to=tmp_path)


def test_a_directory_that_has_checkpoints_is_left_alone(tmp_path: Path) -> None:
    frames = {"totals": {"total": pl.DataFrame({"origin": ["JFK"], "value": [1.0]})}}
    sf.bootstrap(job_of(Everything), frames, to=tmp_path)
    with pytest.raises(sf.ConfigError, match="has checkpoints of flights already"):
        sf.bootstrap(job_of(Everything), frames, to=tmp_path)


def test_a_signed_bootstrap_is_read_with_its_key(tmp_path: Path) -> None:
    frames = {"totals": {"total": pl.DataFrame({"origin": ["JFK"], "value": [1.0]})}}
    sf.bootstrap(job_of(Everything), frames, to=tmp_path, checkpoint_key="the key")
    with pytest.raises(sf.StateError, match="signed"):
        sf.read_checkpoint(tmp_path)
    assert sf.read_checkpoint(tmp_path, key="the key").frame("totals", "total").height == 1


def test_names_that_are_not_there_are_told_with_those_that_are(tmp_path: Path) -> None:
    frames = {"totals": {"total": pl.DataFrame({"origin": ["JFK"], "value": [1.0]})}}
    saved = sf.read_checkpoint(sf.bootstrap(job_of(Everything), frames, to=tmp_path))
    with pytest.raises(sf.ConfigError, match=r"no operator with state 'total'.*did you mean 'totals'"):
        saved.state("total")
    with pytest.raises(sf.ConfigError, match=r"no state 'totals'.*did you mean 'total'") as caught:
        saved.frame("totals", "totals")
    assert caught.value.where.operator == "totals"
    with pytest.raises(sf.ConfigError, match="no checkpoint 7"):
        sf.read_checkpoint(f"{tmp_path}#7")


def test_damage_is_named_not_read(tmp_path: Path) -> None:
    frames = {"totals": {"total": pl.DataFrame({"origin": ["JFK"], "value": [1.0]})}}
    sf.bootstrap(job_of(Everything), frames, to=tmp_path, state_backend="memory")
    for path in (tmp_path / "flights" / "blobs").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(sf.StateError, match="digest") as caught:
        sf.read_checkpoint(tmp_path).state("totals")
    assert caught.value.where.operator == "totals"
