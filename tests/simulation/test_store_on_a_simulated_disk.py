"""The checkpoint store on a disk that loses what was not synced: what the simulator has found there, case by case."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamflow.errors import StateError
from streamflow.state.checkpoints.local_blobs import LocalBlobs
from streamflow.state.checkpoints.manifest import Manifest
from streamflow.state.checkpoints.store import CheckpointStore
from streamflow.testing.clock import TestClock
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.disk import DiskFault, SimDisk
from streamflow.testing.simulation.run import damaged_checkpoints

ROOT = Path("/data/checkpoints")


class Killed(BaseException):
    """The process is killed here."""


def store_on(disk: SimDisk, *, dies_at: str | None = None, keep: int = 3) -> CheckpointStore:
    def reach(point: str) -> None:
        if point == dies_at:
            raise Killed

    return CheckpointStore(LocalBlobs(ROOT, disk), "job", clock=TestClock(), keep=keep, reach=reach)


def publish(store: CheckpointStore, number: int) -> None:
    writer = store.session(number)
    stored = writer.put([f"state {number}".encode()], "job.msgpack")
    writer.publish(Manifest(number=number, files=(stored,)))


def power_failures(disk: SimDisk) -> list[SimDisk]:
    """The possible disks after a power failure."""
    return [disk.crash("power", Chance(seed)) for seed in range(60)]


def test_folders_that_a_killed_process_has_made_are_synced_by_the_next():
    disk = SimDisk(faults=[DiskFault("sync", 1, 50)])
    with pytest.raises(StateError, match="may not survive"):
        store_on(disk).claim()
    disk = disk.handed_over()
    store = store_on(disk)
    store.claim()
    publish(store, 1)
    for after in power_failures(disk):
        assert store_on(after).numbers() == [1]
        assert damaged_checkpoints(after, ROOT) is None


def test_a_manifest_whose_removal_was_not_synced_does_not_come_back_without_its_content():
    disk = SimDisk()
    store = store_on(disk, dies_at="retain.manifest_removed", keep=1)
    store.claim()
    publish(store, 1)
    publish(store, 2)
    with pytest.raises(Killed):
        store.retain()
    disk = disk.handed_over()
    store_on(disk).claim()  # removes content that no manifest names
    for after in power_failures(disk):
        assert damaged_checkpoints(after, ROOT) is None


def test_a_folder_whose_sync_failed_is_synced_before_the_next_publication():
    for first in range(1, 40):
        disk = SimDisk(faults=[DiskFault("sync", first, 2)])
        store = store_on(disk)
        numbers = []
        for number in range(1, 4):
            try:
                store.claim()
                publish(store, number)
            except StateError:
                continue
            numbers.append(number)
        for after in power_failures(disk)[:10]:
            assert set(store_on(after).numbers()) >= set(numbers)
            assert damaged_checkpoints(after, ROOT) is None


@pytest.mark.slow
def test_a_crash_before_any_call_of_the_disk_leaves_the_newest_checkpoint_or_the_one_before():
    calls = _until_the_end(SimDisk())
    for end in range(1, calls + 1):
        made = 0

        def dies_there(what: str, end: int = end) -> None:
            nonlocal made
            made += 1
            if made == end:
                raise Killed

        disk = SimDisk(on_call=dies_there)
        published: list[int] = []
        with pytest.raises(Killed):
            _until_the_end(disk, published)
        for loss, seed in (("power", 0), ("power", 1), ("kill", 0)):
            after = disk.crash(loss, Chance(seed))
            assert damaged_checkpoints(after, ROOT) is None
            numbers = store_on(after).numbers()
            newest = max(published, default=0)
            assert max(numbers, default=0) in (newest, newest + 1)
            following = store_on(after)
            following.claim()
            publish(following, following.next_number())
            assert following.latest_intact()[0] is not None


def _until_the_end(disk: SimDisk, published: list[int] | None = None) -> int:
    """Three checkpoints, of which two are retained; how many calls of the disk that takes. Further ones would make the
    calls of the last again."""
    store = store_on(disk, keep=2)
    store.claim()
    for number in range(1, 4):
        publish(store, number)
        if published is not None:
            published.append(number)
        store.retain()
    return disk.calls
