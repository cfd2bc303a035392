"""Whether the topics hold what they have to hold: every row once, and each key's rows in order."""

from dataclasses import dataclass

import polars as pl

from reliability.kafka.flow import ORDER, Site
from reliability.kafka.log import read_output


@dataclass(frozen=True)
class Verdict:
    """Rows that are missing, rows that are there too often or should not be there, and rows that came too late."""

    lost: int = 0
    surplus: int = 0
    disordered: int = 0
    shown: str = ""

    @property
    def right(self) -> bool:
        return not (self.lost or self.surplus or self.disordered)

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(
            self.lost + other.lost,
            self.surplus + other.surplus,
            self.disordered + other.disordered,
            self.shown + other.shown,
        )

    def __str__(self) -> str:
        return f"{self.lost} rows lost, {self.surplus} too many, {self.disordered} out of order{self.shown}"


def judge(site: Site, expected: dict[str, pl.DataFrame]) -> Verdict:
    """Reads every output topic as a consumer of committed records does, and compares."""
    verdict = Verdict()
    for output, rows in expected.items():
        verdict += compare(output, read_output(site, output), rows, ORDER[output])
    return verdict


def compare(name: str, found: pl.DataFrame, expected: pl.DataFrame, order: str) -> Verdict:
    """`found` has `partition` and `offset` beside the expected columns; `order` has to rise within each `key`.

    A repeated row is surplus and does not count as out of order, too: only the first of each counts there. A key that
    is spread over partitions has no order, so each partition beyond its first counts.
    """
    columns = expected.columns
    signed = pl.concat(
        [found.select(columns).with_columns(more=pl.lit(1)), expected.with_columns(more=pl.lit(-1))]
    )
    difference = signed.group_by(columns).agg(pl.col("more").sum()).filter(pl.col("more") != 0).sort(columns)
    lost = int(-difference.filter(pl.col("more") < 0)["more"].sum())
    surplus = int(difference.filter(pl.col("more") > 0)["more"].sum())
    once = found.sort("partition", "offset").unique(columns, keep="first", maintain_order=True)
    behind = once.filter(pl.col(order).diff().over("key", "partition", order_by="offset") < 0)
    spread = once.group_by("key").agg(more=pl.col("partition").n_unique() - 1)["more"].sum()
    shown = ""
    if len(difference):
        shown += f"; {name}: {lost} lost, {surplus} too many, such as {difference.row(0)}"
    if len(behind) or spread:
        shown += f"; {name}: {len(behind)} out of order, such as {behind.head(1).rows()}, {spread} partitions too many"
    return Verdict(lost, surplus, len(behind) + int(spread), shown)
