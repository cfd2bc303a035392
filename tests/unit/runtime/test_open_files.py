"""The number of files that a process may hold open while it runs a job."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamflow as sf
from streamflow.errors import StateError
from streamflow.state.backends.rocksdb.backend import RocksDBBackend

FEW = 256
"""The limit that macOS gives a shell."""


@pytest.fixture
def hard() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_job_may_open_more_files_than_a_shell_allows_and_no_more_than_its_owner_does(hard: int) -> None:
    if hard == FEW:
        pytest.skip("the owner of this machine allows no more")
    job = sf.Job("job")
    kept = job.read(sf.MemorySource([{"n": 1}])).collect()
    job.run(mode="batch")
    assert kept.rows() == [{"n": 1}]
    soft, after = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert after == hard
    assert soft > FEW
    assert hard == resource.RLIM_INFINITY or soft <= hard


def test_a_database_without_room_for_its_files_says_how_to_get_it(hard: int, tmp_path: Path) -> None:
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
    with pytest.raises(StateError, match=r"ulimit -n"):
        RocksDBBackend(tmp_path / "state")
