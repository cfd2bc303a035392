"""The smallest of many values: against a plain minimum, over random histories."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamflow.time.smallest import Smallest
from tests.steps import steps_of

NAMES = "abcde"
changes = st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(st.none(), st.integers(0, 9))), max_size=60)


@given(changes)
def test_it_is_the_minimum_whatever_has_changed(history: list[tuple[str, int | None]]) -> None:
    smallest, plain = Smallest[str, int](), dict[str, int]()
    for name, value in history:
        if value is None:
            smallest.remove(name)
            plain.pop(name, None)
        else:
            smallest.put(name, value)
            plain[name] = value
        by_value = sorted((value, name) for name, value in plain.items())
        assert len(smallest) == len(plain)
        assert smallest.first == next(((name, value) for value, name in by_value), None)
        for one in NAMES:
            others = ((name, value) for value, name in by_value if name != one)
            assert smallest.beside(one) == next(others, None)


def test_the_cost_of_a_change_does_not_follow_the_number_of_values() -> None:
    assert changing(5_000) < 2 * changing(500)


def changing(count: int) -> float:
    """Steps for each change, where values grow in turn."""
    smallest = Smallest[int, int]()
    for name in range(count):
        smallest.put(name, name)

    def change() -> None:
        for name in range(count):
            smallest.put(name, count + name)
            assert smallest.first is not None

    return steps_of(change) / count
