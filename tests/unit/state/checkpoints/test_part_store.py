"""Parts of a checkpoint that workers store, and the coordinator publishes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from streamflow.disk import LocalDisk
from streamflow.errors import DamagedError, StateError
from streamflow.state.checkpoints.blobs import UnsyncedError
from streamflow.state.checkpoints.local_blobs import LocalBlobs
from streamflow.state.checkpoints.manifest import Manifest, OperatorEntry, StoredFile, SubtaskEntry
from streamflow.state.checkpoints.part_store import PartStore
from streamflow.state.checkpoints.store import CheckpointStore, CheckpointWriter, FencedError
from streamflow.testing.clock import TestClock
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.disk import DiskFault, SimDisk
from tests.unit.state.checkpoints.checkpointing import local_store

JOB = "flights"
ROOT = Path("/data/checkpoints")

WORKER = """
import sys
from pathlib import Path
import msgspec
from streamflow.disk import LocalDisk
from streamflow.state.checkpoints.blobs import open_blobs
from streamflow.state.checkpoints.part_store import PartStore

root, number, generation, own, name = sys.argv[1:]
store = PartStore(open_blobs(root, LocalDisk(), exclusive=False), "flights")
writer = store.session(int(number), int(generation), link=True)
table = Path(own, "000001.sst")
table.write_bytes(name.encode() * 1000)
files = [writer.put([name.encode()], "values.msgpack"), writer.put_file(table, "backend/1.sst", immutable=True)]
store.settle()
sys.stdout.buffer.write(msgspec.json.encode(files))
"""


def parts(root: Path, disk: LocalDisk | SimDisk | None = None) -> PartStore:
    return PartStore(LocalBlobs(root, disk or LocalDisk(), exclusive=False), JOB)


def manifest(number: int, *parts: list[StoredFile], job: StoredFile | None = None) -> Manifest:
    subtasks = tuple(SubtaskEntry(n, n, n, "rocksdb", tuple(files)) for n, files in enumerate(parts))
    operator = OperatorEntry("window-1", "window", len(parts), {}, subtasks)
    return Manifest(number, operators=(operator,), files=() if job is None else (job,))


def publish(checkpoint: CheckpointWriter, *parts: list[StoredFile]) -> Manifest:
    for files in parts:
        checkpoint.adopt(files)
    job = checkpoint.put([b"job"], "job.msgpack")
    return checkpoint.publish(manifest(checkpoint.number, *parts, job=job))


def test_what_two_processes_have_stored_is_published_as_one(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    with local_store(root) as store:
        store.claim()
        checkpoint = store.session(1)
        checkpoint.wait()
        stored: list[list[StoredFile]] = []
        for name in ("left", "right"):
            own = tmp_path / name
            own.mkdir()
            command = [sys.executable, "-c", WORKER, root, "1", str(checkpoint.generation), own, name]
            ran = subprocess.run(command, check=True, capture_output=True)
            stored.append(msgspec.json.decode(ran.stdout, type=list[StoredFile]))
            assert (own / "000001.sst").stat().st_nlink == 2  # a link: the device is the same
        published = publish(checkpoint, *stored)
    assert local_store(root).verify(1) == []
    for name, files in zip(("left", "right"), stored, strict=True):
        assert [local_store(root).read(file) for file in files] == [name.encode(), name.encode() * 1000]
    other = parts(root).bring(published, tmp_path / "brought", {"window-1/1/backend/1.sst"})
    assert other.path(stored[1][1]).read_bytes() == b"right" * 1000
    assert len(list((tmp_path / "brought").iterdir())) == 1


def test_a_file_is_stored_once_in_a_generation_also_after_it_was_brought(tmp_path: Path) -> None:
    table = tmp_path / "000001.sst"
    table.write_bytes(b"table")
    with local_store(tmp_path / "checkpoints", physical_every=3) as store:
        store.claim()
        worker = parts(tmp_path / "checkpoints")

        def again(number: int, path: Path) -> bool:
            checkpoint = store.session(number)
            writer = worker.session(number, checkpoint.generation, link=checkpoint.link)
            found = writer.stored(path, "1.sst")
            publish(checkpoint, [found or writer.put_file(path, "1.sst", immutable=True)])
            worker.published(number)
            return found is not None

        assert [again(number, table) for number in (1, 2, 3, 4)] == [False, True, False, True]
        assert {file.generation for _, file in store.manifest(4).all_files()} == {3}

        worker = parts(tmp_path / "checkpoints")
        brought = worker.bring(store.manifest(4), tmp_path / "brought", {"window-1/0/1.sst"})
        file = brought.immutable_files()[0]
        opened = tmp_path / "live.sst"
        brought.link(file, opened)
        assert again(5, opened)


def test_content_of_an_epoch_that_was_not_published_is_not_relied_upon(tmp_path: Path) -> None:
    table = tmp_path / "000001.sst"
    table.write_bytes(b"table")
    with local_store(tmp_path / "checkpoints") as store:
        store.claim()
        worker = parts(tmp_path / "checkpoints")
        checkpoint = store.session(1)
        worker.session(1, checkpoint.generation, link=True).put_file(table, "1.sst", immutable=True)
        checkpoint.abandon()
        checkpoint = store.session(2)
        writer = worker.session(2, checkpoint.generation, link=True)
        assert writer.stored(table, "1.sst") is None


def test_damage_in_a_part_that_only_workers_read_is_found_before_it_is_chosen(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    with local_store(root) as store:
        store.claim()
        worker = parts(root)
        for number in (1, 2):
            checkpoint = store.session(number)
            writer = worker.session(number, checkpoint.generation, link=False)
            publish(checkpoint, [writer.put([b"part", bytes([number])], "values.msgpack")])
        damaged = store.manifest(2).operators[0].subtasks[0].files[0]
        path = root / JOB / "blobs" / f"{damaged.generation:010}" / damaged.digest
        path.write_bytes(b"PART\x02")
        content, skipped = store.bring_latest(tmp_path / "own", lambda _: {"job.msgpack"})
        assert content is not None
        assert (content.manifest.number, [each.number for each in skipped]) == (1, [2])
        assert content.read(content.manifest.files[0]) == b"job"
        whole = content.manifest
        content.close()
        assert parts(root).bring(whole, None, {"window-1/0/values.msgpack"}) is not None
        path.with_name(whole.operators[0].subtasks[0].files[0].digest).unlink()
        with pytest.raises(DamagedError, match=r"window-1/0/values\.msgpack"):
            parts(root).bring(whole, None, {"window-1/0/values.msgpack"})
        parts(root).bring(whole, None, {"job.msgpack"})  # the share of another worker is not read


def test_a_part_of_another_generation_is_not_adopted(tmp_path: Path) -> None:
    with local_store(tmp_path) as store:
        store.claim()
        checkpoint = store.session(1)
        file = parts(tmp_path).session(1, 7, link=False).put([b"x"], "values.msgpack")
        with pytest.raises(StateError, match=r"generation 1, .* stored values\.msgpack in generation 7"):
            checkpoint.adopt([file])


def test_an_old_coordinator_cannot_publish_what_its_workers_have_stored(tmp_path: Path) -> None:
    def coordinator() -> CheckpointStore:
        return CheckpointStore(LocalBlobs(tmp_path, LocalDisk(), exclusive=False), JOB, clock=TestClock())

    old, new = coordinator(), coordinator()
    old.claim()
    checkpoint = old.session(1)
    file = parts(tmp_path).session(1, checkpoint.generation, link=False).put([b"x"], "values.msgpack")
    new.claim()
    with pytest.raises(FencedError):
        publish(checkpoint, [file])
    assert new.numbers() == []


def test_removal_waits_for_the_parts_of_the_epoch_that_has_begun(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    removed: list[str] = []
    begun: list[CheckpointWriter] = []

    def reach(point: str) -> None:
        if point == "retain.blob_removed":
            removed.append(point)
            if not begun:
                begun.append(store.session(4))

    store = local_store(root, keep=1, physical_every=1, reach=reach)
    store.claim()
    worker = parts(root)
    for number in (1, 2, 3):
        checkpoint = store.session(number)
        writer = worker.session(number, checkpoint.generation, link=False)
        publish(checkpoint, [writer.put([b"a%d" % number], "a"), writer.put([b"b%d" % number], "b")])
    store.retain()
    assert len(removed) == 1  # an epoch began meanwhile: the rest waits
    [checkpoint] = begun
    checkpoint.wait()
    file = worker.session(4, checkpoint.generation, link=False).put([b"new"], "a")
    store.retain()
    assert len(removed) == 1
    publish(checkpoint, [file])
    store.retain()
    assert len(removed) > 1
    assert store.verify(4) == []


def test_what_was_settled_survives_a_power_failure_with_folders_that_a_dead_worker_has_made() -> None:
    disk = SimDisk()
    with CheckpointStore(LocalBlobs(ROOT, disk), JOB, clock=TestClock()) as store:
        store.claim()
        checkpoint = store.session(1)
        parts(ROOT, disk).session(1, checkpoint.generation, link=False).put([b"never settled"], "a")
        worker = parts(ROOT, disk)
        file = worker.session(1, checkpoint.generation, link=False).put([b"settled"], "a")
        worker.settle()
        checkpoint.adopt([file])
        published = checkpoint.publish(manifest(1, [file]))
        for seed in range(60):
            after = disk.crash("power", Chance(seed))
            left = CheckpointStore(LocalBlobs(ROOT, after), JOB, clock=TestClock())
            assert left.verify(1) == []
            assert left.read(published.operators[0].subtasks[0].files[0]) == b"settled"


def test_what_was_not_settled_may_be_lost() -> None:
    """The failure that the order of settling and acknowledging prevents can be seen in the simulated disk."""
    disk = SimDisk()
    with CheckpointStore(LocalBlobs(ROOT, disk), JOB, clock=TestClock()) as store:
        store.claim()
        checkpoint = store.session(1)
        file = parts(ROOT, disk).session(1, checkpoint.generation, link=False).put([b"unsettled"], "a")
        checkpoint.adopt([file])
        checkpoint.publish(manifest(1, [file]))
        lost = [
            seed
            for seed in range(60)
            if CheckpointStore(
                LocalBlobs(ROOT, disk.crash("power", Chance(seed))), JOB, clock=TestClock()
            ).verify(1)
        ]
        assert lost


def test_a_disk_that_did_not_confirm_is_not_asked_again_in_that_generation() -> None:
    disk = SimDisk()
    store = CheckpointStore(LocalBlobs(ROOT, disk), JOB, clock=TestClock())
    store.claim()
    checkpoint = store.session(1)

    class Failing(LocalBlobs):
        fails = True

        def settle(self) -> None:
            if self.fails:
                self.fails = False
                raise UnsyncedError("it may not survive a crash")
            super().settle()

    worker = PartStore(Failing(ROOT, disk, exclusive=False), JOB)
    worker.session(1, checkpoint.generation, link=False).put([b"x"], "a")
    failures: list[StateError] = []
    for _ in range(2):
        with pytest.raises(UnsyncedError) as caught:
            worker.settle()
        failures.append(caught.value)
    checkpoint.abandon(failures)
    following = store.session(2)
    assert following.generation == 2
    worker.session(2, following.generation, link=False).put([b"x"], "a")
    worker.settle()


def test_whoever_settles_second_waits_for_the_first(tmp_path: Path) -> None:
    syncing, go_on = threading.Event(), threading.Event()

    class Slow(LocalDisk):
        def sync_folder(self, path: Path) -> None:
            syncing.set()
            assert go_on.wait(30)
            super().sync_folder(path)

    worker = PartStore(LocalBlobs(tmp_path, Slow(), exclusive=False), JOB)
    worker.session(1, 1, link=False).put([b"x"], "a")
    ended: list[str] = []

    def settle(name: str) -> None:
        worker.settle()
        ended.append(name)

    first, second = (threading.Thread(target=settle, args=[name]) for name in ("first", "second"))
    first.start()
    assert syncing.wait(30)
    second.start()
    second.join(0.05)
    assert second.is_alive()
    assert ended == []
    go_on.set()
    first.join(30)
    second.join(30)
    assert sorted(ended) == ["first", "second"]


def test_a_failed_sync_of_a_worker_reaches_its_caller() -> None:
    disk = SimDisk(faults=[DiskFault("sync", 1, 1_000)])
    worker = parts(ROOT, disk)
    with pytest.raises(UnsyncedError):
        worker.session(1, 1, link=False).put([b"x"], "a")
