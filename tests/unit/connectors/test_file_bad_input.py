"""Bad input: which file, which line, what was there; by policy."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.schema import OBJECTS, Schema
from streamflow.errors import RecordError, SourceError, StreamflowError
from streamflow.operators.connectors.files import byte_ranges, sequential_reader
from streamflow.operators.connectors.files.formats.csv_format import CsvColumns, CsvOptions
from streamflow.operators.connectors.files.formats.line_format import PARSE_ERRORS, Run, decode_run
from streamflow.operators.connectors.files.formats.ndjson import NdjsonColumns
from streamflow.operators.connectors.files.source import FileSource
from tests.unit.connectors.driving import read, rows

SCHEMA = {"a": pl.Int64, "b": pl.String, "t": pl.Datetime}
TYPES = [pl.Int8, pl.Int64, pl.UInt32, pl.Float64, pl.Boolean, pl.String, pl.List(pl.Int64), pl.Datetime]
JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.lists(st.integers(0, 5), max_size=2),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=1),
)
GOOD = b'{"a":1,"b":"x"}\n'


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def failure(source: FileSource, **options: Any) -> StreamflowError:
    with pytest.raises(StreamflowError) as caught:
        rows(source, **options)
    return caught.value


class TestBadJson:
    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            (b'{"a":2,', "the line is not valid JSON (Input data was truncated)"),
            (b'{"a":2}}', "the line is not valid JSON (JSON is malformed: trailing characters (byte 8))"),
            (
                b'{"a":2} {"a":3}',
                "the line is not valid JSON (JSON is malformed: trailing characters (byte 9))",
            ),
            (b"garbage", "the line is not valid JSON (JSON is malformed: invalid character (byte 0))"),
            (b'{"b":"\xff\xfe"}', "the line is not valid UTF-8"),
            (b'{"b":"x\x00y"}', "the line is not valid JSON (JSON is malformed: invalid character"),
            (b"\x00\x00\x00", "the line is not valid JSON (JSON is malformed: invalid character (byte 0))"),
            (b'{"z":' + b"[" * 2000 + b"]" * 2000 + b"}", "the value is nested too deeply"),
            (b"[1,2]", "a JSON object was expected, this is an array"),
            (b"5", "a JSON object was expected, this is an integer"),
            (b"null", "a JSON object was expected, this is null"),
            (b'{"a":"2"}', "column 'a' holds a string where Int64 was expected"),
            (b'{"a":2.5}', "column 'a' holds a number where Int64 was expected"),
            (b'{"a":true}', "column 'a' holds a boolean where Int64 was expected"),
            (b'{"a":[1]}', "column 'a' holds an array where Int64 was expected"),
            (b'{"a":9223372036854775808}', "column 'a' holds an integer where Int64 was expected"),
            (b'{"t":5}', "column 't' holds an integer where Datetime"),
            (b'{"t":"2013-02-30T00:00:00Z"}', "column 't' holds 2013-02-30T00:00:00Z, which is no Datetime"),
        ],
    )
    def test_the_line_is_named_and_shown(self, tmp_path: Path, line: bytes, problem: str) -> None:
        path = put(tmp_path / "x.ndjson", GOOD * 3 + b"\n" + line + b"\n" + GOOD)
        error = failure(FileSource(path, schema=SCHEMA))
        assert isinstance(error, RecordError)
        assert error.message.startswith(problem)
        assert str(error).startswith(f"split {path}, line 5: ")
        assert error.record.startswith(line.decode("utf-8", "backslashreplace")[:50])

    def test_good_rows_around_bad_ones_stay(self, tmp_path: Path) -> None:
        content = b"".join(b'{"a":%d}\n' % n if n % 10 else b'{"a":"%d"}\n' % n for n in range(100))
        path = put(tmp_path / "x.ndjson", content)
        for batch_rows in (1, 7, 1000):
            reading = read(FileSource(path, schema={"a": pl.Int64}), on_error="skip", batch_rows=batch_rows)
            assert [row["a"] for row in reading.rows] == [n for n in range(100) if n % 10]
            assert [text.split(",")[1].split(":")[0] for text in reading.bad] == [
                f" line {n}" for n in range(1, 100, 10)
            ]

    @pytest.mark.parametrize("beside", [b"", b'{"a":"no"}\n'], ids=["alone", "beside a bad one"])
    def test_how_deep_a_value_may_be_is_the_same_everywhere(self, tmp_path: Path, beside: bytes) -> None:
        lines = [b'{"a":%d,"z":%s%s}\n' % (n, b"[" * n, b"]" * n) for n in (1, 1023, 1024, 5000)]
        path = put(tmp_path / "x.ndjson", beside + b"".join(lines))
        reading = read(FileSource(path, schema={"a": pl.Int64}), on_error="skip")
        assert [row["a"] for row in reading.rows] == [1, 1023]
        assert sum("nested too deeply" in text for text in reading.bad) == 2

    def test_objects_too(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.ndjson", b'{"a":1}\n{"a":\n2}\n[3]\n{"a":4}{"a":5}\n')
        reading = read(FileSource(path, schema=OBJECTS), on_error="dead_letter")
        assert reading.rows == [{"a": 1}, [3]]
        assert len(reading.bad) == 3
        assert "line 5: the line is not valid JSON" in reading.bad[2]

    def test_the_record_is_cut(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.ndjson", b'{"a":"' + b"x" * 10_000 + b'"}\n')
        error = failure(FileSource(path, schema={"a": pl.Int64}))
        assert isinstance(error, RecordError)
        assert error.record.endswith("… (10008 characters)")

    def test_what_is_not_read_is_not_checked(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.ndjson", b'{"a":1,"b":"x"}\n{"a":"no","b":"y"}\n')
        source = FileSource(path, schema={"a": pl.Int64, "b": pl.String})
        assert rows(source, columns=["b"]) == [{"b": "x"}, {"b": "y"}]

    def test_another_file_with_another_type(self, tmp_path: Path) -> None:
        put(tmp_path / "a.ndjson", b'{"a":1}\n')
        second = put(tmp_path / "b.ndjson", b'{"a":2}\n{"b":5}\n{"a":"three"}\n')
        error = failure(FileSource(tmp_path))
        assert str(error).startswith(
            f"split {second}, line 3: column 'a' holds a string where Int64 was expected"
        )

    @given(values=st.lists(JSON_VALUES, min_size=1), dtype=st.sampled_from(TYPES))
    def test_record_by_record_agrees_with_all_at_once(self, values: list[Any], dtype: Any) -> None:
        form = NdjsonColumns(Schema({"v": dtype}))
        records = [msgspec.json.encode({"v": value}) for value in values]
        sifted = form.sift(records)
        for index, record in enumerate(records):
            try:
                form.parse(record)
                accepted = True
            except PARSE_ERRORS:
                accepted = False
            assert accepted == (index not in sifted.problems)
        good = [record for index, record in enumerate(records) if index not in sifted.problems]
        assert sifted.batch.frame.equals(form.parse(b"\n".join(good)).frame)  # type: ignore[union-attr]


class TestBadCsv:
    HEAD = b"a,b,t\n1,x,2013-01-01T00:00:00Z\n"

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            (b"2", "the record has 1 fields where 3 were expected"),
            (b"2,y,,5", "the record has 4 fields where 3 were expected"),
            (b"two,y,", "column 'a' holds two, which is no Int64"),
            (b"2.5,y,", "column 'a' holds 2.5, which is no Int64"),
            (b"2,y,yesterday", "column 't' holds yesterday, which is no Datetime"),
            (b"2,\xff,", "the record is not valid UTF-8"),
            (b'2,"y" z,', "the record is not valid CSV ("),
        ],
    )
    def test_the_line_is_named_and_shown(self, tmp_path: Path, line: bytes, problem: str) -> None:
        path = put(tmp_path / "x.csv", self.HEAD + b'3,"two\nlines",\n\n' + line + b"\n4,z,\n")
        error = failure(FileSource(path, schema=SCHEMA))
        assert error.message.startswith(problem)
        assert str(error).startswith(f"split {path}, line 6: ")
        reading = read(FileSource(path, schema=SCHEMA), on_error="skip")
        assert [(row["a"], row["b"]) for row in reading.rows] == [(1, "x"), (3, "two\nlines"), (4, "z")]
        assert len(reading.bad) == 1

    def test_a_short_record_is_found_among_quoted_separators(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.csv", b'a,b,c\n1,"x,y,z",2\n3\n4,"p,q",5\n')
        assert "line 3: the record has 1 fields where 3 were expected" in str(
            failure(FileSource(path, schema={"a": pl.Int64, "c": pl.Int64}))
        )

    def test_a_file_that_lacks_a_column(self, tmp_path: Path) -> None:
        put(tmp_path / "a.csv", b"origin,n\nJFK,1\n")
        put(tmp_path / "b.csv", b"orgin,n\nJFK,1\n")
        message = r"b.csv' has no column 'origin'; there are: n, orgin; did you mean 'orgin'\?"
        with pytest.raises(SourceError, match=message):
            rows(FileSource(tmp_path))

    def test_a_column_twice(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.csv", b"a,a\n1,2\n")
        with pytest.raises(SourceError, match=r"x.csv' has the column 'a' twice; rename it"):
            FileSource(path).output_type()

    def test_a_quote_that_is_never_closed(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.csv", b'a,b,t\n1,x,\n2,5" pipe,\n3,z,\n')
        error = failure(FileSource(path, schema=SCHEMA), batch_rows=1)
        assert isinstance(error, SourceError)
        assert "the record that begins in line 3 does not end; a quote is never closed" in str(error)
        assert [row["b"] for row in rows(FileSource(path, schema=SCHEMA, quote=None))] == [
            "x",
            '5" pipe',
            "z",
        ]

    def test_a_record_without_end_is_not_read_into_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sequential_reader, "_MOST_RECORD", 100_000)
        path = put(tmp_path / "x.csv", b"a,b,t\n" + b'1,"x,\n' + b"2,y,\n" * 100_000)
        assert "line 2 does not end" in str(failure(FileSource(path, schema=SCHEMA)))


class TestDamagedFiles:
    CONTENT = b"".join(b'{"a":%d}\n' % n for n in range(5000))

    @pytest.mark.parametrize(
        ("name", "packed", "what"),
        [
            (
                "x.ndjson.gz",
                gzip.compress(CONTENT)[:-20],
                "ends in the middle of its gzip data; the file is cut off",
            ),
            (
                "x.ndjson.zst",
                zstandard.compress(CONTENT)[:-20],
                "ends in the middle of its zstd data; the file is cut",
            ),
            ("x.ndjson.gz", CONTENT, "is damaged or not gzip: Not a gzipped file"),
            ("x.ndjson.zst", CONTENT, "is damaged or not zstd: "),
            ("x.parquet", CONTENT, "is not a whole parquet file: "),
            ("x.arrow", CONTENT, "is not a whole arrow file: "),
        ],
    )
    def test_they_are_named(self, tmp_path: Path, name: str, packed: bytes, what: str) -> None:
        path = put(tmp_path / name, packed)
        error = failure(FileSource(path, schema={"a": pl.Int64}))
        assert isinstance(error, SourceError)
        assert f"'{path}' {what}" in str(error)

    def test_a_file_of_several_frames_is_whole(self, tmp_path: Path) -> None:
        for name, pack in (("x.txt.gz", gzip.compress), ("x.txt.zst", zstandard.compress)):
            path = put(tmp_path / name, pack(b"one\ntw") + pack(b"o\nthree\n"))
            assert [row["line"] for row in rows(FileSource(path))] == ["one", "two", "three"]

    def test_line_numbers_in_compressed_files(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.ndjson.gz", gzip.compress(self.CONTENT + b"bad\n"))
        source = FileSource(path, schema={"a": pl.Int64})
        assert "line 5001: the line is not valid JSON" in str(failure(source))
        assert "line 5001: the line is not valid JSON" in str(failure(source, batch_rows=10))

    def test_text_that_is_not_utf8(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.txt", b"one\n\xff\xfe\nthree\n")
        for schema in (None, OBJECTS):
            reading = read(FileSource(path, schema=schema), on_error="skip")
            assert len(reading.rows) == 2
            assert "line 2: the line is not valid UTF-8" in reading.bad[0]

    def test_a_file_that_went_away_since_the_job_was_built(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.txt", b"one\n")
        source = FileSource(path)
        source.output_type()
        path.unlink()
        with pytest.raises(SourceError, match=r"there is no file '.*x.txt'"):
            rows(source)


CELLS = st.sampled_from(
    ["", " ", "1", " 2", "-3 ", "1.5", "1e3", "true", "False", "x", '"q"', '"a,b"', '""', '"two\nlines"', "NA", "300",
     "2013-01-01", "2013-01-01T05:17:00Z", "é", '"say ""so"""', "nan", "+4", "0x1"]
)  # fmt: skip


CSV_TYPES = [pl.Int64, pl.Int8, pl.Float64, pl.Boolean, pl.String, pl.Datetime, pl.Date]
CSV_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\0\ufeff"), max_size=6)


class TestCsvLaws:
    OPTIONS = CsvOptions(null_values=("NA",))

    def form(self, *types: Any) -> CsvColumns:
        names = [f"c{number}" for number in range(len(types))]
        return CsvColumns(Schema(dict(zip(names, types, strict=True))), names, self.OPTIONS, "x.csv")

    @given(
        cells=st.lists(st.lists(CELLS, min_size=1, max_size=3), min_size=1, max_size=8),
        types=st.lists(st.sampled_from(CSV_TYPES), min_size=2, max_size=2),
    )
    def test_all_at_once_agrees_with_record_by_record(self, cells: list[list[str]], types: list[Any]) -> None:
        form = self.form(*types)
        records = [",".join(row).encode() for row in cells if "".join(row).strip()]
        sifted = form.sift(records)
        good = [record for index, record in enumerate(records) if index not in sifted.problems]
        whole = decode_run(form, Run(b"\n".join(records) + b"\n", lambda: 1), "x.csv", "skip")
        assert whole.batch.frame.equals(sifted.batch.frame)  # type: ignore[union-attr]
        assert len(whole.bad) == len(records) - len(good)
        one_by_one = [decode_run(form, Run(record, lambda: 1), "x.csv", "skip") for record in records]
        kept = [len(decoded.batch) for decoded in one_by_one]
        assert kept == [index not in sifted.problems for index in range(len(records))]
        if good:
            frames = [decoded.batch.frame for decoded in one_by_one]  # type: ignore[union-attr]
            assert pl.concat(frames).equals(sifted.batch.frame)  # type: ignore[union-attr]

    @given(
        rows=st.lists(st.lists(CSV_TEXT, min_size=2, max_size=2), min_size=1, max_size=10),
        batch_rows=st.integers(1, 4),
    )
    def test_what_pythons_csv_module_writes_is_read_back(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], batch_rows: int
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "law.csv"
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
        source = FileSource(path, schema={"a": pl.String, "b": pl.String})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sequential_reader, "_FIRST_STEP", 5)
            patch.setattr(byte_ranges, "_SMALLEST_RANGE", 3)
            reading = read(source, batch_rows=batch_rows)
        assert [[row["a"], row["b"]] for row in reading.rows] == rows
