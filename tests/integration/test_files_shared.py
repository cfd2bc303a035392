"""File sinks that share a place, and readers that look while they write: nobody loses a row, or sees one too early."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.errors import JobDefinitionError, SinkError

ROWS = [{"v": v, "odd": bool(v % 2)} for v in range(10)]


def values(folder: Path) -> list[int]:
    return sorted(row["v"] for row in read_back(folder))


def read_back(path: Path) -> list[dict[str, Any]]:
    job = sf.Job("back")
    out = job.read(sf.FileSource(path)).collect()
    job.run()
    return out.rows()


@pytest.mark.parametrize("mode", ["streaming", "batch"])
@pytest.mark.parametrize("options", [{}, {"partition_by": "odd"}, {"mode": "append"}, {"roll": 1}])
def test_two_sinks_of_a_job_write_into_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], mode: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("nd", target_is_directory=True)
    job = sf.Job("two")
    rows = job.read(sf.MemorySource(ROWS))
    rows.filter(sf.col("v") < 3).write(sf.FileSink("nd", **options))
    rows.filter(sf.col("v") == 3).write(sf.FileSink("./nd/", **options))
    rows.filter(sf.col("v") > 3).write(sf.FileSink("link", **options))
    job.run(mode=mode)
    assert values(tmp_path / "nd") == list(range(10))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "nd"]


def other_columns(rows: sf.Stream, out: Path) -> None:
    rows.write(sf.FileSink(out))
    rows.select("v").write(sf.FileSink(out))


def other_format(rows: sf.Stream, out: Path) -> None:
    rows.write(sf.FileSink(out))
    rows.write(sf.FileSink(out, format="csv"))


def other_partitions(rows: sf.Stream, out: Path) -> None:
    rows.write(sf.FileSink(out))
    rows.write(sf.FileSink(out, partition_by="v"))


def overwriting(rows: sf.Stream, out: Path) -> None:
    rows.write(sf.FileSink(out))
    rows.write(sf.FileSink(out, mode="overwrite"))


def one_file(rows: sf.Stream, out: Path) -> None:
    rows.write(sf.FileSink(out.with_suffix(".csv")))
    rows.write(sf.FileSink(f"{out.parent}/./out.csv"))


def errors_beside_results(rows: sf.Stream, out: Path) -> None:
    rows.map(lambda row: row, schema={"v": sf.Int64}).on_error(sf.FileSink(out, format="ndjson")).write(
        sf.FileSink(out, format="ndjson")
    )


@pytest.mark.parametrize(
    "write", [other_columns, other_format, other_partitions, overwriting, one_file, errors_beside_results]
)
def test_sinks_that_do_not_go_together_are_refused_when_the_job_is_built(
    tmp_path: Path, write: Callable[[sf.Stream, Path], None]
) -> None:
    rows = sf.Job("two").read(sf.MemorySource(ROWS))
    with pytest.raises(JobDefinitionError, match=r"writes where 'write-1' does.*give each a path of its own"):
        write(rows, tmp_path / "out")


def meeting(sink: Callable[[], sf.FileSink], **options: Any) -> list[str]:
    """A run in whose middle another run of the same program comes and ends; what either failed of."""
    failures: list[str] = []

    async def other() -> None:
        job = sf.Job("same")
        job.read(sf.MemorySource([{"v": n} for n in range(10, 14)])).write(sink())
        try:
            await job.run_async(**options)
        except SinkError as error:
            failures.append(str(error))

    async def numbers(start: int) -> AsyncIterator[dict[str, int]]:
        for n in range(start, 4):
            if n == 2:
                await other()
            yield {"v": n}

    job = sf.Job("same")
    job.read(sf.source(numbers, schema={"v": sf.Int64}, bounded=True)).write(sink())
    try:
        job.run(**options)
    except SinkError as error:
        failures.append(str(error))
    return failures


@pytest.mark.parametrize("mode", ["streaming", "batch"])
@pytest.mark.parametrize("options", [{}, {"format": "ndjson", "roll": 1}, {"mode": "append"}])
def test_two_runs_at_once_write_into_one_folder(tmp_path: Path, options: dict[str, Any], mode: Any) -> None:
    assert meeting(lambda: sf.FileSink(tmp_path / "out", **options), mode=mode) == []
    assert values(tmp_path / "out") == [0, 1, 2, 3, 10, 11, 12, 13]


@pytest.mark.parametrize("mode", ["streaming", "batch"])
@pytest.mark.parametrize(
    ("name", "how"),
    [("out", "overwrite"), ("out.csv", "error"), ("out.csv", "append"), ("out.parquet", "overwrite")],
)
def test_the_second_of_two_runs_at_once_is_refused_where_one_would_replace_the_other(
    tmp_path: Path, name: str, how: Any, mode: Any
) -> None:
    (failure,) = meeting(lambda: sf.FileSink(tmp_path / name, mode=how), mode=mode)
    assert "another run writes to" in failure
    assert "wait for its end, or give each a path of its own" in failure
    assert values(tmp_path / name) == [0, 1, 2, 3]


def test_a_file_that_comes_to_be_there_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"

    async def numbers(start: int) -> AsyncIterator[dict[str, int]]:
        out.write_text("mine")
        yield {"v": 1}

    job = sf.Job("late")
    job.read(sf.source(numbers, schema={"v": sf.Int64}, bounded=True)).write(sf.FileSink(out))
    with pytest.raises(SinkError, match="was made by another program since the job started"):
        job.run()
    assert out.read_text() == "mine"


def test_overwriting_touches_nothing_but_part_files_of_this_folder(tmp_path: Path) -> None:
    def once(path: Path, v: int, **options: Any) -> None:
        job = sf.Job("once")
        job.read(sf.MemorySource([{"v": v, "odd": True}])).write(sf.FileSink(path, **options))
        job.run()

    out = tmp_path / "out"
    once(out, 1, partition_by="odd")
    once(out / "late", 2)
    (out / "part-list.csv").write_text("mine")
    once(out, 3, mode="overwrite")
    assert (out / "part-list.csv").read_text() == "mine"
    assert pl.read_parquet(out / "*.parquet")["v"].to_list() == [3]
    assert values(out / "late") == [2]


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
import streamflow as sf
out, state = Path(sys.argv[1]), sys.argv[2]
async def numbers(start):
    yield {"v": 0}
    while not any(out.with_name(".out.streamflow").rglob("*.parquet")):
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
job = sf.Job("killed")
job.read(sf.source(numbers, schema={"v": sf.Int64}, bounded=True)).write(sf.FileSink(out, roll=1, mode="append"))
job.run(mode="streaming", checkpoint_dir=state or None, checkpoint_interval="1h")
"""


@pytest.mark.parametrize("checkpoints", ["", "state"])
def test_a_reader_of_the_folder_sees_what_is_committed_alone(tmp_path: Path, checkpoints: str) -> None:
    """Also where runs have been killed, and where they left a note; and dead runs do not pile up."""
    out = tmp_path / "data" / "out"
    out.mkdir(parents=True)
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    state = str(tmp_path / checkpoints) if checkpoints else ""
    for _ in range(2):
        done = subprocess.run([sys.executable, script, out, state], check=False)
        assert done.returncode == -9
    hidden = out.with_name(".out.streamflow")
    staged = list(hidden.rglob("*.parquet"))
    assert len(staged) > 0
    assert list(out.iterdir()) == []
    if not checkpoints:
        assert len({path.parent for path in staged}) == 1
    job = sf.Job("killed" if checkpoints else "after")
    job.read(sf.MemorySource(ROWS)).write(sf.FileSink(out, mode="append"))
    job.run(checkpoint_dir=str(tmp_path / "others") if checkpoints else None)
    for path in (out, f"{out}/**/*", f"{out}/**/*.parquet"):
        assert sorted(pl.read_parquet(path)["v"]) == list(range(10))
    assert hidden.exists() == bool(checkpoints)


def test_a_folder_beside_which_nothing_can_be_keeps_it_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = sf.Job("here")
    job.read(sf.MemorySource(ROWS)).write(sf.FileSink("."))
    job.run(checkpoint_dir=str(tmp_path.parent / "state-of-here"))
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [".streamflow"]
    assert values(tmp_path) == list(range(10))


class TestAppendingToAFile:
    def append(self, path: Path, rows: list[dict[str, Any]], **types: Any) -> None:
        job = sf.Job("append")
        job.read(sf.MemorySource(rows)).write(sf.FileSink(path, mode="append"))
        job.run()

    @pytest.mark.parametrize(
        ("name", "there"),
        [
            ("x.csv", b"a,b\n1,2\n"),
            ("x.csv", b"b,a\n1,2\n"),
            ("x.csv", b"\xff\xfea\x00\n\x00"),
            ("x.csv", b'"a\n1,2\n'),
            ("x.tsv", b"a,b\n1,2\n"),
            ("x.parquet", b"no table"),
            ("x.arrow", b"no table"),
        ],
    )
    def test_a_file_of_other_columns_is_refused(self, tmp_path: Path, name: str, there: bytes) -> None:
        path = tmp_path / name
        path.write_bytes(there)
        with pytest.raises(
            SinkError, match=r"other columns than the stream|no CSV|within a quoted field|is no \w+ file"
        ):
            self.append(path, [{"a": 1, "c": 2}])
        assert path.read_bytes() == there

    @pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
    @pytest.mark.parametrize("rows", [[{"v": "1"}], [{"v": 1, "w": 1}], [{"w": 1}]])
    def test_a_table_of_other_columns_is_refused(self, tmp_path: Path, name: str, rows: Any) -> None:
        self.append(tmp_path / name, [{"v": 1}])
        with pytest.raises(SinkError, match="other columns than the stream: v "):
            self.append(tmp_path / name, rows)
        assert read_back(tmp_path / name) == [{"v": 1}]

    @pytest.mark.parametrize(
        ("name", "there", "after"),
        [
            ("x.ndjson", '{"v":1}', '{"v":1}\n{"v":0}\n'),
            ("x.ndjson", "", '{"v":0}\n'),
            ("x.csv", "v\n1", "v\n1\n0\n"),
            ("x.csv", "v\r\n1\r\n", "v\r\n1\r\n0\n"),
            ("x.csv", "", "v\n0\n"),
            ("x.csv", "\ufeffv\n1\n", "\ufeffv\n1\n0\n"),
        ],
    )
    def test_a_last_line_without_its_newline_gets_one(
        self, tmp_path: Path, name: str, there: str, after: str
    ) -> None:
        (tmp_path / name).write_bytes(there.encode())
        self.append(tmp_path / name, [{"v": 0}])
        assert (tmp_path / name).read_bytes() == after.encode()


class TestPaths:
    @pytest.mark.parametrize("name", ["out.xyz", "out.v1", "out.parqet", "a.csv.bak"])
    def test_a_suffix_that_is_none_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(
            JobDefinitionError,
            match=r"cannot tell whether .* is a file or a folder; a file ends with one of .ndjson",
        ):
            sf.FileSink(tmp_path / name)
        sf.FileSink(f"{tmp_path / name}/")
        (tmp_path / name).mkdir()
        sf.FileSink(tmp_path / name)

    @pytest.mark.parametrize("name", ["typo/out", "typo/out.csv", "typo/deeper/out/"])
    def test_no_folder_above_is_made(self, tmp_path: Path, name: str) -> None:
        rows = sf.Job("a").read(sf.MemorySource(ROWS))
        with pytest.raises(JobDefinitionError, match=r"there is no folder '.*typo.*' to write into"):
            rows.write(sf.FileSink(f"{tmp_path}/{name}"))
        assert list(tmp_path.iterdir()) == []

    def test_a_slash_makes_a_folder_of_any_name(self, tmp_path: Path) -> None:
        job = sf.Job("a")
        job.read(sf.MemorySource(ROWS)).write(sf.FileSink(f"{tmp_path}/out.csv/", format="csv"))
        job.run()
        assert values(tmp_path / "out.csv") == list(range(10))
