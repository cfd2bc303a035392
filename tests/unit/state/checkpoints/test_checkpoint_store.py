"""The checkpoint store over a job's life: its writer, and the checkpoints kept, shared and set aside."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from streamflow.disk import LocalDisk
from streamflow.errors import DamagedError, StateError
from streamflow.state.checkpoints.blobs import open_blobs
from streamflow.state.checkpoints.manifest import Manifest, encode_manifest
from streamflow.state.checkpoints.store import CheckpointStore, FencedError, jobs_in
from streamflow.testing.clock import TestClock
from streamflow.time.clock import SystemClock
from tests.unit.state.checkpoints.checkpointing import content, described, local_store, take


@pytest.fixture
def store(tmp_path: Path):
    with local_store(tmp_path / "root") as opened:
        opened.claim()
        yield opened


class CountingDisk(LocalDisk):
    """Notes which files are read and written."""

    def __init__(self) -> None:
        self.reads: list[Path] = []
        self.written = 0

    def read(self, path: Path) -> bytes:
        self.reads.append(path)
        return super().read(path)

    def chunks(self, path: Path) -> Iterator[bytes]:
        self.reads.append(path)
        return super().chunks(path)

    def write(self, path: Path, data: bytes, *, private: bool = False) -> None:
        self.written += len(data)
        super().write(path, data, private=private)


def table(folder: Path, name: str, size: int = 1_000) -> Path:
    path = folder / name
    path.write_bytes(name.encode().ljust(size, b"."))
    return path


class TestPublishing:
    def test_what_was_published_is_read_back(self, store: CheckpointStore) -> None:
        manifest = take(store, 7, {"values": b"v", "more/parts": b""}, mode="streaming", finished=True)
        assert store.numbers() == [7]
        assert store.latest() == store.manifest(7) == manifest
        assert store.latest_intact() == (manifest, [])
        assert content(store, manifest) == {"values": b"v", "more/parts": b""}
        assert (manifest.job, manifest.incarnation, manifest.generation, manifest.format) == (
            "flights",
            1,
            7,
            2,
        )
        assert manifest.created == TestClock().now()
        assert manifest.size == 1

    def test_nothing_is_there_before_the_manifest(self, store: CheckpointStore) -> None:
        writer = store.session(1)
        writer.put([b"a"], "a")
        assert store.numbers() == []
        assert store.latest() is None
        assert store.latest_intact() == (None, [])
        writer.abandon()

    def test_the_parent_is_filled_in(self, store: CheckpointStore) -> None:
        assert take(store, 1, {}).parent is None
        assert take(store, 2, {}).parent == 1
        assert take(store, 5, {}).parent == 2

    def test_a_number_is_published_once(self, store: CheckpointStore) -> None:
        take(store, 1, {"a": b"a"})
        with pytest.raises(StateError, match="has a checkpoint 1 already"):
            take(store, 1, {"a": b"b"})
        assert content(store, store.manifest(1)) == {"a": b"a"}

    def test_a_file_that_was_not_stored_for_it_is_refused(self, store: CheckpointStore) -> None:
        stranger = take(store, 1, {"a": b"a"}).all_files()[0][1]
        writer = store.session(2)
        with pytest.raises(StateError, match="names window-1/0/a, which was not stored for it"):
            writer.publish(described(2, [stranger]))
        other = msgspec.structs.replace(stranger, generation=2)
        with pytest.raises(StateError, match="was not stored for it"):
            writer.publish(described(2, [other]))

    def test_a_checkpoint_that_is_over_cannot_be_published(self, store: CheckpointStore) -> None:
        writer = store.session(1)
        writer.abandon()
        with pytest.raises(StateError, match="is over already"):
            writer.publish(Manifest(1))
        writer.abandon()

    def test_its_number_is_that_of_the_session(self, store: CheckpointStore) -> None:
        with pytest.raises(StateError, match="is over"):
            store.session(1).publish(Manifest(2))

    def test_files_are_put_by_several_threads(self, store: CheckpointStore, tmp_path: Path) -> None:
        writer = store.session(1)
        stored = []

        def put(index: int) -> None:
            stored.extend(writer.put([b"%d %d" % (index, each)] * 10, f"{index}-{each}") for each in range(5))
            stored.append(writer.put_file(table(tmp_path, f"{index}.sst"), f"{index}.sst", immutable=True))

        threads = [threading.Thread(target=put, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.publish(described(1, stored))
        assert len(stored) == 48
        assert store.verify(1) == []

    def test_without_a_claim_nothing_is_written(self, tmp_path: Path) -> None:
        with pytest.raises(StateError, match="was not claimed"):
            local_store(tmp_path).session(1)
        assert list(tmp_path.iterdir()) == []

    def test_named_steps_are_reached_in_order(self, tmp_path: Path) -> None:
        steps: list[str] = []
        with local_store(tmp_path, reach=steps.append, keep=1) as store:
            store.claim()
            take(store, 1, {"a": b"1", "b": b"2"})
            assert steps == [
                "store.blob_written", "store.blob_written", "manifest.before", "manifest.written", "manifest.named",
                "manifest.published",
            ]  # fmt: skip
            take(store, 2, {})
            steps.clear()
            store.retain()
            assert steps == ["retain.manifest_removed", "retain.blob_removed", "retain.blob_removed"]

    @pytest.mark.parametrize("options", [{"keep": 0}, {"physical_every": 0}])
    def test_settings_that_make_no_sense_are_refused(self, tmp_path: Path, options: dict[str, int]) -> None:
        with pytest.raises(StateError):
            local_store(tmp_path, **options)


class TestSharing:
    def test_unchanged_tables_are_neither_read_nor_written_again(self, tmp_path: Path) -> None:
        disk = CountingDisk()
        tables = {f"{n}.sst": table(tmp_path, f"{n}.sst", 100_000) for n in range(20)}
        with local_store(tmp_path / "root", disk) as store:
            store.claim()
            take(store, 1, tables)
            assert len([path for path in disk.reads if path.suffix == ".sst"]) == 20
            disk.reads.clear()
            disk.written = 0
            new = table(tmp_path, "20.sst")
            manifest = take(store, 2, {**tables, "20.sst": new, "values": b"v"})
            assert [path for path in disk.reads if path.suffix == ".sst"] == [new]
            assert disk.written < 20_000
            assert store.verify(2) == []
            assert manifest.size > 2_000_000

    def test_a_restored_table_is_known(self, tmp_path: Path) -> None:
        with local_store(tmp_path / "root") as store:
            store.claim()
            take(store, 1, {"1.sst": table(tmp_path, "1.sst")})
        disk = CountingDisk()
        with local_store(tmp_path / "root", disk) as store:
            store.claim()
            brought, _ = store.bring_latest(None)
            assert brought is not None
            restored = tmp_path / "restored.sst"
            brought.link(brought.manifest.all_files()[0][1], restored)
            brought.close()
            assert restored.read_bytes() == (tmp_path / "1.sst").read_bytes()
            disk.reads.clear()
            assert take(store, 2, {"1.sst": restored}, parent=1).all_files()[0][1].generation == 1
            assert [path for path in disk.reads if path.suffix == ".sst"] == []

    def test_a_file_that_took_the_name_of_another_is_stored(
        self, store: CheckpointStore, tmp_path: Path
    ) -> None:
        path = table(tmp_path, "1.sst")
        take(store, 1, {"1.sst": path})
        path.unlink()
        path.write_bytes(b"z" * 1_000)  # the same name and size, as after a restore of something else
        assert content(store, take(store, 2, {"1.sst": path})) == {"1.sst": b"z" * 1_000}

    def test_content_that_went_missing_is_stored_again(self, store: CheckpointStore, tmp_path: Path) -> None:
        path = table(tmp_path, "1.sst")
        file = take(store, 1, {"1.sst": path}).all_files()[0][1]
        (tmp_path / f"root/flights/blobs/{file.generation:010}/{file.digest}").unlink()
        take(store, 2, {"1.sst": path})
        assert store.verify(2) == []

    def test_every_kth_checkpoint_shares_nothing_with_those_before(self, tmp_path: Path) -> None:
        path = table(tmp_path, "1.sst")
        with local_store(tmp_path / "root", physical_every=3, keep=100) as store:
            store.claim()
            generations = [take(store, n, {"1.sst": path}).generation for n in range(1, 8)]
            assert generations == [1, 1, 3, 3, 3, 6, 6]
            stored = sorted((tmp_path / "root/flights/blobs").rglob("*/*"))
            assert len({each.stat().st_ino for each in stored}) == len(stored) == 3

    def test_after_a_restart_the_generation_goes_on(self, tmp_path: Path) -> None:
        for number, generation in ((1, 1), (2, 1), (10, 10), (11, 10)):
            with local_store(tmp_path) as store:
                store.claim()
                assert take(store, number, {"a": b"a"}, parent=number - 1).generation == generation

    def test_a_table_that_cannot_be_linked_is_copied(self, tmp_path: Path) -> None:
        class OtherDevice(LocalDisk):
            def link(self, old: Path, new: Path) -> None:
                if old.suffix == ".sst":
                    raise OSError(18, "Invalid cross-device link")
                super().link(old, new)

        path = table(tmp_path, "1.sst")
        with local_store(tmp_path / "root", OtherDevice()) as store:
            store.claim()
            take(store, 1, {"1.sst": path})
            assert path.stat().st_nlink == 1
            assert store.verify(1) == []

    def test_a_file_system_without_links_will_do(self, tmp_path: Path) -> None:
        class NoLinks(LocalDisk):
            def link(self, old: Path, new: Path) -> None:
                raise PermissionError(1, "Operation not permitted")

        path = table(tmp_path, "1.sst")
        with local_store(tmp_path / "root", NoLinks()) as store:
            store.claim()
            take(store, 1, {"1.sst": path})
            with pytest.raises(StateError, match="has a checkpoint 1 already"):
                take(store, 1, {"1.sst": path})
            file = take(store, 2, {"1.sst": path}).all_files()[0][1]
            store.fetch(file, tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == path.read_bytes()
            assert [store.verify(number) for number in store.numbers()] == [[], []]
            assert [each for each in tmp_path.rglob("*") if each.name.startswith(".tmp-")] == []

    def test_what_is_not_immutable_is_always_copied(self, store: CheckpointStore, tmp_path: Path) -> None:
        path = table(tmp_path, "rocksdict-config.json")
        writer = store.session(1)
        file = writer.put_file(path, "rocksdict-config.json", immutable=False)
        writer.publish(described(1, [file]))
        assert path.stat().st_nlink == 1
        assert not file.immutable
        store.fetch(file, tmp_path / "out")
        assert (tmp_path / "out").stat().st_nlink == 1


class TestRetention:
    def test_the_newest_stay_and_one_of_the_generation_before(self, tmp_path: Path) -> None:
        with local_store(tmp_path, keep=3) as store:
            store.claim()
            for number in range(1, 24):
                take(store, number, {"n": b"%d" % number})
                store.retain()
                assert all(store.verify(each) == [] for each in store.numbers())
            assert store.numbers() == [19, 21, 22, 23]
            assert len(list((tmp_path / "flights/blobs").rglob("*/*"))) == 4

    def test_savepoints_stay_for_ever(self, tmp_path: Path) -> None:
        with local_store(tmp_path, keep=1) as store:
            store.claim()
            take(store, 1, {"n": b"1"}, kind="savepoint")
            for number in range(2, 5):
                take(store, number, {"n": b"%d" % number})
            assert store.retain() == [2, 3]
            assert store.numbers() == [1, 4]
            assert store.verify(1) == []

    def test_content_that_two_need_outlives_one(self, tmp_path: Path) -> None:
        with local_store(tmp_path, keep=1) as store:
            store.claim()
            take(store, 1, {"same": b"same", "old": b"old"})
            take(store, 2, {"same": b"same"})
            store.retain()
            assert store.verify(2) == []
            assert len(list((tmp_path / "flights/blobs").rglob("*/*"))) == 1

    def test_nothing_is_removed_while_a_checkpoint_is_written(self, tmp_path: Path) -> None:
        with local_store(tmp_path, keep=1) as store:
            store.claim()
            take(store, 1, {"a": b"a"})
            take(store, 2, {"b": b"b"})
            writer = store.session(3)
            file = writer.put([b"a"], "a")  # what only checkpoint 1 named until now
            assert store.retain() == [1]
            writer.publish(described(3, [file]))
            assert store.verify(3) == []
            assert store.retain() == [2]
            assert content(store, store.manifest(3)) == {"a": b"a"}
            assert len(list((tmp_path / "flights/blobs").rglob("*/*"))) == 1

    def test_what_waited_is_removed_when_the_checkpoint_is_over(self, tmp_path: Path) -> None:
        with local_store(tmp_path, keep=1) as store:
            store.claim()
            take(store, 1, {"a": b"a"})
            take(store, 2, {"b": b"b"})
            writer = store.session(3)
            store.retain()
            assert len(list((tmp_path / "flights/blobs").rglob("*/*"))) == 2
            writer.abandon()
            assert len(list((tmp_path / "flights/blobs").rglob("*/*"))) == 1

    def test_one_can_be_removed(self, store: CheckpointStore) -> None:
        for number in (1, 2):
            take(store, number, {"n": b"%d" % number})
        store.remove(2)
        assert store.numbers() == [1]
        with pytest.raises(StateError, match="has no checkpoint 2"):
            store.remove(2)

    def test_the_last_one_can_be_removed_and_then_there_never_was_one(self, store: CheckpointStore) -> None:
        take(store, 1, {"n": b"1"})
        store.remove(1)
        assert store.latest_intact() == (None, [])
        assert store.next_number() == 2

    def test_a_damaged_manifest_is_put_aside_and_its_content_goes(self, tmp_path: Path) -> None:
        with local_store(tmp_path, keep=5) as store:
            store.claim()
            take(store, 1, {"n": b"1"})
        (tmp_path / "flights/manifests/0000000001").write_bytes(b"rot")
        with local_store(tmp_path, keep=5) as store:
            store.claim()
            assert len(list((tmp_path / "flights/blobs").rglob("*/*"))) == 1, (
                "until it is known what it named"
            )
            take(store, 2, {"n": b"2"}, parent=1)
            store.retain()
            assert store.numbers() == [2]
            assert len(list((tmp_path / "flights/blobs").rglob("*/*"))) == 1

    def test_with_the_wrong_key_nothing_is_removed(self, tmp_path: Path) -> None:
        with local_store(tmp_path, key=b"right") as store:
            store.claim()
            for number in range(1, 6):
                take(store, number, {"n": b"%d" % number})
        for key in (b"wrong", None):
            with local_store(tmp_path, key=key, keep=1) as store:
                store.claim()
                with pytest.raises(StateError, match="sign"):
                    store.retain()
                with pytest.raises(StateError, match="sign"):
                    store.latest_intact()
        with local_store(tmp_path, key=b"right") as store:
            assert store.numbers() == [1, 2, 3, 4, 5]
            assert [store.verify(number) for number in store.numbers()] == [[]] * 5


class TestClaims:
    def test_numbers_of_claims_grow(self, tmp_path: Path) -> None:
        for expected in (1, 2, 3):
            with local_store(tmp_path) as store:
                assert store.claim() == store.claim() == store.incarnation == expected
        assert sorted(path.name for path in (tmp_path / "flights/claims").iterdir()) == ["0000000003"]

    def test_a_second_store_is_refused_by_the_process_that_runs_the_job(self, store: CheckpointStore) -> None:
        import os

        second = CheckpointStore(store.blobs, "flights", clock=TestClock())
        with pytest.raises(
            StateError, match=rf"in use: held by process {os.getpid()}; one process at a time"
        ):
            second.claim()
        for change in (second.retain, lambda: second.remove(1)):
            with pytest.raises(StateError, match="in use"):
                change()
        assert second.numbers() == []  # reading is free
        store.close()
        assert second.claim() == 2
        second.close()

    def test_a_folder_without_lock_is_taken_over_and_the_other_process_is_fenced(
        self, tmp_path: Path
    ) -> None:
        """A process that hangs holds its lock: the one that takes over must not wait for it."""

        def unlocked() -> CheckpointStore:
            blobs = open_blobs(tmp_path, LocalDisk(), exclusive=False)
            return CheckpointStore(blobs, "flights", clock=TestClock())

        script = (
            "import sys; from pathlib import Path; from streamflow.disk import LocalDisk\n"
            "from streamflow.state.checkpoints.blobs import open_blobs\n"
            "lock = open_blobs(Path(sys.argv[1]), LocalDisk()).lock('flights/lock')\n"
            "print('held', flush=True); sys.stdin.read()"
        )
        with unlocked() as earlier:
            earlier.claim()
            take(earlier, 1, {"a": b"1"})
        with subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(StateError, match="are in use"):
                local_store(tmp_path).claim()
            first = unlocked()
            first.claim()
            writer = first.session(2)
            stored = [writer.put([b"2"], "a")]
            second = unlocked()
            second.claim()
            with pytest.raises(FencedError, match="another process has taken over"):
                writer.publish(described(2, stored))
            assert take(second, 3, {"a": b"3"}, parent=1).number == 3
            holder.communicate("")

    def test_the_lock_ends_with_the_process(self, tmp_path: Path) -> None:
        program = (
            "import os, sys; from pathlib import Path\n"
            "from tests.unit.state.checkpoints.checkpointing import local_store\n"
            "local_store(Path(sys.argv[1])).claim(); print(os.getpid(), flush=True); sys.stdin.read()"
        )
        root = Path(__file__).parents[4]
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], cwd=root, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": str(root)},
        )  # fmt: skip
        with child:
            assert child.stdout is not None
            pid = child.stdout.readline().strip()
            with pytest.raises(StateError, match=f"held by process {pid}"):
                local_store(tmp_path).claim()
            child.kill()
        with local_store(tmp_path) as store:
            assert store.claim() == 2

    def test_what_a_dead_run_left_is_swept(self, tmp_path: Path) -> None:
        with local_store(tmp_path) as store:
            store.claim()
            take(store, 1, {"a": b"a"})
            store.session(2).put([b"never published"], "b")
        (tmp_path / "flights/blobs/0000000001/.tmp-3").write_bytes(b"half")
        (tmp_path / "flights/manifests/.tmp-4").write_bytes(b"half")
        with local_store(tmp_path) as store:
            assert store.numbers() == [1]
            store.claim()
            assert store.verify(1) == []
        left = {
            path.relative_to(tmp_path / "flights").parts[0] for path in tmp_path.rglob("*") if path.is_file()
        }
        assert left == {"blobs", "claims", "lock", "manifests"}
        assert len(list((tmp_path / "flights/blobs").rglob("*/*"))) == 1

    def test_two_jobs_share_a_root(self, tmp_path: Path) -> None:
        with local_store(tmp_path, job="one") as one, local_store(tmp_path, job="two") as two:
            one.claim()
            two.claim()
            take(one, 1, {"a": b"1"})
            take(two, 1, {"a": b"2"})
            assert content(one, one.manifest(1)) == {"a": b"1"}
            assert jobs_in(open_blobs(tmp_path, LocalDisk())) == ["one", "two"]

    @pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "a" * 64, "a.b", "a\n"])
    def test_a_job_has_a_name_that_can_be_a_folder(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(StateError, match="cannot be a job's name"):
            local_store(tmp_path, job=name)


class TestLineage:
    """Going back is only right along the way that the job came."""

    def test_numbers_grow_over_restarts(self, tmp_path: Path) -> None:
        with local_store(tmp_path) as store:
            store.claim()
            assert store.next_number() == 1
            take(store, 1, {})
            take(store, 4, {})
            assert store.next_number() == 5
            store.remove(4)
            assert store.next_number() == 5
        with local_store(tmp_path) as store:
            store.claim()
            store.quarantine(1, "to see")
            assert store.next_number() >= 2

    def test_going_on_from_an_older_one_sets_the_newer_ones_aside(self, tmp_path: Path) -> None:
        with local_store(tmp_path) as store:
            store.claim()
            for number in range(1, 5):
                take(store, number, {"n": b"%d" % number})
        with local_store(tmp_path, keep=9) as store:
            store.claim()
            take(store, 5, {"n": b"5"}, parent=2)
            assert store.numbers() == [1, 2, 5]
            why = (tmp_path / "flights/quarantine/0000000003.1.why").read_text()
            assert why == "the job went on from checkpoint 2 to checkpoint 5"
            take(store, 6, {"n": b"6"}, parent=5)
            assert store.numbers() == [1, 2, 5, 6]

    def test_starting_with_nothing_sets_all_earlier_ones_aside_once_there_is_a_new_one(
        self, tmp_path: Path
    ) -> None:
        with local_store(tmp_path) as store:
            store.claim()
            take(store, 1, {"n": b"1"})
            take(store, 2, {"n": b"2"}, kind="savepoint")
        with local_store(tmp_path) as store:
            store.claim()
            assert store.numbers() == [1, 2]
            take(store, 3, {"n": b"3"}, parent=None)
            assert store.numbers() == [2, 3], "a savepoint is its user's"

    def test_an_unfinished_checkpoint_is_no_one_to_go_back_to(self, tmp_path: Path) -> None:
        with local_store(tmp_path) as store:
            store.claim()
            with pytest.raises(DamagedError, match="is missing"):
                store.manifest(3)


class TestCopies:
    def test_a_savepoint_has_all_it_needs(self, store: CheckpointStore, tmp_path: Path) -> None:
        path = table(tmp_path, "1.sst")
        take(store, 1, {"1.sst": path})
        manifest = take(store, 2, {"1.sst": path, "v": b"v"})
        target = local_store(tmp_path / "savepoints")
        copied = store.copy(manifest, target)
        assert (copied.kind, copied.number, copied.parent, target.incarnation) == ("savepoint", 2, None, None)
        store.close()
        assert target.verify(2) == []
        assert content(target, target.manifest(2)) == content(store, manifest)
        assert [file.immutable for _, file in copied.all_files()] == [True, False]
        assert target.latest_intact() == (copied, [])
        ours = {each.stat().st_ino for each in (tmp_path / "root").rglob("*") if each.is_file()}
        assert not [each for each in (tmp_path / "savepoints").rglob("*") if each.stat().st_ino in ours]

    def test_several_lie_beside_each_other(self, store: CheckpointStore, tmp_path: Path) -> None:
        target = local_store(tmp_path / "savepoints")
        for number in (1, 2, 3):
            store.copy(take(store, number, {"n": b"%d" % number}), target)
        assert target.numbers() == [1, 2, 3]
        assert [target.verify(number) for number in (1, 2, 3)] == [[], [], []]
        target.claim()
        assert target.retain() == []
        target.close()

    def test_the_same_number_again_is_refused(self, store: CheckpointStore, tmp_path: Path) -> None:
        manifest = take(store, 1, {"n": b"1"})
        target = local_store(tmp_path / "savepoints")
        store.copy(manifest, target)
        with pytest.raises(StateError, match=r"has a checkpoint 1 of flights already; give another place"):
            store.copy(manifest, target)
        assert target.verify(1) == []

    def test_a_damaged_checkpoint_is_not_copied(self, store: CheckpointStore, tmp_path: Path) -> None:
        manifest = take(store, 1, {"n": b"1"})
        file = manifest.all_files()[0][1]
        (tmp_path / f"root/flights/blobs/{file.generation:010}/{file.digest}").write_bytes(b"2")
        target = local_store(tmp_path / "savepoints")
        with pytest.raises(DamagedError, match="digest differs"):
            store.copy(manifest, target)
        assert target.numbers() == []
        assert target.latest_intact() == (None, [])

    def test_another_key_may_sign_it(self, store: CheckpointStore, tmp_path: Path) -> None:
        target = local_store(tmp_path / "savepoints", key=b"theirs")
        store.copy(take(store, 1, {"n": b"1"}), target)
        assert target.verify(1) == []
        with pytest.raises(StateError, match="signed"):
            local_store(tmp_path / "savepoints").manifest(1)


class TestVerifying:
    def test_each_file_that_is_damaged_is_named(self, store: CheckpointStore, tmp_path: Path) -> None:
        manifest = take(store, 1, {"a": b"a" * 50, "b": b"b", "c": b"b"})
        first, second, _ = (
            tmp_path / f"root/flights/blobs/{file.generation:010}/{file.digest}"
            for _, file in manifest.all_files()
        )
        first.write_bytes(b"a" * 49)
        second.unlink()
        problems = {problem.file: problem.what for problem in store.verify(1)}
        assert set(problems) == {"window-1/0/a", "window-1/0/b", "window-1/0/c"}
        assert "has 49 bytes, not 50" in problems["window-1/0/a"]
        assert "missing" in problems["window-1/0/b"]

    def test_a_manifest_of_another_number_or_job_is_damage(
        self, store: CheckpointStore, tmp_path: Path
    ) -> None:
        take(store, 1, {"a": b"a"})
        place = tmp_path / "root/flights/manifests"
        (place / "0000000002").write_bytes((place / "0000000001").read_bytes())
        assert store.verify(2)[0].file == "manifest"
        (place / "0000000002").write_bytes(encode_manifest(Manifest(2, job="another")))
        with pytest.raises(DamagedError, match="it is that of checkpoint 2 of another"):
            store.manifest(2)

    def test_a_newer_format_is_refused_and_left_alone(self, store: CheckpointStore, tmp_path: Path) -> None:
        from hashlib import blake2b

        take(store, 1, {"a": b"a"})
        body = b'{"format":3,"streamflow":"9.0"}'
        newer = tmp_path / "root/flights/manifests/0000000002"
        newer.write_bytes(b"blake2b " + blake2b(body, digest_size=32).hexdigest().encode() + b"\n" + body)
        for call in (store.latest_intact, store.latest, store.retain, lambda: store.verify(2)):
            with pytest.raises(StateError, match=r"written by streamflow 9\.0"):
                call()
        assert store.numbers() == [1, 2]

    def test_an_i_o_error_while_reading_is_damage_to_fall_back_from(self, tmp_path: Path) -> None:
        class BadSector(LocalDisk):
            bad: str | None = None

            def read(self, path: Path) -> bytes:
                if path.name == self.bad:
                    raise OSError(5, "Input/output error")
                return super().read(path)

            def chunks(self, path: Path) -> Iterator[bytes]:
                yield self.read(path)

        disk = BadSector()
        with local_store(tmp_path, disk) as store:
            store.claim()
            take(store, 1, {"a": b"1"})
            disk.bad = take(store, 2, {"a": b"2"}).all_files()[0][1].digest
            manifest, skipped = store.latest_intact()
            assert manifest is not None
            assert (manifest.number, [each.number for each in skipped]) == (1, [2])
            assert "Input/output error" in skipped[0].why

    def test_what_may_not_be_read_is_no_damage(self, tmp_path: Path) -> None:
        class Forbidding(LocalDisk):
            def read(self, path: Path) -> bytes:
                raise PermissionError(13, "Permission denied")

        with local_store(tmp_path) as store:
            store.claim()
            take(store, 1, {"a": b"1"})
        with local_store(tmp_path, Forbidding()) as store:
            with pytest.raises(StateError, match="Permission denied") as raised:
                store.latest_intact()
            assert not isinstance(raised.value, DamagedError)

    def test_a_reader_puts_nothing_aside(self, tmp_path: Path) -> None:
        with local_store(tmp_path) as store:
            store.claim()
            take(store, 1, {"a": b"1"})
            take(store, 2, {"a": b"2"})
        (tmp_path / "flights/manifests/0000000002").write_bytes(b"rot")
        reader = local_store(tmp_path)
        manifest, skipped = reader.latest_intact()
        assert (manifest and manifest.number, len(skipped)) == (1, 1)
        assert reader.numbers() == [1, 2]


def test_two_processes_that_store_at_once_do_not_mix_what_they_store(tmp_path):
    one, other = (open_blobs(tmp_path, LocalDisk(), exclusive=False) for _ in range(2))

    def pieces():
        yield b"a" * (1 << 20)
        other.put("job/blobs", [b"b" * (1 << 20), b"b"])
        yield b"a"

    stored = one.put("job/blobs", pieces())
    assert one.digest(f"job/blobs/{stored.digest}", 1 << 22) == stored


@pytest.mark.parametrize("exclusive", [False, True])
def test_sweeping_without_a_lock_leaves_what_another_process_may_be_writing(tmp_path, exclusive):
    one, other = (open_blobs(tmp_path, LocalDisk(), exclusive=exclusive) for _ in range(2))
    hour = 3_600_000_000
    now = SystemClock().now()

    def pieces():
        yield b"a" * (1 << 20)
        other.sweep("job/blobs", now - hour)
        yield b"a"

    if exclusive:
        with pytest.raises(DamagedError, match="is missing"):
            one.put("job/blobs/1", pieces())
    else:
        one.put("job/blobs/1", pieces())
        (tmp_path / "job/blobs/2").mkdir()
        (tmp_path / "job/blobs/1/.tmp-of-a-dead-process").touch()
        other.sweep("job/blobs", now - hour)
        assert len(list((tmp_path / "job/blobs").rglob("*"))) == 4
        other.sweep("job/blobs", now + hour)
        assert len(list((tmp_path / "job/blobs").rglob("*"))) == 2
