"""A disk that is full or fails at each call in turn: nothing is published that is not there, nothing older lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from streamflow.disk import LocalDisk
from streamflow.errors import StateError
from streamflow.state.checkpoints.blobs import UnsyncedError
from streamflow.state.checkpoints.store import CheckpointStore
from tests.unit.state.checkpoints.checkpointing import content, local_store, take

WRITES = ("write", "append", "rename", "link", "make_folder")
SYNCS = ("sync", "sync_folder")
REMOVALS = ("remove", "remove_folder")


class FailingDisk(LocalDisk):
    """The machine's, but for call `k` and those that follow (all of them with `until_told`) of the given kinds."""

    def __init__(self) -> None:
        self.calls = 0
        self.fail_at: int | None = None
        self.lasting = False
        self.error = errno.EIO
        self.kinds: tuple[str, ...] = ()

    def arm(self, kinds: tuple[str, ...], error: int, at: int, *, lasting: bool) -> None:
        self.calls, self.kinds, self.error, self.fail_at, self.lasting = 0, kinds, error, at, lasting

    def heal(self) -> None:
        self.fail_at = None

    def _check(self, kind: str) -> None:
        if kind not in self.kinds:
            return
        self.calls += 1
        if self.fail_at is not None and (
            self.calls == self.fail_at or (self.lasting and self.calls > self.fail_at)
        ):
            raise OSError(self.error, os.strerror(self.error))


def _checked(kind: str) -> Any:
    def call(self: FailingDisk, path: Path, *args: Any, **options: Any) -> Any:
        if kind in ("write", "append"):
            try:
                self._check(kind)
            except OSError:
                getattr(LocalDisk, kind)(
                    self, path, args[0][: len(args[0]) // 2], **options
                )  # what still had room
                raise
        else:
            self._check(kind)
        if kind in SYNCS:
            return None  # no power fails here, and real ones take long
        return getattr(LocalDisk, kind)(self, path, *args, **options)

    return call


for _kind in (*WRITES, *SYNCS, *REMOVALS):
    setattr(FailingDisk, _kind, _checked(_kind))

FAILURES = {
    "the disk is full": (WRITES, errno.ENOSPC, True),
    "one write fails": (WRITES, errno.EIO, False),
    "one sync fails": (SYNCS, errno.EIO, False),
    "every sync fails": (SYNCS, errno.EIO, True),
    "nothing can be removed": (REMOVALS, errno.EIO, True),
    "everything fails": ((*WRITES, *SYNCS, *REMOVALS), errno.EIO, True),
}


def files(number: int, tables: Path) -> dict[str, bytes | Path]:
    for name in ("1.sst", f"{number}.sst"):
        if not (tables / name).exists():
            (tables / name).write_bytes(name.encode() * 100)
    return {
        "CURRENT": b"MANIFEST",
        "values": b"%d" % number * 100,
        "a": tables / "1.sst",
        "b": tables / f"{number}.sst",
    }


def truth(number: int) -> dict[str, bytes]:
    return {
        "CURRENT": b"MANIFEST",
        "values": b"%d" % number * 100,
        "a": b"1.sst" * 100,
        "b": b"%d.sst" % number * 100,
    }


def all_intact(store: CheckpointStore) -> list[int]:
    for number in store.numbers():
        assert store.verify(number) == []
        assert content(store, store.manifest(number)) == truth(number)
    return store.numbers()


@pytest.mark.parametrize("physical_every", [100, 1], ids=["linked", "copied"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_at_each_call_loses_nothing(tmp_path: Path, failure: str, physical_every: int) -> None:
    kinds, error, lasting = FAILURES[failure]
    disk = FailingDisk()
    tables = tmp_path / "live"
    tables.mkdir()
    with local_store(tmp_path / "root", disk, keep=3, physical_every=physical_every) as store:
        store.claim()
        take(store, 1, files(1, tables))
        number, failed, last = 1, 0, 1
        for at in range(1, 200):
            number += 1
            disk.arm(kinds, error, at, lasting=lasting)
            told: StateError | None = None
            try:
                take(store, number, files(number, tables), parent=last)
                last = number
                store.retain()
            except StateError as raised:
                told = raised
            reached = disk.calls >= at
            disk.heal()
            found = all_intact(store)
            assert last in found
            if told is not None:
                failed += 1
                assert os.strerror(error) in str(told)
                assert set(found) - {number} <= set(range(last + 1))
                number += 1
                take(store, number, files(number, tables), parent=last)
                assert not {each for each in all_intact(store) if last < each < number}
            assert number in store.numbers()
            last = number
            if not reached:
                break
        else:
            pytest.fail("there was no end to the calls")
        assert failed > 0 or failure == "nothing can be removed"
        store.retain()
        assert not list((tmp_path / "root/flights/blobs").rglob(".tmp-*"))
    with local_store(tmp_path / "root") as store:  # and the next process
        store.claim()
        manifest, skipped = store.latest_intact()
        assert (manifest and manifest.number, skipped) == (number, [])


def test_a_full_disk_says_so_and_what_to_do(tmp_path: Path) -> None:
    disk = FailingDisk()
    with local_store(tmp_path, disk) as store:
        store.claim()
        disk.arm(WRITES, errno.ENOSPC, 1, lasting=True)
        with pytest.raises(StateError, match=r"No space left on device; free some space"):
            take(store, 1, {"a": b"a"})
        disk.heal()
        take(store, 1, {"a": b"a"})


def test_what_the_disk_did_not_confirm_is_written_anew(tmp_path: Path) -> None:
    """After a failed fsync the pages may be gone although the next fsync succeeds: nothing of it may be referred to."""
    disk = FailingDisk()
    table = tmp_path / "1.sst"
    table.write_bytes(b"sorted" * 100)
    with local_store(tmp_path / "root", disk) as store:
        store.claim()
        first = take(store, 1, {"a": table})
        assert take(store, 2, {"a": table}, parent=1).generation == first.generation
        disk.arm(("sync_folder",), errno.EIO, 1, lasting=False)
        with pytest.raises(UnsyncedError, match="may not survive a crash"):
            take(store, 3, {"a": table, "b": b"b"}, parent=2)
        disk.heal()
        again = take(store, 4, {"a": table}, parent=2)
        assert again.generation == 4
        stored = tmp_path / "root/flights/blobs/0000000004" / again.all_files()[0][1].digest
        assert not stored.samefile(table)
        assert take(store, 5, {"a": table}, parent=4).generation == 4


def test_a_full_disk_does_not_ask_for_a_full_copy_next(tmp_path: Path) -> None:
    disk = FailingDisk()
    table = tmp_path / "1.sst"
    table.write_bytes(b"sorted" * 100)
    with local_store(tmp_path / "root", disk) as store:
        store.claim()
        take(store, 1, {"a": table})
        disk.arm(WRITES, errno.ENOSPC, 2, lasting=True)
        with pytest.raises(StateError, match="No space"):
            take(store, 2, {"a": table, "b": b"b"}, parent=1)
        disk.heal()
        assert take(store, 3, {"a": table}, parent=1).generation == 1


def test_an_abandoned_checkpoint_leaves_no_content_behind(tmp_path: Path) -> None:
    with local_store(tmp_path) as store:
        store.claim()
        take(store, 1, {"a": b"a"})
        before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        writer = store.session(2)
        writer.put([b"a"], "a")  # the same content as before
        writer.put([b"b"], "b")
        writer.abandon()
        assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
        assert store.verify(1) == []


def test_a_checkpoint_in_which_a_write_failed_cannot_be_published(tmp_path: Path) -> None:
    disk = FailingDisk()
    with local_store(tmp_path, disk) as store:
        store.claim()
        writer = store.session(1)
        disk.arm(WRITES, errno.ENOSPC, 1, lasting=False)
        with pytest.raises(StateError):
            writer.put([b"a"], "a")
        disk.heal()
        writer.put([b"a"], "a")
        from streamflow.state.checkpoints.manifest import Manifest

        with pytest.raises(StateError, match="has failed already"):
            writer.publish(Manifest(1))
        assert store.numbers() == []
