"""Batches as JSON, one value a line."""

from __future__ import annotations

from typing import Final

import msgspec
import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.errors import SinkError, cut
from streamflow.operators.connectors.text_columns import as_text_carries

__all__ = ["json_lines"]

_FEW: Final = 1_000
_HINT: Final = "turn it into plain values with .map first"


def json_lines(batch: AnyBatch) -> bytes:
    """A batch as JSON lines: a frame's rows as objects, Python values as they are (dicts, lists, dataclasses, times,
    …). NaN and infinity become null. Raises SinkError for a value that JSON cannot carry.

    >>> from streamflow.core.batch import RowBatch
    >>> json_lines(RowBatch([{"a": 1}, "b"]))
    b'{"a":1}\\n"b"\\n'
    """
    if isinstance(batch, FrameBatch):
        frame = batch.user_frame()
        return _of_frame(as_text_carries(frame)) if frame.width else b"{}\n" * len(batch)
    try:
        return _ENCODER.encode_lines(list(batch.values))
    except (TypeError, ValueError, RecursionError) as error:
        raise SinkError(f"JSON cannot carry a value of this stream: {error}", hint=_HINT) from error


def _of_frame(frame: pl.DataFrame) -> bytes:
    if frame.height > _FEW:
        return frame.write_ndjson().encode()
    # The same text without the query that writes it, which takes most of the time for few rows.
    lines: list[str] = frame.to_struct().struct.json_encode().to_list()
    return "".join(f"{line}\n" for line in lines).encode()


def _unknown(value: object) -> object:
    raise SinkError(f"JSON cannot carry a {type(value).__name__}: {cut(value)}", hint=_HINT)


_ENCODER = msgspec.json.Encoder(enc_hook=_unknown)
