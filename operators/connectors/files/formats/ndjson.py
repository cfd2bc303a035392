"""JSON, one object a line: as columns by Polars, or as Python objects by msgspec."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec
import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.serde import deeper_than
from streamflow.operators.connectors.bisection import halve
from streamflow.operators.connectors.files.formats.exact_json import ExactJson, lone_surrogate
from streamflow.operators.connectors.files.formats.flat_objects import FlatObjects
from streamflow.operators.connectors.files.formats.line_format import PARSE_ERRORS, LineFormat, Sifted
from streamflow.operators.connectors.files.formats.wire_types import (
    convert,
    convert_where_possible,
    misfits,
    wire_types,
    without_rows,
)

__all__ = ["NdjsonColumns", "NdjsonObjects", "malformed"]

_KINDS: Final[dict[type[object], str]] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
}
_TOO_DEEP: Final = "the value is nested too deeply"
_DEEPEST: Final = 1024
"""The deepest nesting of objects and arrays that Polars takes."""
_INTEGER_RANGES: Final[dict[type[pl.DataType], tuple[int, int]]] = {
    pl.Int8: (-(2**7), 2**7),
    pl.Int16: (-(2**15), 2**15),
    pl.Int32: (-(2**31), 2**31),
    pl.Int64: (-(2**63), 2**63),
    pl.UInt8: (0, 2**8),
    pl.UInt16: (0, 2**16),
    pl.UInt32: (0, 2**32),
    pl.UInt64: (0, 2**64),
}


class NdjsonColumns(LineFormat):
    """Objects as the columns of a schema: a missing field is null, a field that the schema does not name is ignored.

    Numbers do not become other kinds of numbers by losing digits (`1.5` is no integer), text is not read as a number,
    except for decimals; any value can be read as text, as it is written. `unit` is the word for a record in messages.
    """

    def __init__(self, schema: Mapping[str, pl.DataType], unit: str = "line") -> None:
        self._schema = dict(schema)
        self._unit = unit
        self._wire = wire_types(schema, "ndjson")
        self._flat = FlatObjects(self._wire)
        self._exact = ExactJson(self._schema)
        self._checks = [
            (name, check) for name, dtype in schema.items() if (check := _check(dtype)) is not None
        ]

    def parse(self, body: bytes) -> FrameBatch:
        wire = self._flat.parse(body)
        if wire is None:
            if body[:1] not in b"{ \t\r\n":
                raise ValueError("no object, but perhaps bytes that Polars takes for compressed")
            if lone_surrogate(body):
                raise ValueError("half of a surrogate pair")
            wire = self._exact.read(body, self._wire)
        return FrameBatch(convert(wire.rechunk(), self._schema))

    def sift(self, records: Sequence[bytes]) -> Sifted:
        decode = msgspec.json.Decoder().decode
        problems: dict[int, str] = {}
        for index, record in enumerate(records):
            problem = self._problem(record, decode)
            if problem is not None:
                problems[index] = problem
        exact = {
            index: self._rewritten(record) for index, record in enumerate(records) if index not in problems
        }
        left = list(exact)
        # Polars has the last word: records that it refuses for a reason of its own are found by halving.
        for position, problem in halve(list(exact.values()), self._refused).items():
            problems[left[position]] = problem
        left = [index for index in left if index not in problems]
        wire = self._read([exact[index] for index in left])
        frame = convert_where_possible(wire, self._schema)
        unfit = misfits(wire, frame)
        problems |= {left[position]: problem for position, problem in unfit.items()}
        return Sifted(FrameBatch(without_rows(frame, unfit)), problems)

    def _problem(self, record: bytes, decode: Callable[[bytes], Any]) -> str | None:
        try:
            value = decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # The parsers differ in the depth that they take: a record must not fare differently because of those
            # beside it.
            if isinstance(error, RecursionError) and self._fits(record):
                return None
            return malformed(error, self._unit)
        if not isinstance(value, dict):
            return f"a JSON object was expected, this is {_kind(value)}"
        fields = cast(dict[str, Any], value)
        # The depth that msgspec takes depends on the version of Python; the fate of a record must not.
        if len(record) > 2 * _DEEPEST and deeper_than(fields, _DEEPEST):
            return _TOO_DEEP
        for name, fits in self._checks:
            held = fields.get(name)
            if held is not None and not fits(held):
                return f"column {name!r} holds {_kind(held)} where {self._schema[name]} was expected"
        return None

    def _rewritten(self, record: bytes) -> bytes:
        try:
            return self._exact.record(record)
        except (msgspec.DecodeError, RecursionError):
            # Too deep for one parser, but not for the other.
            return record

    def _fits(self, record: bytes) -> bool:
        try:
            return len(self.parse(record)) == 1
        except PARSE_ERRORS:
            return False

    def _read(self, records: Sequence[bytes]) -> pl.DataFrame:
        return pl.read_ndjson(b"\n".join(records), schema=self._wire)

    def _refused(self, records: Sequence[bytes]) -> str | None:
        try:
            self._read(records)
        except PARSE_ERRORS as error:
            return str(error).split("\n", 1)[0]
        return None


class NdjsonObjects(LineFormat):
    """Each line's value as a Python object: mostly dicts."""

    def parse(self, body: bytes) -> RowBatch:
        # Not decode_lines: it also takes values that share a line or span several.
        values = list(map(msgspec.json.Decoder().decode, filter(None, body.split(b"\n"))))
        return RowBatch(values)

    def sift(self, records: Sequence[bytes]) -> Sifted:
        decode = msgspec.json.Decoder().decode
        values: list[Any] = []
        problems: dict[int, str] = {}
        for index, record in enumerate(records):
            try:
                values.append(decode(record))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                problems[index] = malformed(error, "line")
        return Sifted(RowBatch(values), problems)


def malformed(error: Exception, unit: str) -> str:
    """The error text for a record, made of msgspec's error; `unit` is the word for the record.

    >>> malformed(RecursionError(), "line")
    'the value is nested too deeply'
    """
    if isinstance(error, UnicodeDecodeError):
        return f"the {unit} is not valid UTF-8"
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    return f"the {unit} is not valid JSON ({error})"


def _kind(value: object) -> str:
    return "null" if value is None else _KINDS.get(type(value), "a number")


def _check(dtype: pl.DataType) -> Callable[[Any], bool] | None:
    """Whether a JSON value can be read as this type; None if only Polars can tell."""
    if (bounds := _INTEGER_RANGES.get(type(dtype))) is not None:
        low, high = bounds
        return lambda value: type(value) is int and low <= value < high
    if dtype.is_float():
        return lambda value: type(value) in (int, float)
    if isinstance(dtype, pl.Boolean):
        return lambda value: type(value) is bool
    if isinstance(dtype, (pl.Datetime, pl.Date, pl.Time)):
        return lambda value: type(value) is str
    return None
