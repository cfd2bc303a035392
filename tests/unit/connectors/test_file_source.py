"""`FileSource`: the files that it finds, its errors, its splits."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from socket import AF_UNIX, socket
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow.core.schema import OBJECTS, Schema
from streamflow.errors import JobDefinitionError, SourceError
from streamflow.operators.connectors.files import enumerator, splits
from streamflow.operators.connectors.files.source import FileSource
from tests.unit.connectors.driving import discover, read, read_on, rows, source_context


def put(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@contextmanager
def unprivileged() -> Generator[None]:
    """Meanwhile permissions hold for this process, also where it is root's."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


class TestFinding:
    def test_a_folder_means_all_files_of_the_format_below_it_but_hidden_ones(self, tmp_path: Path) -> None:
        for name in ("b.ndjson", "a.ndjson", "deep/c.ndjson", ".hidden.ndjson", "_tmp.ndjson", ".x/d.ndjson"):
            put(tmp_path / name, f'{{"n":"{name}"}}\n')
        put(tmp_path / "README.md", "not data")
        assert [row["n"] for row in rows(FileSource(tmp_path))] == ["a.ndjson", "b.ndjson", "deep/c.ndjson"]

    def test_a_format_picks_its_files_from_a_folder(self, tmp_path: Path) -> None:
        put(tmp_path / "a.csv", "n\n1\n")
        put(tmp_path / "b.ndjson", '{"n":2}\n')
        assert rows(FileSource(tmp_path, format="csv")) == [{"n": 1}]

    def test_globs_lists_and_urls(self, tmp_path: Path) -> None:
        put(tmp_path / "a 1.txt", "one\n")
        put(tmp_path / "b.txt", "two\n")
        url = f"file://{tmp_path}/a%201.txt"
        assert rows(FileSource([url, str(tmp_path / "b.*"), tmp_path / "b.txt"])) == [
            {"line": "one"},
            {"line": "two"},
        ]

    def test_a_path_with_magic_characters_that_exists_is_a_path(self, tmp_path: Path) -> None:
        assert rows(FileSource(put(tmp_path / "[a].txt", "one\n"))) == [{"line": "one"}]

    def test_a_missing_file_is_an_error_when_the_job_is_built(self, tmp_path: Path) -> None:
        put(tmp_path / "flights.csv", "a\n")
        with pytest.raises(
            SourceError, match=r"there is no file '.*flight.csv'; in '.*' there is: flights.csv"
        ):
            FileSource(tmp_path / "flight.csv", schema={"a": pl.String}).output_type()

    def test_a_glob_without_files_is_an_error_when_the_job_is_built(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"no files match '.*\*\.csv'; in '.*' there is: nothing"):
            FileSource(tmp_path / "x" / "*.csv", schema={"a": pl.String}).output_type()

    def test_a_folder_without_a_file_has_no_rows_if_there_is_a_schema(self, tmp_path: Path) -> None:
        job, results = sf.Job("a quiet day"), tmp_path / "results"
        job.read(FileSource(put(tmp_path / "a.ndjson", '{"a":1}\n'))).filter(sf.col("a") > 1).write(
            sf.FileSink(results, format="ndjson")
        )
        job.run(mode="batch")
        assert rows(FileSource(results, schema={"a": pl.Int64})) == []
        with pytest.raises(SourceError, match="no files match"):
            FileSource(results).output_type()
        put(results / "a.xml", "of no format that is known\n")
        with pytest.raises(SourceError, match="no files match"):
            FileSource(results, schema={"a": pl.Int64}).output_type()

    def test_what_the_system_refuses_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "loop.ndjson").symlink_to(tmp_path / "loop.ndjson")
        for path in (tmp_path / "loop.ndjson", tmp_path / ("x" * 300), tmp_path / ("x" * 300 + "*")):
            with pytest.raises(SourceError, match="cannot read"):
                FileSource(path, format="ndjson", schema={"a": pl.Int64}).enumerator(source_context())

    def test_a_file_that_cannot_be_opened_is_said(self, tmp_path: Path) -> None:
        with socket(AF_UNIX) as listening:
            listening.bind(str(tmp_path / "a.ndjson"))
            with pytest.raises(SourceError, match=r"'.*a\.ndjson' is no file, but a pipe"):
                read(FileSource(tmp_path, schema={"a": pl.Int64}))

    def test_a_folder_that_cannot_be_looked_into_is_not_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "a.ndjson").write_text('{"a":1}\n')
        above = os.open(tmp_path, os.O_RDONLY)
        for _ in range(20):
            # Longer as a whole than a path may be.
            os.mkdir("x" * 250, dir_fd=above)
            below = os.open("x" * 250, os.O_RDONLY, dir_fd=above)
            os.close(above)
            above = below
        os.close(above)
        with pytest.raises(SourceError, match=r"cannot read .*File name too long"):
            read(FileSource(tmp_path, schema={"a": pl.Int64}))

    @pytest.mark.parametrize("asked", ["", "*/*.ndjson", "**/*.ndjson", "*/in/*.ndjson", "closed/*.ndjson"])
    def test_a_folder_without_permission_is_not_passed_over(self, asked: str) -> None:
        with TemporaryDirectory() as name:
            for below in ("open/in", "closed/in", "lost+found/in"):
                Path(name, below).mkdir(parents=True)
                for file in (Path(name, below, "a.ndjson"), Path(name, below).parent / "a.ndjson"):
                    file.write_text('{"a":1}\n')
            Path(name).chmod(0o755)
            Path(name, "closed").chmod(0o000)
            Path(name, "lost+found").chmod(0o000)
            source = partial(FileSource, f"{name}/{asked}", schema={"a": pl.Int64})
            with (
                unprivileged(),
                pytest.raises(SourceError, match=r"cannot read '.*closed.*': Permission denied"),
            ):
                source().enumerator(source_context())
            Path(name, "closed").chmod(0o755)
            with unprivileged():
                found = source().enumerator(source_context())
                assert asyncio.run(found.discover()).splits

    def test_formats_are_not_mixed(self, tmp_path: Path) -> None:
        put(tmp_path / "a.csv", "n\n1\n")
        put(tmp_path / "b.ndjson", '{"n":2}\n')
        with pytest.raises(SourceError, match=r"a.csv' is csv and '.*b.ndjson' is ndjson; read one format"):
            FileSource(tmp_path).output_type()

    def test_an_unknown_suffix_needs_a_format(self, tmp_path: Path) -> None:
        path = put(tmp_path / "data.bin", '{"n":2}\n')
        with pytest.raises(
            SourceError, match=r'cannot tell the format of .*data.bin. by its name; give it: format="ndj'
        ):
            FileSource(path).output_type()
        assert rows(FileSource(path, format="ndjson")) == [{"n": 2}]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"format": "json"}, "there is no file format 'json'; did you mean 'ndjson'?"),
            ({"format": "xls"}, "there is no file format 'xls'; one of: ndjson, csv"),
            ({"watch": "-1s"}, "watch is '-1s'; it must be longer than zero"),
            ({"separator": ";;"}, "separator is ';;'; it must be one ASCII character"),
            ({"separator": "'", "quote": "'"}, "separator and quote are both"),
            ({"path": []}, "FileSource got no path"),
            ({"path": "s3://bucket/x.csv"}, "'s3://bucket/x.csv' is not on this machine"),
            ({"path": ""}, "'' is not a path"),
            ({"path": 5}, "5 is not a path"),
            ({"path": None}, "None is not a path"),
        ],
    )
    def test_options_that_make_no_sense(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(JobDefinitionError) as caught:
            FileSource(**{"path": "x.csv", **options})  # type: ignore[arg-type]
        assert f": {message}" in str(caught.value)

    def test_a_compressed_parquet_file_is_refused(self, tmp_path: Path) -> None:
        put(tmp_path / "x.parquet.gz", b"")
        with pytest.raises(SourceError, match="a parquet file is not compressed as a whole"):
            FileSource(tmp_path / "x.parquet.gz").output_type()


class TestInference:
    def test_json_columns_come_from_the_first_rows(self, tmp_path: Path) -> None:
        path = put(
            tmp_path / "x.ndjson",
            '{"i":1,"t":"2013-01-01T05:17:00Z","n":null,"s":"2013"}\n{"i":2.5,"t":null,"deep":{"l":[1]},"s":"x"}\n',
        )
        assert FileSource(path).output_type().schema == Schema(
            {
                "i": pl.Float64,
                "t": pl.Datetime("us", "UTC"),
                "n": pl.String,
                "s": pl.String,
                "deep": pl.Struct({"l": pl.List(pl.Int64)}),
            }
        )

    def test_two_integers_are_not_told_to_be_one_float(self, tmp_path: Path) -> None:
        records = [
            {"id": 1.5, "n": 2},
            {"id": 9007199254740993, "n": 1e300},
            {"id": 9007199254740992, "n": 2**60},
        ]
        (tmp_path / "x.ndjson").write_text("".join(f"{json.dumps(record)}\n" for record in records))
        found = rows(FileSource(tmp_path / "x.ndjson"), columns=["id", "n"])
        assert [row["id"] for row in found] == ["1.5", "9007199254740993", "9007199254740992"]
        assert [row["n"] for row in found] == [2.0, 1e300, 2.0**60]

    def test_csv_columns_come_from_the_first_rows(self, tmp_path: Path) -> None:
        path = put(
            tmp_path / "x.csv", "i,f,b,t,s,n\n1,1.5,true,2013-01-01T05:17:00.5Z,x,NA\nNA,2,FALSE,NA,1,NA\n"
        )
        source = FileSource(path, null_values=["NA"])
        assert dict(source.output_type().schema) == {  # type: ignore[call-overload]
            "i": pl.Int64, "f": pl.Float64, "b": pl.Boolean, "t": pl.Datetime("us", "UTC"), "s": pl.String,
            "n": pl.String,
        }  # fmt: skip
        moment = datetime(2013, 1, 1, 5, 17, 0, 500_000, tzinfo=UTC)
        assert rows(source) == [
            {"i": 1, "f": 1.5, "b": True, "t": moment, "s": "x", "n": None},
            {"i": None, "f": 2.0, "b": False, "t": None, "s": "1", "n": None},
        ]

    def test_it_is_pinned_when_the_job_is_built(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.ndjson", '{"a":1}\n')
        source = FileSource(path)
        before = source.output_type()
        put(path, '{"b":"x"}\n')
        assert source.output_type() == before
        assert rows(source) == [{"a": None}]

    def test_empty_files_are_passed_over_and_all_empty_is_an_error(self, tmp_path: Path) -> None:
        put(tmp_path / "a.ndjson", "")
        put(tmp_path / "b.ndjson", "\n\n")
        with pytest.raises(
            SourceError, match=r"there is nothing in '.*a.ndjson', '.*b.ndjson' to infer columns from; give"
        ):
            FileSource(tmp_path).output_type()
        put(tmp_path / "c.ndjson", '{"a":1}\n')
        assert rows(FileSource(tmp_path)) == [{"a": 1}]

    def test_an_empty_file_with_a_schema_has_no_rows(self, tmp_path: Path) -> None:
        for name in ("x.ndjson", "x.csv", "x.txt"):
            assert rows(FileSource(put(tmp_path / name, ""), schema={"line": pl.String})) == []

    def test_a_json_array_gets_a_hint(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.json", '[\n{"a":1},\n{"a":2}\n]\n')
        put(path, '[{"a":1},{"a":2}]\n')
        with pytest.raises(
            SourceError, match=r"no JSON object in the first rows, from line 1 on; write one object a l"
        ):
            FileSource(path).output_type()


class TestSplitting:
    def test_large_files_become_ranges_of_which_the_first_holds_the_watermark(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(enumerator, "SPLIT_BYTES", 20)
        for name in "ab":
            put(tmp_path / f"{name}.ndjson", "".join(f'{{"n":{n}}}\n' for n in range(5)))
        source = FileSource(tmp_path)
        found = discover(source)
        assert [(split.id.rpartition("/")[2], split.holds_watermark) for split in found] == [
            ("a.ndjson[0-20)", True),
            ("a.ndjson[20-40)", False),
            ("b.ndjson[0-20)", True),
            ("b.ndjson[20-40)", False),
        ]
        assert [[row["n"] for row in read_on(source, split, None)] for split in found] == [
            [0, 1, 2],
            [3, 4],
        ] * 2

    def test_files_in_order_hold_no_watermark_but_the_first(self, tmp_path: Path) -> None:
        for name in "abc":
            put(tmp_path / f"{name}.txt", "x\n")
        assert [split.holds_watermark for split in discover(FileSource(tmp_path, in_order=True))] == [
            True,
            False,
            False,
        ]

    def test_tables_are_split_by_rows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(enumerator, "SPLIT_BYTES", 400)
        path = tmp_path / "x.parquet"
        pl.DataFrame({"n": range(10)}).write_parquet(path)
        source = FileSource(path)
        found = discover(source)
        assert len(found) > 1
        assert [row["n"] for split in found for row in read_on(source, split, None)] == list(range(10))

    @given(
        lines=st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=30), max_size=20
        ),
        ending=st.sampled_from(["", "\n"]),
        step=st.integers(1, 60),
        batch_rows=st.integers(1, 5),
    )
    def test_any_text_cut_anywhere_gives_each_line_once(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        lines: list[str],
        ending: str,
        step: int,
        batch_rows: int,
    ) -> None:
        text = "\n".join(lines) + (ending if lines else "")
        path = put(tmp_path_factory.getbasetemp() / "any.txt", text)
        expected = text.removesuffix("\n").split("\n") if text else []
        if text.startswith("\ufeff"):
            expected[0] = expected[0].removeprefix("\ufeff")
        source = FileSource(path, schema=OBJECTS)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(enumerator, "SPLIT_BYTES", step)
            reading = read(source, batch_rows=batch_rows)
        assert reading.rows == expected


class TestColumns:
    def test_types_are_what_the_schema_says(self, tmp_path: Path) -> None:
        schema = {
            "small": pl.Int8, "unsigned": pl.UInt16, "single": pl.Float32, "day": pl.Date, "time": pl.Time,
            "lasting": pl.Duration("ms"), "price": pl.Decimal(10, 2), "kind": pl.Enum(["a", "b"]),
            "local": pl.Datetime("ms", "Europe/Berlin"), "naive": pl.Datetime("us"), "any": pl.String,
        }  # fmt: skip
        line = (
            '{"small":-5,"unsigned":65535,"single":1.5,"day":"2013-01-31","time":"05:17:00.5","lasting":1500,'
            '"price":1.25,"kind":"b","local":"2013-01-01T05:17:00Z","naive":"2013-01-01T05:17:00Z","any":{"x":1}}\n'
        )
        [batch] = read(FileSource(put(tmp_path / "x.ndjson", line), schema=schema)).batches
        expected = pl.DataFrame(
            {"small": [-5], "unsigned": [65535], "single": [1.5], "day": ["2013-01-31"], "time": ["05:17:00.5"],
             "lasting": [1500], "price": ["1.25"], "kind": ["b"], "any": ['{"x":1}']}
        )  # fmt: skip
        found = batch.frame  # type: ignore[union-attr]
        assert dict(found.schema) == schema
        assert found["day"].cast(pl.String).to_list() == expected["day"].to_list()
        assert found["lasting"].dt.total_milliseconds().to_list() == [1500]
        assert found["price"].cast(pl.String).to_list() == ["1.25"]
        assert str(found["local"][0]) == "2013-01-01 06:17:00+01:00"
        assert found["naive"].to_list() == [datetime(2013, 1, 1, 5, 17)]  # noqa: DTZ001
        assert found["any"].to_list() == expected["any"].to_list()

    @pytest.mark.parametrize(
        "text",
        [
            "2013-01-01T05:17:00Z", "2013-01-01T05:17:00.000Z", "2013-01-01T06:17:00+01:00", "2013-01-01T05:17:00",
            "2013-01-01 05:17:00", "2013-01-01T05:17", "2013-01-01T00:17:00-0500", "2013-01-01 05:17:00Z",
        ],
    )  # fmt: skip
    def test_times_are_read_as_iso_8601_says(self, tmp_path: Path, text: str) -> None:
        path = put(tmp_path / "x.ndjson", f'{{"t":"2013-01-01T05:17:00Z"}}\n{{"t":"{text}"}}\n{{"t":null}}\n')
        expected = [datetime(2013, 1, 1, 5, 17, tzinfo=UTC)] * 2 + [None]
        assert [row["t"] for row in rows(FileSource(path, schema={"t": pl.Datetime}))] == expected

    def test_a_csv_file_may_order_its_columns_otherwise(self, tmp_path: Path) -> None:
        put(tmp_path / "a.csv", "a,b\n1,x\n")
        put(tmp_path / "b.csv", "c,b,a\n9,y,2\n")
        assert rows(FileSource(tmp_path)) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]

    def test_tables_are_cast_where_the_schema_is_given(self, tmp_path: Path) -> None:
        pl.DataFrame({"a": [1]}, schema={"a": pl.Int32}).write_parquet(tmp_path / "a.parquet")
        pl.DataFrame({"a": [2]}, schema={"a": pl.Int64}).write_parquet(tmp_path / "b.parquet")
        assert rows(FileSource(tmp_path, schema={"a": pl.Float64})) == [{"a": 1.0}, {"a": 2.0}]
        with pytest.raises(
            SourceError, match=r"b.parquet': column 'a' is Int64 where Int32 was expected; the files diff"
        ):
            rows(FileSource(tmp_path))

    @pytest.mark.parametrize(("name", "dtype"), [("x.ndjson", pl.Binary), ("x.csv", pl.List(pl.Int64))])
    def test_a_type_that_the_format_cannot_carry_is_refused_at_once(
        self, tmp_path: Path, name: str, dtype: pl.DataType
    ) -> None:
        with pytest.raises(JobDefinitionError, match=r"column 'a': .* cannot carry .*; read it as sf.String"):
            FileSource(put(tmp_path / name, "x"), schema={"a": dtype}).output_type()


def test_the_number_of_bytes_read_is_reported(tmp_path: Path) -> None:
    assert splits.SPLIT_BYTES == 256 << 20
    path = put(tmp_path / "x.txt", "one\ntwo\n")
    [split] = discover(FileSource(path))
    assert split.id == str(path)


@pytest.mark.parametrize("asked", ["x.ndjson", "", "*.ndjson"])
def test_a_pipe_is_refused_not_waited_for(tmp_path: Path, asked: str) -> None:
    os.mkfifo(tmp_path / "x.ndjson")
    with pytest.raises(SourceError, match="is no file, but a pipe"):
        FileSource(tmp_path / asked, schema={"a": pl.Int64}).output_type()
