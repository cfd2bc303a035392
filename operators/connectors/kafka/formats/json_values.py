"""JSON values: as columns by Polars, a whole batch in one piece, or as Python objects by msgspec; and back.

The rules for types, times, missing and unknown fields are those of NDJSON files, and so is the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import OBJECTS, Schema, StreamSchema
from streamflow.core.serde import MAX_DEPTH
from streamflow.errors import SinkError
from streamflow.operators.connectors.files.formats.line_format import PARSE_ERRORS
from streamflow.operators.connectors.files.formats.ndjson import NdjsonColumns, malformed
from streamflow.operators.connectors.kafka.formats.values import (
    TOMBSTONE,
    DecodedValues,
    EachValue,
    chosen_columns,
    kept,
    raise_for_row,
    too_long,
)
from streamflow.operators.connectors.text_columns import json_lines

__all__ = ["JsonColumns", "JsonEncoder", "json_objects"]

_ERRORS: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_EMPTY: Final = "the value is empty"


class JsonColumns:
    """A decoder of JSON objects into the columns of a schema."""

    def __init__(self, schema: Schema, max_bytes: int) -> None:
        self.schema: StreamSchema = schema
        self._lines = NdjsonColumns(schema, unit="value")
        self._limit = max_bytes

    def decode(self, values: Sequence[bytes | None]) -> DecodedValues:
        try:
            body = b"\n".join(values)  # type: ignore[arg-type]  # a tombstone raises
        except TypeError:
            return self._carefully(values)
        # A value of two lines beside an empty one would give the right number of rows, the wrong ones.
        if body.count(b"\n") != len(values) - 1 or _line_beyond(body, self._limit):
            return self._carefully(values)
        try:
            frame = self._lines.parse(body).frame
        except PARSE_ERRORS:
            return self._carefully(values)
        return DecodedValues(frame) if frame.height == len(values) else self._carefully(values)

    def _carefully(self, values: Sequence[bytes | None]) -> DecodedValues:
        """The values on one line each, others being bad; parsed in one piece, or one by one if that fails."""
        bad: list[tuple[int, str]] = []
        places: list[int] = []
        lines: list[bytes] = []
        for index, value in enumerate(values):
            problem, line = self._on_one_line(value)
            if problem is None:
                places.append(index)
                lines.append(line)
            else:
                bad.append((index, problem))
        frame = self._whole(lines)
        if frame is None:
            sifted = self._lines.sift(lines)
            bad = sorted([*bad, *((places[at], problem) for at, problem in sifted.problems.items())])
            assert isinstance(sifted.batch, FrameBatch)
            frame = sifted.batch.frame
        return DecodedValues(frame, kept(len(values), bad), bad)

    def _whole(self, lines: Sequence[bytes]) -> pl.DataFrame | None:
        try:
            frame = self._lines.parse(b"\n".join(lines)).frame
        except PARSE_ERRORS:
            return None
        return frame if frame.height == len(lines) else None

    def _on_one_line(self, value: bytes | None) -> tuple[str | None, bytes]:
        if value is None:
            return TOMBSTONE, b""
        if len(value) > self._limit:
            return too_long(len(value), self._limit), b""
        if not value.strip():
            return _EMPTY, b""
        if b"\n" not in value:
            return None, value
        try:
            # Between tokens a newline is as good as a blank; within a string it is not JSON.
            msgspec.json.decode(value)
        except _ERRORS as error:
            return malformed(error, "value"), b""
        return None, value.replace(b"\n", b" ")


def json_objects(max_bytes: int) -> EachValue:
    """A decoder of each value into a Python object: mostly dicts."""
    return EachValue(OBJECTS, max_bytes, _shallow, _ERRORS, _explain)


def _shallow(value: bytes) -> Any:
    # No value is deeper than it has brackets.
    if value.count(b"[") + value.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise RecursionError
    return msgspec.json.decode(value)


class JsonEncoder:
    """A JSON object per row, or Python values as they are; times, NaN and durations as in NDJSON files."""

    def __init__(self, schema: Schema | None) -> None:
        self._schema = schema

    def encode(self, batch: AnyBatch) -> list[bytes]:
        chosen = FrameBatch(chosen_columns(batch, self._schema)) if self._schema is not None else batch
        try:
            lines = json_lines(chosen)
        except SinkError as error:
            if isinstance(chosen, RowBatch):
                raise_for_row(chosen.values, lambda value: json_lines(RowBatch([value])))
            raise SinkError(error.message, hint=error.hint) from error
        values = lines.split(b"\n")
        values.pop()
        return values


def _explain(error: Exception) -> str:
    return malformed(error, "value")


def _line_beyond(body: bytes, limit: int) -> bool:
    """Whether a line is longer than `limit`: such a line covers a multiple of it, so that few places need a look."""
    for at in range(limit, len(body), limit):
        end = body.find(b"\n", at)
        if (len(body) if end < 0 else end) - (body.rfind(b"\n", 0, at) + 1) > limit:
            return True
    return False


def _depth(value: bytes) -> int:
    """The depth of brackets outside of strings."""
    deepest = depth = 0
    quoted = escaped = False
    for byte in value:
        if quoted:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                quoted = False
        elif byte == 0x22:
            quoted = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
