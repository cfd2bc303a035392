"""Values of records with bytes turned, cut and put in: each is decoded or is a bad one, and its neighbours come out as
they are. Where JSON or MessagePack without a schema is still read, it says what the plain libraries say."""

from __future__ import annotations

import io
import json
import math
from random import Random
from typing import Any

import fastavro
import msgpack  # type: ignore[import-untyped]
import polars as pl

from streamflow.core.schema import OBJECTS, Schema
from streamflow.operators.connectors.kafka.formats.codecs import decoder
from streamflow.operators.connectors.kafka.formats.values import Decoder
from streamflow.operators.connectors.kafka.schema_registry import AvroSchema
from tests.kafka.fuzzed_batches import mangled

__all__ = ["check_value"]

_AVRO = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "n", "type": ["null", "long"]},
        {"name": "s", "type": ["null", "string"]},
        {"name": "l", "type": {"type": "array", "items": "double"}},
    ],
}
_COLUMNS = Schema({"n": pl.Int64, "s": pl.String, "l": pl.List(pl.Float64)})
_DECODERS: dict[str, Decoder] = {
    "json": decoder("json", OBJECTS),
    "json columns": decoder("json", _COLUMNS),
    "msgpack": decoder("msgpack", OBJECTS),
    "msgpack columns": decoder("msgpack", _COLUMNS),
    "avro": decoder("avro", _COLUMNS, registry=AvroSchema(json.dumps(_AVRO))),
    "arrow": decoder("arrow", _COLUMNS),
    "text": decoder("text", None),
    "debezium": decoder("debezium", _COLUMNS),
}
_PARSED = fastavro.parse_schema(_AVRO)
_FIRST, _LAST = {"n": 1, "s": "a", "l": [0.5]}, {"n": -7, "s": None, "l": []}


def check_value(seed: int) -> str:
    """Make one value out of the seed and decode it between two good ones; its format. AssertionError for what must not
    come out."""
    random = Random(seed)
    format = random.choice([*_DECODERS, "json", "msgpack"])
    value = mangled(_encoded(format, _row(random)), random)
    if random.random() < 0.02:
        value = random.choice([b"[", b'{"n":', b"\x91", b"\x81\xa1n"]) * random.choice([70, 5000]) + value
    decoded = _DECODERS[format].decode([_encoded(format, _FIRST), value, _encoded(format, _LAST)])
    rows = decoded.rows.to_dicts() if isinstance(decoded.rows, pl.DataFrame) else list(decoded.rows)
    bad = [index for index, why in decoded.bad if why]
    assert bad in ([], [1]), f"{format}: {decoded.bad} for {value!r}"
    origin = list(range(len(rows))) if decoded.origin is None else list(decoded.origin)
    assert len(origin) == len(rows)
    assert {0, 2} <= set(origin) <= {0, 1, 2}, f"{format}: neighbours of {value!r} are gone"
    assert (1 in origin) != bool(bad) or format == "arrow", f"{format}: nothing came of {value!r}"
    first, last = [row for row, of in zip(rows, origin, strict=True) if of in (0, 2)]
    if format == "text":
        assert "value" in first
    elif format == "debezium":
        assert (first, last) == ({"change": "insert", **_FIRST}, {"change": "insert", **_LAST}), value
    else:
        assert (first, last) == (_FIRST, _LAST), f"{format}: neighbours of {value!r} have changed"
    if format in ("json", "msgpack") and not bad:
        made, wanted = rows[1], _plain(format, value)
        assert _alike(made, wanted), f"{format}: {made!r} for {wanted!r} in {value!r}"
    return format


def _row(random: Random) -> dict[str, Any]:
    return {
        "n": random.choice([None, 0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63)]),
        "s": random.choice([None, "", "ü€😀", "a\nb", "\\u0041", "x" * 40]),
        "l": random.choice([[], [0.1], [1e308, -0.0, 5e-324]]),
    }


def _encoded(format: str, row: dict[str, Any]) -> bytes:
    match format.split()[0]:
        case "json":
            return json.dumps(row).encode()
        case "debezium":
            return json.dumps({"op": "c", "before": None, "after": row}).encode()
        case "msgpack":
            packed = msgpack.packb(row)
            assert isinstance(packed, bytes)
            return packed
        case "avro":
            out = io.BytesIO()
            fastavro.schemaless_writer(out, _PARSED, row)
            return out.getvalue()
        case "arrow":
            out = io.BytesIO()
            pl.DataFrame([row], schema=dict(_COLUMNS)).write_ipc_stream(out)
            return out.getvalue()
        case _:
            return repr(row).encode()


def _plain(format: str, value: bytes) -> Any:
    if format == "json":
        return json.loads(value)
    return msgpack.unpackb(value, strict_map_key=False, timestamp=3, object_pairs_hook=_map)


def _map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """MessagePack has maps whose keys are arrays."""
    return {_key(name): value for name, value in pairs}


def _key(name: Any) -> Any:
    return tuple(map(_key, name)) if isinstance(name, list) else name


def _alike(found: Any, wanted: Any) -> bool:
    if isinstance(found, float) and isinstance(wanted, int | float):
        return found == wanted or (math.isnan(found) and math.isnan(wanted)) or found == float(wanted)
    if isinstance(found, dict) and isinstance(wanted, dict):
        # In the order of the bytes, since a NaN may be a name.
        return len(found) == len(wanted) and all(map(_alike, found.items(), wanted.items()))
    if isinstance(found, list | tuple) and type(found) is type(wanted):
        return len(found) == len(wanted) and all(map(_alike, found, wanted))
    return type(found) is type(wanted) and bool(found == wanted)
