"""Arrow values: each is an IPC stream of many rows.

Columns are taken by name. A missing one is null, an unknown one is ignored; a type that differs is converted if no
value changes (a wider integer, another unit of time), and makes the value bad otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

import polars as pl

from streamflow.core.schema import OBJECTS, Schema, StreamSchema
from streamflow.errors import cut
from streamflow.operators.connectors.kafka.formats.arrow_frames import problem_of_stream
from streamflow.operators.connectors.kafka.formats.column_casts import cast_exactly
from streamflow.operators.connectors.kafka.formats.decoded_values import TOMBSTONE, DecodedValues, too_long
from streamflow.operators.stateless.row_builder import row_dicts

__all__ = ["ArrowValues"]

_ERRORS: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)


class ArrowValues:
    """A decoder of streams of rows into the columns of a schema; without one, into dicts."""

    def __init__(self, schema: StreamSchema | None, max_bytes: int) -> None:
        self.schema: StreamSchema = schema if schema is not None else OBJECTS
        self._limit = max_bytes

    def decode(self, values: Sequence[bytes | None]) -> DecodedValues:
        frames: list[pl.DataFrame] = []
        origin: list[int] = []
        bad: list[tuple[int, str]] = []
        for index, value in enumerate(values):
            frame, problem = self._one(value)
            if frame is None:
                bad.append((index, cut(problem)))
            else:
                frames.append(frame)
                origin.extend([index] * frame.height)
        rows: pl.DataFrame | list[Any]
        if isinstance(self.schema, Schema):
            rows = pl.concat([self.schema.empty(timed=False), *frames])
        else:
            rows = [row for frame in frames for row in row_dicts(frame)]
        return DecodedValues(rows, origin, bad)

    def _one(self, value: bytes | None) -> tuple[pl.DataFrame | None, str]:
        if value is None:
            return None, TOMBSTONE
        if len(value) > self._limit:
            return None, too_long(len(value), self._limit)
        problem = problem_of_stream(value)
        if problem is not None:
            return None, problem
        try:
            frame = pl.read_ipc_stream(BytesIO(value))
            if isinstance(self.schema, Schema):
                return cast_exactly(frame, self.schema), ""
        except _ERRORS as error:
            return None, f"the Arrow stream cannot be read: {str(error).split(chr(10), 1)[0]}"
        return frame, ""
