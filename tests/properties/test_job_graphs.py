"""Random job graphs give what plain Python makes of their records, however they are written and run.

Functions beside columns, unions and splits, windows behind windows, processes with timers, null keys, every aggregate
in any order; in three modes, several subtasks, any batches, both backends, with and without a crash.
`make reliability` tries five thousand.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from streamflow.windows.numbers import Sum
from tests.properties.graph_jobs import searched

GRAPHS = 40
PIECE = 10


@pytest.mark.parametrize("first", range(0, GRAPHS, PIECE))
def test_random_graphs_give_what_they_have_to(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + PIECE):
        wrong = searched(seed, tmp_path / str(seed))
        assert wrong is None, wrong


def test_a_fault_is_found_and_shown_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sums that are doubled whenever partials are merged, as a planted fault."""
    merges = Sum.merges
    monkeypatch.setattr(Sum, "merges", lambda sum, slot: [each * 2 for each in merges(sum, slot)])
    wrong = next(filter(None, (searched(seed, tmp_path / str(seed)) for seed in range(200))))
    assert "missing" in wrong
    assert wrong.count("Step(") <= 4
