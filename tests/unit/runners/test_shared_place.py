"""Folders of checkpoints that hosts share, or only the name of one."""

import asyncio
import shutil
from pathlib import Path

import pytest

from streamflow.disk import LocalDisk
from streamflow.errors import ConfigError
from streamflow.runners.processes.shared_place import SharedPlace
from streamflow.runtime.ports import Ports
from streamflow.state.checkpoints.blobs import open_blobs
from streamflow.state.checkpoints.probe import check_probe, lay_probe
from streamflow.time.clock import SeededRandom


def test_a_worker_has_to_answer_in_the_same_folder(tmp_path: Path) -> None:
    here, elsewhere = (open_blobs(tmp_path / name, LocalDisk()) for name in ("here", "elsewhere"))
    random = SeededRandom(7)

    async def proven() -> None:
        ports = Ports()
        shared = SharedPlace(str(tmp_path / "here"), "flights", ports)
        await shared.open()
        assert shared.probe is not None
        check_probe(here, "flights", shared.probe, host="worker-1")
        with pytest.raises(ConfigError, match="not the same folder on host worker-2"):
            check_probe(elsewhere, "flights", shared.probe, host="worker-2")
        await shared.check(lay_probe(here, "flights", random), "worker-1")
        with pytest.raises(ConfigError, match="not the same folder on host worker-2"):
            await shared.check(lay_probe(elsewhere, "flights", random), "worker-2")
        await shared.close()
        ports.close()

    asyncio.run(proven())
    assert not [file for file in (tmp_path / "here").rglob("*") if file.is_file()]
    shutil.rmtree(tmp_path / "elsewhere")
