"""Random job graphs in seeded lives, which crash, stop, are restored and rescaled at any step; judged by the evaluation
in plain Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from streamflow.testing.simulation.campaign import Campaign
from tests.properties.graph_jobs import built, compared
from tests.properties.graph_programs import Program, Run, random_program

__all__ = ["failures"]


def failures(seed: int, lives: int, processes: int = 1) -> list[str]:
    """The faults of one random graph in some random lives, on so many processes at most."""
    program = random_program(Random(seed))
    if any(step.kind == "source" and not step["rows"] for step in program.steps):
        return []  # a simulation needs records
    campaign = Campaign(
        built(program, Run())[0],
        rows=1_000,
        processes=processes,
        judge=lambda given, written: judged(program, given, written),
    )
    for _ in campaign.run(range(seed * lives, (seed + 1) * lives)):
        pass
    shown = "\n".join(map(str, program.steps))
    replay = f"tests.simulation.graph_lives.failures({seed}, {lives}, {processes})"
    return [f"{failure.text(replay)}\n{shown}" for failure in campaign.simulation.failures]


def judged(
    program: Program, given: Mapping[str, Sequence[Any]], written: Mapping[str, Sequence[Any]]
) -> str | None:
    """How the output differs from what these records have to come to."""
    records = iter(given.values())
    steps = tuple(step.with_rows(next(records)) if step.kind == "source" else step for step in program.steps)
    ends = {
        end: [dict(row) for row in rows] for end, rows in zip(program.ends, written.values(), strict=True)
    }
    return compared(replace(program, steps=steps), ends)
