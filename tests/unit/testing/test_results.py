"""Comparing what outputs come to: multisets, changes applied, floats with a tolerance."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import JobDefinitionError
from streamflow.testing import difference, final_rows


def change(kind: str, **values: Any) -> dict[str, Any]:
    return {"change": kind, **values}


def test_order_does_not_count_and_number_does() -> None:
    rows = [{"k": "a"}, {"k": "b"}, {"k": "a"}]
    assert difference(rows, rows[::-1]) == ""
    assert difference(rows, rows[:2]) == "missing 1: {'k': 'a'}"
    assert difference(rows[:2], rows) == "unexpected 1: {'k': 'a'}"


def test_floats_may_differ_a_little_and_nan_is_nan() -> None:
    assert difference([{"x": 0.1 + 0.2}], [{"x": 0.3}]) == ""
    assert difference([{"x": float("nan")}], [{"x": float("nan")}]) == ""
    assert difference([{"x": 0.3}], [{"x": 0.3001}]) != ""
    assert difference([{"x": 1e12}], [{"x": 1e12 + 1}], tolerance=1e-6) == ""


def test_the_tolerance_is_relative() -> None:
    assert difference([{"x": 1e-11}], [{"x": 2e-10}]) != ""
    assert difference([{"x": 1e-300}], [{"x": 2e-300}]) != ""
    assert difference([{"x": 0.0}], [{"x": 1e-12}]) != ""
    assert difference([{"x": 0.0}, {"x": 0.3}], [{"x": 0.1 + 0.2 - 0.3}, {"x": 0.3}]) == ""
    assert difference([{"x": 1.0}], [{"x": 1.0 + 1e-15}], tolerance=0) != ""


def test_values_within_lists_and_dicts_count() -> None:
    assert difference([{"x": [1.0, {"y": 2.0}]}], [{"x": [1.0, {"y": 2.0 + 1e-12}]}]) == ""
    assert difference([{"x": [1, 2]}], [{"x": [2, 1]}]) != ""


@pytest.mark.parametrize(("left", "right"), [(1, "1"), (True, 1), (1, 1.0), (None, "None"), (0.5, "float")])
def test_types_count(left: object, right: object) -> None:
    assert difference([{"x": left}], [{"x": right}]) != ""


def test_many_differences_are_cut() -> None:
    text = difference([{"n": n} for n in range(100)], [])
    assert text.startswith("missing 100: ")
    assert text.endswith("… and 90 more")
    assert len(text.splitlines()) == 11


def test_changes_are_applied() -> None:
    changes = [
        change("insert", k="a", n=1),
        change("insert", k="b", n=5),
        change("update_before", k="a", n=1),
        change("update_after", k="a", n=2),
        change("delete", k="b", n=5),
    ]
    assert final_rows(changes) == [{"k": "a", "n": 2}]


def test_a_users_own_column_of_that_name_stays() -> None:
    rows = [{"change": "up", "n": 1}, {"change": "down", "n": 1}]
    assert final_rows(rows) == rows
    kinds = [change("insert", n=1), change("delete", n=1)]
    assert final_rows(kinds, changing=False) == kinds
    assert final_rows(kinds, changing=True) == []


@pytest.mark.parametrize("row", [{"n": 1}, {}, 7])
def test_a_key_that_rows_do_not_have_is_refused(row: object) -> None:
    with pytest.raises(JobDefinitionError, match="key: no column 'k'"):
        final_rows([row], key=["k"])


def test_a_retraction_of_nothing_is_shown() -> None:
    (row,) = final_rows([change("delete", k="a")])
    assert row == {"k": "a", "change": "withdrawn, and was never there"}


def test_with_a_key_the_last_counts() -> None:
    rows = [{"k": "a", "w": 1, "n": 1}, {"k": "a", "w": 2, "n": 1}, {"k": "a", "w": 1, "n": 9}]
    assert final_rows(rows, key=["k", "w"]) == [{"k": "a", "w": 1, "n": 9}, {"k": "a", "w": 2, "n": 1}]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-9, 9)), max_size=20))
def test_a_changelog_comes_to_the_last_value_of_each_key(writes: list[tuple[str, int]]) -> None:
    last: dict[str, int] = {}
    changes: list[dict[str, Any]] = []
    for k, n in writes:
        if k in last:
            changes.append(change("update_before", k=k, n=last[k]))
        changes.append(change("update_after" if k in last else "insert", k=k, n=n))
        last[k] = n
    assert difference(final_rows(changes), [{"k": k, "n": n} for k, n in last.items()]) == ""


@given(
    st.lists(
        st.dictionaries(st.sampled_from("xyz"), st.one_of(st.none(), st.integers(), st.floats())), max_size=8
    )
)
def test_a_multiset_is_equal_to_itself_in_any_order(rows: list[dict[str, Any]]) -> None:
    assert difference(rows, sorted(rows, key=repr)) == ""


@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_differences_are_exactly_the_multiset_differences(left: list[int], right: list[int]) -> None:
    assert (difference(left, right) == "") == (sorted(left) == sorted(right))
