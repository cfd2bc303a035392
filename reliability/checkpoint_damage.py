"""Damage to the content of checkpoints: to bytes, to packed values, to tables and rows of state, to manifests.

Content damaged at one place of its structure is well-formed again: its digests are those of the damaged content, so
that it comes as far as the decoder.
"""

from __future__ import annotations

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
import json
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl

from streamflow.core.serde import pack, unpack
from streamflow.errors import StreamflowError
from streamflow.state.checkpoints.tables import decode_table, encode_table

__all__ = [
    "BYTES",
    "Stored",
    "bad_bytes",
    "bad_content",
    "bad_manifest",
    "files_of",
    "manifests",
    "refilled",
    "signed",
]

Stored = Mapping[Path, bytes]
"""All files below a checkpoints' place."""

_ROW = struct.Struct(">HII")
_HUGE = [
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\x7f\xff\xff\xff",
    b"\xff" * 8,
]
_DEEP = 100_000
_WRONG: list[Callable[[], Any]] = [
    lambda: None, lambda: True, lambda: -1, lambda: 0, lambda: 2**63, lambda: 2**70, lambda: -(2**63), lambda: 0.5,
    lambda: float("nan"), lambda: "", lambda: "x", lambda: "../../x", lambda: b"", lambda: b"\xc1", list,
    lambda: [[]], dict, lambda: {"x": 1}, lambda: (1, 2), lambda: [None] * 3, lambda: "1",
    lambda: _deep([], 60), lambda: "x" * 5_000, lambda: 1 << 40,
]  # fmt: skip
_DTYPES: list[Any] = [
    pl.Int8,
    pl.Int64,
    pl.UInt64,
    pl.Float64,
    pl.String,
    pl.Binary,
    pl.Boolean,
    pl.List(pl.Int64),
]


def bad_bytes(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """The bytes with one thing wrong."""
    return chance.choice(BYTES)(data, others, chance)


def _flip(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _insert(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + chance.randbytes(chance.choice((1, 2, 8, 300))) + data[at:]


def _remove(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(max(1, len(data)))
    return data[:at] + data[at + chance.choice((1, 2, 8, 300)) :]


def _truncate(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    return data[: chance.randrange(max(1, len(data)))]


def _empty(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    return b""


def _other(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    return chance.choice(others)


def _huge(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    length = chance.choice(_HUGE)
    at = chance.choice((0, chance.randint(0, len(data))))
    return data[:at] + length + data[at + len(length) * chance.randrange(2) :]


def _nested(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.choice((0, chance.randint(0, len(data))))
    opening = chance.choice((b"\x91", b"\x81\xa0", b"[", b'{"a":', b"\xc8\x00\x01\x07"))
    return data[:at] + opening * chance.choice((70, 2_000, _DEEP)) + data[at:]


def _text(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    return chance.choice(
        (b"null", b"{}", b"[]", b"\xc0", b"\x80", b"\x90", b"PK\x03\x04", b"SFM1", b"SFT1", b"ARROW1")
    )


BYTES: list[Callable[[bytes, Sequence[bytes], random.Random], bytes]] = [
    _flip, _insert, _remove, _truncate, _empty, _other, _huge, _nested, _text,
]  # fmt: skip


def bad_content(name: str, data: bytes, chance: random.Random) -> bytes:
    """A file of a checkpoint that is well-formed and has something wrong in it, by its name."""
    if name.startswith("table-"):
        return b"".join(encode_table(_bad_table(decode_table(data), chance)))
    if name.startswith("backend/"):
        return _bad_rows(data, chance)
    if name.startswith("sealed/") and "list" not in name:
        return bad_bytes(data, [b""], chance)
    return _packed(_bad_value(unpack(data, bounded=False), chance))


def _bad_value(value: Any, chance: random.Random) -> Any:
    """The value with another at one place in it; what is packed inside is opened."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        rest = {name: each for name, each in value.items() if name != key}
        match chance.randrange(12):
            case 0:
                return rest
            case 1:
                return {**rest, chance.choice((1, "other", b"x", None)): value[key]}
            case _:
                return {**value, key: _bad_value(value[key], chance)}
    if isinstance(value, (list, tuple)) and value and chance.random() < 0.9:
        items, at = list(value), chance.randrange(len(value))
        match chance.randrange(12):
            case 0:
                return items[:at]
            case 1:
                return items + items[at:]
            case 2:
                return items[::-1]
            case _:
                return [*items[:at], _bad_value(items[at], chance), *items[at + 1 :]]
    if isinstance(value, bytes) and chance.random() < 0.7:
        try:
            return _packed(_bad_value(unpack(value, bounded=False), chance))
        except StreamflowError:
            return bad_bytes(value, [b""], chance)
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.3:
        return chance.choice((value + 1, -value, float(value), str(value), value << 32))
    return chance.choice(_WRONG)()


def _bad_table(
    table: list[tuple[int, pl.DataFrame]], chance: random.Random
) -> list[tuple[int, pl.DataFrame]]:
    """A table one of whose frames is not as it was written."""
    if not table:
        return [(chance.choice((0, -1, 2**62)), pl.DataFrame({"x": [1]}))]
    at = chance.randrange(len(table))
    pane, frame = table[at]
    column = chance.choice(frame.columns) if frame.columns else "x"
    match chance.randrange(9):
        case 0:
            frame = frame.drop(column, strict=False)
        case 1:
            frame = frame.rename({column: "other"}, strict=False)
        case 2:
            frame = frame.with_columns(pl.lit(None).alias(column))
        case 3:
            dtype = chance.choice(_DTYPES)
            frame = frame.with_columns(pl.Series(column, [None] * frame.height, dtype=dtype))
        case 4:
            frame = pl.DataFrame({"x": [1, 2]})
        case 5:
            frame = pl.DataFrame()
        case 6:
            pane = chance.choice((-(2**63), 2**63 - 1, pane + 1, 0))
        case 7:
            return [*table, table[at]] if chance.random() < 0.5 else table[:at]
        case _:
            frame = frame.with_columns(more=pl.lit(1))
    return [*table[:at], (pane, frame), *table[at + 1 :]]


def _bad_rows(data: bytes, chance: random.Random) -> bytes:
    """The saved state of a memory backend with one row that is wrong."""
    rows: list[tuple[int, bytes, bytes]] = []
    at = 4
    while at < len(data):
        group, key, value = _ROW.unpack_from(data, at)
        at += _ROW.size
        rows.append((group, data[at : at + key], data[at + key : at + key + value]))
        at += key + value
    chosen = chance.randrange(len(rows))
    group, key_bytes, value_bytes = rows[chosen]
    match chance.randrange(4):
        case 0:
            group = chance.choice((0, 127, 128, 65_535))
        case 1:
            key_bytes = bad_bytes(key_bytes, [value_bytes], chance)
        case 2:
            value_bytes = bad_bytes(value_bytes, [key_bytes], chance)
        case _:
            try:
                value_bytes = _packed(_bad_value(unpack(value_bytes, bounded=False), chance))
            except StreamflowError:
                value_bytes = b""
    rows[chosen] = (group, key_bytes, value_bytes)
    parts = [_ROW.pack(group, len(key), len(value)) + key + value for group, key, value in rows]
    return b"".join([data[:4], *parts])


def _packed(value: Any) -> bytes:
    try:
        return pack(value, bounded=False)
    except StreamflowError:
        return b"\xc0"


def bad_manifest(data: bytes, chance: random.Random) -> bytes:
    """A manifest with something wrong in it and a digest that is right."""
    body = json.loads(data.partition(b"\n")[2])
    text = json.dumps(_bad_value(body, chance), default=str, skipkeys=True)
    if chance.random() < 0.2:
        text = bad_bytes(text.encode(), [b"{}"], chance).decode("utf-8", "surrogateescape")
    return signed(text.encode("utf-8", "surrogateescape"))


def signed(body: bytes) -> bytes:
    """A manifest's body with the digest that belongs to it."""
    return b"blake2b " + _digest(body).encode() + b"\n" + body


def manifests(stored: Stored) -> list[Path]:
    """The manifests, oldest first."""
    return sorted(path for path in stored if path.parent.name == "manifests")


def refilled(stored: Stored, manifest: Path, name: str, data: bytes, damaged: bytes) -> Stored:
    """The same with other content in the files of a manifest that are called `name` and hold `data`; no other manifest
    is left."""
    body = json.loads(stored[manifest].partition(b"\n")[2])
    before, digest = _digest(data), _digest(damaged)
    new = dict(stored)
    for file in files_of(body):
        if (file["name"], file["digest"]) == (name, before):
            file |= {"digest": digest, "size": len(damaged)}
            new[manifest.parents[1] / "blobs" / f"{file['generation']:010}" / digest] = damaged
    for other in manifests(stored):
        del new[other]
    return new | {manifest: signed(json.dumps(body).encode())}


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=32).hexdigest()


def files_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files that a manifest lists, as it has them."""
    listed = list(body["files"])
    for operator in body["operators"]:
        for subtask in operator["subtasks"]:
            listed += subtask["files"]
    return listed


def _deep(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value
