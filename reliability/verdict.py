"""Whether what lies in the output folders is what has to be there: as multisets, row by row."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from reliability.flow import OUTPUTS, Place


@dataclass(frozen=True)
class Verdict:
    """How many rows are missing, and how many are there too often or should not be there at all."""

    lost: int = 0
    surplus: int = 0
    shown: str = ""

    @property
    def right(self) -> bool:
        return not self.lost and not self.surplus

    def __str__(self) -> str:
        return f"{self.lost} rows lost, {self.surplus} too many{self.shown}"


def judge(place: Place, model: dict[str, pl.DataFrame], *, ended: bool = True) -> Verdict:
    """Compares every output; of a job that has not ended only what must not be there counts."""
    verdict = Verdict()
    for name in OUTPUTS:
        found = read_output(place.output / name, model[name])
        difference = _difference(found, model[name])
        lost = int(-difference.filter(pl.col("more") < 0)["more"].sum()) if ended else 0
        surplus = int(difference.filter(pl.col("more") > 0)["more"].sum())
        shown = verdict.shown
        if lost or surplus:
            shown += f"; {name}: {lost} lost, {surplus} too many, such as {difference.row(0)}"
        verdict = Verdict(verdict.lost + lost, verdict.surplus + surplus, shown)
    return verdict


def read_output(folder: Path, like: pl.DataFrame) -> pl.DataFrame:
    """All rows of a folder's visible files."""
    paths = sorted(path for path in folder.glob("part-*") if path.is_file())
    if not paths:
        return like.clear()
    if paths[0].suffix == ".ndjson":
        return pl.concat([pl.read_ndjson(path, schema=like.schema) for path in paths if path.stat().st_size])
    return pl.read_parquet(paths).select(like.columns).cast(like.schema)


def _difference(found: pl.DataFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """Distinct rows that are there more often than they should (`more` > 0) or less often."""
    columns = expected.columns
    signed = pl.concat([found.with_columns(more=pl.lit(1)), expected.with_columns(more=pl.lit(-1))])
    return signed.group_by(columns).agg(pl.col("more").sum()).filter(pl.col("more") != 0)
