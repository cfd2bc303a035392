"""Accumulators of Python aggregates as bytes, for exchanges and state.

The bytes are those of `core.serde`; an accumulator that cannot be packed gets an error that names the aggregate.
"""

from __future__ import annotations

from typing import Any

from streamflow.core import serde
from streamflow.errors import RecordError, Where

__all__ = ["pack", "unpack"]


def pack(value: Any, *, what: str = "the value", where: Where | None = None) -> bytes:
    """A value as bytes; raises RecordError that names `what`, and `where` it was made, for a value that cannot be
    packed.

    >>> unpack(pack({"best": (3, "a"), "seen": [1, 2]}))
    {'best': (3, 'a'), 'seen': [1, 2]}
    """
    try:
        return serde.pack(value)
    except RecordError as error:
        message = f"{what} cannot be kept: {error.message}"
        raise RecordError(message, record=value, where=where, hint=error.hint) from error


def unpack(data: bytes) -> Any:
    """The value that `pack` made these bytes of."""
    return serde.unpack(data)
