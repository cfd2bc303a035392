"""Batches made of fetched records: decoded values, the columns that are asked for beside them, event time."""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE
from streamflow.errors import JobDefinitionError, RawRecord, RecordError, Where, unknown_name
from streamflow.observe.registry import Metric
from streamflow.operators.connectors.kafka.clients.port import NO_TIMESTAMP, Chunk, Headers, TopicPartition
from streamflow.operators.connectors.kafka.formats.values import VALUE, Decoder
from streamflow.operators.contract.operator import ErrorPolicy
from streamflow.operators.contract.source import Decoded
from streamflow.operators.stateless.row_builder import row_dicts
from streamflow.time.timestamps import EARLIEST, LATEST

__all__ = ["INCLUDED", "KeyFormat", "RecordBatches", "Tombstones", "included_schema"]

KeyFormat = Literal["text", "bytes"]
Tombstones = Literal["skip", "keep"]

_HEADERS: Final = pl.List(pl.Struct({"name": pl.String, "value": pl.Binary}))
INCLUDED: Final[Mapping[str, pl.DataType]] = {
    "key": pl.String(),
    "headers": _HEADERS,
    "topic": pl.String(),
    "partition": pl.Int32(),
    "offset": pl.Int64(),
    "timestamp": EVENT_TIME_TYPE,
}
"""The parts of a record that `include` can name, and the types of their columns."""

_BAD_KEY: Final = "the key is not valid UTF-8"
_BAD_HEADER: Final = "the name of a header is not valid UTF-8"
_NO_TIME: Final = "the record has no timestamp, and with it no event time"
_BAD_TIME: Final = "the record's timestamp is beyond the years 1 to 9999"
_TIME_HINT: Final = (
    'take the event time from a column, job.read(…, event_time="column"), or read with on_error="skip"'
)
_SHOWN_BYTES: Final = 1_200
_MOST: Final = (1 << 63) - 1


def included_schema(include: Mapping[str, str], key_format: KeyFormat) -> dict[str, pl.DataType]:
    """The columns that `include` (part → column) appends. Raises JobDefinitionError.

    >>> included_schema({"key": "id", "offset": "at"}, "text")
    {'id': String, 'at': Int64}
    """
    schema: dict[str, pl.DataType] = {}
    for what, column in include.items():
        if what not in INCLUDED:
            message, hint = unknown_name("part of a Kafka record", what, INCLUDED)
            raise JobDefinitionError(message, hint=hint)
        if column in schema:
            raise JobDefinitionError(
                f"include= names the column {column!r} twice", hint="give each its own name"
            )
        schema[column] = pl.Binary() if what == "key" and key_format == "bytes" else INCLUDED[what]
    return schema


class RecordBatches:
    """A maker of batches from chunks; may be used by several threads at once.

    `include` maps the wanted parts of a record to columns. `tombstones`: "keep" makes a row of a record without a
    value, all of whose value columns are null. `stamped`: event times are not the records' timestamps. An unusable
    part makes a record bad only if that part is wanted.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        include: Mapping[str, str],
        key_format: KeyFormat,
        tombstones: Tombstones,
        on_error: ErrorPolicy,
        dropped: Metric,
        stamped: bool = False,
    ) -> None:
        self._decoder = decoder
        self._include = dict(include)
        self._types = included_schema(include, key_format)
        self._text_keys = key_format == "text" and "key" in include
        self._keep = tombstones == "keep"
        self._on_error: ErrorPolicy = on_error
        self._dropped = dropped
        self._timed = not stamped
        self._times = not stamped or "timestamp" in include

    def decode(self, chunk: Chunk, partition: TopicPartition, end: int | None) -> Decoded:
        """The records of a chunk that lie before `end`."""
        values = chunk.values()
        if end is not None and chunk.next_offset > end:
            values = values[: bisect_left(chunk.offsets(), end)]
        stamps = _stamps(chunk.milliseconds()) if self._times else None
        flaws = self._flaws(chunk, values, stamps)
        places: Sequence[int] | None = None
        tombstones: list[int] = []
        if flaws or None in values:
            tombstones = [index for index, value in enumerate(values) if value is None and index not in flaws]
            places = [index for index, value in enumerate(values) if value is not None and index not in flaws]
            values = [values[index] for index in places]
        decoded = self._decoder.decode(values)
        problems = list(flaws.items())
        problems += [(index if places is None else places[index], why) for index, why in decoded.bad]
        rows, origin = decoded.rows, decoded.origin
        if origin is not None:
            places = origin if places is None else [places[index] for index in origin]
        if self._keep and tombstones:
            rows, places = _with_nulls(rows, range(len(values)) if places is None else places, tombstones)
        elif tombstones:
            self._dropped.add(len(tombstones))
        bad = self._errors(chunk, partition, sorted(problems))
        return Decoded(self._batch(_Rows(chunk, partition, places, len(rows), stamps), rows), bad)

    def _batch(self, read: _Rows, rows: pl.DataFrame | list[Any]) -> FrameBatch | RowBatch:
        times = read.times(timed=self._timed)
        beside = [read.column(what, name, self._types[name]) for what, name in self._include.items()]
        if isinstance(rows, pl.DataFrame):
            return FrameBatch(rows.hstack([*beside, times.cast(EVENT_TIME_TYPE).alias(EVENT_TIME)]))
        if beside:
            parts = row_dicts(pl.DataFrame({column.name: column for column in beside}))
            rows = [{VALUE: value, **part} for value, part in zip(rows, parts, strict=True)]
        return RowBatch(rows, times.to_list())

    def _flaws(
        self, chunk: Chunk, values: Sequence[bytes | None], stamps: pl.Series | None
    ) -> dict[int, str]:
        """Errors of records of which a wanted part cannot be used."""
        count = len(values)
        flaws = {index: why for index, why in chunk.flaws().items() if index < count}
        found: list[tuple[int, str]] = []
        if stamps is not None:
            found += self._bad_times(chunk, stamps[:count])
        if self._text_keys:
            found += _bad_texts(chunk.keys()[:count], _BAD_KEY)
        if "headers" in self._include:
            found += _bad_names(chunk.headers()[:count])
        for index, why in found:
            if self._keep or values[index] is not None or why == _BAD_KEY:
                flaws.setdefault(index, why)
        return flaws

    def _bad_times(self, chunk: Chunk, stamps: pl.Series) -> Iterable[tuple[int, str]]:
        """Errors of records without an event time, and of those whose timestamp is outside of the calendar."""
        bad = stamps.is_null()
        if self._timed:
            bad |= (stamps == NO_TIMESTAMP).fill_null(value=False)
        if not bad.any():
            return
        times = chunk.milliseconds()
        for index in bad.arg_true():
            time = times[index]
            yield index, _NO_TIME if time == -1 else f"{_BAD_TIME}: {time} ms since 1970"

    def _errors(
        self, chunk: Chunk, partition: TopicPartition, problems: Sequence[tuple[int, str]]
    ) -> list[RecordError]:
        if not problems:
            return []
        values, keys, offsets = chunk.values(), chunk.keys(), chunk.offsets()
        timestamps, headers = chunk.timestamps(), chunk.headers()
        errors: list[RecordError] = []
        for index, why in problems:
            raw = RawRecord(
                topic=partition.topic,
                partition=partition.partition,
                offset=offsets[index],
                timestamp=timestamps[index],
                key=keys[index],
                value=values[index],
                headers=[(_printable(name), value) for name, value in headers[index]],
            )
            error = RecordError(
                why,
                record=_shown(raw.key if why == _BAD_KEY else raw.value),
                where=Where(split=str(partition), offset=f"offset {raw.offset}"),
                hint=_TIME_HINT if why == _NO_TIME or why.startswith(_BAD_TIME) else None,
                raw=raw,
            )
            if self._on_error == "fail":
                raise error
            errors.append(error)
        return errors


@dataclass(frozen=True, slots=True)
class _Rows:
    """The origin of each of `count` rows in a chunk: record `places[i]`, or the i-th if there are no places."""

    chunk: Chunk
    partition: TopicPartition
    places: Sequence[int] | None
    count: int
    stamps: pl.Series | None

    def times(self, *, timed: bool) -> pl.Series:
        """Event times in microseconds; any value if they are not used."""
        if self.stamps is None or not timed:
            return pl.Series([0], dtype=pl.Int64).new_from_index(0, self.count)
        if self.places is None:
            return self.stamps[: self.count]
        return self.stamps.gather(list(self.places))

    def column(self, what: str, name: str, dtype: pl.DataType) -> pl.Series:
        """A part of the records that `include` can name, as a column."""
        if what in ("topic", "partition"):
            constant = self.partition.topic if what == "topic" else self.partition.partition
            return pl.Series(name, [constant], dtype=dtype).new_from_index(0, self.count)
        if what == "timestamp":
            times = pl.Series(name, self._of(self.chunk.timestamps()), dtype=pl.Int64).cast(dtype)
            return times.set(times.to_physical() == NO_TIMESTAMP, None)
        if what == "headers":
            headers = self._of(self.chunk.headers())
            named = [[{"name": each, "value": value} for each, value in row] for row in headers]
            return pl.Series(name, named, dtype=dtype)
        if what == "key":
            return pl.Series(name, self._of(self.chunk.keys()), dtype=pl.Binary).cast(dtype)
        return pl.Series(name, self._of(self.chunk.offsets()), dtype=dtype)

    def _of(self, values: Sequence[Any]) -> Sequence[Any]:
        """The values of these rows among those of all records."""
        if self.places is None:
            return values if len(values) == self.count else values[: self.count]
        return [values[index] for index in self.places]


def _stamps(milliseconds: Sequence[int]) -> pl.Series:
    """Timestamps in microseconds; null for times outside of the calendar."""
    try:
        times = pl.Series(milliseconds, dtype=pl.Int64)
    except (OverflowError, TypeError):
        times = pl.Series([time if abs(time) <= _MOST else _MOST for time in milliseconds], dtype=pl.Int64)
    if times.is_between(-(-EARLIEST // 1000), LATEST // 1000).all():
        return times * 1000
    return times.set(~times.is_between(-(-EARLIEST // 1000), LATEST // 1000), None) * 1000


def _with_nulls(
    rows: pl.DataFrame | list[Any], places: Sequence[int], tombstones: Sequence[int]
) -> tuple[pl.DataFrame | list[Any], Sequence[int]]:
    """Rows and their origins, with a row of nulls for each tombstone at its place."""
    every = [*places, *tombstones]
    order = sorted(range(len(every)), key=every.__getitem__)
    if isinstance(rows, pl.DataFrame):
        nulls = rows.clear(len(tombstones))
        rows = pl.concat([rows, nulls])[order]
    else:
        filled = [*rows, *[None] * len(tombstones)]
        rows = [filled[index] for index in order]
    return rows, [every[index] for index in order]


def _bad_texts(texts: Sequence[bytes | None], why: str) -> Iterable[tuple[int, str]]:
    try:
        # A newline continues no character: text as a whole is text one by one.
        b"\n".join(text for text in texts if text is not None).decode()
    except UnicodeDecodeError:
        for index, text in enumerate(texts):
            try:
                (text or b"").decode()
            except UnicodeDecodeError:
                yield index, why


def _bad_names(headers: Sequence[Headers]) -> Iterable[tuple[int, str]]:
    for index, each in enumerate(headers):
        try:
            "".join(name for name, _ in each).encode()
        except UnicodeEncodeError:
            yield index, _BAD_HEADER


def _printable(name: str) -> str:
    """A header's name without the lone surrogates that stand for bytes."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _shown(value: bytes | None) -> str:
    """A value for a message: as text if it is text."""
    return "" if value is None else value[:_SHOWN_BYTES].decode("utf-8", errors="backslashreplace")
