"""A database whose folder another process has cleared away: closing must not hide why this one ends."""

from __future__ import annotations

import shutil
from pathlib import Path

from streamflow.state.backends.rocksdb.backend import RocksDBBackend


def test_a_database_whose_folder_is_gone_closes_quietly(tmp_path: Path) -> None:
    backend = RocksDBBackend(tmp_path / "state")
    shutil.rmtree(tmp_path / "state")
    backend.close()
    backend.close()
