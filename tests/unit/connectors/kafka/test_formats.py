"""Values survive encoding and decoding, and no bytes whatever cost more than the record they are in."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.core.batch import RowBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, SinkError
from streamflow.operators.connectors.files.formats.ndjson import NdjsonColumns
from streamflow.operators.connectors.kafka.formats import codecs
from streamflow.operators.connectors.kafka.formats.avro_types import avro_record
from streamflow.operators.connectors.kafka.formats.codecs import encoder
from streamflow.operators.connectors.kafka.schema_registry import AvroSchema

decoder: Any = codecs.decoder  # rows are a frame or a list

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))  # noqa: DTZ001 — made aware below
DECIMALS = st.decimals(-99999999, 99999999, places=2)
VALUES: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "tiny": (pl.Int8(), st.integers(-128, 127)),
    "word": (pl.UInt16(), st.integers(0, 2**16 - 1)),
    "long": (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    "real": (pl.Float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "text": (pl.String(), TEXT),
    "flag": (pl.Boolean(), st.booleans()),
    "at": (pl.Datetime("us", "UTC"), MOMENTS.map(lambda at: at.replace(tzinfo=UTC))),
    "local": (pl.Datetime("us"), MOMENTS),
    "day": (pl.Date(), st.dates(date(1, 1, 1), date(9999, 12, 31))),
    "clock": (pl.Time(), st.times().map(lambda at: at.replace(fold=0))),
    "took": (pl.Duration("us"), st.timedeltas(timedelta(-1000), timedelta(1000))),
    "price": (pl.Decimal(10, 2), DECIMALS),
    "kind": (pl.Enum(["a", "b"]), st.sampled_from(["a", "b"])),
    "list": (pl.List(pl.Int64()), st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=3)),
    "pair": (
        pl.Struct({"q": pl.Int64(), "w": pl.String()}),
        st.fixed_dictionaries({"q": st.integers(0, 9), "w": TEXT}),
    ),
}
BYTES = {"raw": (pl.Binary(), st.binary(max_size=20))}
SCHEMA = Schema({name: dtype for name, (dtype, _) in VALUES.items()})
FORMATS = ["json", "msgpack", "text", "bytes", "arrow", "avro"]
JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def rows_of(values: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]]) -> st.SearchStrategy[pl.DataFrame]:
    row = st.tuples(*(st.none() | strategy for _, strategy in values.values()))
    schema = {name: dtype for name, (dtype, _) in values.items()}
    return st.lists(row, max_size=4).map(lambda rows: pl.DataFrame(rows, schema=schema, orient="row"))


def given_avro(schema: Schema) -> AvroSchema:
    return AvroSchema(avro_record(schema, "Value"))


def stream(frame: pl.DataFrame, **options: Any) -> bytes:
    buffer = BytesIO()
    frame.write_ipc_stream(buffer, **options)
    return buffer.getvalue()


def good_value(format: str) -> bytes:
    frame = pl.DataFrame({"n": [1], "s": ["x"]})
    schema = Schema(frame.schema)
    if format == "arrow":
        return stream(frame)
    if format in ("text", "bytes"):
        return b"good"
    form = StreamType(schema, timed=False)
    return encoder(format, form, registry=given_avro(schema)).encode(FrameBatch(frame))[0]


def small_decoder(format: str, *, objects: bool, max_bytes: int = 1 << 20) -> Any:
    schema = Schema({"n": pl.Int64, "s": pl.String})
    registry = given_avro(schema)
    if format in ("text", "bytes"):
        return decoder(format, OBJECTS if objects else None, max_bytes=max_bytes)
    return decoder(format, OBJECTS if objects else schema, registry=registry, max_bytes=max_bytes)


class TestRoundTrip:
    @pytest.mark.parametrize("format", ["json", "msgpack", "avro"])
    @settings(max_examples=40, deadline=None)
    @given(data=st.data())
    def test_columns_come_back(self, format: str, data: st.DataObject) -> None:
        values = VALUES if format == "json" else VALUES | BYTES
        frame = data.draw(rows_of(values))
        schema = Schema(frame.schema)
        registry = given_avro(schema)
        encoded = encoder(format, StreamType(schema, timed=False), registry=registry).encode(
            FrameBatch(frame)
        )
        assert len(encoded) == frame.height
        decoded = decoder(format, schema, registry=registry).decode(encoded)
        assert not decoded.bad
        assert decoded.rows.equals(frame)
        assert decoded.rows.schema == frame.schema

    @settings(max_examples=40, deadline=None)
    @given(frames=st.lists(rows_of(VALUES | BYTES), max_size=3))
    def test_arrow_streams_come_back_in_order(self, frames: list[pl.DataFrame]) -> None:
        schema = Schema({name: dtype for name, (dtype, _) in (VALUES | BYTES).items()})
        decoded = decoder("arrow", schema).decode(list(map(stream, frames)))
        assert not decoded.bad
        assert decoded.rows.equals(pl.concat([schema.empty(timed=False), *frames]))
        assert decoded.origin == [at for at, frame in enumerate(frames) for _ in range(frame.height)]

    @pytest.mark.parametrize("format", ["json", "msgpack"])
    @settings(max_examples=60, deadline=None)
    @given(values=st.lists(JSON_LIKE, max_size=4))
    def test_objects_come_back(self, format: str, values: list[Any]) -> None:
        encoded = encoder(format, StreamType(OBJECTS, timed=False)).encode(RowBatch(values))
        assert decoder(format, None).decode(encoded).rows == values

    @pytest.mark.parametrize(
        ("format", "dtype", "strategy"), [("text", pl.String(), TEXT), ("bytes", pl.Binary(), st.binary())]
    )
    @settings(max_examples=40, deadline=None)
    @given(data=st.data())
    def test_plain_values_come_back(
        self, format: str, dtype: pl.DataType, strategy: Any, data: st.DataObject
    ) -> None:
        values = data.draw(st.lists(strategy, max_size=5))
        frame = pl.DataFrame({"value": values}, schema={"value": dtype})
        encoded = encoder(format, StreamType(Schema(frame.schema), timed=False)).encode(FrameBatch(frame))
        assert decoder(format, None).decode(encoded).rows.equals(frame)
        objects = encoder(format, StreamType(OBJECTS, timed=False)).encode(RowBatch(values))
        assert decoder(format, OBJECTS).decode(objects).rows == values

    def test_msgpack_carries_every_float_and_json_says_null(self) -> None:
        frame = pl.DataFrame({"x": [float("nan"), float("inf"), -0.0]})
        form = StreamType(Schema(frame.schema), timed=False)
        packed = decoder("msgpack", Schema(frame.schema)).decode(
            encoder("msgpack", form).encode(FrameBatch(frame))
        )
        assert packed.rows.equals(frame)
        assert encoder("json", form).encode(FrameBatch(frame))[:2] == [b'{"x":null}'] * 2

    def test_times_are_iso_text_in_utc(self) -> None:
        at = datetime(2013, 1, 1, 6, 17, tzinfo=UTC)
        frame = pl.DataFrame({"at": [at]}, schema={"at": pl.Datetime("us", "Europe/Berlin")})
        form = StreamType(Schema(frame.schema), timed=False)
        assert encoder("json", form).encode(FrameBatch(frame)) == [b'{"at":"2013-01-01T06:17:00Z"}']
        packed = encoder("msgpack", form).encode(FrameBatch(frame))
        assert msgspec.msgpack.decode(packed[0]) == {"at": "2013-01-01T06:17:00Z"}


class TestGarbage:
    @pytest.mark.parametrize("objects", [False, True])
    @pytest.mark.parametrize("format", FORMATS)
    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_bad_values_cost_nobody_else(self, format: str, objects: bool, data: st.DataObject) -> None:
        good = good_value(format)
        flip = st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)).map(
            lambda at: good[: at[0]] + bytes([at[1]]) + good[at[0] + 1 :]
        )
        cut = st.integers(0, len(good) - 1).map(lambda at: good[:at])
        values = data.draw(st.lists(st.just(good) | st.binary(max_size=40) | flip | cut, max_size=6))
        form = small_decoder(format, objects=objects)
        decoded = form.decode(values)
        bad = dict(decoded.bad)
        origin = range(len(values)) if decoded.origin is None else decoded.origin
        assert list(origin) == sorted(origin)
        assert len(decoded.rows) == len(origin)
        for index, value in enumerate(values):
            # Each value fares as it does alone.
            alone = form.decode([value])
            assert (index in bad) == bool(alone.bad)
            assert [at for at in origin if at == index] == [index] * len(alone.rows)
            if value == good:
                assert index not in bad

    @pytest.mark.parametrize("format", FORMATS)
    def test_nothing_at_all_is_decoded_to_nothing(self, format: str) -> None:
        for objects in (True, False):
            decoded = small_decoder(format, objects=objects).decode([])
            assert len(decoded.rows) == 0
            assert not decoded.bad

    @pytest.mark.parametrize("format", FORMATS)
    def test_long_values_and_tombstones_are_bad(self, format: str) -> None:
        good = good_value(format)
        form = small_decoder(format, objects=False, max_bytes=len(good))
        decoded = form.decode([good, None, good + b"\n" * 10, good])
        assert [index for index, _ in decoded.bad] == [1, 2]
        assert decoded.origin == [0, 3]

    def test_values_are_not_confused_by_newlines(self) -> None:
        form = decoder("json", Schema({"a": pl.Int64, "b": pl.String}))
        values = [b'{"a":1}\n{"a":2}', b"", b'{\n "a": 3\n}\n', b'{"b":"x\ny"}', b" ", b'{"a":4}\r\n', b"\n"]
        decoded = form.decode(values)
        assert decoded.rows["a"].to_list() == [3, 4]
        assert decoded.origin == [2, 5]
        assert [index for index, _ in decoded.bad] == [0, 1, 3, 4, 6]

    @pytest.mark.parametrize(
        "value",
        [
            b'{"z":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"z":' + b"9" * 5000 + b"}",
            b'{"n":99999999999999999999}',
            b'{"n":1e400}',
            b'{"s":"\xff"}',
            b'{"s":"a\x00b"}',
            b'{"s":"\\ud800"}',
            b'{"s":"\\ud83d\\u0041"}',
            b'{"n":"1"}',
            b'{"n":true}',
            b'{"n":1.5}',
            b"[1]",
            b"null",
        ],
    )
    def test_json_that_does_not_fit(self, value: bytes) -> None:
        decoded = small_decoder("json", objects=False).decode([b'{"n":1}', value, b'{"n":2}'])
        assert [index for index, _ in decoded.bad] == [1]
        assert decoded.rows["n"].to_list() == [1, 2]

    def test_what_parsers_disagree_on_does_not_depend_on_its_neighbours(self) -> None:
        value = b'{"z":' + b"[" * 990 + b"]" * 990 + b"}"
        form = small_decoder("json", objects=False)
        assert [index for index, _ in form.decode([value, b"{"]).bad] == [1]
        assert not form.decode([value]).bad

    def test_json_is_read_as_from_files(self) -> None:
        schema = Schema({"a": pl.Int64, "t": pl.Datetime, "s": pl.String})
        values = [
            b'{"t":"2013-01-01T05:17:00+02:00","x":1}',
            b'{"a":1,"a":2,"s":5.50}',
            b'{"t":"2013-01-01"}',
        ]
        frame = NdjsonColumns(schema).parse(b"\n".join(values)).frame
        assert decoder("json", schema).decode(values).rows.equals(frame)

    @pytest.mark.parametrize(
        "value",
        [
            b"\xc6\xff\xff\xff\xff",
            b"\xdd\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\xc9\xff\xff\xff\xff\x05",
            b"\xd4\x05\x00",
            b"\x91" * 65 + b"\x01",
        ],
    )
    def test_msgpack_bombs_and_extensions_are_bad(self, value: bytes) -> None:
        for objects in (True, False):
            assert [index for index, _ in small_decoder("msgpack", objects=objects).decode([value]).bad] == [
                0
            ]

    def test_a_msgpack_map_may_have_arrays_for_keys_and_no_maps(self) -> None:
        within = b"\x81\x92\x01\x91\xa1a\xa1x"
        decoded = small_decoder("msgpack", objects=True).decode([within, b"\x81\x81\x01\x02\x03"])
        assert decoded.rows == [{(1, ("a",)): "x"}]
        assert [index for index, _ in decoded.bad] == [1]

    def test_objects_are_as_deep_as_state_can_hold(self) -> None:
        decoded = decoder("json", OBJECTS).decode(
            [b"[" * 64 + b"]" * 64, b"[" * 65 + b"]" * 65, b'"' + b"[" * 99 + b'"']
        )
        assert [index for index, _ in decoded.bad] == [1]

    @pytest.mark.parametrize(
        ("frame", "problem"),
        [
            (pl.DataFrame({"n": ["x"]}), "column 'n' is String where Int64 was expected"),
            (pl.DataFrame({"n": [2**63]}, schema={"n": pl.UInt64}), "conversion from"),
        ],
    )
    def test_arrow_of_another_schema_is_bad(self, frame: pl.DataFrame, problem: str) -> None:
        decoded = small_decoder("arrow", objects=False).decode([stream(frame), good_value("arrow")])
        assert [index for index, _ in decoded.bad] == [0]
        assert problem in decoded.bad[0][1]
        assert decoded.rows["n"].to_list() == [1]

    def test_arrow_columns_are_taken_by_name_and_widened(self) -> None:
        frame = pl.DataFrame({"z": [1, 2], "n": [3, 4]}, schema={"z": pl.Int64, "n": pl.Int8})
        assert small_decoder("arrow", objects=False).decode([stream(frame)]).rows.rows() == [
            (3, None),
            (4, None),
        ]

    def test_compressed_arrow_is_refused(self) -> None:
        value = stream(pl.DataFrame({"n": [1] * 100}), compression="lz4")
        assert "compressed" in small_decoder("arrow", objects=False).decode([value]).bad[0][1]

    def test_avro_types_that_nest_or_repeat_without_end_are_refused(self) -> None:
        node = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
        nothing = {
            "type": "record",
            "name": "R",
            "fields": [{"name": "l", "type": {"type": "array", "items": "null"}}],
        }
        for schema in (node, nothing):
            with pytest.raises(JobDefinitionError, match="not supported"):
                decoder("avro", OBJECTS, registry=AvroSchema(schema))

    def test_avro_values_that_do_not_fit_a_narrower_column_are_bad(self) -> None:
        wide = Schema({"n": pl.Int64})
        values = encoder("avro", StreamType(wide, timed=False), registry=given_avro(wide)).encode(
            FrameBatch(pl.DataFrame({"n": [1, 300, None]}))
        )
        decoded = decoder("avro", Schema({"n": pl.Int8, "m": pl.String}), registry=given_avro(wide)).decode(
            values
        )
        assert decoded.rows.rows() == [(1, None), (None, None)]
        assert decoded.bad == [(1, "column 'n' holds 300, which is no Int8")]


class TestBuilding:
    def test_only_what_is_read_is_decoded(self) -> None:
        schema = Schema({"a": pl.Int64, "b": pl.Int64})
        form = decoder("json", schema, columns=["b"])
        assert list(form.schema) == ["b"]
        assert form.decode([b'{"a":"x","b":1}']).rows.rows() == [(1,)]
        assert decoder("json", schema, columns=[]).decode([b"{}"]).rows.height == 1

    @pytest.mark.parametrize(
        ("format", "schema"),
        [
            ("text", {"a": pl.Int64}),
            ("bytes", {"a": pl.Binary, "b": pl.Binary}),
            ("json", {"a": pl.Binary}),
            ("msgpack", {"a": pl.List(pl.Datetime("us"))}),
            ("avro", {"a": pl.Int64}),
            ("jsn", {"a": pl.Int64}),
        ],
    )
    def test_what_cannot_work_is_said_when_the_job_is_built(
        self, format: str, schema: dict[str, Any]
    ) -> None:
        with pytest.raises(JobDefinitionError):
            decoder(format, Schema(schema))
        with pytest.raises(JobDefinitionError):
            encoder(format, StreamType(Schema(schema), timed=False))

    def test_arrow_is_not_written(self) -> None:
        with pytest.raises(JobDefinitionError, match="does not write Arrow"):
            encoder("arrow", StreamType(Schema({"a": pl.Int64}), timed=False))

    def test_the_value_is_made_of_the_columns_named(self) -> None:
        form = StreamType(Schema({"a": pl.Int64, "b": pl.Int64}), timed=True)
        batch = FrameBatch(
            pl.DataFrame({"a": [1], "b": [2], "__event_time": [datetime(2013, 1, 1, tzinfo=UTC)]})
        )
        assert encoder("json", form, columns=["b", "a"]).encode(batch) == [b'{"b":2,"a":1}']
        assert encoder("json", form).encode(batch) == [b'{"a":1,"b":2}']

    @pytest.mark.parametrize("format", ["json", "msgpack", "text", "bytes"])
    def test_the_row_that_cannot_be_encoded_is_named(self, format: str) -> None:
        good: Any = "x" if format != "bytes" else b"x"
        form = encoder(format, StreamType(OBJECTS, timed=False))
        with pytest.raises(SinkError, match="row 1 cannot be encoded") as raised:
            form.encode(RowBatch([good, object()]))
        assert raised.value.final, "the record is the same the next time"

    def test_a_row_that_does_not_fit_the_given_avro_schema_is_named(self) -> None:
        form = encoder("avro", StreamType(OBJECTS, timed=False), registry=given_avro(Schema({"n": pl.Int64})))
        with pytest.raises(SinkError, match="row 1 cannot be encoded"):
            form.encode(RowBatch([{"n": 1}, {"n": "x"}]))

    def test_a_given_avro_schema_gives_the_columns_and_types(self) -> None:
        schema = {
            "type": "record",
            "name": "R",
            "fields": [
                {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
                {
                    "name": "price",
                    "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}],
                },
                {"name": "day", "type": {"type": "int", "logicalType": "date"}},
            ],
        }
        given_schema = AvroSchema(schema)
        form = decoder("avro", None, registry=given_schema)
        assert form.schema == Schema(
            {"at": pl.Datetime("ms", "UTC"), "price": pl.Decimal(9, 2), "day": pl.Date}
        )
        row = {"at": datetime(2013, 1, 1, tzinfo=UTC), "price": Decimal("1.25"), "day": date(2013, 1, 1)}
        values = encoder("avro", StreamType(OBJECTS, timed=False), registry=given_schema).encode(
            RowBatch([row])
        )
        assert form.decode(values).rows.to_dicts() == [row]
