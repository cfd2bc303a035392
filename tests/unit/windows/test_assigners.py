from datetime import timedelta

import pytest

from streamflow.errors import JobDefinitionError
from streamflow.windows.assigners import (
    CountWindow,
    Cumulative,
    GlobalWindow,
    Session,
    Sliding,
    Tumbling,
    count_window,
    cumulative,
    fixed,
    global_window,
    session,
    sliding,
    tumbling,
)

SECOND = 1_000_000


def test_constructors_parse_durations() -> None:
    assert tumbling("10s", offset="-2s") == Tumbling(10 * SECOND, -2 * SECOND)
    assert sliding("1m", every=timedelta(seconds=5)) == Sliding(60 * SECOND, 5 * SECOND)
    assert session(gap="90s") == Session(90 * SECOND)
    assert global_window() == GlobalWindow()
    assert fixed("1s") == tumbling("1s")
    assert cumulative("1m", step="20s", offset="5s") == Cumulative(60 * SECOND, 20 * SECOND, 5 * SECOND)
    assert (count_window(5), count_window(5, every=2)) == (CountWindow(5, 5), CountWindow(5, 2))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tumbling("0s"), "window size"),
        (lambda: tumbling("-10s"), "window size"),
        (lambda: tumbling("10s", offset="10s"), "offset 10s is not shorter than 10s"),
        (lambda: tumbling("10s", offset="-10s"), "offset -10s"),
        (lambda: sliding("10s", every="0s"), "every"),
        (lambda: sliding("-1s", every="5s"), "window size"),
        (lambda: sliding("10s", every="5s", offset="5s"), "offset 5s is not shorter than 5s"),
        (lambda: session(gap="0s"), "session gap"),
        (lambda: session(gap="-5s"), "session gap"),
        (lambda: tumbling("ten"), "not a duration"),
        (lambda: Session(0), "session gap"),
        (lambda: cumulative("1m", step="0s"), "step"),
        (lambda: cumulative("1m", step="25s"), "windows of 1m cannot grow by 25s"),
        (lambda: cumulative("1m", step="2m"), "cannot grow"),
        (lambda: cumulative("1m", step="20s", offset="1m"), "offset 1m is not shorter"),
        (lambda: count_window(0), "n=0"),
        (lambda: count_window(2.0), "n=2.0"),  # type: ignore[arg-type]
        (lambda: count_window(2, every=-1), "every=-1"),
        (lambda: count_window(2, every=3), "leave out records"),
        (lambda: Sliding(5, -1), "every"),
    ],
)
def test_nonsense_is_refused(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(JobDefinitionError, match=said):
        make()


def test_offset_just_below_the_slide_is_fine() -> None:
    assert sliding("10s", every="5s", offset="-4999ms").offset == -4_999_000


def test_assigners_read_as_they_are_written() -> None:
    assert str(sliding("1h30m", every="500ms", offset="-1ms")) == "sliding(1h30m, every=500ms, offset=-1ms)"
    assert str(session(gap="36h")) == "session(gap=1d12h)"
    assert str(global_window()) == "global_window()"
    assert str(cumulative("1d", step="1h")) == "cumulative(1d, step=1h)"
    assert str(count_window(10)) == "count_window(10)"
    assert str(count_window(10, every=5)) == "count_window(10, every=5)"
