"""JSON whose numbers keep their digits in text and decimal columns, and in which the last of two values of one name
counts.

Polars reads a number as a float before it becomes text, and the first of two values. Both cases are rare, so a body
is checked after Polars has read it, and written again only if it may matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Final, cast

import msgspec
import polars as pl

from streamflow.operators.connectors.files.formats.doubled_names import DoubledNames, escaped_names
from streamflow.operators.connectors.files.formats.unquoted_text import unquoted_text
from streamflow.operators.connectors.files.formats.wire_types import fields_of, inner_of

__all__ = ["ExactJson", "lone_surrogate"]

_LARGEST_EXPONENT: Final = 400
_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE: Final = re.compile(rb"%s(?!\\u[dD][c-fC-F])|(?<!%s)%s" % (_HIGH, _HIGH, _LOW))
_UNQUOTED: Final = b"-0123456789{["


def lone_surrogate(body: bytes) -> bool:
    """Whether the bytes may hold half of a surrogate pair, which stands for no character."""
    # One byte is found ten times as fast as two.
    return b"\\" in body and b"\\u" in body and (b"\\\\u" in body or _LONE.search(body) is not None)


class ExactJson:
    """A reader of JSON for the columns of a schema.

    >>> exact = ExactJson({"s": pl.String(), "n": pl.Int64()})
    >>> exact.record(b'{"s":1.10,"n":1,"n":2,"other":3}')
    b'{"s":"1.10","n":2}'
    """

    def __init__(self, schema: Mapping[str, pl.DataType]) -> None:
        self._schema = dict(schema)
        self._doubled = DoubledNames(schema)
        self._texts = {name: dtype for name, dtype in schema.items() if _has_text(dtype)}
        self._unquoted = {
            name: re.compile(re.escape(msgspec.json.encode(name)) + rb"\s*:\s*[-0-9{\[]")
            for name in self._texts
        }
        self._decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

    def read(self, body: bytes, wire: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """A body of records as columns of these types. Raises Polars' errors for a bad record."""
        lists = cache(lambda: b"[" in body)
        read, sound = self._doubled.read(body, wire, lists)
        if self._numbers_as_text(body, read, lists) or (not sound and self._doubled.stand_in(body, read)):
            return pl.read_ndjson(self._body(body), schema=wire)
        return read

    def record(self, record: bytes) -> bytes:
        """One object: each column once, numbers as text in text columns. Raises msgspec.DecodeError if it is not an
        object."""
        return _written(self._decode(record), self._schema)

    def _numbers_as_text(self, body: bytes, read: pl.DataFrame, lists: Callable[[], bool]) -> bool:
        """Whether a body that Polars has read as `read` may hold a number, or an object, in a text column."""
        return any(
            unquoted_text(read[name], lists=lists)
            and (dtype.is_nested() or escaped_names(body) or self._unquoted[name].search(body))
            for name, dtype in self._texts.items()
        )

    def _body(self, body: bytes) -> bytes:
        """All records of a body, written again."""
        return b"\n".join(self.record(line) for line in body.split(b"\n") if line.strip())


def _has_text(dtype: pl.DataType) -> bool:
    if isinstance(dtype, (pl.List, pl.Array)):
        return _has_text(inner_of(dtype))
    if isinstance(dtype, pl.Struct):
        return any(map(_has_text, fields_of(dtype).values()))
    return isinstance(dtype, (pl.String, pl.Decimal))


def _written(fields: Mapping[str, msgspec.Raw], schema: Mapping[str, pl.DataType]) -> bytes:
    pairs = [
        msgspec.json.encode(name) + b":" + _exact(bytes(fields[name]), dtype)
        for name, dtype in schema.items()
        if name in fields
    ]
    return b"{" + b",".join(pairs) + b"}"


def _exact(raw: bytes, dtype: pl.DataType) -> bytes:
    first = raw[:1]
    if isinstance(dtype, (pl.List, pl.Array)) and first == b"[":
        inner = inner_of(dtype)
        elements = cast(list[Any], msgspec.json.decode(raw, type=list[msgspec.Raw]))
        return b"[" + b",".join(_exact(bytes(element), inner) for element in elements) + b"]"
    if isinstance(dtype, pl.Struct) and first == b"{":
        return _written(msgspec.json.decode(raw, type=dict[str, msgspec.Raw]), fields_of(dtype))
    if first not in _UNQUOTED:
        return raw
    if isinstance(dtype, pl.String):
        return msgspec.json.encode(raw.decode())
    return _plain(raw) if isinstance(dtype, pl.Decimal) else raw


def _plain(raw: bytes) -> bytes:
    """A number without an exponent, as text."""
    try:
        number = Decimal(raw.decode())
    except InvalidOperation:
        return raw
    small = abs(number.adjusted()) < _LARGEST_EXPONENT
    return msgspec.json.encode(format(number, "f") if small else raw.decode())
