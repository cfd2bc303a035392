"""The wait of a result, in sentences."""

from __future__ import annotations

from streamflow.cli.terminal import figures
from streamflow.observe.logs import printable
from streamflow.observe.why import Wait
from streamflow.time.timestamps import format_duration, format_time

__all__ = ["explained"]


def explained(wait: Wait, before: int | None, seconds: float) -> str:
    """The answer for one operator; `before` is its watermark so many seconds ago.

    >>> wait = Wait("delays", "the window from 14:50 to 15:50", 57_000_000_000, 3, 56_400_000_000, (), "flights",
    ...     "0", 56_405_000_000, 5_000_000)
    >>> print(explained(wait, 56_340_000_000, 1.0))
    delays: the window from 14:50 to 15:50 comes when the watermark reaches 1970-01-01T15:50:00Z; it is at
      1970-01-01T15:40:00Z: 10m of event time to go, about 10 s at this pace. Held back by split 0 of flights: its
      latest event is of 1970-01-01T15:40:05Z, and it may still bring one up to 5s older. 3 rows wait.
    """
    if wait.clock is not None and wait.since is not None:
        text = f"{wait.what} has been under way for {figures.span((wait.clock - wait.since) / 1e6)}"
    elif wait.clock is not None and wait.until is not None:
        left = wait.until - wait.clock
        text = f"{wait.what} comes at {format_time(wait.until)} by the clock, "
        text += f"in {figures.span(left / 1e6)}" if left > 0 else "about to go"
    elif wait.until is None:
        text = f"{wait.what} comes at the end of the input"
    else:
        reached = f"{wait.what} comes when the watermark reaches {format_time(wait.until)}"
        text = f"{reached}; {_progress(wait, before, seconds)}"
    rows = f" {wait.rows:,} rows wait." if wait.rows else ""
    holder = f" {_holder(wait)}" if wait.source is not None else ""
    return _wrapped(f"{printable(wait.operator)}: {printable(text)}.{holder}{rows}")


def _progress(wait: Wait, before: int | None, seconds: float) -> str:
    assert wait.until is not None
    if wait.watermark is None:
        return "there is none yet"
    left = wait.until - wait.watermark
    if left <= 0:
        return f"it is at {format_time(wait.watermark)}: about to go"
    moved = 0 if before is None else wait.watermark - before
    pace = (
        f"about {figures.span(left * seconds / moved)} at this pace" if moved > 0 else "and it stands still"
    )
    return f"it is at {format_time(wait.watermark)}: {format_duration(left)} of event time to go, {pace}"


def _holder(wait: Wait) -> str:
    source = printable(wait.source or "")
    if wait.split is None:
        return f"Held back by {source}."
    by = f"Held back by split {printable(wait.split)} of {source}"
    if wait.latest is None:
        by += ": no event has come from it yet"
    else:
        by += f": its latest event is of {format_time(wait.latest)}"
        if wait.bound:
            by += f", and it may still bring one up to {format_duration(wait.bound)} older"
    if wait.idle_after is not None:
        by += f"; left out when it has been quiet for {format_duration(wait.idle_after)}"
    return by + "."


def _wrapped(text: str) -> str:
    from textwrap import fill

    return fill(text, 110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
