"""Bad input, through real files: each kind of it is one clear message, by the policy that the job asks for, and nothing
already written is damaged. Through `job.run` and through the command line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.cli.main import main

ROOT = Path(__file__).parents[2]
MODES = ["streaming", "micro-batch", "batch"]

GOOD = '{"k":"a","ts":1000,"v":1}\n{"k":"b","ts":2000,"v":2}\n'
BROKEN = GOOD + '{"k": "c", "ts": oops}\n' + GOOD
NULLS = GOOD + '{"k":"c","ts":null,"v":3}\n' + '{"k":null,"ts":3000,"v":4}\n'
SCHEMA = '{"k": sf.String, "ts": sf.Int64, "v": sf.Int64}'


@dataclass(frozen=True)
class Case:
    """Lines of a job file that reads `files` and writes to the folder `out`; what the message has to say."""

    lines: str
    says: tuple[str, ...]
    files: dict[str, str | bytes] = field(default_factory=dict)


def read(name: str = "in.ndjson", options: str = "", event_time: str = 'sf.epoch("ts")') -> str:
    return f's = job.read(sf.FileSource("{name}"{options}), event_time={event_time})\n'


COUNT = 's.key_by("k").window(sf.tumbling("1s")).aggregate(n=sf.count()).write(out)\n'
WITH_SCHEMA = f", schema={SCHEMA}"

CASES = {
    "unknown column in an expression": Case(
        read() + 's.filter(col("vv") > 1).write(out)\n',
        ("no column 'vv'; there are: k, ts, v", "filter-1", "job.py, line 6", "did you mean 'v'?"),
    ),
    "unknown key": Case(
        read() + COUNT.replace('"k"', '"kk"'), ("no column 'kk'; there are: k, ts, v", "did you mean 'k'?")
    ),
    "unknown column in an aggregate": Case(
        read() + 's.key_by("k").aggregate(n=sf.sum("w")).write(out)\n',
        ("no column 'w'; there are: k, ts, v", "aggregate-1"),
    ),
    "unknown event time": Case(
        read(event_time='sf.epoch("tz")') + COUNT, ("no column 'tz'; there are: k, ts, v", "read-1")
    ),
    "wrong type in an expression": Case(
        read() + 's.filter(col("k") + 1 > 1).write(out)\n', ("not allowed", "filter-1", "job.py, line 6")
    ),
    "wrong type in an aggregate": Case(
        read() + 's.key_by("k").aggregate(n=sf.sum("k")).write(out)\n',
        ("sum(k) does not work on String", "aggregate-1", "cast the input"),
    ),
    "wrong type in a file": Case(
        read(options=', schema={"k": sf.Int64, "ts": sf.Int64}') + COUNT,
        (
            "column 'k' holds a string where Int64 was expected",
            "in.ndjson, line 1",
            '{"k":"a","ts":1000,"v":1}',
        ),
    ),
    "missing file": Case(read("on.ndjson") + COUNT, ("there is no file 'on.ndjson'", "in.ndjson")),
    "nothing matches": Case(read("none/*.ndjson") + COUNT, ("no files match 'none/*.ndjson'",)),
    "empty file without a schema": Case(
        read("empty.ndjson") + COUNT,
        ("there is nothing in 'empty.ndjson' to infer columns from", "schema="),
        {"empty.ndjson": ""},
    ),
    "malformed line": Case(
        read("broken.ndjson") + COUNT,
        ("not valid JSON", "broken.ndjson, line 3", 'record: {"k": "c", "ts": oops}'),
        {"broken.ndjson": BROKEN},
    ),
    "malformed CSV": Case(
        read("broken.csv") + COUNT,
        ("4 fields where 2 were expected", "broken.csv, line 3", "record: b,2,3,4"),
        {"broken.csv": "k,ts\na,1\nb,2,3,4\nc,3\n"},
    ),
    "not text at all": Case(
        read("latin.ndjson", WITH_SCHEMA) + COUNT,
        ("not valid UTF-8", "latin.ndjson, line 2"),
        {"latin.ndjson": b'{"k":"a","ts":1}\n{"k":"\xff","ts":2}\n'},
    ),
    "cut off": Case(
        read("cut.parquet") + COUNT,
        ("'cut.parquet' is not a whole parquet file", "cut off"),
        {"cut.parquet": b"PAR1 and no more"},
    ),
    "mixed types": Case(
        read("mixed/*.ndjson") + COUNT,
        ("column 'ts' holds a string where Int64 was expected", "2.ndjson, line 1"),
        {"mixed/1.ndjson": GOOD, "mixed/2.ndjson": '{"k":"a","ts":"late"}\n'},
    ),
    "mixed columns": Case(
        read("mixed/*.csv") + COUNT,
        ("2.csv' has no column 'ts'; there are: at, k",),
        {"mixed/1.csv": "k,ts\na,1\n", "mixed/2.csv": "k,at\na,1\n"},
    ),
    "function that raises": Case(
        read() + 's.map(lambda row: {"x": 1 // (row["v"] - 2)}).named("inverse").write(out)\n',
        (
            "ZeroDivisionError",
            "operator inverse",
            "record: {'k': 'b', 'ts': 2000, 'v': 2}",
            "on_error('skip')",
        ),
    ),
    "key function that raises": Case(
        read() + 's.key_by(lambda row: row["kk"]).aggregate(n=sf.count()).write(out)\n',
        ("KeyError: 'kk'", "operator", "record: {'k': 'a', 'ts': 1000, 'v': 1}"),
    ),
    "reduce that raises": Case(
        read("two.ndjson") + 's.key_by("k").reduce(lambda left, right: left // 0).write(out)\n',
        ("raised TypeError", "operator aggregate-1", "record: "),
        {"two.ndjson": GOOD + GOOD},
    ),
    "coroutine that raises": Case(
        read() + 'async def ask(row):\n    raise ConnectionError("no answer")\ns.map_async(ask).write(out)\n',
        ("ConnectionError: no answer", "operator map-async-1", "record: {'k': 'a'"),
    ),
    "function of batches that raises": Case(
        read() + "s.map_batches(lambda f: f if f.is_empty() else 1 / 0).write(out)\n",
        ("ZeroDivisionError", "operator map-batches-1"),
    ),
    "sink that raises": Case(
        read() + "s.write(out)\nasync def store(rows):\n    raise OSError('full')\ns.write(sf.sink(store))\n",
        ("the function store raised OSError: full", "operator write-2"),
    ),
    "negative window size": Case(
        read() + COUNT.replace("1s", "-1s"), ("window size is '-1s'", "longer than zero", "job.py, line 6")
    ),
    "no slide": Case(
        read() + COUNT.replace('tumbling("1s")', 'sliding("1s", every="0s")'),
        ("window slide (every) is '0s'", "longer than zero"),
    ),
    "negative gap": Case(
        read() + COUNT.replace('tumbling("1s")', 'session(gap="-1s")'),
        ("session gap is '-1s'", "longer than zero"),
    ),
    "no duration": Case(read() + COUNT.replace("1s", "1 year"), ("'1 year' is not a duration", "1h30m")),
    "no event time": Case(
        's = job.read(sf.FileSource("in.ndjson"))\n' + COUNT,
        ("a window needs event time, and this stream has none", 'event_time="column"'),
    ),
    "event time without its unit": Case(
        read(event_time='"ts"') + COUNT, ("event time ts is Int64", 'sf.epoch("column", unit="ms")')
    ),
    "event time null": Case(
        read("nulls.ndjson") + COUNT,
        ("event time ts (ms) is null", "nulls.ndjson", "record: {'k': 'c', 'ts': None"),
        {"nulls.ndjson": NULLS},
    ),
    "event time in the wrong unit": Case(
        read("unit.ndjson", event_time='sf.epoch("ts", unit="s")') + COUNT,
        ("event time ts (s) is 1357016400000000, beyond the years 1 to 9999", "unit.ndjson"),
        {"unit.ndjson": '{"k":"a","ts":1357016400000000}\n'},
    ),
    "event time that would wrap": Case(
        read("wrap.ndjson") + COUNT,
        ("event time ts (ms) is 9223372036854775807, beyond the years 1 to 9999",),
        {"wrap.ndjson": GOOD + '{"k":"a","ts":9223372036854775807,"v":1}\n'},
    ),
    "null key": Case(
        read("nulls.ndjson") + 's = s.on_error("skip")\n' + COUNT,
        ("the key 'k' is null", "record: {'k': None, 'ts': 3000", 'null_keys="group"'),
        {"nulls.ndjson": NULLS},
    ),
    "output below a file": Case(
        read() + 's.write(out)\ns.write(sf.FileSink("in.ndjson/out"))\n',
        ("cannot write below 'in.ndjson'", "write-2", "permissions"),
    ),
    "output that holds something": Case(
        read() + 's.write(sf.FileSink("out", format="csv"))\n',
        ("'out' already holds something", "write-1", 'mode="append"'),
    ),
    "two sinks on one place": Case(
        read() + 's.write(out)\ns.write(sf.FileSink("./out/", format="csv"))\n',
        ("FileSink(./out/, csv) writes where 'write-1' does", "write-2", "union the streams"),
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: some good input, and an output folder with the result of an earlier run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.ndjson").write_text(GOOD)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-0-1-0.ndjson").write_text('{"n":1}\n')
    return tmp_path


def program(folder: Path, lines: str, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    path = folder / "job.py"
    path.write_text(
        "import streamflow as sf\nfrom streamflow import col\n\njob = sf.Job('bad')\n"
        + lines.replace("(out)", '(sf.FileSink("out", format="ndjson", mode="overwrite"))')
    )
    return path


def visible(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


NOT_BUILT = {
    "unknown column in an expression",
    "unknown key",
    "unknown column in an aggregate",
    "unknown event time",
    "wrong type in an expression",
    "wrong type in an aggregate",
    "negative window size",
    "no slide",
    "negative gap",
    "no duration",
    "no event time",
    "event time without its unit",
    "output below a file",
    "two sinks on one place",
}
"""Jobs that cannot be built: exit code 2."""


def run(*arguments: str) -> int:
    return main(["run", "job.py", "--quiet", *arguments])


@pytest.mark.parametrize("mode", ["streaming", "batch"])
@pytest.mark.parametrize("name", CASES)
def test_the_command_says_what_is_wrong_in_one_message(
    name: str, mode: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    program(folder, case.lines, case.files)
    before = visible(folder / "out")
    code = run("--mode", mode)
    said = capfd.readouterr()
    assert code == (2 if name in NOT_BUILT else 1), said.err
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert [part for part in case.says if part not in said.err] == [], said.err
    assert said.err.count("error: ") == 1
    assert "Traceback" not in said.err
    assert "unforeseen" not in said.err
    assert visible(folder / "out") == before


@pytest.mark.parametrize(
    "name", ["malformed line", "function that raises", "unknown column in an expression"]
)
def test_a_process_of_its_own_says_the_same(name: str, folder: Path) -> None:
    case = CASES[name]
    program(folder, case.lines, case.files)
    done = subprocess.run(
        [sys.executable, "-m", "streamflow", "run", "job.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2 if name in NOT_BUILT else 1, "")
    assert [part for part in case.says if part not in done.stderr] == []
    assert "Traceback" not in done.stderr


# An empty file is no error where the columns are known.


@pytest.mark.parametrize("name", ["empty.ndjson", "empty.csv", "empty.ndjson.gz"])
def test_an_empty_file_with_a_schema_is_no_records(name: str, folder: Path) -> None:
    if name.endswith(".gz"):
        import gzip

        (folder / name).write_bytes(gzip.compress(b""))
    else:
        (folder / name).write_bytes(b"")
    job = sf.Job("empty")
    source = sf.FileSource(name, schema={"k": sf.String, "ts": sf.Int64})
    out = job.read(source, event_time=sf.epoch("ts")).key_by("k").aggregate(n=sf.count()).collect()
    result = job.run()
    assert out.rows() == []
    assert (result.records_in["read-1"], result.errors) == (0, 0)


# Policies: fail, skip, dead letters.


@dataclass(frozen=True)
class Bad:
    """A file with one bad record, and how to read it so that a step's policy decides about it."""

    name: str
    content: str
    build: Callable[[sf.Stream, Any], sf.Stream]
    reason: str
    record: str
    place: dict[str, str | None]


def _at_the_source(stream: sf.Stream, policy: Any) -> sf.Stream:
    return stream.on_error(policy)


def _in_a_function(stream: sf.Stream, policy: Any) -> sf.Stream:
    def checked(row: dict[str, Any]) -> dict[str, Any]:
        if row["v"] == 3:
            raise ValueError("three is not allowed")
        return row

    return stream.map(checked, schema={"k": sf.String, "ts": sf.Int64, "v": sf.Int64}).on_error(policy)


def _in_an_expression(stream: sf.Stream, policy: Any) -> sf.Stream:
    number = col("k").str.replace("a", "1").str.replace("b", "2").str.to_integer()
    return stream.with_columns(v=col("v") * number // number).on_error(policy)


def _in_a_filter(stream: sf.Stream, policy: Any) -> sf.Stream:
    def allowed(row: dict[str, Any]) -> bool:
        return bool(1 // (row["v"] - 3)) or True

    return stream.filter(allowed).on_error(policy)


THREE = GOOD + '{"k":"c","ts":1500,"v":3}\n' + GOOD
POLICIES = {
    "malformed JSON": Bad(
        "bad.ndjson",
        BROKEN,
        _at_the_source,
        "not valid JSON",
        '{"k": "c", "ts": oops}',
        {"operator": "read-1", "split": "bad.ndjson", "offset": "line 3"},
    ),
    "wrong type in JSON": Bad(
        "bad.ndjson",
        GOOD + '{"k":"c","ts":"x","v":3}\n' + GOOD,
        _at_the_source,
        "column 'ts' holds a string where Int64 was expected",
        '{"k":"c","ts":"x","v":3}',
        {"operator": "read-1", "split": "bad.ndjson", "offset": "line 3"},
    ),
    "malformed CSV": Bad(
        "bad.csv",
        "k,ts,v\na,1000,1\nb,2000,2\nc,1\na,1000,1\nb,2000,2\n",
        _at_the_source,
        "2 fields where 3 were expected",
        "c,1",
        {"operator": "read-1", "split": "bad.csv", "offset": "line 4"},
    ),
    "event time null": Bad(
        "bad.ndjson",
        GOOD + '{"k":"c","ts":null,"v":3}\n' + GOOD,
        _at_the_source,
        "is null",
        "{'k': 'c', 'ts': None, 'v': 3}",
        {"split": "bad.ndjson"},
    ),
    "event time beyond the calendar": Bad(
        "bad.ndjson",
        GOOD + '{"k":"c","ts":9223372036854775807,"v":3}\n' + GOOD,
        _at_the_source,
        "beyond the years 1 to 9999",
        "{'k': 'c', 'ts': 9223372036854775807, 'v': 3}",
        {"split": "bad.ndjson"},
    ),
    "function that raises": Bad(
        "bad.ndjson",
        THREE,
        _in_a_function,
        "ValueError: three is not allowed",
        "{'k': 'c', 'ts': 1500, 'v': 3}",
        {"operator": "map-1"},
    ),
    "filter that raises": Bad(
        "bad.ndjson",
        THREE,
        _in_a_filter,
        "ZeroDivisionError",
        "{'k': 'c', 'ts': 1500, 'v': 3}",
        {"operator": "filter-1"},
    ),
    "expression that raises": Bad(
        "bad.ndjson",
        THREE,
        _in_an_expression,
        "parsing failed",
        "{'k': 'c', 'ts': 1500, 'v': 3}",
        {"operator": "with-columns-1"},
    ),
}


def counting(bad: Bad, policy: Any) -> tuple[sf.Job, sf.Collected]:
    job = sf.Job("policy")
    source = sf.FileSource(bad.name, schema={"k": sf.String, "ts": sf.Int64, "v": sf.Int64})
    # The source's policy covers event time as well: it is part of reading.
    stream = job.read(source, event_time=sf.epoch("ts"))
    stream = bad.build(stream, policy)
    counted = stream.key_by("k").window(sf.tumbling("1s")).aggregate(n=sf.count(), v=sf.sum("v"))
    return job, counted.collect()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", ["fail", "skip", "dead_letter"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_bad_record_goes_where_the_policy_says(name: str, policy: str, mode: str, folder: Path) -> None:
    bad = POLICIES[name]
    (folder / bad.name).write_text(bad.content)
    letters = folder / "letters"
    job, out = counting(bad, sf.FileSink(letters, format="ndjson") if policy == "dead_letter" else policy)
    if policy == "fail":
        with pytest.raises(sf.RecordError) as caught:
            job.run(mode=mode)
        assert bad.reason in caught.value.message
        assert caught.value.record == bad.record
        for part, expected in bad.place.items():
            assert getattr(caught.value.where, part) == expected
        assert len(out) == 0
        return
    result = job.run(mode=mode)
    assert sorted((row["k"], row["n"], row["v"]) for row in out.rows()) == [("a", 2, 2), ("b", 2, 4)]
    assert result.errors == 1
    assert result.dropped == 0
    if policy == "dead_letter":
        lines = [line for path in letters.glob("*.ndjson") for line in path.read_text().splitlines()]
        (letter,) = map(json.loads, lines)
        assert bad.reason in letter["reason"]
        assert letter["record"] == bad.record
        assert {part: letter[part] for part in bad.place} == bad.place


@pytest.mark.parametrize("policy", ["skip", "dead_letter"])
def test_a_function_for_event_time_may_find_none(policy: str, folder: Path) -> None:
    """On columns as well as on objects, and also by raising."""

    def moment(row: dict[str, Any]) -> str | None:
        if row["v"] == 1:
            return None
        return "2013-01-01T00:00:00Z" if row["v"] == 2 else "no time at all"

    (folder / "three.ndjson").write_text(THREE)
    for schema in ({"k": sf.String, "v": sf.Int64}, sf.OBJECTS):
        job = sf.Job("moments")
        stream = job.read(sf.FileSource("three.ndjson", schema=schema), event_time=moment)
        letters = folder / f"letters {schema is sf.OBJECTS}"
        stream.on_error(sf.FileSink(letters, format="ndjson") if policy == "dead_letter" else "skip")
        out = stream.key_by("k").window(sf.tumbling("1s")).aggregate(n=sf.count()).collect()
        result = job.run()
        assert [(row["k"], row["n"]) for row in out.rows()] == [("b", 2)]
        assert result.errors == 3
        if policy == "dead_letter":
            reasons = pl.read_ndjson(letters / "*.ndjson")["reason"].sort().to_list()
            assert reasons == ["'no time at all' is not a time", *["event time moment is null"] * 2]


# Records from the far future.


FAR = 253_402_300_799_000
"""The last second of the year 9999 in milliseconds: what some systems write for "never"."""


@pytest.mark.parametrize("mode", MODES)
def test_a_record_of_the_year_9999_does_not_make_the_others_late(mode: str, folder: Path) -> None:
    lines = [json.dumps({"k": "a", "ts": n * 1_000}) for n in range(40)]
    lines.insert(7, json.dumps({"k": "far", "ts": FAR}))
    (folder / "far.ndjson").write_text("\n".join(lines))

    def counted(**watermark: str) -> tuple[sf.JobResult, dict[str, int], list[Any]]:
        job = sf.Job("far")
        source = sf.FileSource("far.ndjson", schema={"k": sf.String, "ts": sf.Int64})
        read = job.read(source, event_time=sf.epoch("ts"), watermark=sf.bounded_disorder(**watermark))
        panes = read.key_by("k").window(sf.tumbling("10s")).aggregate(n=sf.count())
        frame, rows = panes.collect(), panes.map(lambda row: row).collect()
        result = job.run(mode=mode, batch_rows=1, micro_batch_interval="1h")
        totals = frame.frame().group_by("k").agg(pl.col("n").sum())
        return result, dict(totals.rows()), rows.rows()

    result, totals, rows = counted()
    assert totals == {"a": 40, "far": 1}
    assert result.dropped == 0
    # Its window ends after what Python's datetime holds; the functions behind it see the last moment that it does.
    (far,) = [row for row in rows if row["k"] == "far"]
    assert (far["window_start"].year, far["window_end"].year) == (9999, 9999)
    if mode == "streaming":
        # Without the bound on how far ahead an event may push the watermark, nothing after it would be on time.
        believed, fewer, _ = counted(max_ahead="3000000d")
        assert believed.dropped == 40 - fewer["a"] > 0


# Null keys.


@pytest.mark.parametrize("mode", MODES)
def test_null_keys_are_a_group_where_the_job_says_so(mode: str, folder: Path) -> None:
    (folder / "nulls.ndjson").write_text(GOOD + '{"k":null,"ts":3000,"v":4}\n{"ts":3000,"v":5}\n')
    job = sf.Job("nulls")
    read = job.read(sf.FileSource("nulls.ndjson"), event_time=sf.epoch("ts"))
    windows = read.key_by("k", null_keys="group").window(sf.tumbling("1h")).aggregate(n=sf.count())
    out = windows.collect()
    job.run(mode=mode, parallelism=2)
    assert {row["k"]: row["n"] for row in out.rows()} == {"a": 1, "b": 1, None: 2}


# Output that cannot be written.


@pytest.mark.parametrize("mode", MODES)
def test_output_that_fails_when_it_is_committed_leaves_the_other_output_alone(
    mode: str, folder: Path
) -> None:
    """The folder turns into a file while the job runs."""
    job = sf.Job("unwritable")
    read = job.read(sf.FileSource("in.ndjson"), event_time=sf.epoch("ts"))

    def replace(row: dict[str, Any]) -> dict[str, Any]:
        target = folder / "gone"
        if target.is_dir():
            for path in target.iterdir():
                path.unlink() if path.is_file() else path.rename(folder / f"moved {path.name}")
            target.rmdir()
        if not target.exists():
            target.write_text("not a folder")
        return row

    changed = read.map(replace, schema={"k": sf.String, "ts": sf.Int64, "v": sf.Int64})
    changed.write(sf.FileSink("gone", format="ndjson"))
    with pytest.raises(sf.SinkError) as caught:
        job.run(mode=mode)
    assert "gone" in caught.value.message
    assert caught.value.where.operator == "write-1"
    assert (folder / "gone").read_text() == "not a folder"
    assert visible(folder / "out") == {"part-0-1-0.ndjson": b'{"n":1}\n'}
