"""The pictures of docs/concepts.md, drawn from runs.

`UPDATE_GOLDEN=1 pytest tests/golden` draws them again; look at them before committing.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.testing import TestJob
from streamflow.testing.drawing import Drawing

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
SEEN = [(1, 2), (4, 6), (7, 4), (9, 11), (12, 9), (14, 17), (19, 8), (20, 22), (24, 27), (27, 31)]
"""(when it came, event time): a little out of order, and the eighth of them far."""


def drawn(
    title: str, window: Any, seen: Sequence[tuple[int, ...]] = SEEN, *, until: float = 30, **how: Any
) -> Drawing:
    """Counts of records in windows, each record labelled by its event time."""
    job = sf.Job("counts")
    events = job.read(
        sf.MemorySource([{"ts": 0}]),
        event_time=sf.epoch("ts", unit="s"),
        watermark=sf.bounded_disorder("3s", idle_after=how.pop("idle_after", None)),
    )
    events.window(window, **how).aggregate(n=sf.count()).collect()
    with TestJob(job, watermarks="job", splits=2 if len(seen[0]) == 3 else 1) as t:
        drawing = Drawing(t, title, label=lambda row: row["ts"], result=lambda row: row["n"])
        for at, time, *split in seen:
            drawing.record(at, {"ts": time}, split=int(*split))
        return drawing.until(until)


def tumbling() -> Drawing:
    return drawn("Fixed windows of 10 s; records up to 3 s out of order", sf.tumbling("10s"))


def lateness() -> Drawing:
    return drawn("The same, with 20 s of allowed lateness", sf.tumbling("10s"), allowed_lateness="20s")


def sliding() -> Drawing:
    return drawn(
        "Windows of 20 s, one every 10 s", sf.sliding("20s", every="10s"), SEEN[:6] + SEEN[7:], until=32
    )


def sessions() -> Drawing:
    seen = [(1, 1), (3, 4), (8, 10), (11, 7), (19, 21), (22, 24), (31, 34)]
    return drawn("Sessions: a pause of 5 s ends one", sf.session(gap="5s"), seen, until=34)


def quiet() -> Drawing:
    seen = [(1, 1, 0), (2, 2, 1), (5, 6, 0), (9, 11, 0), (13, 16, 0), (17, 21, 0), (27, 31, 0)]
    return drawn(
        "One of two partitions is quiet, for 10 s at most",
        sf.tumbling("10s"),
        seen,
        until=32,
        idle_after="10s",
    )


PICTURES: list[Callable[[], Drawing]] = [tumbling, lateness, sliding, sessions, quiet]


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_is_what_a_run_draws(picture: Callable[[], Drawing]) -> None:
    path = FOLDER / f"{picture.__name__}.svg"
    svg = picture().svg()
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(svg, encoding="utf-8")
    assert svg == path.read_text(encoding="utf-8")


def test_a_late_record_is_in_no_result() -> None:
    # 8 comes when the watermark has passed 10 + 3: it is in no pane, and a cross.
    drawing = tumbling()
    assert [(pane.start, pane.text) for pane in drawing.panes] == [(0, "4"), (10, "2")]
    assert 'class="late"' in drawing.svg()
    # The lateness takes it up, into a second result of its window.
    assert [(pane.start, pane.text) for pane in lateness().panes] == [(0, "4"), (0, "5"), (10, "2")]
