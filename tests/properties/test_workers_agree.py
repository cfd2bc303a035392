"""Law 2 over workers (SEMANTICS §8): a job gives the same results on several of them as on one."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamflow.testing import check_modes_agree
from tests.properties.graph_jobs import searched
from tests.simulation.jobs import JOBS


@pytest.mark.parametrize("workers", [2, 3])
def test_random_graphs_give_what_they_have_to_on_workers(workers: int, tmp_path: Path) -> None:
    """In three modes, with and without checkpoints and a failure after which the workers start again."""
    for seed in range(10 * workers, 10 * workers + 4):
        wrong = searched(seed, tmp_path / str(seed), workers=workers)
        assert wrong is None, wrong


@pytest.mark.parametrize("name", ["union", "late-sessions"])
def test_modes_agree_on_workers(name: str) -> None:
    results = check_modes_agree(JOBS[name], parallelism=(3,), batch_rows=(7,), workers=(1, 3))
    assert all(rows for rows in results.values())
