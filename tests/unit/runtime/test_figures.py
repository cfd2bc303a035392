"""The figures of workers: those of several together, and how often a dear look is taken."""

from __future__ import annotations

from streamflow.operators.contract.waiting import Waiting
from streamflow.runtime.figures import Figures, PacedFigures, SourceFigures, merged
from streamflow.testing import TestClock
from streamflow.time.timestamps import MAX_TIME, MIN_TIME


def test_of_several_workers_the_smallest_watermarks_count_and_the_first_results_with_all_rows() -> None:
    one = Figures(
        8,
        {"read": 8, "window": 9},
        {"read": (SourceFigures(0, "a", 8, 8, 9), SourceFigures(2, None, MIN_TIME, 9, 9))},
        {
            "window": (
                ("window", Waiting("a window", 20, 3)),
                ("window", Waiting("a timer", 5, 1, by_clock=True)),
            )
        },
    )
    other = Figures(
        7,
        {"read": 7},
        {"read": (SourceFigures(1, "b", 7, 7, 7),)},
        {"window": (("window", Waiting("b", 10, 4)),)},
    )
    without_subtasks = Figures(MAX_TIME)
    both = merged([other, without_subtasks, one])
    assert (both.watermark, both.watermarks) == (7, {"read": 7, "window": 9})
    assert [(each.subtask, each.held_back_by) for each in both.sources["read"]] == [
        (0, "a"),
        (1, "b"),
        (2, None),
    ]
    assert both.holds == {
        "window": (("window", Waiting("b", 10, 7)), ("window", Waiting("a timer", 5, 1, by_clock=True)))
    }


def test_without_any_worker_nothing_is_known() -> None:
    assert merged([]) == Figures(MIN_TIME)
    assert merged([Figures(), Figures(7, {"read": 7})]).watermark == MIN_TIME


def test_a_dear_look_is_taken_so_seldom_that_it_takes_two_percent_of_the_time() -> None:
    clock = TestClock()
    looks: list[float] = []

    def read(*, holds: bool) -> Figures:
        if holds:
            looks.append(clock.monotonic())
            clock.advance("500ms")
        at = round(clock.monotonic() * 1e6)
        return Figures(at, holds={"t": (("op", Waiting("it", len(looks), 1)),)} if holds else {})

    figures = PacedFigures(read, clock)
    said = []
    for _ in range(60):
        said.append(figures())
        clock.advance("1s")
    assert len(looks) == 3
    assert looks[1] - looks[0] >= 25.0
    assert [each.holds["t"][0][1].until for each in said] == [1] * 25 + [2] * 25 + [3] * 10
    assert said[-1].watermark > said[-2].watermark
