"""Sessions that are put away while they are open say what sessions say that stay at hand."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.core.serde import ipc_to_frame
from streamflow.operators.windows import put_away, sessions
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.state.frames import chunks, time_sorted
from streamflow.windows import aggregates as sf
from streamflow.windows.assigners import Session
from tests.every_pair import every_pair
from tests.unit.operators.driving import Driven

AGGREGATES = (("n", sf.count()), ("total", sf.sum("value")), ("last", sf.last("value")))
GAP = 10

_records = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 25), st.integers(1, 9)), max_size=5)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), _records),
        st.tuples(st.just("watermark"), st.integers(1, 15)),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=25,
)


@pytest.fixture(autouse=True)
def small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_sorted, "_ROWS", 2)
    monkeypatch.setattr(time_sorted, "_AT_ONCE", 3)


def said(steps: list[tuple[str, Any]], spec: WindowAggregateSpec, budget: int) -> list[Any]:
    """The output after each step, with the late records."""
    driven = Driven(spec, memory_budget=budget)
    now, watermark, out = 0, 0, list[Any]()
    for what, argument in steps:
        if what == "batch":
            driven.batch(*((key, now + time, value) for key, time, value in argument))
            now += 3
        elif what == "watermark":
            watermark += argument
            now = max(now, watermark - 5)
            driven.watermark(watermark)
        else:
            driven = driven.restarted()
        out.append((driven.take(), driven.late()))
    return [*out, driven.end().take()]


@every_pair(budget=[1 << 26, 1], lateness=[0, 12], accumulation=["accumulating", "discarding", "retracting"])
@settings(max_examples=30)
@given(steps=_steps, at_once=st.sampled_from([1, 1 << 18]))
def test_they_say_the_same(
    accumulation: Any, lateness: int, budget: int, steps: list[tuple[str, Any]], at_once: int
) -> None:
    spec = WindowAggregateSpec(
        ("key",),
        Session(GAP),
        AGGREGATES,
        allowed_lateness=lateness,
        accumulation=accumulation,
        pane_info=True,
        late_used=True,
    )
    at_hand = said(steps, spec, budget)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sessions, "_AT_HAND", 0)
        patched.setattr(sessions, "_MANY_OPEN", 0)
        patched.setattr(sessions, "_AHEAD", 0)
        patched.setattr(sessions, "_PUT_AWAY", 2)
        patched.setattr(put_away, "_AT_ONCE", at_once)
        later = said(steps, spec, budget)
    assert later == at_hand


def test_open_sessions_beyond_the_budget_are_not_at_hand_while_the_watermark_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Spans as they are: small ones would be all of the test's time.
    monkeypatch.undo()
    monkeypatch.setattr(time_sorted, "_AT_ONCE", 1_000)
    read = 0

    def counted(data: bytes) -> pl.DataFrame:
        nonlocal read
        frame = ipc_to_frame(data)
        read += frame.height
        return frame

    monkeypatch.setattr(chunks, "ipc_to_frame", counted)
    budget = 1 << 20
    driven = Driven(WindowAggregateSpec(("key",), Session(1_000), AGGREGATES), memory_budget=budget)
    driven.watermark(1)
    for first in range(0, 60_000, 2_000):
        driven.batch(*((f"user {n}", 10 + n % 100, n) for n in range(first, first + 2_000)))
    operator = driven.operator
    assert isinstance(operator, sessions.SessionWindows)
    at_hand = sum(frame.estimated_size() for frame in operator._open)
    assert at_hand < budget
    read = 0
    results = driven.end().take()
    assert len(results) == len({row[0] for row in results}) == 60_000
    assert sum(row[4] for row in results) == sum(range(60_000))
    # Sessions and their times, and as often again to merge what they are taken out of.
    assert 60_000 < read < 4 * 60_000


def test_a_watermark_puts_away_a_part_of_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_MANY_OPEN", 100)
    monkeypatch.setattr(sessions, "_AT_HAND", 0)
    monkeypatch.setattr(sessions, "_PUT_AWAY", 300)
    driven = Driven(WindowAggregateSpec(("key",), Session(10_000), AGGREGATES)).watermark(1)
    driven.batch(*((f"user {n}", 100 + n, n) for n in range(1_000)))
    operator = driven.operator
    assert isinstance(operator, sessions.SessionWindows)
    at_hand: list[int] = []
    for time in range(2, 8):
        driven.watermark(time)
        at_hand.append(operator._rows)
    assert at_hand == [700, 400, 100, 0, 0, 0]
    assert len(driven.end().take()) == 1_000
