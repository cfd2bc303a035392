"""The results of a run of the benchmarks, as Markdown tables (terminal and RESULTS.md alike) and as JSON."""

import os
import platform
import shlex
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.figures import INSIDE_TARGETS, STREAMING_PEERS_WHOLE_TARGET, Figure
from benchmarks.pairing import Comparison
from streamflow.distribution import DISTRIBUTION

RESULTS = Path(__file__).with_name("RESULTS.md")
COLUMNS = (
    "workload",
    "against",
    "events/s ours",
    "theirs",
    "whole ours",
    "theirs",
    "MB ours",
    "theirs",
    "ratio",
    "whole",
    "slope",
)


@dataclass
class Report:
    """Grows while the benchmarks run."""

    events: int
    rounds: int
    settings: str
    comparisons: list[Comparison] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def all_figures(self) -> list[Figure]:
        """Every value that has a target, and the ones that stand on their own."""
        return [figure for comparison in self.comparisons for figure in judged(comparison)] + self.figures

    def markdown(self) -> str:
        parts = [f"{self.events:,} events, {self.rounds} rounds, {self.settings}."]
        if self.comparisons:
            parts.append(table(COLUMNS, [_comparison_cells(comparison) for comparison in self.comparisons]))
        if figures := self.all_figures():
            parts.append(
                table(("figure", "measured", "target", "reached"), [figure.cells() for figure in figures])
            )
        parts += [f"- failed: {failure}" for failure in self.failures]
        if self.missing:
            parts.append(f"Not installed here: {', '.join(self.missing)}.")
        return "\n\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        rows = [
            dict(zip(("figure", "measured", "target", "reached"), f.cells(), strict=True))
            for f in self.all_figures()
        ]
        compared = [
            {
                "workload": c.ours.workload,
                "against": against(c),
                "ratio": c.inside,
                "ratio_whole": c.whole,
                "ratio_slope": c.slope,
                "pairs": [{"ours": vars(pair.ours), "theirs": vars(pair.theirs)} for pair in c.pairs],
            }
            for c in self.comparisons
        ]
        return {
            "events": self.events,
            "rounds": self.rounds,
            "comparisons": compared,
            "figures": rows,
            "failures": self.failures,
        }

    def append_to_results(self, path: Path = RESULTS) -> None:
        """Adds a section: date, machine, command, tables."""
        before = (
            path.read_text()
            if path.exists()
            else "# Results\n\nWritten by `streamflow bench --write`; the newest comes last.\n"
        )
        head = f"## {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n\n{machine()}\n\n`{command()}`"
        path.write_text(f"{before}\n{head}\n\n{self.markdown()}\n")


def against(comparison: Comparison) -> str:
    """The peer's name, or the workload where ours is compared with itself."""
    theirs = comparison.theirs
    return theirs.workload if theirs.name == comparison.ours.name else theirs.name


def judged(comparison: Comparison) -> list[Figure]:
    """The comparison's ratios beside their targets. Without start-up: the slope where there is one."""
    workload, other = comparison.ours.workload, against(comparison)
    target = INSIDE_TARGETS.get((workload, other))
    if target is None:
        return []
    streaming_peer = comparison.theirs.streaming_peer
    ratio = comparison.slope if streaming_peer and comparison.slope is not None else comparison.inside
    found = [Figure(f"{workload} / {other}", ratio, "×", "≥", target)]
    if streaming_peer:
        found.append(
            Figure(
                f"{workload} / {other}, whole process",
                comparison.whole,
                "×",
                "≥",
                STREAMING_PEERS_WHOLE_TARGET,
            )
        )
    return found


def table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    """An aligned Markdown table."""
    widths = [max(len(row[i]) for row in [list(head), *rows]) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [list(head), *rows]
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def machine() -> str:
    """Cores, processor architecture, system and versions: what a figure depends on, and no names."""
    versions = ", ".join(
        f"{name} {_version(name)}"
        for name in ("streamflow", "polars", "duckdb", "msgspec", "aiokafka", "confluent-kafka")
    )
    hardware = f"{os.cpu_count()} cores {platform.machine()}, {platform.system()}"
    return f"{hardware}, Python {platform.python_version()}; {versions}"


def command() -> str:
    """The command that was typed, without paths."""
    program = ["streamflow"] if Path(sys.argv[0]).name == "streamflow" else ["python", "-m", "benchmarks"]
    return shlex.join([*program, *sys.argv[1:]])


def _comparison_cells(c: Comparison) -> list[str]:
    rates = [
        f"{rate:,.0f}"
        for rate in (c.rate("ours"), c.rate("theirs"), c.whole_rate("ours"), c.whole_rate("theirs"))
    ]
    peaks = [f"{c.peak_mb(whose):.0f}" for whose in ("ours", "theirs")]
    slope = "" if c.slope is None else f"{c.slope:.2f}"
    return [c.ours.workload, against(c), *rates, *peaks, f"{c.inside:.2f}", f"{c.whole:.2f}", slope]


def _version(name: str) -> str:
    try:
        return version(DISTRIBUTION if name == "streamflow" else name)
    except PackageNotFoundError:
        return "(not installed)"
