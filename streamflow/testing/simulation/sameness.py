"""The order in which Polars gives groups, made repeatable, so that a seed is one run.

Without `maintain_order` Polars gives groups in an order that differs between processes. Results do not depend on it,
but contents do, and with them the files that the checkpoint store finds again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

import polars as pl

__all__ = ["repeatable"]

_UNORDERED: Final = [
    (frame, name) for frame in (pl.DataFrame, pl.LazyFrame) for name in ("group_by", "unique")
]


@contextmanager
def repeatable() -> Generator[None]:
    """A context in which Polars gives the same order each time.

    Warnings about coroutines that were never awaited are left out: abandoned processes leave some.

    >>> with repeatable():
    ...     pl.DataFrame({"k": list("dcbadcba")}).group_by("k").len()["k"].to_list()
    ['d', 'c', 'b', 'a']
    """
    before = [getattr(frame, name) for frame, name in _UNORDERED]
    try:
        for (frame, name), method in zip(_UNORDERED, before, strict=True):
            setattr(frame, name, _in_order(method))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*was never awaited", category=RuntimeWarning)
            yield
    finally:
        for (frame, name), method in zip(_UNORDERED, before, strict=True):
            setattr(frame, name, method)


def _in_order(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def ordered(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **{**kwargs, "maintain_order": True})

    return ordered
