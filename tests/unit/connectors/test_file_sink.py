"""`FileSink`: names, contents, partitions, modes, and what happens when the disk or somebody else is in the way."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.schema import OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, SinkError
from streamflow.operators.connectors.files.partitions import folder_of
from streamflow.operators.connectors.files.publishing import staging
from streamflow.operators.connectors.files.sink import FileSink
from streamflow.operators.connectors.files.source import FileSource
from streamflow.operators.contract.sink import Committer
from streamflow.time.clock import SeededRandom
from tests.unit.connectors.driving import frame, objects, rows, run, sink_context, stream_type, write

MOMENT = datetime(2013, 1, 1, 5, 17, 0, 250_000, tzinfo=UTC)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class TestContent:
    def test_text_carries_times_as_iso_8601_in_utc(self, tmp_path: Path) -> None:
        berlin = pl.Series([MOMENT]).dt.convert_time_zone("Europe/Berlin")
        batch = frame(
            at=[MOMENT], local=berlin, day=[date(2013, 1, 1)], took=[timedelta(seconds=1)], text=['a"b,\n']
        )
        write(FileSink(tmp_path / "x.ndjson"), [batch])
        write(FileSink(tmp_path / "x.csv"), [batch])
        at = "2013-01-01T05:17:00.250Z"
        assert (tmp_path / "x.ndjson").read_text() == (
            f'{{"at":"{at}","local":"{at}","day":"2013-01-01","took":1000000,"text":"a\\"b,\\n"}}\n'
        )
        assert (tmp_path / "x.csv").read_text() == (
            f'at,local,day,took,text\n{at},{at},2013-01-01,1000000,"a""b,\n"\n'
        )

    def test_times_inside_of_others_too(self, tmp_path: Path) -> None:
        batch = frame(
            l=[[MOMENT, None], None], d=[[timedelta(seconds=1)], []], s=[{"t": time(5, 17), "at": MOMENT}, None],
            p=[[Decimal("1.20")], [None]],
        )  # fmt: skip
        write(FileSink(tmp_path / "x.ndjson"), [batch])
        at = "2013-01-01T05:17:00.250Z"
        assert (tmp_path / "x.ndjson").read_text().splitlines() == [
            f'{{"l":["{at}",null],"d":[1000000],"s":{{"t":"05:17:00","at":"{at}"}},"p":["1.20"]}}',
            '{"l":null,"d":[],"s":null,"p":[null]}',
        ]
        assert (
            rows(FileSource(tmp_path / "x.ndjson", schema=dict(batch.frame.schema))) == batch.frame.to_dicts()
        )

    @pytest.mark.parametrize("name", ["x.ndjson", "x.csv", "x.parquet", "x.arrow"])
    def test_what_was_written_is_read_back(self, tmp_path: Path, name: str) -> None:
        batch = frame(
            n=[1, None], at=[MOMENT, None], took=[timedelta(seconds=1), None], s=["", None], f=[0.1, -1e300]
        )
        path = tmp_path / name
        write(FileSink(path), [batch], [batch])
        schema = dict(batch.frame.schema)
        assert rows(FileSource(path, schema=schema)) == batch.frame.to_dicts() * 2

    @pytest.mark.parametrize("format", ["parquet", "arrow", "csv", "ndjson"])
    def test_rows_that_a_function_made_become_columns(self, tmp_path: Path, format: Any) -> None:
        sink = FileSink(tmp_path / "out", format=format, partition_by="k")
        made = StreamType(Schema({"k": pl.String, "n": pl.Int64}), timed=False)

        async def made_by_a_function() -> None:
            writer, committer = sink.writer(made, sink_context()), sink.committer(sink_context())
            await writer.write(objects({"k": "a", "n": 1}, {"k": "b", "n": 2}))
            await committer.commit(1, await writer.prepare(1))
            await writer.close()

        run(made_by_a_function())
        found = {path.parent.name: rows(FileSource(path)) for path in (tmp_path / "out").glob("k=*/part-*")}
        assert found == {"k=a": [{"n": 1}], "k=b": [{"n": 2}]}

    def test_objects_are_written_as_json(self, tmp_path: Path) -> None:
        @dataclass
        class Point:
            x: int

        write(FileSink(tmp_path / "x.ndjson"), [objects({"at": MOMENT}, [1, "ü"], Point(5))])
        assert (tmp_path / "x.ndjson").read_text().splitlines() == [
            '{"at":"2013-01-01T05:17:00.250000Z"}', '[1,"ü"]', '{"x":5}',
        ]  # fmt: skip

    def test_an_object_that_json_cannot_carry_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(
            SinkError, match=r"JSON cannot carry a object: .*; turn it into plain values with .map first"
        ):
            write(FileSink(tmp_path / "x.ndjson"), [objects({"x": object()})])

    @pytest.mark.parametrize(
        ("name", "content"), [("x.csv", "n\n"), ("x.ndjson", ""), ("x.parquet", None), ("x.arrow", None)]
    )
    def test_one_file_is_there_even_without_rows(
        self, tmp_path: Path, name: str, content: str | None
    ) -> None:
        write(FileSink(tmp_path / name), [frame(n=pl.Series([], dtype=pl.Int64))])
        if content is not None:
            assert (tmp_path / name).read_text() == content
        assert rows(FileSource(tmp_path / name, schema={"n": pl.Int64})) == []


class TestNames:
    def test_parts_are_named_by_subtask_epoch_and_number(self, tmp_path: Path) -> None:
        write(FileSink(tmp_path / "out", roll=2), [frame(n=[1, 2, 3])], [frame(n=[4])], subtask=3)
        run_ = SeededRandom(1).token()
        assert names(tmp_path / "out") == [
            f"part-00003-00000001-0000-{run_}.parquet",
            f"part-00003-00000001-0001-{run_}.parquet",
            f"part-00003-00000002-0000-{run_}.parquet",
        ]
        assert rows(FileSource(tmp_path / "out")) == [{"n": n} for n in (1, 2, 3, 4)]

    @given(sizes=st.lists(st.integers(0, 7), max_size=5), roll=st.integers(1, 4))
    def test_rolled_files_hold_as_many_rows_as_asked(
        self, tmp_path_factory: pytest.TempPathFactory, sizes: list[int], roll: int
    ) -> None:
        folder = tmp_path_factory.mktemp("roll") / "out"
        write(FileSink(folder, format="ndjson", roll=roll), [frame(n=[0] * size) for size in [*sizes, 1]])
        lines = [len((folder / name).read_text().splitlines()) for name in names(folder)]
        total = sum(sizes) + 1
        assert lines == [roll] * (total // roll) + [total % roll] * (total % roll > 0)

    def test_large_output_is_not_held_in_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(staging, "_HELD_BYTES", 50)
        monkeypatch.setattr(staging, "_TEXT_BYTES", 50)
        batches = [frame(n=[n] * 10) for n in range(4)]
        write(FileSink(tmp_path / "tables"), batches)
        write(FileSink(tmp_path / "text", format="csv"), batches)
        assert len(names(tmp_path / "tables")) == 4
        assert len(names(tmp_path / "text")) == 1
        for name in ("tables", "text"):
            assert len(rows(FileSource(tmp_path / name))) == 40


class TestPartitions:
    def test_columns_become_folders(self, tmp_path: Path) -> None:
        batch = frame(origin=["JFK", "a/../b", None, "JFK"], day=[date(2013, 1, 1)] * 4, n=[1, 2, 3, 4])
        write(FileSink(tmp_path / "out", format="csv", partition_by=["origin", "day"]), [batch])
        found = {name: (tmp_path / "out" / name).read_text() for name in names(tmp_path / "out")}
        part = f"part-00000-00000001-000%d-{SeededRandom(1).token()}.csv"
        assert found == {
            f"origin=JFK/day=2013-01-01/{part % 0}": "n\n1\n4\n",
            f"origin=a%2F..%2Fb/day=2013-01-01/{part % 1}": "n\n2\n",
            f"origin=__HIVE_DEFAULT_PARTITION__/day=2013-01-01/{part % 2}": "n\n3\n",
        }

    @given(value=st.text(max_size=10), name=st.text(min_size=1, max_size=10))  # longer ones may be refused
    def test_a_value_is_always_one_name(self, value: Any, name: str) -> None:
        folder = folder_of([name], [value])
        assert not set(folder) & set("/\\\0")
        assert folder not in (".", "..")

    @pytest.mark.parametrize("path", ["out.txt", "out.log.gz", "out.text"])
    def test_a_file_that_cannot_be_written_is_refused_at_once(self, tmp_path: Path, path: str) -> None:
        with pytest.raises(JobDefinitionError, match=r"FileSink cannot (write|tell what) '.*out\."):
            FileSink(tmp_path / path)

    def test_rows_a_file_are_a_number(self, tmp_path: Path) -> None:
        with pytest.raises(
            JobDefinitionError, match=r"roll \(the most rows of a file\) is '1GB'; write a whole"
        ):
            FileSink(tmp_path / "out", roll="1GB")  # type: ignore[arg-type]

    def test_what_cannot_be_partitioned(self, tmp_path: Path) -> None:
        kind = StreamType(Schema({"origin": pl.String}), timed=False)
        with pytest.raises(
            JobDefinitionError, match=r"no column 'orgin'; there are: origin; did you mean 'origin'\?"
        ):
            FileSink(tmp_path / "out", partition_by="orgin").check(kind)
        with pytest.raises(JobDefinitionError, match="partition_by leaves no column to write"):
            FileSink(tmp_path / "out", partition_by="origin").check(kind)
        with pytest.raises(JobDefinitionError, match="partition_by needs columns"):
            FileSink(tmp_path / "out", format="ndjson", partition_by="a").check(
                StreamType(OBJECTS, timed=False)
            )


class TestModes:
    @pytest.mark.parametrize("name", ["out", "out.csv"])
    def test_what_is_there_is_not_touched_by_default(self, tmp_path: Path, name: str) -> None:
        sink = FileSink(tmp_path / name)
        write(sink, [frame(n=[1])])
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        sink.check(stream_type(frame(n=[1])))
        with pytest.raises(SinkError, match="already holds something; choose another path, mode="):
            sink.writer(stream_type(frame(n=[1])), sink_context())
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize("name", ["out", "out.csv", "out.parquet"])
    def test_append_adds(self, tmp_path: Path, name: str) -> None:
        write(FileSink(tmp_path / name), [frame(n=[1])])
        write(FileSink(tmp_path / name, mode="append"), [frame(n=[2])], [frame(n=[3])], seed=5)
        assert sorted(row["n"] for row in rows(FileSource(tmp_path / name))) == [1, 2, 3]

    @pytest.mark.parametrize("name", ["out", "out.csv", "out.parquet"])
    def test_overwrite_replaces_when_the_first_epoch_commits(self, tmp_path: Path, name: str) -> None:
        target = tmp_path / name
        write(FileSink(target), [frame(n=[1])], [frame(n=[2])])
        if target.is_dir():
            (target / "notes.md").write_text("mine")
        again = FileSink(target, mode="overwrite")

        writer = again.writer(stream_type(frame(n=[9])), sink_context(seed=8))
        run(writer.write(frame(n=[9])))
        run(writer.prepare(1))
        run(writer.close())
        assert [row["n"] for row in rows(FileSource(target))] == [1, 2]
        write(again, [frame(n=[3])], [frame(n=[4])])
        assert [row["n"] for row in rows(FileSource(target))] == [3, 4]
        assert not target.is_dir() or (target / "notes.md").read_text() == "mine"

    def test_overwriting_with_nothing_leaves_nothing(self, tmp_path: Path) -> None:
        write(FileSink(tmp_path / "out"), [frame(n=[1])])
        write(FileSink(tmp_path / "out", mode="overwrite"), [frame(n=[])])
        assert names(tmp_path / "out") == []

    def test_what_a_dead_run_left_is_no_output(self, tmp_path: Path) -> None:
        sink = FileSink(tmp_path / "out", format="csv")

        writer = sink.writer(stream_type(frame(n=[9])), sink_context(seed=8))
        run(writer.write(frame(n=[9])))
        run(writer.prepare(1))
        assert names(tmp_path) != []
        assert names(tmp_path / "out") == []
        write(sink, [frame(n=[1])])
        assert rows(FileSource(tmp_path / "out")) == [{"n": 1}]
        assert rows(FileSource(tmp_path / "out" / "**" / "*.csv")) == [{"n": 1}]


class TestCommitting:
    def test_a_commit_that_died_halfway_is_finished_when_it_is_repeated(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "out.csv"
        sink = FileSink(target)
        steps = Steps()
        for name in ("replace", "unlink", "rmdir"):
            monkeypatch.setattr(Path, name, steps.counting(getattr(Path, name)))

        def died(at: int) -> bool:
            """One run of two epochs; the second commit dies before its step `at` and is repeated."""
            target.unlink(missing_ok=True)
            writer = sink.writer(stream_type(frame(n=[1])), sink_context())
            run(writer.write(frame(n=[1])))
            run(_committer(sink).commit(1, run(writer.prepare(1))))
            run(writer.write(frame(n=[2])))
            sealed = run(writer.prepare(2))
            run(writer.close())
            steps.left = at
            try:
                run(_committer(sink).commit(2, sealed))
            except SinkError:
                steps.left = None
                assert rows(FileSource(target)) in ([{"n": 1}], [{"n": 1}, {"n": 2}])
                run(_committer(sink).commit(2, sealed))
                return True
            finally:
                steps.left = None
                assert rows(FileSource(target)) == [{"n": 1}, {"n": 2}]
            return False

        survived = [at for at in range(8) if not died(at)]
        assert survived[0] == 3

    def test_staged_content_that_somebody_removed_is_an_error(self, tmp_path: Path) -> None:
        sink = FileSink(tmp_path / "out")

        writer = sink.writer(stream_type(frame(n=[1])), sink_context())
        run(writer.write(frame(n=[1])))
        sealed = run(writer.prepare(1))
        for path in tmp_path.rglob("*.parquet"):
            path.unlink()
        with pytest.raises(SinkError, match=r"the staged content of .* is gone"):
            run(_committer(sink).commit(1, sealed))


class Steps:
    """Lets `left` changes to the file system happen and fails the next; all of them while it is None."""

    def __init__(self) -> None:
        self.left: int | None = None

    def counting(self, original: Any) -> Any:
        def step(path: Path, *args: Any, **kwargs: Any) -> Any:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise OSError(errno.EIO, "Input/output error")
            return original(path, *args, **kwargs)

        return step


def _committer(sink: FileSink) -> Committer:
    """A new one each time, as after a crash."""
    return sink.committer(sink_context())


class TestObstacles:
    @pytest.mark.parametrize(
        ("number", "hint"), [(errno.ENOSPC, "make room on the disk"), (errno.EIO, "the device failed")]
    )
    def test_a_disk_that_refuses_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, hint: str
    ) -> None:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise OSError(
                number, "No space left on device" if number == errno.ENOSPC else "Input/output error"
            )

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(
            SinkError, match=rf"cannot write '{tmp_path}/.*out.*': (No space|Input/output).*; {hint}"
        ):
            write(FileSink(tmp_path / "out", format="csv"), [frame(n=[1])])

    def test_a_file_where_a_folder_is_wanted(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("x")
        kind = stream_type(frame(n=[1]))
        with pytest.raises(JobDefinitionError, match="out' is a file; give a folder"):
            FileSink(tmp_path / "out").check(kind)
        with pytest.raises(JobDefinitionError, match=r"cannot write below '.*out'"):
            FileSink(tmp_path / "out" / "deeper").check(kind)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"format": "text"}, "FileSink cannot write 'out'; one of: ndjson, csv, parquet, arrow"),
            ({"format": "xml"}, "there is no file format 'xml'"),
            ({"path": "x.csv.gz"}, "FileSink cannot write 'x.csv.gz'"),
            ({"path": "x.csv", "format": "parquet"}, "'x.csv' is to be written as parquet"),
            ({"path": "x.csv", "roll": 5}, "'x.csv' is one file; give a folder"),
            ({"path": "x.csv", "partition_by": "a"}, "'x.csv' is one file"),
            ({"path": "s3://b/x"}, "'s3://b/x' is not on this machine"),
            ({"roll": 0}, "roll (the most rows of a file) is 0"),
            ({"mode": "replace"}, "FileSink has no mode 'replace'"),
        ],
    )
    def test_options_that_make_no_sense(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(JobDefinitionError) as caught:
            FileSink(**{"path": "out", **options})
        assert f": {message}" in str(caught.value)

    @pytest.mark.parametrize(
        ("format", "schema", "message"),
        [
            ("csv", {"a": pl.List(pl.Int64)}, "csv cannot carry column 'a' (List(Int64))"),
            ("ndjson", {"a": pl.Binary}, "ndjson cannot carry column 'a' (Binary)"),
            ("ndjson", {"a": pl.List(pl.Binary)}, "ndjson cannot carry column 'a' (List(Binary))"),
            ("ndjson", {"a": pl.Struct({"b": pl.Binary})}, "ndjson cannot carry column 'a' (Struct"),
            ("parquet", {"a": pl.List(pl.Struct([]))}, "parquet cannot carry column 'a' (List(Struct"),
            ("parquet", None, "a stream of Python objects cannot be written as parquet"),
        ],
    )
    def test_a_stream_that_the_format_cannot_carry(
        self, tmp_path: Path, format: Any, schema: dict[str, Any] | None, message: str
    ) -> None:
        kind = StreamType(OBJECTS if schema is None else Schema(schema), timed=False)
        with pytest.raises(JobDefinitionError) as caught:
            FileSink(tmp_path / "out", format=format).check(kind)
        assert f": {message}" in str(caught.value)
