from datetime import timedelta

import pytest

from streamflow.errors import JobDefinitionError
from streamflow.windows.assigners import (
    GlobalWindow,
    Session,
    Sliding,
    Tumbling,
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
