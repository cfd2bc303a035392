"""A cluster of two nodes, one of which goes away for good: its worker goes on on the one that comes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.running import MADE, loaded, until
from tests.processes.test_runs import ON_TWO, RECORDS, check_made, taken
from tests.ray.marks import RAY

ray = pytest.importorskip("ray")
pytestmark = RAY
STORE = 100 << 20


@pytest.fixture
def nodes() -> Iterator[Any]:
    """Two nodes of one core each, so that each has a worker."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE})
    cluster.add_node(num_cpus=1, object_store_memory=STORE)
    yield cluster
    cluster.shutdown()


def test_a_worker_whose_node_is_gone_goes_on_on_another_one(tmp_path: Path, nodes: Any) -> None:
    async def whole() -> None:
        job, _ = loaded("made", tmp_path, MADE, made=2 * RECORDS)
        settings: dict[str, Any] = {
            **ON_TWO,
            "runner": "ray",
            "ray_address": nodes.address,
            "worker_timeout": "60s",
        }
        handle = await job.start(checkpoint_dir=tmp_path / "checkpoints", **settings)
        await until(handle, lambda: taken(handle) >= 2)
        (second,) = nodes.worker_nodes
        await asyncio.to_thread(nodes.remove_node, second, allow_graceful=False)
        await until(handle, lambda: handle.status().restarts >= 1)
        nodes.add_node(num_cpus=1, object_store_memory=STORE)  # Ray does so in the main thread alone
        assert (await handle.wait()).restarts >= 1

    asyncio.run(whole())
    check_made(tmp_path, 2 * RECORDS)
