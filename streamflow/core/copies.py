"""Copies of Python values: each of several readers gets its own, so that no reader sees another's changes.

Columns and other immutable values are shared. The rest is copied deeply, plain dicts and lists faster than
`copy.deepcopy` copies them.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable
from sys import getrefcount, maxsize
from typing import Any, Final

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.sizes import UNCHANGING, contents, size_of
from streamflow.errors import RecordError
from streamflow.user_code import described, raised_by_user

__all__ = [
    "copied",
    "copied_batch",
    "copied_with_size",
    "held_by",
    "kept_inside",
    "own_result",
    "own_results",
    "own_value",
]

_FIELD: Final = 64
"""The estimated bytes of a field, beside those of its text, bytes or integer; a dict itself counts as one."""


def copied(value: Any) -> Any:
    """A copy that shares nothing mutable with the given value. About 0.2 µs for a flat dict.

    Raises RecordError for a value that cannot be copied, like an open file.

    >>> row = {"k": "a", "list": [1, 2]}
    >>> own = copied(row)
    >>> row["list"].append(3)
    >>> own
    {'k': 'a', 'list': [1, 2]}
    """
    if value.__class__ is dict and UNCHANGING.issuperset(map(type, value.values())):
        return value.copy()
    try:
        return _copied(value)
    except RecursionError:
        return copy.deepcopy(value)  # it holds itself
    except BaseException as raised:
        error = raised_by_user(raised)
        if inspect.iscoroutine(value):
            value.close()  # or Python would warn about a coroutine never awaited
        raise RecordError(
            f"a {type(value).__name__} cannot be copied: {described(error)}",
            record=value,
            hint="records that several branches read, or a process emits, are copied: make them of plain values",
        ) from raised


def copied_with_size(value: Any) -> tuple[Any, int]:
    """A copy and its size in bytes: `copied` and `size_of` in one look at a flat dict.

    >>> copied_with_size({"text": "x" * 1_000})[1] > 1_000
    True
    """
    if value.__class__ is dict:
        # `getsizeof` costs more than all the rest, and of these only text, bytes and integers may be large.
        nbytes = _FIELD * (1 + len(value))
        for item in value.values():
            kind = item.__class__
            if kind is str or kind is int or kind is bytes:
                nbytes += item.__sizeof__()
            elif kind not in UNCHANGING:
                break
        else:
            return value.copy(), nbytes
    own = copied(value)
    return own, size_of(own)


def _copied(value: Any) -> Any:
    kind = value.__class__
    if kind in UNCHANGING:
        return value
    if kind is dict:
        return {key: _copied(item) for key, item in value.items()}
    if kind is list:
        return [_copied(item) for item in value]
    if kind is tuple:
        return tuple([_copied(item) for item in value])
    return copy.deepcopy(value)


def own_result(result: Any, given: Any = None, flat: bool = False, held: int = maxsize) -> Any:
    """The result of a user's function as a value that the function cannot change later: a copy if the function has
    kept the result or a part of it.

    `given` is the function's argument, which belongs to the record already unless there are more references to it
    than `held`. `flat`: no part of the result may be a dict or list.

    A result that cannot be copied is returned as it is. About 0.3 µs for a dict, 0.1 µs for a flat one. The
    function's call has to be the argument here, since the references to the result are counted.

    >>> kept = {"n": 1}
    >>> own = own_result((lambda row: kept)(None))
    >>> kept["n"] = 2
    >>> own
    {'n': 1}
    """
    kind = type(result)
    if kind in UNCHANGING:
        return result
    if getrefcount(result) > (held if result is given else _ALONE):
        return own_value(result)
    if flat or (kind is dict and UNCHANGING.issuperset(map(type, result.values()))):
        return result
    return own_value(result) if kept_inside(result) else result


def own_results(results: Iterable[Any]) -> list[Any]:
    """The results that a function gave one after the other, each through `own_result`, in a new list."""
    if type(results) is not list:
        # A generator may go on with what it has put out, a list or a dict of its own or its argument.
        return [own_value(result) for result in results]
    if UNCHANGING.issuperset(map(type, results)):
        return results.copy()
    return [
        own_value(result) if getrefcount(result) > _ALONE_IN_A_LIST or kept_inside(result) else result
        for result in results
    ]


def held_by(value: Any) -> int:
    """The number of references to a value that a function gets next: `held` of `own_result`, which has to be called
    likewise.

    >>> row = {"n": 1}
    >>> held = held_by(row)
    >>> own_result(row, row, False, held) is row
    True
    >>> kept = [row]
    >>> own_result(row, row, False, held) is row
    False
    """
    return getrefcount(value) + _AS_RESULT


def own_value(value: Any) -> Any:
    """A copy of a value; the value itself if it cannot be copied."""
    try:
        return copied(value)
    except RecordError:
        return value


def kept_inside(value: Any) -> bool:
    """Whether a mutable part of a dict, a list, a tuple or an object has other references.

    >>> kept = [1]
    >>> kept_inside({"list": [1]}), kept_inside({"list": kept}), kept_inside([(kept,)])
    (False, True, True)
    """
    kind = type(value)
    alone = _ALONE_IN_A_LIST
    items: Any
    if kind is dict:
        items = value.values()
    elif kind is list or kind is tuple:
        items = value
    else:
        try:
            items = [item for part in contents(value) for item in part]
        except BaseException as raised:  # noqa: BLE001 — a class of the user's own may raise when it is looked at
            raised_by_user(raised)
            return False
        alone += 1  # the list holds them, too
    if UNCHANGING.issuperset(map(type, items)):
        return False
    for item in items:
        kind = type(item)
        if kind in UNCHANGING or (kind is tuple and UNCHANGING.issuperset(map(type, item))):
            continue
        if getrefcount(item) > alone or kept_inside(item):
            return True
    return False


def _references(value: Any) -> int:
    return getrefcount(value)


def _references_in_a_list(values: list[Any]) -> int:
    return max([getrefcount(value) for value in values])


def _as_result(result: Any, given: Any, flat: bool, held: int) -> int:
    return getrefcount(result) - held


def _as_argument(value: Any) -> int:
    held = _references(value)
    return _as_result((lambda value: value)(value), value, False, held)


_ALONE: Final = _references({})
"""The references to a value that only its caller and the counting function hold; Python versions differ."""
_ALONE_IN_A_LIST: Final = _references_in_a_list([{}])
_AS_RESULT: Final = _as_argument({})
"""The additional references to an argument that comes back as the result."""


def copied_batch(batch: AnyBatch) -> AnyBatch:
    """A batch for one more reader: copied rows; the same batch if nothing in it is mutable."""
    if not isinstance(batch, RowBatch) or UNCHANGING.issuperset(map(type, batch.values)):
        return batch
    return RowBatch([copied(value) for value in batch.values], batch.times, batch.marks)
