"""The formats of a record's value, and what their decoders and encoders have in common.

Decoding gives rows, the origin of each, and the values that could not be decoded; encoding one value per row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, get_args

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import Schema, StreamSchema
from streamflow.errors import JobDefinitionError, SinkError, cut, represented
from streamflow.operators.connectors.kafka.clients.port import UnfitRecordError

__all__ = [
    "TOMBSTONE",
    "VALUE",
    "DecodedValues",
    "Decoder",
    "EachValue",
    "Encoder",
    "KafkaFormat",
    "checked_format",
    "chosen_columns",
    "decode_each",
    "kept",
    "raise_for_row",
    "too_long",
]

KafkaFormat = Literal["json", "msgpack", "text", "bytes", "arrow", "avro", "debezium"]

VALUE: Final = "value"
"""The column of text and bytes if no schema names one."""

_ALIASES: Final = {
    "ndjson": "json",
    "jsonl": "json",
    "string": "text",
    "str": "text",
    "raw": "bytes",
    "binary": "bytes",
    "messagepack": "msgpack",
    "ipc": "arrow",
}


def checked_format(value: object) -> KafkaFormat:
    """A format by its name; raises JobDefinitionError for an unknown one.

    >>> checked_format("json")
    'json'
    """
    known = get_args(KafkaFormat)
    if isinstance(value, str) and value in known:
        return value  # type: ignore[return-value]
    meant = _ALIASES.get(value) if isinstance(value, str) else None
    hint = f"one of: {', '.join(known)}" if meant is None else f"did you mean {meant!r}?"
    raise JobDefinitionError(f"there is no Kafka format {cut(represented(value))}", hint=hint)


@dataclass(frozen=True, slots=True)
class DecodedValues:
    """Rows and the outcome for each value.

    `rows` is a frame if there is a schema, else a list of Python values. `origin[i]` is the index of the value that
    row i came from, ascending; None: row i came from value i, and each value has given one row. `bad`: (index of the
    value, error text), ascending. A value that is neither bad nor an origin held no rows (Arrow).
    """

    rows: pl.DataFrame | list[Any]
    origin: Sequence[int] | None = None
    bad: Sequence[tuple[int, str]] = ()


class Decoder(Protocol):
    """Turns the values of records into rows, a whole batch at once; may be used by several threads at the same time."""

    @property
    def schema(self) -> StreamSchema:
        """The columns of the frames, or OBJECTS."""
        ...

    def decode(self, values: Sequence[bytes | None]) -> DecodedValues:
        """The decoded values; tombstones (None) are reported as bad. Bad bytes never raise; SourceError only if
        something beside them fails, such as a schema registry."""
        ...


TOMBSTONE: Final = "the value is null"


def too_long(length: int, limit: int) -> str:
    """The error text for a value of so many bytes.

    >>> too_long(11, 10)
    'the value takes 11 bytes, more than max_record_bytes=10'
    """
    return f"the value takes {length} bytes, more than max_record_bytes={limit}"


def kept(count: int, bad: Sequence[tuple[int, str]]) -> Sequence[int] | None:
    """The indices of values that are not bad, as `DecodedValues.origin`.

    >>> kept(3, [(1, "x")]), kept(3, [])
    ([0, 2], None)
    """
    if not bad:
        return None
    lost = {index for index, _ in bad}
    return [index for index in range(count) if index not in lost]


def decode_each(
    values: Sequence[bytes | None],
    limit: int,
    decode: Callable[[bytes], Any],
    errors: tuple[type[Exception], ...],
    explain: Callable[[Exception], str],
) -> tuple[list[Any], list[tuple[int, str]]]:
    """Values decoded one by one: the results, and the values for which `decode` raised one of `errors`."""
    rows: list[Any] = []
    bad: list[tuple[int, str]] = []
    for index, value in enumerate(values):
        if value is None:
            bad.append((index, TOMBSTONE))
        elif len(value) > limit:
            bad.append((index, too_long(len(value), limit)))
        else:
            try:
                rows.append(decode(value))
            except errors as error:
                bad.append((index, cut(explain(error))))
    return rows, bad


@dataclass(frozen=True, slots=True)
class EachValue:
    """A decoder of each value by itself: into a Python object, or into the only column. `decode_one` raises one of
    `errors` for a bad value."""

    schema: StreamSchema
    max_bytes: int
    decode_one: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...]
    explain: Callable[[Exception], str]

    def decode(self, values: Sequence[bytes | None]) -> DecodedValues:
        rows, bad = decode_each(values, self.max_bytes, self.decode_one, self.errors, self.explain)
        origin = kept(len(values), bad)
        if isinstance(self.schema, Schema):
            ((name, dtype),) = self.schema.items()
            return DecodedValues(pl.DataFrame({name: rows}, schema={name: dtype}), origin, bad)
        return DecodedValues(rows, origin, bad)


class Encoder(Protocol):
    """Turns rows into the values of records; one value per row, in the rows' order."""

    def encode(self, batch: AnyBatch) -> list[bytes]:
        """The values of a batch; raises SinkError that names the first row (from 0, within the batch) that cannot be
        encoded.

        May block (a schema registry): call it on a thread.
        """
        ...


def chosen_columns(batch: AnyBatch, schema: Schema) -> pl.DataFrame:
    """The columns of a batch that make up the value, in order.

    >>> chosen_columns(FrameBatch(pl.DataFrame({"a": [1], "b": [2]})), Schema({"b": pl.Int64})).columns
    ['b']
    """
    if isinstance(batch, FrameBatch):
        frame = batch.frame
        return frame if frame.columns == list(schema) else frame[list(schema)]
    rows = [[row[name] for name in schema] for row in batch.values]
    return pl.DataFrame(rows, schema=dict(schema), orient="row")


def raise_for_row(values: Sequence[Any], encode: Callable[[Any], object]) -> None:
    """Raises an UnfitRecordError for the first value that `encode` refuses, naming its row; does nothing if it refuses
    none."""
    for row, value in enumerate(values):
        try:
            encode(value)
        except SinkError as error:
            raise UnfitRecordError(
                f"row {row} cannot be encoded: {error.message}", hint=error.hint
            ) from error
