"""Python values as bytes: how accumulators of Python aggregates travel and are kept. Never pickle.

msgpack's own types (None, bool, int to 64 bits, float, str, bytes, list, dict) and, as extensions, `datetime`, `date`,
`time`, `timedelta`, `Decimal`, `tuple`, `set` and `frozenset`. Types are strict: what is a subclass or anything else
(a Counter, a dataclass, an instance of a class) is refused instead of coming back as something different.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, Final

import msgpack

from streamflow.errors import RecordError

__all__ = ["pack", "unpack"]

_DATETIME: Final = 1
_DATE: Final = 2
_TIME: Final = 3
_DURATION: Final = 4
_DECIMAL: Final = 5
_TUPLE: Final = 6
_SET: Final = 7
_FROZENSET: Final = 8


def pack(value: Any, *, what: str = "value") -> bytes:
    """A value as bytes; raises RecordError that names `what` for one that cannot be kept.

    >>> unpack(pack({"seen": {1, 2}, "at": dt.timedelta(seconds=1)}))
    {'seen': {1, 2}, 'at': datetime.timedelta(seconds=1)}
    """
    try:
        return msgpack.packb(value, default=_extend, strict_types=True)  # type: ignore[no-any-return]
    except (TypeError, ValueError, OverflowError) as error:
        raise RecordError(
            f"{what} cannot be kept: {error}",
            record=value,
            hint="use None, bool, int up to 64 bits, float, str, bytes, list, dict, tuple, set, Decimal, and dates and times",
        ) from error


def unpack(data: bytes) -> Any:
    """The value that `pack` was given."""
    return msgpack.unpackb(data, ext_hook=_restore, strict_map_key=False)


def _extend(value: Any) -> msgpack.ExtType:
    match value:
        case dt.datetime():
            return msgpack.ExtType(_DATETIME, value.isoformat().encode())
        case dt.date():
            return msgpack.ExtType(_DATE, value.isoformat().encode())
        case dt.time():
            return msgpack.ExtType(_TIME, value.isoformat().encode())
        case dt.timedelta():
            return msgpack.ExtType(_DURATION, msgpack.packb(value // dt.timedelta(microseconds=1)))
        case Decimal():
            return msgpack.ExtType(_DECIMAL, str(value).encode())
    code = {tuple: _TUPLE, set: _SET, frozenset: _FROZENSET}.get(type(value))
    if code is None:
        raise TypeError(f"a {type(value).__name__} has no place in msgpack")
    return msgpack.ExtType(code, msgpack.packb(list(value), default=_extend, strict_types=True))


def _restore(code: int, data: bytes) -> Any:
    match code:
        case 1:
            return dt.datetime.fromisoformat(data.decode())
        case 2:
            return dt.date.fromisoformat(data.decode())
        case 3:
            return dt.time.fromisoformat(data.decode())
        case 4:
            return dt.timedelta(microseconds=msgpack.unpackb(data))
        case 5:
            return Decimal(data.decode())
        case 6:
            return tuple(unpack(data))
        case 7:
            return set(unpack(data))
        case 8:
            return frozenset(unpack(data))
        case _:
            return msgpack.ExtType(code, data)
