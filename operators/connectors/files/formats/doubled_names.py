"""Names that stand twice in one JSON object, of which the last value counts, while Polars takes the first.

A large run of records is not parsed again to find them. In flat ones each name takes two quotes, and so does each text:
how many there must be follows from what Polars has read and from a sample of the records. Polars counts the quotes, as
the ends of lines: ten times as fast as Python; a field that nobody reads has to be in each record, too. Where there are
other quotes, each name that is read has to. Where it does not, and where records are nested, Polars looks for lines in
which a name stands more than once, and only these are parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, cast

import msgspec
import polars as pl

from streamflow.operators.connectors.files.formats.line_format import PARSE_ERRORS
from streamflow.operators.connectors.files.formats.unquoted_text import boolean_text, unquoted_text
from streamflow.operators.connectors.files.formats.wire_types import fields_of, inner_of

__all__ = ["DoubledNames", "escaped_names", "has_twins"]

_SAMPLE: Final = 16
_SMALL: Final = 1 << 16
_TOGETHER: Final = 1_024
_FEW_NAMES: Final = 40
"""The number of names that are searched for in lines at less cost than parsing them."""
_SHORT: Final = 1 << 20
"""The number of bytes that are searched faster than Polars starts."""


class DoubledNames:
    """A check for bodies of records with the columns of a schema.

    >>> schema = {"n": pl.Int64()}
    >>> body = b'{"n":1}' + 9_999 * b'\\n{"n":2}' + b'\\n{"n":3,"n":4}'
    >>> doubled = DoubledNames(schema)
    >>> doubled.stand_in(body, doubled.read(body, schema, lambda: False)[0])
    True
    """

    def __init__(self, schema: Mapping[str, pl.DataType]) -> None:
        self._flat = not any(dtype.is_nested() for dtype in schema.values())
        self._columns = frozenset(schema)
        self._named = [_named(name) for name in dict.fromkeys(_names(schema))]

    def read(
        self, body: bytes, wire: Mapping[str, pl.DataType], lists: Callable[[], bool]
    ) -> tuple[pl.DataFrame, bool]:
        """Polars' frame of a body, and whether the number of quotes in a large body proves that no name occurs
        twice, unless a number is read as text."""
        sample = list(_sample(body)) if len(body) > _SMALL and self._flat else []
        records = _objects(_decoded(sample) or [])
        alike = len(set(map(frozenset[str], records))) == 1
        if not records or _doubled(sample, records) or not self._tell(records, alike=alike):
            return pl.read_ndjson(body, schema=wire), False
        unread = records[0].keys() - self._columns
        # Texts are read, which takes a third of the time that looking for their name does.
        texts = {name: pl.String() for name in unread if isinstance(records[0][name], str)}
        try:
            read, found = _read_with_quotes(body, {**wire, **texts})
        except PARSE_ERRORS:
            return pl.read_ndjson(body, schema=wire), False
        filled = {column.name: len(column) - column.null_count() for column in read}
        names = read.height * len(records[0]) if alike else sum(filled.values())
        strings = [column for column in read if column.dtype == pl.String]
        quotes = 2 * (names + sum(filled[column.name] for column in strings))
        # A text without quotes, or a field that a record lacks, makes room for a name that stands twice.
        sound = (
            (found == quotes or found == quotes + _escaped(body, strings))
            and all(filled[name] == read.height for name in texts)
            and all(body.count(_name(name)) == read.height for name in unread - texts.keys())
            and not any(unquoted_text(read[name], lists=lists) for name in texts)
            and not any(map(boolean_text, strings))
            and not (alike and self._lack(body, read.select(self._columns & records[0].keys())))
        )
        return read.select(wire.keys()), sound

    def stand_in(self, body: bytes, read: pl.DataFrame) -> bool:
        """Whether a record of a body, read by Polars as `read`, has a name twice, if its quotes do not tell."""
        if len(body) <= _SMALL:
            return _any_twins(list(filter(None, body.split(b"\n"))))
        if self._stand_once(body, read):
            return False
        suspects = self._suspects(body)
        return any(_any_twins(suspects[at : at + _TOGETHER]) for at in range(0, len(suspects), _TOGETHER))

    def _suspects(self, body: bytes) -> Sequence[bytes]:
        """The records that have to be parsed: those in which a name of the schema occurs more than once, or all if
        that search would cost more."""
        if escaped_names(body) or len(self._named) > _FEW_NAMES or len(self._repeating(list(_sample(body)))):
            return body.split(b"\n")
        with suppress(*PARSE_ERRORS):
            return self._repeating(_lines(body))
        return body.split(b"\n")

    def _repeating(self, lines: pl.Series | list[bytes]) -> list[bytes]:
        if isinstance(lines, list):
            lines = pl.Series(lines, dtype=pl.Binary).cast(pl.String)
        repeating = pl.any_horizontal(pl.col("line").str.count_matches(name) > 1 for name in self._named)
        return list(lines.to_frame("line").filter(repeating)["line"].cast(pl.Binary))

    def _tell(self, records: Sequence[dict[str, Any]], *, alike: bool) -> bool:
        """Whether the expected number of quotes follows from such records and from the frame."""
        if alike:
            unread = records[0].keys() - self._columns
            nested = any(isinstance(record[name], (dict, list)) for record in records for name in unread)
            return not nested and len(unread) <= len(self._columns)
        return not any(None in record.values() or record.keys() - self._columns for record in records)

    def _lack(self, body: bytes, read: pl.DataFrame) -> bool:
        """Whether a record may lack one of these fields."""
        nulls = [column for column in read if column.null_count()]
        if not nulls:
            return False
        try:
            lines = _lines(body)
            return len(lines) != read.height or not all(
                lines.filter(column.is_null()).str.contains(_named(column.name)).all() for column in nulls
            )
        except PARSE_ERRORS:
            return True

    def _stand_once(self, body: bytes, read: pl.DataFrame) -> bool:
        """Whether each name occurs as often as there are records, of which none lacks it."""
        if not self._flat or len(self._named) > _FEW_NAMES or escaped_names(body):
            return False
        return all(
            not column.null_count() and body.count(_name(column.name)) == read.height for column in read
        )


def _name(name: str) -> bytes:
    """A name before its value, as most programs write it."""
    return msgspec.json.encode(name) + b":"


def escaped_names(body: bytes) -> bool:
    """Whether a name may be written with escapes."""
    return b"\\" in body and (b"\\u" in body or b"\\/" in body)


def _names(schema: Mapping[str, pl.DataType]) -> Iterator[str]:
    """The names of columns and of the fields of structs at any depth."""
    for name, dtype in schema.items():
        yield name
        while isinstance(dtype, (pl.List, pl.Array)):
            dtype = inner_of(dtype)
        if isinstance(dtype, pl.Struct):
            yield from _names(fields_of(dtype))


def _named(name: str) -> str:
    """The pattern of a name before its value."""
    return re.escape(msgspec.json.encode(name).decode()) + r"\s*:"


def _lines(body: bytes) -> pl.Series:
    return pl.read_csv(body, has_header=False, separator="\x01", quote_char=None, schema={"line": pl.String})[
        "line"
    ]


def has_twins(record: bytes) -> bool:
    """Whether an object in a record has two values of one name."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len(pairs) != len({name for name, _ in pairs})

    with suppress(ValueError, RecursionError):
        json.loads(record, object_pairs_hook=look)
    return found


def _any_twins(records: Sequence[bytes]) -> bool:
    """Whether any record has two values of one name in an object."""
    decoded = _decoded(records)
    return any(map(has_twins, records)) if decoded is None else _doubled(records, decoded)


def _decoded(records: Sequence[bytes]) -> list[Any] | None:
    """The values of the records that are not blank; None where one is no JSON."""
    try:
        return list(map(msgspec.json.Decoder().decode, filter(bytes.strip, records)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _objects(decoded: list[Any]) -> list[dict[str, Any]]:
    """The values, if each of them is an object; else none."""
    return decoded if all(type(value) is dict for value in decoded) else []


def _doubled(records: Sequence[bytes], decoded: Sequence[Any]) -> bool:
    """Whether any of these records, decoded already, has two values of one name. Their quotes tell at once if none
    has."""
    whole = b"\n".join(records)
    quotes = whole.count(b'"')
    if b"\\" in whole:
        quotes -= whole.replace(b"\\\\", b"").count(b'\\"')
    with suppress(RecursionError):
        if quotes == 2 * sum(map(_strings_in, decoded)):
            return False
    return any(map(has_twins, records))


def _strings_in(value: Any) -> int:
    """Names and texts in a decoded value."""
    if type(value) is dict:
        fields = cast(dict[str, Any], value)
        kinds = list(map(type, fields.values()))
        found = len(fields) + kinds.count(str)
        if dict in kinds or list in kinds:
            found += sum(_strings_in(each) for each in fields.values() if type(each) in (dict, list))
        return found
    if type(value) is list:
        elements = cast("Sequence[Any]", value)
        return sum(1 if type(each) is str else _strings_in(each) for each in elements)
    return 0


def _sample(body: bytes) -> Iterator[bytes]:
    """A few lines at regular distances."""
    for number in range(_SAMPLE):
        start = body.find(b"\n", len(body) * number // _SAMPLE) + 1 if number else 0
        end = body.find(b"\n", start)
        line = body[start : end if end >= 0 else len(body)]
        if line.strip():
            yield line


def _escaped(body: bytes, strings: Sequence[pl.Series]) -> int:
    """The number of escaped quotes within texts; 0 if some texts are written without a quote."""
    if b"\\" not in body or b"\\u0022" in body:
        return 0
    return sum(int(column.str.count_matches('"', literal=True).sum()) for column in strings)


def _read_with_quotes(body: bytes, wire: Mapping[str, pl.DataType]) -> tuple[pl.DataFrame, int]:
    """Polars' frame of the body, and the number of quotes, if the last line ends with a brace. The quotes are
    counted beside the reading, which leaves a core free now and then."""
    if len(body) > _SHORT:
        lines = pl.scan_csv(body, has_header=False, eol_char='"', quote_char=None, separator="\x01")
        with suppress(*PARSE_ERRORS):
            read, counted = pl.collect_all([pl.scan_ndjson(body, schema=wire), lines.select(pl.len())])
            return read.rechunk(), int(counted.item()) - 1
    return pl.read_ndjson(body, schema=wire), body.count(b'"')
