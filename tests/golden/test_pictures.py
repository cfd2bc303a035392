"""The pictures of the docs, drawn from runs.

`UPDATE_GOLDEN=1 pytest tests/golden` draws them again; look at them before committing.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.testing import TestJob
from streamflow.testing.drawing import Drawing, Lanes

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
SEEN = [(1, 2), (4, 6), (7, 4), (9, 11), (12, 9), (14, 17), (19, 8), (20, 22), (24, 27), (27, 31)]
"""(when it came, event time): a little out of order, and the eighth of them far."""


def drawn(
    title: str,
    window: Any,
    seen: Sequence[tuple[int, ...]] = SEEN,
    *,
    until: float = 30,
    steps: bool = False,
    **how: Any,
) -> Drawing:
    """Counts of records in windows, each record labelled by its event time. `steps`: the clock moves by seconds."""
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
            if steps:
                for second in range(at):
                    drawing.until(second)
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


def cumulative() -> Drawing:
    return drawn("Windows that grow by 10 s, up to 30 s", sf.cumulative("30s", step="10s"), until=32)


EARLY_AND_LATE = sf.after_watermark(early=sf.after_processing_time("4s"), late=sf.after_count(1))


def early_late() -> Drawing:
    return drawn(
        "Early panes after 4 s, one on time, one for each late record",
        sf.tumbling("10s"),
        steps=True,
        trigger=EARLY_AND_LATE,
        allowed_lateness="20s",
    )


def early_discarding() -> Drawing:
    return drawn(
        "The same, discarding: what is new since the pane before",
        sf.tumbling("10s"),
        steps=True,
        trigger=EARLY_AND_LATE,
        allowed_lateness="20s",
        accumulation="discarding",
    )


def quiet() -> Drawing:
    seen = [(1, 1, 0), (2, 2, 1), (5, 6, 0), (9, 11, 0), (13, 16, 0), (17, 21, 0), (27, 31, 0)]
    return drawn(
        "One of two partitions is quiet, for 10 s at most",
        sf.tumbling("10s"),
        seen,
        until=32,
        idle_after="10s",
    )


def joined(
    title: str, join: Callable[[sf.Stream, sf.Stream], sf.Stream], seen: Sequence[tuple[int, int, int]]
) -> Lanes:
    """A join of two streams, each record labelled by its event time; seen: (when it came, input, event time)."""
    job = sf.Job("joined")
    left, right = (
        job.read(
            sf.MemorySource([{"k": "a", "ts": 0}]),
            event_time=sf.epoch("ts", unit="s"),
            watermark=sf.bounded_disorder("3s"),
        ).named(side)
        for side in ("left", "right")
    )
    join(left, right).collect()
    with TestJob(job, watermarks="job") as t:
        lanes = Lanes(
            t,
            title,
            ("left", "right"),
            label=lambda row: row["ts"],
            pair=lambda row: (row["ts"], row["ts_right"]),
        )
        for at, side, time in seen:
            lanes.record(at, side, {"k": "a", "ts": time})
        return lanes.end(seen[-1][0] + 1)


def interval_join() -> Lanes:
    return joined(
        "Within 0 to 5 s, how=left: a row alone waits for the watermark",
        lambda left, right: left.join(right, on="k", within=("0s", "5s"), how="left"),
        [(1, 0, 1), (3, 1, 3), (5, 1, 6), (8, 0, 10), (14, 1, 17), (17, 0, 19), (22, 1, 21), (26, 0, 26)],
    )


def asof_join() -> Lanes:
    return joined(
        "As of the left's time: the right's last row, and none before the first",
        lambda left, right: left.join_asof(right, on="k"),
        [(2, 0, 2), (4, 1, 4), (7, 0, 7), (10, 0, 9), (12, 1, 13), (13, 0, 11), (16, 0, 17), (20, 1, 20)],
    )


def window_join() -> Lanes:
    return joined(
        "By windows of 10 s, how=outer: when the window closes",
        lambda left, right: left.join(right, on="k", window=sf.tumbling("10s"), how="outer"),
        [(2, 0, 2), (4, 1, 7), (8, 0, 8), (13, 1, 14), (19, 0, 23), (24, 1, 27), (28, 0, 33), (31, 1, 38)],
    )


def pattern() -> Drawing:
    job = sf.Job("matches")
    events = job.read(
        sf.MemorySource([{"ts": 0, "amount": 0}]),
        event_time=sf.epoch("ts", unit="s"),
        watermark=sf.bounded_disorder("3s"),
    )
    small = sf.pattern("small", col("amount") < 10).then("large", col("amount") > 500).within("10s")
    matches = events.key_by(pl.lit("all").alias("key")).match(small)
    matches.select("small", "large", window_start=col("match_start"), window_end=col("match_end")).collect()
    with TestJob(job, watermarks="job") as t:
        drawing = Drawing(
            t,
            "A small amount and a large one within 10 s",
            label=lambda row: row["amount"],
            result=lambda row: f"{row['small']['amount']} → {row['large']['amount']}",
        )
        seen = [
            (1, 2, 5),
            (3, 6, 80),
            (5, 9, 900),
            (7, 8, 7),
            (9, 13, 60),
            (13, 16, 3),
            (19, 22, 50),
            (24, 28, 700),
        ]
        for at, time, amount in seen:
            drawing.record(at, {"ts": time, "amount": amount})
        return drawing.until(27)


PICTURES: list[Callable[[], Drawing | Lanes]] = [
    cumulative,
    early_late,
    early_discarding,
    tumbling,
    lateness,
    sliding,
    sessions,
    quiet,
    interval_join,
    asof_join,
    window_join,
    pattern,
]


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_is_what_a_run_draws(picture: Callable[[], Drawing | Lanes]) -> None:
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
