"""Workers store the parts of their subtasks, and others, maybe more or fewer, go on with their shares."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.api.physical import physical_plan
from streamflow.config import Settings
from streamflow.core.keys import key_group_range
from streamflow.disk import LocalDisk
from streamflow.graph.physical import PhysicalPlan
from streamflow.operators.contract.operator import OperatorSnapshot
from streamflow.runtime.checkpoints.restoring import Restored, needed_files
from streamflow.runtime.checkpoints.snapshots import OperatorShare, SubtaskPart, SubtaskSnapshot
from streamflow.runtime.checkpoints.taking import CheckpointMetrics, Checkpoints, Described
from streamflow.runtime.checkpoints.worker_checkpoints import WorkerCheckpoints
from streamflow.runtime.control.epochs import Complete
from streamflow.runtime.control.placement import Placement
from streamflow.runtime.ports import Inline, Ports
from streamflow.state.backends.factory import open_backend
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress
from streamflow.state.backends.saved import SavedKind
from streamflow.state.backends.state_memory import StateMemory
from streamflow.state.checkpoints.local_blobs import LocalBlobs
from streamflow.state.checkpoints.manifest import Manifest
from streamflow.state.checkpoints.part_store import PartStore
from streamflow.state.checkpoints.store import CheckpointStore
from streamflow.testing import TestClock

GROUPS = 128
SOURCE_STATE = {"order": 0, "payload": {}, "holds_watermark": True, "position": {"row": 3}}


class Count(sf.KeyedProcess):
    seen = sf.ValueState(int, default=0)

    def process(self, record: Any, ctx: Any) -> Iterator[Any]:
        yield record


def planned(parallelism: int) -> PhysicalPlan:
    job = sf.Job("shared")
    stream = job.read(sf.MemorySource([{"k": n} for n in range(3)]))
    stream.key_by("k").process(Count()).named("count").collect()
    return physical_plan(job.graph, Settings(parallelism=parallelism))


def kept_in(plan: PhysicalPlan) -> str:
    """The task that keeps the state of `count`."""
    return next(task.id for task in plan.tasks if any(each.id == "count" for each in task.chain))


class Taken:
    """A checkpoint of two subtasks, each on a worker of its own, with state in each key group."""

    def __init__(self, base: Path, kind: SavedKind) -> None:
        self.base, self.kind = base, kind
        self.ports = Ports(clock=TestClock(), io=Inline(), cpu=Inline())
        self.store = CheckpointStore(
            LocalBlobs(base / "checkpoints", LocalDisk()), "shared", clock=self.ports.clock
        )
        self.store.claim()
        self.plan = planned(2)
        self.source = next(task.source.id for task in self.plan.tasks if task.source is not None)
        described = [
            Described(self.source, "read", 2, {}),
            Described("count", "process", 2, {}),
        ]
        self.checkpoints = Checkpoints(
            self.store,
            self.ports,
            mode="streaming",
            max_parallelism=GROUPS,
            operators=described,
            parent=None,
            tolerated=1,
            metrics=CheckpointMetrics(),
            line="line-1",
        )

    def parts(self) -> PartStore:
        return PartStore(LocalBlobs(self.base / "checkpoints", LocalDisk(), exclusive=False), "shared")

    async def take(self) -> Manifest:
        self.checkpoints.begin(1, {self.source: {"splits": [], "final": True, "enumerator": None}})
        generation, link = await self.checkpoints.ready()
        parts: dict[str, SubtaskPart] = {}
        for worker in range(2):
            checkpoints = WorkerCheckpoints(self.parts(), self.ports)
            checkpoints.begin(1, generation, link=link)
            for name, snapshot in self._snapshots(worker):
                parts[name] = await checkpoints.keep(1, snapshot)
                self.checkpoints.adopt(parts[name])
        sealed = (("sink", {"chunks": [bytes(100_000)]}),)
        assert await self.checkpoints.publish(Complete(1, sealed, parts))
        return self.store.manifest(1)

    def _snapshots(self, worker: int) -> Iterator[tuple[str, SubtaskSnapshot]]:
        split = {**SOURCE_STATE, "id": f"split-{worker}", "watermark": 70 + worker}
        state = {"splits": [split], "watermark": 70 + worker}
        yield f"read-{worker}", SubtaskSnapshot(worker, source=(self.source, state))
        groups = key_group_range(worker, 2, GROUPS)
        backend = open_backend(self.kind, self.base / f"state-{worker}")
        backend.write(StateAddress("count", "seen"), [(group, b"k", str(group).encode()) for group in groups])
        table = [(group, pl.DataFrame({"k": [group]})) for group in groups]
        snapshot = OperatorSnapshot({"watermark": 50 + worker}, {"rows": table}, ("k",))
        saved = backend.save(self.base / f"saved-{worker}")
        yield f"count-{worker}", SubtaskSnapshot(worker, [OperatorShare("count", groups, snapshot, saved)])
        backend.close()


@contextmanager
def restored(taken: Taken, manifest: Manifest, plan: PhysicalPlan, placement: Placement, worker: int):
    mine = frozenset(placement.subtasks(worker))
    folder = taken.base / f"run-{plan.tasks[0].parallelism}-{placement.workers}-{worker}"
    needed = needed_files(manifest, plan, mine, sealed=False)
    content = taken.parts().bring(manifest, folder / "fetched", needed)
    found = Restored(content, taken.kind, folder, StateMemory(1 << 20, 2))
    found.load(plan, mine, sealed=False)
    try:
        yield found
    finally:
        found.close()


def rows_of(backend: KeyedStateBackend, groups: range) -> dict[int, bytes]:
    address = StateAddress("count", "seen")
    return {
        group: value
        for group in backend.groups(address)
        if group in groups
        for _, value in backend.scan(address, group)
    }


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
@pytest.mark.parametrize(("parallelism", "workers"), [(2, 2), (1, 1), (3, 2), (4, 3)])
def test_other_workers_restore_all_of_it_each_its_own_share(
    tmp_path: Path, kind: SavedKind, parallelism: int, workers: int
) -> None:
    taken = Taken(tmp_path, kind)
    manifest = asyncio.run(taken.take())
    plan = planned(parallelism)
    placement = Placement(plan, workers)
    rows: dict[int, bytes] = {}
    frames: list[int] = []
    for worker in range(workers):
        with restored(taken, manifest, plan, placement, worker) as found:
            assert found.sealed == []
            assert (found.line, found.event_times) == ("line-1", {"count": 50})
            start = found.sources[taken.source]
            assert (start.watermark, [state.split.id for state in start.splits]) == (
                70,
                ["split-0", "split-1"],
            )
            own = {number for task, number in placement.subtasks(worker) if task == kept_in(plan)}
            assert set(found.shares) == {("count", number) for number in own}
            for number in own:
                groups = key_group_range(number, parallelism, GROUPS)
                share = found.shares["count", number]
                backends = [share.adopted] if share.adopted else [part.backend for part in share.parts]
                for backend in backends:
                    assert backend is not None
                    rows |= rows_of(backend, groups)
                frames += [
                    group
                    for part in share.parts
                    for group, frame in part.tables["rows"]
                    if group in groups and frame["k"].to_list() == [group]
                ]
    assert rows == {group: str(group).encode() for group in range(GROUPS)}
    assert sorted(frames) == list(range(GROUPS))


def test_the_coordinator_keeps_output_and_positions_and_opens_no_state(tmp_path: Path) -> None:
    taken = Taken(tmp_path, "rocksdb")
    manifest = asyncio.run(taken.take())
    plan = planned(2)
    content, _ = taken.store.bring_latest(
        tmp_path / "own", lambda manifest: needed_files(manifest, plan, frozenset(), sealed=True)
    )
    assert content is not None
    found = Restored(content, "rocksdb", tmp_path / "own", StateMemory(1 << 20, 2))
    found.load(plan, frozenset())
    assert found.shares == {}
    assert found.sealed == [("sink", {"chunks": [bytes(100_000)]})]
    assert (found.event_times, found.sources[taken.source].watermark) == ({"count": 50}, 70)
    assert not (tmp_path / "own").exists()
    tables = [path for path, _ in manifest.all_files() if "/backend/" in path]
    assert tables
    assert not needed_files(manifest, plan, frozenset(), sealed=True) & set(tables)


def test_a_worker_reads_only_the_files_of_its_share(tmp_path: Path) -> None:
    taken = Taken(tmp_path, "rocksdb")
    manifest = asyncio.run(taken.take())
    plan = planned(2)
    needed = needed_files(manifest, plan, frozenset(Placement(plan, 2).subtasks(1)), sealed=False)
    assert {path for path in needed if path.startswith("count/0/")} == {
        "count/0/source.msgpack",
        "count/0/values.msgpack",
    }
    assert {path for path, _ in manifest.all_files() if path.startswith("count/1/")} <= needed
    assert not [path for path in needed if path.startswith("sealed/")]
