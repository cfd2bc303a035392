"""A job's metrics of its checkpoints and restarts, as Prometheus scrapes them."""

import asyncio
from pathlib import Path
from typing import Any

import streamflow as sf
from streamflow.observe.prometheus import RegistryCollector


def scraped(registry: Any) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in RegistryCollector(registry).collect()
        for sample in family.samples
        if set(sample.labels) == {"job"}
    }


def finished(**settings: Any) -> dict[str, float]:
    async def whole() -> dict[str, float]:
        job = sf.Job("counted")
        job.read(sf.MemorySource([{"n": 1}])).collect()
        handle = await job.start(**settings)
        await handle.wait()
        return scraped(handle.registry)

    return asyncio.run(whole())


def test_checkpoints_are_counted_sized_and_aged(tmp_path: Path) -> None:
    found = finished(checkpoint_dir=str(tmp_path))
    assert found["streamflow_checkpoints_total"] == found["streamflow_checkpoint_number"] == 1
    assert found["streamflow_checkpoint_failures_total"] == found["streamflow_restarts_total"] == 0
    assert found["streamflow_checkpoint_size_bytes"] > 0
    assert found["streamflow_checkpoint_duration_seconds"] > 0
    assert found["streamflow_checkpoint_age_seconds"] >= 0


def test_a_job_without_checkpoints_tells_of_none() -> None:
    assert not [name for name in finished() if "checkpoint" in name]
