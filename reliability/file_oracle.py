"""The expected content of a file of lines, record by record, by Python's own readers: the values, or that the record
is bad.

`UNSAID`: nobody says which of the two it is; it may be bad, and if it is read, the value is not compared.
"""

import csv
import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import polars as pl

__all__ = ["BAD", "UNSAID", "csv_records", "expected_csv", "expected_json", "expected_text", "same"]

BAD: Final = object()
UNSAID: Final = object()
_INTEGERS: Final[dict[Any, tuple[int, int]]] = {
    pl.Int8: (-(2**7), 2**7),
    pl.Int64: (-(2**63), 2**63),
    pl.UInt64: (0, 2**64),
}


class _Number(str):
    """A number as it is written."""


def expected_json(line: bytes, schema: dict[str, Any]) -> Any:
    """A row, BAD, UNSAID, or None for a blank line."""
    if not line.strip():
        return None
    try:
        value = _DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        return BAD
    # Also in what counts no more, as another value of the same name follows.
    if not isinstance(value, dict) or _HALF.search(_PAIR.sub(b"", line)):
        return BAD
    row = {name: _json_value(value.get(name), dtype) for name, dtype in schema.items()}
    return _whole(row)


def _no_json(text: str) -> Any:
    raise ValueError(text)


def _number_in_range(text: str) -> _Number:
    if math.isinf(float(text)):
        raise ValueError(text)
    return _Number(text)


_DECODER: Final = json.JSONDecoder(parse_int=_Number, parse_float=_number_in_range, parse_constant=_no_json)
_PAIR: Final = re.compile(rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def _whole(row: dict[str, Any]) -> Any:
    if any(value is BAD for value in row.values()):
        return BAD
    return UNSAID if any(value is UNSAID for value in row.values()) else row


def _json_value(value: Any, dtype: Any) -> Any:
    if value is None:
        return None
    if isinstance(dtype, pl.List):
        return _elements(value, dtype.inner)
    if isinstance(dtype, pl.Array):
        found = _elements(value, dtype.inner)
        return BAD if found not in (BAD, UNSAID) and len(found) != dtype.size else found
    if isinstance(dtype, pl.Struct):
        if not isinstance(value, dict):
            return BAD
        return _whole({field.name: _json_value(value.get(field.name), field.dtype) for field in dtype.fields})
    if dtype == pl.String:
        if isinstance(value, bool):
            return str(value).lower()
        return str(value) if isinstance(value, str) else UNSAID
    if dtype == pl.Boolean:
        return value if isinstance(value, bool) else BAD
    if isinstance(dtype, pl.Decimal):
        return _decimal(value, dtype) if isinstance(value, str) else BAD
    return _number(value, dtype) if isinstance(value, _Number) else BAD


def _elements(value: Any, dtype: Any) -> Any:
    if not isinstance(value, list):
        return BAD
    found = [_json_value(each, dtype) for each in value]
    if any(each is BAD for each in found):
        return BAD
    return UNSAID if any(each is UNSAID for each in found) else found


def _number(text: str, dtype: Any) -> Any:
    if dtype in _INTEGERS:
        low, high = _INTEGERS[dtype]
        if not re.fullmatch(r"-?\d+", text):
            return BAD
        return int(text) if low <= int(text) < high else BAD
    number = float(text)
    if dtype == pl.Float32:
        try:
            return struct.unpack("<f", struct.pack("<f", number))[0]
        except OverflowError:
            return BAD
    return number


def _decimal(text: str, dtype: pl.Decimal) -> Any:
    try:
        number = Decimal(text)
        kept = number.quantize(Decimal(1).scaleb(-dtype.scale))
    except InvalidOperation:
        return BAD
    if kept != number or abs(kept) >= Decimal(10) ** ((dtype.precision or 38) - dtype.scale):
        return BAD
    # Text of decimals is plain; a number may have an exponent.
    return kept if isinstance(text, _Number) or re.fullmatch(r"[+-]?\d+(\.\d+)?", text) else UNSAID


def csv_records(body: bytes) -> Iterator[bytes]:
    """Records by the parity of their quotes."""
    held = b""
    for line in body.split(b"\n"):
        held += line + b"\n"
        if held.count(b'"') % 2 == 0:
            yield held[:-1].removesuffix(b"\r")
            held = b""


def expected_csv(record: bytes, schema: dict[str, Any]) -> Any:
    """The same of a record of CSV without its line end."""
    if not record.strip():
        return None if len(schema) > 1 else UNSAID
    try:
        fields = next(csv.reader([record.decode()], strict=True))
    except (csv.Error, UnicodeDecodeError):
        return BAD
    if len(fields) != len(schema):
        return BAD
    return _whole(
        {name: _csv_value(text, dtype) for (name, dtype), text in zip(schema.items(), fields, strict=True)}
    )


def _csv_value(text: str, dtype: Any) -> Any:
    if dtype == pl.String:
        return text or UNSAID
    if not text:
        return None
    if dtype in _INTEGERS and re.fullmatch(r"-?\d{1,40}", text):
        return _number(text, dtype)
    if dtype.is_float() and re.fullmatch(r"-?\d+(\.\d+)?(e-?\d{1,3})?", text):
        return BAD if math.isinf(float(text)) else _number(text, dtype)
    if isinstance(dtype, pl.Decimal) and re.fullmatch(r"-?\d+(\.\d+)?", text):
        return _decimal(text, dtype)
    # Blanks, signs, `inf` and others: what readers differ in, but letters are no number.
    return BAD if re.fullmatch(r"[g-mo-z]+", text) and not text.startswith("inf") else UNSAID


def expected_text(line: bytes) -> Any:
    """The same of a line of text."""
    try:
        return {"line": line.removesuffix(b"\r").decode()}
    except UnicodeDecodeError:
        return BAD


def same(found: Any, expected: Any) -> bool:
    """Whether a value is the one expected, floats to the last bit but one."""
    if isinstance(expected, float) and isinstance(found, float):
        return (
            found == expected
            or math.isclose(found, expected, rel_tol=1e-15)
            or (found != found) == (expected != expected) is True
        )
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(same(found[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return isinstance(found, Sequence) and len(found) == len(expected) and all(map(same, found, expected))
    return type(found) is type(expected) and bool(found == expected)


Expect = Callable[[bytes], Any]
