"""What else has to be the same so that a seed is one run: the order in which Polars gives groups.

Without `maintain_order` Polars gives groups in an order that differs between processes. Results do not depend on it,
but contents do, and with them what the checkpoint store finds that it has already.
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
    """Whatever is run within gives the same each time, as far as it is Polars'.

    Warnings about coroutines that nobody awaited are left out: abandoned processes leave some.

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
