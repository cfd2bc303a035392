"""The result of decoding a batch of values: rows, the origin of each, and the values that could not be decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import polars as pl

from streamflow.core.schema import StreamSchema
from streamflow.errors import cut

__all__ = ["TOMBSTONE", "DecodedValues", "Decoder", "decode_each", "kept", "too_long"]


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
