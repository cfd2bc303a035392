"""MessagePack values: maps as columns, or values as Python objects, and back, by msgspec.

Types fit columns as in JSON: integers are checked for range, a missing field is null, an unknown one is ignored;
times are ISO 8601 text. Beyond JSON there are bytes and NaN. Extension types are refused (except MessagePack's own
timestamp, which becomes a Python datetime, among objects); declared lengths beyond the bytes are found before
anything is allocated.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Annotated, Any, Final, TypedDict, cast

import msgspec
import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.schema import OBJECTS, Schema, StreamSchema
from streamflow.core.serde import MAX_DEPTH, deeper_than
from streamflow.core.values import framed
from streamflow.errors import JobDefinitionError, SinkError, cut
from streamflow.operators.connectors.files.formats.wire_types import (
    convert,
    convert_where_possible,
    misfits,
    wire_types,
    without_rows,
)
from streamflow.operators.connectors.kafka.formats.values import (
    DecodedValues,
    EachValue,
    chosen_columns,
    decode_each,
    kept,
    raise_for_row,
)
from streamflow.operators.connectors.text_columns import as_text_carries
from streamflow.operators.stateless.row_builder import row_dicts
from streamflow.operators.stateless.rows import each_row

__all__ = ["MsgpackColumns", "MsgpackEncoder", "check_msgpack_columns", "msgpack_objects"]

_ERRORS: Final = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
_TIMES: Final = (pl.Datetime, pl.Date, pl.Time)
_HINT: Final = "turn it into plain values with .map first"
# The first bytes of arrays and maps: a value nests at most as deep as they occur.
_OPENING: Final = frozenset([*range(0x80, 0xA0), *range(0xDC, 0xE0)])
_NOT_OPENING: Final = bytes(byte for byte in range(256) if byte not in _OPENING)


def check_msgpack_columns(schema: Schema) -> None:
    """Raises JobDefinitionError for a column that MessagePack cannot carry: objects, and times within lists."""
    for name, dtype in schema.items():
        if dtype == pl.Object or any(isinstance(inner, (*_TIMES, pl.Duration)) for inner in _within(dtype)):
            raise JobDefinitionError(
                f"msgpack cannot carry column {name!r} ({dtype})", hint="drop it, cast it, or unnest it"
            )


class MsgpackColumns:
    """A decoder of maps into the columns of a schema."""

    def __init__(self, schema: Schema, max_bytes: int) -> None:
        check_msgpack_columns(schema)
        self.schema: StreamSchema = schema
        self._columns = dict(schema)
        self._limit = max_bytes
        self._wire = {name: _wire_type(name, dtype) for name, dtype in schema.items()}
        # Names of columns need not be names of attributes.
        fields = {f"c{number}": name for number, name in enumerate(schema)}
        self._row = msgspec.defstruct(
            "Row",
            [(field, _nullable(_python_type(schema[name])), None) for field, name in fields.items()],
            rename=fields,
            gc=False,
        )
        self._attributes = {name: attrgetter(field) for field, name in fields.items()}

    def decode(self, values: Sequence[bytes | None]) -> DecodedValues:
        decode = msgspec.msgpack.Decoder(self._row).decode
        rows, bad = decode_each(values, self._limit, decode, _ERRORS, _explain)
        wire = framed(self._series(name, list(map(self._attributes[name], rows))) for name in self._columns)
        try:
            return DecodedValues(convert(wire, self._columns), kept(len(values), bad), bad)
        except pl.exceptions.PolarsError:
            frame = convert_where_possible(wire, self._columns)
        unfit = misfits(wire, frame)
        places = kept(len(values), bad) or range(len(values))
        bad = sorted([*bad, *((places[at], problem) for at, problem in unfit.items())])
        return DecodedValues(without_rows(frame, unfit), kept(len(values), bad), bad)

    def _series(self, name: str, values: list[Any]) -> pl.Series:
        dtype = self._wire[name]
        if dtype == pl.String and not {str, type(None)}.issuperset(map(type, values)):
            values = [value if value is None or type(value) is str else _text(value) for value in values]
        return pl.Series(name, values, dtype=dtype)


def msgpack_objects(max_bytes: int) -> EachValue:
    """A decoder of each value into a Python object: mostly dicts."""
    return EachValue(OBJECTS, max_bytes, _shallow, _ERRORS, _explain)


def _shallow(value: bytes) -> Any:
    decoded = msgspec.msgpack.decode(value, ext_hook=_refuse_extension)
    if len(value.translate(None, _NOT_OPENING)) > MAX_DEPTH and deeper_than(decoded, MAX_DEPTH):
        raise RecursionError
    return decoded


class MsgpackEncoder:
    """An encoder of a map per row, or of Python values as they are."""

    def __init__(self, schema: Schema | None) -> None:
        if schema is not None:
            check_msgpack_columns(schema)
        self._schema = schema

    def encode(self, batch: AnyBatch) -> list[bytes]:
        encode = msgspec.msgpack.Encoder(enc_hook=_unknown).encode
        if self._schema is None:
            values = list(each_row(batch))
        else:
            values = list(row_dicts(_as_msgpack_carries(chosen_columns(batch, self._schema))))
        try:
            return list(map(encode, values))
        except (SinkError, *_ERRORS, TypeError) as error:
            raise_for_row(values, _encode_one)
            raise SinkError(f"msgpack cannot carry a value of this stream: {error}", hint=_HINT) from error


def _encode_one(value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value, enc_hook=_unknown)
    except (*_ERRORS, TypeError) as error:
        raise SinkError(f"msgpack cannot carry {cut(value)}: {error}", hint=_HINT) from error


def _unknown(value: object) -> object:
    raise SinkError(f"msgpack cannot carry a {type(value).__name__}: {cut(value)}", hint=_HINT)


def _refuse_extension(code: int, _: memoryview) -> object:
    raise ValueError(f"extension type {code} is refused")


def _explain(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the value holds text that is not valid UTF-8"
    if isinstance(error, RecursionError):
        return "the value is nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        return f"the value does not fit the schema ({error})"
    return f"the value is not valid MessagePack ({error})"


def _text(value: Any) -> str:
    """A value as text, as JSON writes it."""
    text = msgspec.json.encode(value).decode()
    return text[1:-1] if text.startswith('"') else text


def _as_msgpack_carries(frame: pl.DataFrame) -> pl.DataFrame:
    changed = [
        pl.col(name).dt.to_string("%Y-%m-%d" if isinstance(dtype, pl.Date) else "%H:%M:%S%.f")
        if isinstance(dtype, (pl.Date, pl.Time))
        else pl.col(name).cast(pl.String)
        for name, dtype in frame.schema.items()
        if isinstance(dtype, (pl.Date, pl.Time, pl.Decimal))
    ]
    return as_text_carries(frame.with_columns(changed) if changed else frame)


def _wire_type(name: str, dtype: pl.DataType) -> pl.DataType:
    if isinstance(dtype, pl.Binary):
        return dtype
    if isinstance(dtype, (pl.Enum, pl.Categorical)):
        return pl.String()
    return wire_types({name: dtype}, "ndjson")[name]


def _python_type(dtype: pl.DataType, *, nested: bool = False) -> Any:
    """The Python type that msgspec reads for a column of this type."""
    if dtype.is_integer():
        if dtype.is_(pl.Int128) or dtype.is_(pl.UInt128):
            return int
        bits = int(str(dtype).lower().removeprefix("u").removeprefix("int"))
        if dtype.is_signed_integer():
            return Annotated[int, msgspec.Meta(ge=-(1 << (bits - 1)), le=(1 << (bits - 1)) - 1)]
        # msgspec's bounds end at 2**63 − 1; MessagePack's integers end at 2**64 − 1.
        return Annotated[int, msgspec.Meta(ge=0, le=(1 << bits) - 1 if bits < 64 else None)]
    if isinstance(dtype, pl.Duration):
        return Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
    if dtype.is_float():
        return float
    if isinstance(dtype, pl.Boolean):
        return bool
    if isinstance(dtype, pl.Binary):
        return bytes
    if isinstance(dtype, (pl.List, pl.Array)):
        return cast(Any, list)[_nullable(_python_type(cast(Any, dtype.inner), nested=True))]
    if isinstance(dtype, pl.Struct):
        fields = {
            field.name: _nullable(_python_type(cast(Any, field.dtype), nested=True)) for field in dtype.fields
        }
        return cast(Any, TypedDict)("Fields", fields, total=False)
    if isinstance(dtype, pl.String) and not nested:
        return str | int | float | bool
    if isinstance(dtype, pl.Null):
        return None
    return str


def _nullable(kind: Any) -> Any:
    return None if kind is None else kind | None


def _within(dtype: pl.DataType) -> list[pl.DataType]:
    """The types within a list, an array or a struct."""
    if isinstance(dtype, (pl.List, pl.Array)):
        inner: list[Any] = [dtype.inner]
    elif isinstance(dtype, pl.Struct):
        inner = [field.dtype for field in dtype.fields]
    else:
        return []
    return [found for each in inner for found in (each, *_within(each))]
