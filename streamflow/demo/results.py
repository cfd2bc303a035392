"""January's results: the final panes, the table and the daily means made of them, and their fingerprint.

Everything here is plain Polars over the job's collected output, and the same in each mode: of each window the last
pane counts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date

import polars as pl

__all__ = ["Results", "final_panes", "results"]

_ZONE = "America/New_York"
_ENOUGH = 5
"""The smallest number of departures for which a window's mean says something about an airport."""


@dataclass(frozen=True)
class Results:
    """`windows`: the final pane per airport and window. `aircraft`: the aircraft days.

    `airports`: one row per airport. `daily`: mean delay in minutes per airport and local day. `digest`: equal for
    equal windows and aircraft days. `corrections`: panes that corrected an earlier one of the same window.
    """

    windows: pl.DataFrame
    aircraft: pl.DataFrame
    airports: pl.DataFrame
    daily: pl.DataFrame
    digest: str
    corrections: int

    def worst_days(self, count: int) -> list[tuple[date, float]]:
        """The local days of the largest mean delay over all airports, and that mean."""
        by_day = self.daily.group_by("day").agg(mean_delay=_mean())
        worst = by_day.sort(["mean_delay", "day"], descending=[True, False]).head(count)
        return list(zip(worst["day"].to_list(), worst["mean_delay"].to_list(), strict=True))


def final_panes(panes: pl.DataFrame) -> pl.DataFrame:
    """The last pane of each window, sorted."""
    keys = ["origin", "window_start"]
    return panes.unique(keys, keep="last", maintain_order=True).sort(keys)


def results(panes: pl.DataFrame, aircraft: pl.DataFrame) -> Results:
    """All results, from the job's output."""
    windows = final_panes(panes)
    days = aircraft.sort("tailnum", "window_start")
    return Results(
        windows=windows,
        aircraft=days,
        airports=_airports(windows),
        daily=_daily(windows),
        digest=_digest(windows, days),
        corrections=panes.height - windows.height,
    )


def _hourly(windows: pl.DataFrame) -> pl.DataFrame:
    """The windows on the hour: side by side, so that each flight counts once."""
    start = pl.col("window_start")
    return windows.filter(start.dt.minute() == 0).with_columns(
        departed=pl.col("flights") - pl.col("cancelled"), day=start.dt.convert_time_zone(_ZONE).dt.date()
    )


def _mean() -> pl.Expr:
    total = (pl.col("mean_delay") * pl.col("departed")).sum()
    return total / pl.col("departed").sum()


def _daily(windows: pl.DataFrame) -> pl.DataFrame:
    by_day = (
        _hourly(windows).group_by("origin", "day").agg(mean_delay=_mean(), departed=pl.col("departed").sum())
    )
    # The last local day runs into a few flights after midnight of the next month: no day of its own.
    return by_day.filter(pl.col("day").dt.month() == 1, pl.col("departed") > 0).sort("origin", "day")


def _airports(windows: pl.DataFrame) -> pl.DataFrame:
    whole = (
        _hourly(windows)
        .group_by("origin")
        .agg(
            flights=pl.col("flights").sum(),
            cancelled=pl.col("cancelled").sum(),
            mean_delay=_mean(),
            worst=pl.col("worst").max(),
        )
    )
    telling = windows.filter(
        pl.col("flights") - pl.col("cancelled") >= _ENOUGH, pl.col("mean_delay").is_not_null()
    )
    hour = (
        telling.sort("mean_delay", "window_start", descending=[True, False])
        .group_by("origin", maintain_order=True)
        .first()
        .select("origin", worst_hour="window_start", worst_hour_delay="mean_delay")
    )
    return whole.join(hour, on="origin", how="left").sort("origin")


def _digest(*frames: pl.DataFrame) -> str:
    text = hashlib.sha256()
    for frame in frames:
        text.update(frame.select(sorted(frame.columns)).write_csv(float_precision=6).encode())
    return text.hexdigest()[:16]
