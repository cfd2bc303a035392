"""A few flat JSON objects as columns, without the engine that reads many.

Polars reads NDJSON on its streaming engine: for a hundred lines most of the time is setting it up, and ten times more
beside a busy processor, since its threads have to be scheduled first. The result is the frame that Polars would give,
or none: wherever the two parsers might differ, Polars reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

import msgspec
import polars as pl

from streamflow.core.values import EXACT
from streamflow.operators.connectors.files.formats.line_format import PARSE_ERRORS

__all__ = ["FlatObjects"]

_FEW: Final = 500
_SMALL: Final = 1 << 16
"""Lines and bytes of a small body. Beyond either Polars is as fast on an idle machine, and releases the interpreter's
lock."""
_KINDS: Final[dict[type[pl.DataType], frozenset[type]]] = {
    pl.String: frozenset({str}),
    pl.Boolean: frozenset({bool}),
    pl.Float64: frozenset({float, int}),
    pl.Int32: frozenset({int}),
    pl.Int64: frozenset({int}),
    pl.UInt32: frozenset({int}),
    pl.UInt64: frozenset({int}),
}
"""Column type → the Python types of values that it takes; null is for all of them."""
_NOT_HERE: Final[tuple[type[BaseException], ...]] = (*PARSE_ERRORS, TypeError, OverflowError)


class FlatObjects:
    """Lines as columns of these types, for schemas without nested ones.

    >>> parse = FlatObjects({"n": pl.Int64(), "s": pl.String()}).parse
    >>> parse(b'{"n":1,"other":true}\\n{"s":"x"}').rows()
    [(1, None), (None, 'x')]
    >>> parse(b'{"n":1,"n":2}') is None  # Polars has the first of two, msgspec the last
    True
    """

    def __init__(self, schema: Mapping[str, pl.DataType]) -> None:
        self._schema = dict(schema)
        self._able = bool(schema) and all(type(dtype) in _KINDS for dtype in schema.values())

    def parse(self, body: bytes) -> pl.DataFrame | None:
        """The frame; None if the body is too large, or Polars might read a line differently."""
        # Halves of surrogate pairs are written as escapes, and without escapes quotes can be counted.
        if not self._able or len(body) > _SMALL or body.count(b"\n") >= _FEW or b"\\" in body:
            return None
        try:
            rows = list(map(msgspec.json.Decoder().decode, body.removesuffix(b"\n").split(b"\n")))
            if not _flat(rows, body.count(b'"')):
                return None
            # By name: a column in a list that is called "" gets another name.
            return pl.DataFrame({name: _column(name, dtype, rows) for name, dtype in self._schema.items()})
        except _NOT_HERE:
            return None


def _flat(rows: list[dict[str, Any]], quotes: int) -> bool:
    """Whether these are objects of plain values without a name that occurs twice: then no quotes would be left over."""
    kinds = Counter(map(type, chain.from_iterable(map(dict[str, Any].values, rows))))
    if dict in kinds or list in kinds:
        return False
    return quotes == 2 * (sum(map(len, rows)) + kinds[str])


def _column(name: str, dtype: pl.DataType, rows: list[dict[str, Any]]) -> pl.Series:
    """The values as a column; raises ValueError for a value of another kind, or an integer that a float would round."""
    values = [row.get(name) for row in rows]
    kinds = set(map(type, values)) - {type(None)}
    if not kinds <= _KINDS[type(dtype)]:
        raise ValueError(f"{name} holds other values than {dtype}")
    if int in kinds and dtype == pl.Float64:
        if any(type(value) is int and abs(value) > EXACT for value in values):
            raise ValueError(f"{name} holds integers that a float rounds")
        values = [None if value is None else float(value) for value in values]
    return pl.Series(name, values, dtype=dtype)
