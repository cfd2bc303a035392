"""Parameters of a test so that every pair of their values occurs, for tests in which no three of them act together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import pytest

__all__ = ["every_pair"]


def every_pair(**values: Sequence[Any]) -> pytest.MarkDecorator:
    """Parametrizes a test with few of all combinations: each value of one parameter meets each of every other.

    >>> mark = every_pair(mode=["batch", "streaming"], rows=[1, 7], bound=[0, 30])
    >>> for case in mark.args[1]:
    ...     print(*case)
    batch 1 0
    batch 7 30
    streaming 1 30
    streaming 7 0
    """
    places = product(*(range(len(each)) for each in values.values()))
    of = {case: set(combinations(enumerate(case), 2)) for case in places}
    left = set().union(*of.values())
    chosen = []
    while left:
        case = max(of, key=lambda case: len(of[case] & left))
        left -= of[case]
        chosen.append(case)
    given = list(values.values())
    return pytest.mark.parametrize(
        tuple(values), [tuple(given[n][at] for n, at in enumerate(case)) for case in chosen]
    )
