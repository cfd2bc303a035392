"""The watermark of one split: max − bound − 1 µs, and what its settings may be (SEMANTICS §3)."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import JobDefinitionError
from streamflow.time.timestamps import MIN_TIME
from streamflow.time.watermarks import BoundedDisorder, SplitWatermark, bounded_disorder

times = st.integers(-(2**50), 2**50)


def test_it_trails_the_latest_event_by_the_bound_and_a_microsecond() -> None:
    split = SplitWatermark(BoundedDisorder(bound=5))
    split.observe(100)
    assert split.current == 94


def test_before_any_event_nothing_is_known() -> None:
    assert SplitWatermark(BoundedDisorder()).current == MIN_TIME


def test_an_earlier_event_does_not_move_it() -> None:
    split = SplitWatermark(BoundedDisorder(bound=5))
    split.observe(100)
    split.observe(50)
    assert split.current == 94


def test_a_restored_split_goes_on_from_where_it_was() -> None:
    split = SplitWatermark(BoundedDisorder(bound=5), restored=200)
    split.observe(100)
    assert split.current == 200
    split.observe(300)
    assert split.current == 294


def test_a_split_may_say_itself_how_far_it_is() -> None:
    split = SplitWatermark(BoundedDisorder(bound=5))
    split.reach(70)
    assert split.current == 70
    split.reach(60)
    assert split.current == 70


@given(st.lists(times, min_size=1), st.integers(0, 2**40))
def test_it_never_goes_back_and_ends_at_the_formula(seen: list[int], bound: int) -> None:
    split = SplitWatermark(BoundedDisorder(bound=bound))
    marks = []
    for time in seen:
        split.observe(time)
        marks.append(split.current)
    assert marks == sorted(marks)
    assert marks[-1] == max(seen) - bound - 1


@given(st.lists(times, min_size=1), st.integers(0, 2**40), st.data())
def test_events_within_the_bound_are_never_late(seen: list[int], bound: int, data: st.DataObject) -> None:
    """W(t) says: no more events with time ≤ t. An event at most `bound` behind the latest keeps that promise."""
    split = SplitWatermark(BoundedDisorder(bound=bound))
    for time in seen:
        split.observe(time)
    following = data.draw(st.integers(max(seen) - bound, max(seen)))
    assert following > split.current


def test_settings_as_people_write_them() -> None:
    assert bounded_disorder("30m", idle_after="1m", max_ahead=timedelta(hours=2), advance_when_idle=True) == (
        BoundedDisorder(1_800_000_000, 60_000_000, 7_200_000_000, advance_when_idle=True)
    )
    assert bounded_disorder() == BoundedDisorder(bound=0, idle_after=None)


@pytest.mark.parametrize(
    "settings",
    [{"bound": "-1s"}, {"idle_after": "0s"}, {"idle_after": "-1s"}, {"max_ahead": "0s"}, {"bound": "soon"}],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(JobDefinitionError):
        bounded_disorder(**settings)  # type: ignore[arg-type]
