"""A value in a CSV file or a table comes out unchanged, or is that record's error."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from streamflow.api.job import Job
from streamflow.core.schema import OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.core.values import MisfitError, converter
from streamflow.errors import JobDefinitionError, RecordError, SinkError, SourceError
from streamflow.operators.connectors.files.sink import FileSink
from streamflow.operators.connectors.files.source import FileSource
from streamflow.operators.connectors.memory import MemorySource
from streamflow.windows.aggregates import count
from tests.unit.connectors.driving import frame, read, rows, write

BOM = b"\xef\xbb\xbf"


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


class TestMarks:
    @pytest.mark.parametrize("batch_rows", [1, 1000])
    @pytest.mark.parametrize("schema", [None, {"a": pl.Int64, "b": pl.String}])
    @pytest.mark.parametrize("options", [{}, {"quote": None}])
    @pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
    def test_csv(self, tmp_path: Path, suffix: str, options: Any, schema: Any, batch_rows: int) -> None:
        data = BOM + b"a,b\n1,x\n2,y\n"
        path = put(tmp_path / f"x{suffix}", gzip.compress(data) if suffix.endswith("gz") else data)
        found = rows(FileSource(path, schema=schema, **options), batch_rows=batch_rows)
        assert found == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]

    def test_csv_without_header(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.csv", BOM + b"1,x\n")
        source = FileSource(path, has_header=False, schema={"a": pl.Int64, "b": pl.String})
        assert rows(source) == [{"a": 1, "b": "x"}]

    @pytest.mark.parametrize("batch_rows", [1, 1000])
    @pytest.mark.parametrize("mark", [b"", BOM])
    def test_only_that_of_the_file_is_taken_away(self, tmp_path: Path, mark: bytes, batch_rows: int) -> None:
        data = mark + b"a,b\n" + b"".join(BOM + b"%d,%b\n" % (n, b"x" * 300) for n in range(9))
        source = FileSource(put(tmp_path / "x.csv", data), schema={"a": pl.String})
        assert [row["a"] for row in rows(source, batch_rows=batch_rows)] == [f"\ufeff{n}" for n in range(9)]

    @pytest.mark.parametrize(
        ("name", "data", "row"),
        [("x.ndjson", b'{"a":1}\n', {"a": 1}), ("x.txt", b"one\n", {"line": "one"})],
    )
    def test_other_text(self, tmp_path: Path, name: str, data: bytes, row: Any) -> None:
        assert rows(FileSource(put(tmp_path / name, BOM + data))) == [row]

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
    @pytest.mark.parametrize("name", ["x.csv", "x.ndjson", "x.txt", "x.csv.gz"])
    def test_utf_16_is_refused(self, tmp_path: Path, name: str, encoding: str) -> None:
        data = "\ufeffa\n1\n".encode(encoding) if encoding == "utf-16-be" else "a\n1\n".encode(encoding)
        path = put(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data)
        schema = {"line" if name == "x.txt" else "a": pl.String}
        with pytest.raises(SourceError, match="is UTF-16; text is read as UTF-8"):
            rows(FileSource(path, schema=schema))


class TestCsv:
    @pytest.mark.parametrize("batch_rows", [1, 1000])
    @pytest.mark.parametrize("dtype", [pl.Int64, pl.String, pl.Date])
    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    def test_null_records_of_one_column_are_kept(
        self, tmp_path: Path, dtype: Any, batch_rows: int, end: bytes
    ) -> None:
        texts = {pl.Int64: b"7", pl.String: b"x", pl.Date: b"2024-01-01"}
        path = put(tmp_path / "x.csv", end.join([b"a", b"", texts[dtype], b"", b"", b""]))
        for quote in ('"', None):
            source = FileSource(path, schema={"a": dtype}, quote=quote)
            found = [row["a"] for row in rows(source, batch_rows=batch_rows)]
            assert [value is None for value in found] == [True, False, True, True], quote

    @pytest.mark.parametrize("values", [[None], [None, None], [None, 1, None], [1, None, None, None]])
    @pytest.mark.parametrize("dtype", [pl.Int64, pl.String, pl.Float64])
    def test_what_the_sink_wrote_of_one_column_is_read_back(
        self, tmp_path: Path, values: list[Any], dtype: Any
    ) -> None:
        column = pl.Series(values, dtype=pl.Int64).cast(dtype)
        write(FileSink(tmp_path / "x.csv"), [frame(a=column)])
        assert [
            row["a"] for row in rows(FileSource(tmp_path / "x.csv", schema={"a": dtype}))
        ] == column.to_list()

    def test_a_blank_line_of_several_columns_is_no_record(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.csv", b"a,b\n\n1,2\n\n")
        assert rows(FileSource(path)) == [{"a": 1, "b": 2}]

    @pytest.mark.parametrize(
        ("texts", "values"),
        [
            (["9223372036854775808", "9223372036854775809"], [2**63, 2**63 + 1]),
            (
                ["18446744073709551616", "18446744073709551617"],
                ["18446744073709551616", "18446744073709551617"],
            ),
            (["-1", "9223372036854775808"], ["-1", "9223372036854775808"]),
            (["9007199254740993", "1.5"], ["9007199254740993", "1.5"]),
            (["1e400", "1"], ["1e400", "1"]),
            (["1", "1.5"], [1.0, 1.5]),
            (["inf", "1.5"], [float("inf"), 1.5]),
        ],
    )
    def test_two_numbers_do_not_become_one(self, tmp_path: Path, texts: list[str], values: list[Any]) -> None:
        path = put(tmp_path / "x.csv", ("a,b\n" + "".join(f"{text},\n" for text in texts)).encode())
        assert [row["a"] for row in rows(FileSource(path))] == values

    @pytest.mark.parametrize(
        ("dtype", "text"),
        [
            (pl.Float32, "1e39"), (pl.Float64, "1e400"), (pl.Decimal(10, 2), "1.239"), (pl.Int8, "300"),
            (pl.Int64, "9223372036854775808"), (pl.Decimal(4, 2), "100"), (pl.Int64, "1.0"),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_that_records_error(self, tmp_path: Path, dtype: Any, text: str) -> None:
        path = put(tmp_path / "x.csv", f"a,b\n1,1\n{text},2\n1,3\n".encode())
        found = read(FileSource(path, schema={"a": dtype, "b": pl.Int64}), on_error="skip")
        assert [row["b"] for row in found.rows] == [1, 3]
        assert [f"holds {text}" in each for each in found.bad] == [True]

    def test_values_that_are_all_between_quotes_have_types_too(self, tmp_path: Path) -> None:
        path = put(
            tmp_path / "x.csv",
            b'"n","t","b","none"\r\n"1","x","true",""\r\n"","","",""\r\n"3","y","false",""\r\n',
        )
        assert rows(FileSource(path)) == [
            {"n": 1, "t": "x", "b": True, "none": ""},
            {"n": None, "t": "", "b": None, "none": ""},
            {"n": 3, "t": "y", "b": False, "none": ""},
        ]

    def test_infinity_as_such_is_read(self, tmp_path: Path) -> None:
        path = put(tmp_path / "x.csv", b"a,b\ninf,-Infinity\nnan,1\n")
        found = read(FileSource(path, schema={"a": pl.Float64, "b": pl.Float32}))
        assert [str(row["a"]) for row in found.rows] == ["inf", "nan"]
        assert [row["b"] for row in found.rows] == [float("-inf"), 1.0]

    @pytest.mark.parametrize("name", ["x.tsv", "x.tsv.gz"])
    def test_tabs_in_tsv(self, tmp_path: Path, name: str) -> None:
        data = b"a\tb\n1\tx,y\n"
        path = put(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data)
        assert rows(FileSource(path)) == [{"a": 1, "b": "x,y"}]
        assert rows(FileSource(path, schema=OBJECTS)) == [{"a": "1", "b": "x,y"}]
        assert list(FileSource(path, separator=",").output_type().schema) == ["a\tb"]

    def test_a_sink_writes_tabs(self, tmp_path: Path) -> None:
        write(FileSink(tmp_path / "x.tsv"), [frame(a=[1], b=["x,y"])])
        assert (tmp_path / "x.tsv").read_text() == "a\tb\n1\tx,y\n"


BERLIN = pl.Series([datetime(2024, 7, 1, 10, tzinfo=UTC)]).dt.convert_time_zone("Europe/Berlin")


class TestTables:
    @pytest.mark.parametrize("batch_rows", [1, 1000])
    @pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
    @pytest.mark.parametrize(
        ("held", "wanted", "bad"),
        [
            (pl.Series([1.0, 1.5, None]), pl.Int64, [1]),
            (pl.Series([1, 300]), pl.Int8, [1]),
            (pl.Series([2**53, 2**53 + 1]), pl.Float64, [1]),
            (pl.Series(["1", "x"]), pl.Int64, [1]),
            (pl.Series([1.0, 1e39]), pl.Float32, [1]),
            (pl.Series([[1], [1, 2]]), pl.Array(pl.Int64, 1), [1]),
            (pl.Series([[1, 2], [1, 300]]), pl.List(pl.Int8), [1]),
            (pl.Series([{"x": 1}, {"x": 300}]), pl.Struct({"x": pl.Int8}), [1]),
            (pl.Series(["1.25", "1.255"]).cast(pl.Decimal(10, 3)), pl.Decimal(10, 2), [1]),
            (pl.Series(["a", "b"]), pl.Enum(["a"]), [1]),
            (pl.Series([b"a", b"\xff"]), pl.String, [1]),
            (pl.Series(["2024-01-01T00:00:00Z", "soon"]), pl.Datetime("us", "UTC"), [1]),
            (pl.Series(["12:00", "soon"], dtype=pl.Enum(["12:00", "soon"])), pl.Time, [1]),
            (pl.Series([1e-7, 1.005, 0.1]), pl.Decimal(20, 2), [0, 1]),
        ],
    )
    def test_no_value_becomes_another(
        self, tmp_path: Path, name: str, held: pl.Series, wanted: Any, bad: list[int], batch_rows: int
    ) -> None:
        table = pl.DataFrame({"a": held, "n": range(len(held))})
        path = tmp_path / name
        table.write_parquet(path) if path.suffix == ".parquet" else table.write_ipc(path)
        source = FileSource(path, schema={"a": wanted, "n": pl.Int64})
        found = read(source, on_error="skip", batch_rows=batch_rows)
        assert [row["n"] for row in found.rows] == [n for n in range(len(held)) if n not in bad]
        assert [f"row {n}" in each for n, each in zip(bad, found.bad, strict=True)] == [True] * len(bad)
        with pytest.raises(RecordError, match="column 'a' holds"):
            read(source, batch_rows=batch_rows)

    @pytest.mark.parametrize(
        ("held", "wanted"),
        [
            ([1], pl.Datetime), ([1], pl.Boolean), ([True], pl.Int64), ([[1]], pl.Int64), ([1], pl.Binary),
            ([1], pl.Duration), ([timedelta(1)], pl.Int64), ([True], pl.Date), ([time(1)], pl.Duration),
            ([datetime(2024, 1, 1, tzinfo=UTC)], pl.Time), (["1"], pl.Duration), ([[time(1)]], pl.List(pl.String)),
            ([[1]], pl.List(pl.Duration)), ([[1.0]], pl.List(pl.Decimal(38, 38))),
            (pl.Series([["1"]], dtype=pl.List(pl.Enum(["1"]))), pl.List(pl.Int64)),
        ],
    )  # fmt: skip
    def test_types_of_which_no_value_fits_are_refused(self, tmp_path: Path, held: Any, wanted: Any) -> None:
        pl.DataFrame({"a": held}).write_parquet(tmp_path / "x.parquet")
        with pytest.raises(SourceError, match=r"where .* was expected"):
            rows(FileSource(tmp_path / "x.parquet", schema={"a": wanted}))

    @pytest.mark.parametrize(
        ("held", "wanted", "value"),
        [
            (pl.Series([time(23, 59, 59, 999_999)]), pl.String, "23:59:59.999999"),
            (
                pl.Series([datetime(2024, 1, 1, 12, 0, 0, 5, tzinfo=UTC)]),
                pl.String,
                "2024-01-01T12:00:00.000005Z",
            ),
            (BERLIN, pl.String, "2024-07-01T10:00:00Z"),
            (pl.Series([1.0]), pl.Decimal(38, 37), Decimal(1)),
            (pl.Series([0.1]), pl.Decimal(38, 38), Decimal("0.1")),
            (pl.Series([2.0**70]), pl.Decimal(38, 2), Decimal(2**70)),
            (pl.Series([1e-7]), pl.Decimal(38, 9), Decimal("1e-7")),
        ],
    )
    def test_values_are_those_that_were_held(
        self, tmp_path: Path, held: pl.Series, wanted: Any, value: Any
    ) -> None:
        pl.DataFrame({"a": held}).write_parquet(tmp_path / "x.parquet")
        assert rows(FileSource(tmp_path / "x.parquet", schema={"a": wanted})) == [{"a": value}]

    def test_fields_that_nobody_asks_for_are_left_out(self, tmp_path: Path) -> None:
        pl.DataFrame({"a": [{"x": 1, "y": 2}]}).write_parquet(tmp_path / "x.parquet")
        source = FileSource(tmp_path / "x.parquet", schema={"a": pl.Struct({"y": pl.Int8})})
        assert rows(source) == [{"a": {"y": 2}}]


class TestPartitions:
    TABLE = frame(
        k=["a/b", "", None, "007"], _n=[1, -2, None, 4], d=[date(2024, 1, 1)] * 4,
        t=[timedelta(milliseconds=1)] * 4, b=[True, False, None, True], v=[1, 2, 3, 4],
        at=[time(1), time(2, 0, 0, 1), None, time(3)],
    )  # fmt: skip

    @pytest.mark.parametrize("format", ["parquet", "ndjson", "csv", "arrow"])
    @pytest.mark.parametrize(
        "by", [["k"], ["_n"], ["d", "k"], ["t"], ["at"], ["b", "_n"], ["k", "_n", "d", "t", "b"]]
    )
    def test_what_the_sink_wrote_is_read_back(self, tmp_path: Path, format: Any, by: list[str]) -> None:
        write(FileSink(tmp_path / "out", format=format, partition_by=by), [self.TABLE])
        schema = dict(self.TABLE.frame.schema)
        expected = self.TABLE.frame.to_dicts()
        for path in (tmp_path / "out", f"{tmp_path}/out/*", f"{tmp_path}/out/**/part-*"):
            found = rows(FileSource(path, schema=schema))
            assert sorted(found, key=lambda row: row["v"]) == expected
        for columns in (by[:1], ["v"]):
            found = rows(FileSource(tmp_path / "out", schema=schema), columns=columns)
            assert sorted(map(str, found)) == sorted(str({n: row[n] for n in columns}) for row in expected)

    def test_types_are_told_by_all_values(self, tmp_path: Path) -> None:
        write(FileSink(tmp_path / "out", partition_by=["k", "_n", "d"]), [self.TABLE])
        found = read(FileSource(tmp_path / "out"))
        assert [str(found.batches[0].frame.schema[name]) for name in ("k", "_n", "d")] == [  # type: ignore[union-attr]
            "String", "Int64", "Date",
        ]  # fmt: skip

    def test_integers_of_any_length_are_told(self, tmp_path: Path) -> None:
        ends = frame(fits=[2**63 - 1, -(2**63)], large=["9223372036854775808", "7"], v=[0, 1])
        write(FileSink(tmp_path / "out", partition_by=["fits", "large"]), [ends])
        found = sorted(rows(FileSource(tmp_path / "out")), key=lambda row: row["v"])
        assert found == ends.frame.to_dicts()

    def test_escapes_that_are_no_text_stay_apart(self, tmp_path: Path) -> None:
        for folder in ("k=%ff", "k=%fe", "k=%C3%BC"):
            (tmp_path / folder).mkdir()
            pl.DataFrame({"v": [1]}).write_parquet(tmp_path / folder / "a.parquet")
        assert sorted(row["k"] for row in rows(FileSource(tmp_path))) == ["%fe", "%ff", "ü"]

    def test_a_folder_that_does_not_fit_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "n=x").mkdir()
        put(tmp_path / "n=x" / "a.csv", b"a\n1\n")
        with pytest.raises(SourceError, match="the folder says n=x, which is no Int64"):
            rows(FileSource(tmp_path, schema={"a": pl.Int64, "n": pl.Int64}))

    @pytest.mark.parametrize("dtype", [pl.Binary, pl.List(pl.Int64), pl.Struct({"a": pl.Int64})])
    def test_columns_that_name_no_folder_are_refused(self, tmp_path: Path, dtype: Any) -> None:
        kind = StreamType(Schema({"k": dtype, "v": pl.Int64}), timed=False)
        with pytest.raises(JobDefinitionError, match=r"column 'k' .* cannot name folders"):
            FileSink(tmp_path / "out", partition_by="k").check(kind)

    def test_a_column_named_twice_is_refused(self, tmp_path: Path) -> None:
        kind = StreamType(Schema({"k": pl.Int64, "v": pl.Int64}), timed=False)
        with pytest.raises(JobDefinitionError, match="partition_by names 'k' twice"):
            FileSink(tmp_path / "out", partition_by=["k", "k"]).check(kind)

    @pytest.mark.parametrize(
        ("value", "message"),
        [("ü" * 50, "makes a name of 302 bytes"), ("__HIVE_DEFAULT_PARTITION__", "stands for null")],
    )
    def test_a_value_that_can_name_no_folder_is_an_error(
        self, tmp_path: Path, value: str, message: str
    ) -> None:
        with pytest.raises(RecordError, match=f"column 'k' holds .*{message}"):
            write(FileSink(tmp_path / "out", partition_by="k"), [frame(k=[value], v=[1])])


MOMENT = pl.Datetime("ns")


@pytest.mark.parametrize("suffix", [".csv", ".ndjson"])
@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        (pl.Enum(["a"]), "a", "z"),
        (MOMENT, "2024-01-01T00:00:00.5", "1000-01-01T00:00:00"),
        (MOMENT, "1678-01-01T00:00:00Z", "2300-01-01T00:00:00Z"),
        (pl.Datetime("ms"), "2024-01-01T00:00:00.123", "2024-01-01T00:00:00.123456"),
        (pl.Null, None, "x"),
    ],
)
def test_a_text_that_the_type_has_no_room_for_is_its_record_s_error(
    tmp_path: Path, suffix: str, dtype: Any, good: str | None, bad: str
) -> None:
    records: list[dict[str, Any]] = [{"v": good, "n": 1}, {"v": bad, "n": 2}, {"v": good, "n": 3}]
    if suffix == ".csv":
        lines = ["v,n", *(f"{record['v'] or ''},{record['n']}" for record in records)]
    else:
        lines = [json.dumps(record) for record in records]
    path = put(tmp_path / f"x{suffix}", "".join(f"{line}\n" for line in lines).encode())
    job = Job("room")
    out = job.read(FileSource(path, schema={"v": dtype, "n": pl.Int64})).on_error("skip").collect()
    result = job.run()
    assert [row["n"] for row in out.rows()] == [1, 3]
    assert result.errors == 1


def test_numbers_with_leading_zeros_are_told_to_be_text(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", b"zip,phone,zero,half,n\n01234,+049,0,0.5,10\n56789,-07,0,-0.25,1e5\n")
    assert rows(FileSource(tmp_path / "a.csv"), columns=["zip", "phone", "zero", "half", "n"]) == [
        {"zip": "01234", "phone": "+049", "zero": 0, "half": 0.5, "n": 10.0},
        {"zip": "56789", "phone": "-07", "zero": 0, "half": -0.25, "n": 1e5},
    ]


class TestDigitsOfASecond:
    """A time that is finer than its type, or than Python's own, is not cut."""

    @pytest.mark.parametrize(
        ("dtype", "good", "bad"),
        [
            (pl.Datetime("us", "UTC"), "2024-01-01T00:00:00.1234560Z", "2024-01-01T00:00:00.1234567Z"),
            (pl.Datetime("us"), "2024-01-01 00:00:00.123456", "2024-01-01 00:00:00.123456001"),
            (pl.Datetime("ms"), "2024-01-01T00:00:00.123000", "2024-01-01T00:00:00.1230001+02:00"),
            (pl.Datetime("ns"), "2024-01-01T00:00:00.123456789Z", "2024-01-01T00:00:00.1234567891Z"),
            (pl.Time, "05:17:00.123456789", "05:17:00.1234567891"),
        ],
    )
    @pytest.mark.parametrize("name", ["x.csv", "x.ndjson", "nested.ndjson"])
    @pytest.mark.parametrize("batch_rows", [1, 1000])
    def test_in_text(
        self, tmp_path: Path, name: str, dtype: Any, good: str, bad: str, batch_rows: int
    ) -> None:
        nested = name == "nested.ndjson"
        texts: list[Any] = [[text] if nested else text for text in (good, bad, good)]
        lines = ["t", *texts] if name == "x.csv" else [json.dumps({"t": text}) for text in texts]
        path = put(tmp_path / name, "".join(f"{line}\n" for line in lines).encode())
        reading = read(
            FileSource(path, schema={"t": pl.List(dtype) if nested else dtype}),
            on_error="skip",
            batch_rows=batch_rows,
        )
        values = pl.concat(batch.frame for batch in reading.batches)["t"]  # type: ignore[union-attr]
        fractions = (values.explode() if nested else values).cast(pl.Time).to_physical() % 10**9
        wanted = int(good.rpartition(".")[2].rstrip("Z0").ljust(9, "0"))
        assert fractions.to_list() == [wanted, wanted]
        assert len(reading.bad) == 1

    @pytest.mark.parametrize(
        ("text", "dtype"),
        [
            ("2024-01-01T00:00:00.123456789Z", pl.Datetime("ns", "UTC")),
            ("9999-12-31T23:59:59.0000000Z", pl.Datetime("us", "UTC")),
            ("2024-01-01T00:00:00.1234567891Z", pl.String()),
        ],
    )
    def test_inferred(self, tmp_path: Path, text: str, dtype: Any) -> None:
        path = put(tmp_path / "x.ndjson", json.dumps({"t": text}).encode())
        assert FileSource(path).output_type().schema == Schema({"t": dtype})

    def test_a_table_in_nanoseconds(self, tmp_path: Path) -> None:
        fine = pl.Series("t", [1_000, 1_001, None], dtype=pl.Datetime("ns"))
        fine.to_frame().write_parquet(tmp_path / "x.parquet")
        reading = read(
            FileSource(tmp_path / "x.parquet", schema={"t": pl.Datetime("us", "UTC")}), on_error="skip"
        )
        assert [row["t"] for row in reading.rows] == [datetime(1970, 1, 1, microsecond=1, tzinfo=UTC), None]
        assert len(reading.bad) == 1
        job = Job("fine")
        out = job.read(FileSource(tmp_path / "x.parquet")).collect()
        job.run()
        assert out.frame()["t"].to_list() == fine.to_list()
        assert out.frame()["t"].to_physical().to_list() == [1_000, 1_001, None]
        with pytest.raises(
            RecordError, match=r"column 't' holds 1970-.*\.000001001, which Python's times cannot"
        ):
            out.rows()

    def test_a_schema_for_a_frame_in_nanoseconds(self) -> None:
        fine = pl.DataFrame({"t": [1_000, 1_001]}, schema={"t": pl.Datetime("ns")})
        with pytest.raises(
            JobDefinitionError, match=r"row 1: 't' is 1970-.*000001001, not Datetime.*: it is finer"
        ):
            MemorySource(fine, schema={"t": pl.Datetime("us", "UTC")})
        with pytest.raises(MisfitError, match="it is finer"):
            converter(pl.Datetime("us"))("2024-01-01T00:00:00.1234567Z")

    @pytest.mark.parametrize("dtype", [pl.Datetime("ns"), pl.Duration("ns"), pl.Time(), pl.List(pl.Time())])
    def test_python_functions_are_not_given_less(self, dtype: Any) -> None:
        counts = [1_000, 1_001, None, 2_000]
        inner = getattr(dtype, "inner", dtype)
        column = pl.Series("t", counts, dtype=pl.Int64).cast(inner)
        values = column.implode().explode() if inner is dtype else column.reshape((4, 1)).arr.to_list()
        source = MemorySource(values.to_frame().with_columns(n=pl.int_range(4)))
        job = Job("fine")
        kept = job.read(source).map(lambda row: row, schema={"t": dtype, "n": pl.Int64}).on_error("skip")
        keyed = job.read(source).filter(lambda row: row["n"] >= 0).on_error("skip").collect()
        out = kept.collect()
        result = job.run()
        assert sorted(row["n"] for row in out.rows()) == sorted(keyed.frame()["n"]) == [0, 2, 3]
        assert result.errors == 2


BEYOND = {
    "day": pl.Series([-719_529, 0], dtype=pl.Int32).cast(pl.Date),
    "moment": pl.Series([253_402_300_800_000_000, 0]).cast(pl.Datetime("us")),
    "moment by a zone": pl.Series([253_402_300_799_000, 0]).cast(pl.Datetime("ms", "Asia/Tokyo")),
    "duration": pl.Series([2**62, 0]).cast(pl.Duration("ms")),
    "within": pl.Series([[{"d": 2_932_897}], [{"d": 0}]], dtype=pl.List(pl.Struct({"d": pl.Int32}))).cast(
        pl.List(pl.Struct({"d": pl.Date}))
    ),
}


class TestTimesThatPythonCannotHold:
    """They go through columns as they are, and are a bad record where Python has to see them."""

    @pytest.mark.parametrize("values", BEYOND.values(), ids=list(BEYOND))
    @pytest.mark.parametrize("how", ["function", "key", "objects"])
    def test_by_policy(self, tmp_path: Path, values: pl.Series, how: str) -> None:
        path = tmp_path / "x.parquet"
        values.alias("v").to_frame().with_columns(n=pl.int_range(2)).write_parquet(path)
        job = Job("beyond")
        stream = job.read(FileSource(path, schema=OBJECTS if how == "objects" else None)).on_error("skip")
        columns = stream.collect()
        if how == "function":
            stream = stream.map(lambda row: row, schema={"v": values.dtype, "n": pl.Int64}).on_error("skip")
        elif how == "key":
            keyed = stream.key_by(lambda row: row["n"])
            stream = keyed.aggregate(n=count()).on_error("skip")
        out = stream.collect()
        result = job.run()
        assert len(out.rows()) == 1
        assert result.errors == 1
        if how != "objects":
            assert columns.frame()["v"].to_physical().equals(values.to_physical())


class TestRecordsOfCsv:
    """The bounds and the number of fields of a record do not depend on the records beside it."""

    @pytest.mark.parametrize("batch_rows", [1, 1000])
    @pytest.mark.parametrize("short", [b"y", b'"y"', b"y" * 140_000, b'"' + b"y" * 140_000 + b'"', b'"y,,"'])
    @pytest.mark.parametrize("others", [b"x,1", b'"x",1', b'"x,,",', b"x,"])
    @pytest.mark.parametrize("schema", [{"a": pl.String}, {"a": pl.String, "b": pl.Int64}])
    def test_a_short_one(
        self, tmp_path: Path, schema: Any, others: bytes, short: bytes, batch_rows: int
    ) -> None:
        path = put(tmp_path / "x.csv", b"a,b\n" + others + b"\n" + short + b"\n" + others + b"\n")
        reading = read(FileSource(path, schema=schema), on_error="skip", batch_rows=batch_rows)
        assert [row["a"] for row in reading.rows] == [others.rpartition(b",")[0].strip(b'"').decode()] * 2
        assert len(reading.bad) == 1
        assert "the record has 1 fields where 2 were expected" in reading.bad[0]

    @pytest.mark.parametrize("batch_rows", [1, 1000])
    @pytest.mark.parametrize("separator", ["\t", " "])
    @pytest.mark.parametrize("other", [b"x%s1", b"x%sno", b'"x"%s1'])
    def test_one_of_nulls_between_spaces(
        self, tmp_path: Path, other: bytes, separator: str, batch_rows: int
    ) -> None:
        between = separator.encode()
        path = put(tmp_path / "x.csv", b"a%sb\n" % between + between + b"\n" + other % between + b"\n")
        source = FileSource(path, schema={"a": pl.String, "b": pl.Int64}, separator=separator)
        assert rows(source, on_error="skip", batch_rows=batch_rows)[0] == {"a": None, "b": None}

    @pytest.mark.parametrize("other", [b"x,1", b'"x",1', b'"x",'])
    def test_a_line_of_spaces_is_none(self, tmp_path: Path, other: bytes) -> None:
        path = put(tmp_path / "x.csv", b"a,b\n" + other + b"\n   \n" + other + b"\n")
        assert [row["a"] for row in rows(FileSource(path, schema={"a": pl.String}))] == ["x", "x"]


@pytest.mark.parametrize("name", ["x.csv", "x.ndjson"])
@pytest.mark.parametrize(
    "text",
    ["2013-02-30T00:00:00Z", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59.123456789Z", "+491234"],
)
def test_text_that_its_type_could_not_hold_stays_text(tmp_path: Path, name: str, text: str) -> None:
    lines = ["a,b", f"{text},1"] if name == "x.csv" else [json.dumps({"a": text, "b": 1})]
    path = put(tmp_path / name, "".join(f"{line}\n" for line in lines).encode())
    assert rows(FileSource(path)) == [{"a": text, "b": 1}]


@pytest.mark.parametrize(
    "schema", [{"message": pl.String}, {"line": pl.Int64}, {"line": pl.String, "n": pl.Int64}]
)
def test_text_has_one_column(tmp_path: Path, schema: Any) -> None:
    path = put(tmp_path / "x.txt", b"1\n")
    with pytest.raises(JobDefinitionError, match="is text, which has the column 'line' of String"):
        FileSource(path, schema=schema).output_type()
    assert rows(FileSource(path, schema={"line": pl.String})) == [{"line": "1"}]


@pytest.mark.parametrize("name", [".k", "..", "_k"])
def test_a_column_whose_name_looks_hidden_can_name_folders(tmp_path: Path, name: str) -> None:
    write(FileSink(tmp_path / "out", format="ndjson", partition_by=name), [frame(**{name: ["x"], "v": [1]})])
    assert rows(FileSource(tmp_path / "out")) == [{"v": 1, name: "x"}]


FAR = {
    "day": pl.Series([0, 2**31 - 1], dtype=pl.Int32).cast(pl.Date),
    "moment": pl.Series([0, 2**63 - 1]).cast(pl.Datetime("ms")),
    "within": pl.Series([[0], [-(2**62)]], dtype=pl.List(pl.Int64)).cast(pl.List(pl.Datetime("ms", "UTC"))),
}


@pytest.mark.parametrize("values", FAR.values(), ids=list(FAR))
@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet", "arrow"])
def test_times_too_far_away_for_text(tmp_path: Path, values: pl.Series, suffix: str) -> None:
    held = values.alias("v").to_frame()
    if suffix == "csv" and values.dtype.is_nested():
        return
    job = Job("far")
    path = tmp_path / f"x.{suffix}"
    job.read(MemorySource(held)).write(FileSink(path))
    if suffix in ("csv", "ndjson"):
        with pytest.raises(RecordError, match=r"column 'v' holds .*a time .*, which text cannot carry"):
            job.run(checkpoint_dir=str(tmp_path / "checkpoints"))
        return
    job.run(checkpoint_dir=str(tmp_path / "checkpoints"))
    again = Job("again")
    out = again.read(FileSource(path)).collect()
    again.run()
    assert out.frame().equals(held)
    if values.dtype.is_nested():
        return
    for dtype in (pl.String, pl.Datetime("ns"), pl.Datetime("us")):
        reading = read(FileSource(path, schema={"v": dtype}), on_error="skip")
        assert (len(reading.rows), len(reading.bad)) == (1, 1)


def test_rows_do_not_become_part_of_a_field_that_a_file_leaves_open(tmp_path: Path) -> None:
    path = put(tmp_path / "x.csv", b'a,b\n1,"x\n')
    job = Job("appending")
    job.read(MemorySource([{"a": 1, "b": "y"}])).write(FileSink(path, mode="append"))
    with pytest.raises(SinkError, match="ends within a quoted field"):
        job.run()
    assert path.read_bytes() == b'a,b\n1,"x\n'


@pytest.mark.parametrize("name", ["x.ndjson", "x.csv", "x.txt"])
@pytest.mark.parametrize("schema", [None, OBJECTS, {"a": pl.String}])
@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_compressed_files_that_are_not_called_so_are_refused(
    tmp_path: Path, compress: Any, schema: Any, name: str
) -> None:
    if name == "x.txt" and isinstance(schema, dict):
        return
    path = put(tmp_path / name, compress(b'{"a":"x"}\n' if name == "x.ndjson" else b"a\nx\n"))
    with pytest.raises(SourceError, match=r"is compressed with (gzip|zstd)"):
        rows(FileSource(path, schema=schema))


@pytest.mark.parametrize("start", ["x^2", "x\x01", "(x", "\x1f", "xy"])
@pytest.mark.parametrize("batch_rows", [1, 1000])
@pytest.mark.parametrize("options", [{}, {"quote": None}])
def test_text_is_not_taken_for_something_compressed(
    tmp_path: Path, options: Any, batch_rows: int, start: str
) -> None:
    path = put(tmp_path / "x.csv", f"a,b\n{start},1\n{start},2\n".encode())
    expected = [{"a": start, "b": 1}, {"a": start, "b": 2}]
    assert rows(FileSource(path, **options), batch_rows=batch_rows) == expected
    path = put(tmp_path / "x.ndjson", f'{start}\n{{"a":1}}\n'.encode())
    for schema in ({"a": pl.Int64}, OBJECTS):
        reading = read(FileSource(path, schema=schema), on_error="skip", batch_rows=batch_rows)
        assert (reading.rows, len(reading.bad)) == ([{"a": 1}], 1)
