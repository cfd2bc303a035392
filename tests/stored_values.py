"""Hypothesis' strategy for every Python value that can be stored and sent."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

from hypothesis import strategies as st

__all__ = ["stored_keys", "stored_values"]

_offsets = (
    st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59))
    .filter(bool)
    .map(timezone)
)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.dates()
    | st.times().map(lambda value: value.replace(fold=0))
    | st.timedeltas()
    | st.datetimes().map(lambda value: value.replace(fold=0))
    | st.datetimes(timezones=st.just(UTC)).map(lambda value: value.replace(fold=0))
    | st.datetimes(timezones=st.timezones().filter(lambda zone: zone.key != "UTC"), allow_imaginary=True)
    | st.datetimes(timezones=_offsets).map(lambda value: value.replace(fold=0))
    | st.decimals(allow_nan=False)
    | st.uuids()
)
stored_keys = (
    st.integers()
    | st.text("ab")
    | st.binary(max_size=2)
    | st.tuples(st.integers(), st.text("ab"))
    | st.none()
)
stored_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(stored_keys, inner, max_size=4)
    ),
    max_leaves=12,
)
