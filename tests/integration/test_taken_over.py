"""A job whose checkpoints another process has taken over ends, and says that this is why."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf


def _job() -> sf.Job:
    async def numbers(start: int) -> Any:
        while True:
            yield {"k": f"k{start % 3}", "n": start}
            start += 1
            await asyncio.sleep(0.001)

    job = sf.Job("taken-over")
    source = sf.source(numbers, schema={"k": sf.String, "n": sf.Int64})
    job.read(source).key_by("k").aggregate(n=sf.count()).collect()
    return job


@pytest.mark.parametrize("harm", ["nothing else", "its folder is gone"])
def test_the_reason_is_told_whatever_came_of_it(tmp_path: Path, harm: str) -> None:
    settings = {"checkpoint_dir": tmp_path, "checkpoint_interval": "50ms", "checkpoint_lock": False}

    async def story() -> None:
        first = await _job().start(**settings)
        await first.checkpoint()
        second = await _job().start(**settings, restore="none")
        await second.checkpoint()
        if harm == "its folder is gone":
            for folder in (tmp_path / "taken-over" / "work").iterdir():
                shutil.rmtree(folder)
        with pytest.raises(sf.StateError, match="another process has taken over job taken-over"):
            await first.wait()
        await second.cancel()

    asyncio.run(story())
