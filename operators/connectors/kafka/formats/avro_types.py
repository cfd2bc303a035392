"""Avro types and column types, both ways (Avro 1.12 specification, "Logical Types").

| Avro | column |
|---|---|
| boolean, int, long, float, double | Boolean, Int32, Int64, Float32, Float64 |
| string, enum, uuid | String |
| bytes, fixed | Binary |
| decimal (bytes or fixed) | Decimal |
| date | Date |
| time-millis, time-micros | Time |
| timestamp-millis, timestamp-micros | Datetime (UTC) |
| local-timestamp-millis, -micros | Datetime without a zone |
| array, record | List, Struct |
| union of null and one of those | the same |

Times are read as the integers that they are: fastavro's own would end at the year 9999, and take twice as long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import polars as pl

from streamflow.core.schema import Schema
from streamflow.errors import JobDefinitionError
from streamflow.operators.connectors.kafka.formats.column_casts import resolved

__all__ = ["AvroField", "avro_record", "column_fields", "recursive_or_endless", "without_times"]

_PLAIN: Final[Mapping[str, pl.DataType]] = {
    "boolean": pl.Boolean(),
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "string": pl.String(),
    "bytes": pl.Binary(),
    "null": pl.Null(),
}
_TIMES: Final[Mapping[tuple[str, str], pl.DataType]] = {
    ("int", "date"): pl.Date(),
    ("long", "timestamp-millis"): pl.Datetime("ms", "UTC"),
    ("long", "timestamp-micros"): pl.Datetime("us", "UTC"),
    ("long", "local-timestamp-millis"): pl.Datetime("ms"),
    ("long", "local-timestamp-micros"): pl.Datetime("us"),
    ("int", "time-millis"): pl.Time(),
    ("long", "time-micros"): pl.Time(),
}
_PRIMITIVES: Final[Mapping[str, tuple[type[pl.DataType], ...]]] = {
    "boolean": (pl.Boolean,),
    "int": (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16),
    "long": (pl.Int64, pl.UInt32),
    "float": (pl.Float32,),
    "double": (pl.Float64,),
    "string": (pl.String, pl.Categorical, pl.Enum),
    "bytes": (pl.Binary,),
}
_TIME_SCALE: Final = {"time-millis": 1_000_000, "time-micros": 1_000}
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_DEPTH: Final = 64


@dataclass(frozen=True, slots=True)
class AvroField:
    """A field that can be a column: `raw` is the type that fastavro reads, `dtype` the column's. `scale` is
    nanoseconds in one of its units, for times of day."""

    raw: pl.DataType
    dtype: pl.DataType
    scale: int = 1


def column_fields(schema: Any) -> dict[str, AvroField | None]:
    """The fields of a record by name, None for those that cannot be columns (maps, unions of several types).

    >>> column_fields({"type": "record", "name": "R", "fields": [{"name": "n", "type": ["null", "long"]}]})
    {'n': AvroField(raw=Int64, dtype=Int64, scale=1)}
    """
    named: dict[str, Any] = {}
    if not _is_map(schema) or schema.get("type") != "record":
        raise ValueError("it is no record, which alone has columns")
    return {each["name"]: _field(each["type"], named) for each in schema["fields"]}


def _field(schema: Any, named: dict[str, Any]) -> AvroField | None:
    if _is_list(schema):
        inner = [each for each in schema if each != "null"]
        return _field(inner[0], named) if len(inner) == 1 else None
    if isinstance(schema, str):
        if schema in _PLAIN:
            return AvroField(_PLAIN[schema], _PLAIN[schema])
        return _field(named[_last(schema)], named) if _last(schema) in named else None
    kind = schema["type"]
    if isinstance(kind, (dict, list)):
        return _field(kind, named)
    if "name" in schema:
        named[_last(schema["name"])] = schema
    logical = schema.get("logicalType")
    if (kind, logical) in _TIMES:
        return AvroField(_PLAIN[kind], _TIMES[kind, logical], _TIME_SCALE.get(logical, 1))
    if logical == "decimal" and kind in ("bytes", "fixed"):
        dtype = pl.Decimal(schema["precision"], schema.get("scale", 0))
        return AvroField(dtype, dtype)
    if kind == "array":
        return _list(_field(schema["items"], named))
    if kind == "record":
        return _struct({each["name"]: _field(each["type"], named) for each in schema["fields"]})
    if kind == "enum":
        return AvroField(pl.String(), pl.String())
    if kind == "fixed":
        return AvroField(pl.Binary(), pl.Binary())
    return _field(kind, named) if kind in _PLAIN else None


def _list(item: AvroField | None) -> AvroField | None:
    # A time of day has another unit in Avro, and within a list nothing to convert it with.
    if item is None or item.scale != 1:
        return None
    return AvroField(pl.List(item.raw), pl.List(item.dtype))


def _struct(fields: Mapping[str, AvroField | None]) -> AvroField | None:
    known = {name: field for name, field in fields.items() if field is not None and field.scale == 1}
    if len(known) != len(fields):
        return None
    return AvroField(
        pl.Struct({name: field.raw for name, field in known.items()}),
        pl.Struct({name: field.dtype for name, field in known.items()}),
    )


def without_times(schema: Any) -> Any:
    """The same schema without the logical types except decimal, so that values are those on the wire."""
    if _is_list(schema):
        return [without_times(each) for each in schema]
    if not _is_map(schema):
        return schema
    plain = {key: value for key, value in schema.items() if key not in ("default", "doc", "aliases")}
    if plain.get("logicalType") != "decimal":
        plain.pop("logicalType", None)
    for key in ("type", "items", "values"):
        if key in plain:
            plain[key] = without_times(plain[key])
    if "fields" in plain:
        plain["fields"] = [without_times(each) for each in plain["fields"]]
    return plain


def recursive_or_endless(schema: Any) -> str | None:
    """The reason not to read values of a schema: a type that holds itself nests as deep as its sender likes, and an
    array of nothing has as many items as the sender says. None if values may be read."""
    return _unsafe(schema, (), 0)


def _unsafe(schema: Any, within: tuple[str, ...], depth: int) -> str | None:
    if depth > _MOST_DEPTH:
        return "the Avro schema is nested too deeply"
    if _is_list(schema):
        return next((why for each in schema if (why := _unsafe(each, within, depth + 1))), None)
    if isinstance(schema, str):
        return (
            f"the Avro type {schema} holds itself, which is not supported"
            if _last(schema) in within
            else None
        )
    if schema.get("type") in ("record", "error"):
        within = (*within, _last(schema["name"]))
    for key in ("items", "values"):
        if key == "items" and key in schema and _empty(schema[key]):
            return "the Avro schema has an array of nothing, which is not supported"
        if key in schema and (why := _unsafe(schema[key], within, depth + 1)):
            return why
    kind = schema.get("type")
    if isinstance(kind, (dict, list)) and (why := _unsafe(kind, within, depth + 1)):
        return why
    fields = schema.get("fields", [])
    return next((why for each in fields if (why := _unsafe(each["type"], within, depth + 1))), None)


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _last(name: str) -> str:
    """A type's name without its namespace."""
    return name.rpartition(".")[2]


def _empty(schema: Any) -> bool:
    """Whether a value takes no bytes."""
    if schema == "null" or schema == ["null"]:
        return True
    if not _is_map(schema):
        return False
    if schema.get("type") == "record":
        return all(_empty(each["type"]) for each in schema.get("fields", []))
    if schema.get("type") == "fixed":
        return bool(schema.get("size") == 0)
    return bool(schema.get("type") == "null") or (_is_map(schema.get("type")) and _empty(schema["type"]))


def avro_record(schema: Schema, name: str) -> dict[str, Any]:
    """The Avro record for columns; every field may be null. Raises JobDefinitionError for a column that Avro cannot
    carry.

    >>> avro_record(Schema({"n": pl.Int8}), "Value")["fields"]
    [{'name': 'n', 'type': ['null', 'int'], 'default': None}]
    """
    return {"type": "record", "name": name, "fields": _avro_fields(resolved(schema), name)}


def _avro_fields(columns: Mapping[str, pl.DataType], path: str) -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = []
    for name, dtype in columns.items():
        if not _NAME.fullmatch(name):
            raise JobDefinitionError(
                f"Avro cannot name a field {name!r}",
                hint="letters, digits and _ only: rename the column with .select",
            )
        kind = _avro_type(dtype, f"{path}_{name}", nested=False)
        if kind is None:
            raise JobDefinitionError(f"Avro cannot carry column {name!r} ({dtype})", hint="cast it")
        fields.append({"name": name, "type": ["null", kind], "default": None})
    return fields


def _avro_type(dtype: pl.DataType, path: str, *, nested: bool) -> Any:
    """The Avro type of a column; None for a type that Avro cannot carry."""
    for name, kinds in _PRIMITIVES.items():
        if isinstance(dtype, kinds):
            return name
    if isinstance(dtype, (pl.List, pl.Array)):
        item = _avro_type(cast(Any, dtype.inner), path, nested=True)
        return None if item is None else {"type": "array", "items": ["null", item]}
    if isinstance(dtype, pl.Struct):
        inner = {field.name: cast(Any, field.dtype) for field in dtype.fields}
        if any(_avro_type(each, path, nested=True) is None for each in inner.values()):
            return None
        return {"type": "record", "name": path, "fields": _avro_fields(inner, path)}
    if isinstance(dtype, pl.Duration):
        return None if nested else "long"
    if isinstance(dtype, pl.Decimal):
        return {"type": "bytes", "logicalType": "decimal", "precision": dtype.precision, "scale": dtype.scale}
    return _avro_time(dtype, nested=nested)


def _avro_time(dtype: pl.DataType, *, nested: bool) -> Any:
    if isinstance(dtype, pl.Date):
        return {"type": "int", "logicalType": "date"}
    if isinstance(dtype, pl.Time) and not nested:
        return {"type": "long", "logicalType": "time-micros"}
    if isinstance(dtype, pl.Datetime) and dtype.time_unit != "ns":
        local = "local-" if dtype.time_zone is None else ""
        unit = {"ms": "millis", "us": "micros"}[dtype.time_unit]
        return {"type": "long", "logicalType": f"{local}timestamp-{unit}"}
    return None
