"""Columns as Arrow for the way between processes: by pyarrow where it is installed, else by Polars.

pyarrow says the schema once for each channel and copies each column once. Polars writes a whole stream for each frame,
which costs less up to some hundred rows; it also writes the types that pyarrow does not have, and compresses. Either
way a frame takes its rows along and no more, though its strings share buffers with rows that went elsewhere.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, Final, Literal

import polars as pl

from streamflow.core.serde import without_stream
from streamflow.errors import RecordError
from streamflow.runtime.transport.port import TransportError

__all__ = ["ColumnReader", "ColumnWriter", "pyarrow"]

_FEW: Final = 512
"""Rows from which on pyarrow takes less time than Polars, measured with seven columns."""
_MANY: Final = 4_096
"""The same, of rows whose strings share buffers with others."""
_VIEW: Final = 16
"""The bytes of the view of a string, beside its text."""
_MOST: Final = 1.2
"""Times the size of its rows that a frame may take."""
_STRINGS: Final = (pl.String, pl.Binary)
_PLAIN: Final = (
    *(
        pl.Int8,
        pl.Int16,
        pl.Int32,
        pl.Int64,
        pl.UInt8,
        pl.UInt16,
        pl.UInt32,
        pl.UInt64,
        pl.Float32,
        pl.Float64,
    ),
    *(pl.Boolean, pl.String, pl.Binary, pl.Date, pl.Time, pl.Datetime, pl.Duration, pl.Decimal, pl.Null),
)
"""Types that are the same after a way through pyarrow. Categories would need dictionaries beside the batches."""
_DAMAGED: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, TypeError)
"""Errors raised for bytes that are no Arrow; pyarrow's derive from those of Python."""


class ColumnWriter:
    """Frames as bytes; `lz4` compresses them."""

    def __init__(self, *, lz4: bool = False) -> None:
        self._lz4 = lz4
        self._types: pl.Schema | None = None
        """The schema of the frame before."""
        self._by_pyarrow = False
        self._strings = 0
        self._schema: Any = None
        """The schema of the batch before, as pyarrow has it and as bytes."""
        self._told = b""

    def write(self, frame: pl.DataFrame) -> tuple[bytes | None, memoryview]:
        """The schema and the batch, or None and a whole stream; raises RecordError for a column of a type that cannot
        be sent."""
        types = frame.schema
        if types != self._types:
            _check_sendable(types)
            self._types = types
            self._by_pyarrow = not self._lz4 and bool(types) and all(map(_plain, types, types.values()))
            self._strings = sum(isinstance(each, _STRINGS) for each in types.values())
        arrow = pyarrow() if self._by_pyarrow and frame.height >= _FEW else None
        batch = None if arrow is None else self._batch(arrow, frame)
        if batch is None:
            return None, self.whole(frame)
        if self._schema is None or not batch.schema.equals(self._schema):
            self._schema, self._told = batch.schema, batch.schema.serialize().to_pybytes()
        return self._told, memoryview(batch.serialize())

    def _batch(self, arrow: Any, frame: pl.DataFrame) -> Any:
        """The rows as a batch of pyarrow's; None if Polars takes less time."""
        if frame.n_chunks() > 1:
            frame = frame.rechunk()
        batch = arrow.RecordBatchReader.from_stream(frame).read_next_batch()
        rows = frame.estimated_size() + _VIEW * self._strings * frame.height
        if arrow.ipc.get_record_batch_size(batch) <= _MOST * rows:
            return batch
        # Views of strings bring the whole buffers along that they share with other frames.
        if frame.height < _MANY:
            return None
        untyped: Any = frame
        return untyped.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()[0]

    def whole(self, frame: pl.DataFrame) -> memoryview:
        """A whole stream, by Polars."""
        compression: Literal["lz4", "uncompressed"] = "lz4" if self._lz4 else "uncompressed"
        # Writing holds the frame's own lock; a clone shares the data and has another.
        clone = frame.clone()
        written = clone.write_ipc_stream(None, compression=compression, compat_level=pl.CompatLevel.oldest())
        return memoryview(written.getvalue())


class ColumnReader:
    """The frames of one channel; raises TransportError for bytes that are none."""

    def __init__(self) -> None:
        self._schema: Any = None

    def schema(self, told: bytes) -> None:
        """Takes the schema of the batches that follow."""
        arrow = pyarrow()
        if arrow is None:
            raise TransportError(
                "another worker sends columns by pyarrow, which is not installed here",
                hint="install the same packages for all workers",
            )
        try:
            self._schema = arrow.ipc.read_schema(arrow.py_buffer(told))
        except _DAMAGED as error:
            raise _damaged(error) from error

    def batch(self, data: Any) -> pl.DataFrame:
        """The frame of one batch. It takes no copy: `data` must not change any more."""
        arrow = pyarrow()
        if self._schema is None:
            raise TransportError("a batch of columns came before its schema")
        try:
            batch = arrow.ipc.read_record_batch(arrow.py_buffer(data), self._schema)
            return pl.DataFrame(_Exported(arrow.RecordBatchReader.from_batches(self._schema, [batch])))
        except _DAMAGED as error:
            raise _damaged(error) from error

    def stream(self, data: bytes) -> pl.DataFrame:
        """The frame of one whole stream."""
        try:
            return pl.read_ipc_stream(data)
        except _DAMAGED as error:
            raise _damaged(error) from error


class _Exported:
    """An Arrow stream by its C interface only, through which Polars takes all columns at once."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._stream.__arrow_c_stream__(requested_schema)


@cache
def pyarrow() -> Any:
    """pyarrow, or None where it is not installed. The first call takes long."""
    try:
        import_module("pyarrow.ipc")
    except ImportError:
        return None
    return import_module("pyarrow")


def _plain(name: str, dtype: pl.DataType) -> bool:
    """Whether pyarrow takes a column. Names pass through C, where a zero byte ends the process."""
    if "\0" in name:
        return False
    if isinstance(dtype, (pl.List, pl.Array)):
        return _plain("", dtype.inner)  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return bool(dtype.fields) and all(_plain(field.name, field.dtype) for field in dtype.fields)  # type: ignore[arg-type]
    return isinstance(dtype, _PLAIN)


def _check_sendable(types: pl.Schema) -> None:
    """Raises RecordError for the first column of a type that no stream brings."""
    if (found := without_stream(types)) is not None:
        name, held = found
        raise RecordError(
            f"column {name!r} holds {held} and cannot be sent to another process",
            hint="give it another type, or run the job in one process",
        )


def _damaged(error: BaseException) -> TransportError:
    return TransportError(f"columns came damaged: {type(error).__name__}: {error}")
