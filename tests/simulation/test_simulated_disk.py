"""The simulated disk's crashes and failures: each thing that POSIX allows does happen for some seed."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.disk import DiskFault, SimDisk

ROOT = Path("/d")
SEEDS = range(200)


def a_disk(**arguments) -> SimDisk:
    disk = SimDisk(**arguments)
    disk.make_folder(ROOT)
    disk.sync_folder(ROOT.parent)
    return disk


def after_power_failure(prepare) -> set:
    """Everything that the folder may hold after `prepare` and a power failure."""
    found = set()
    for seed in SEEDS:
        disk = a_disk()
        prepare(disk)
        following = disk.crash("power", Chance(seed))
        found.add(tuple((path.name, following.read(path)) for path in following.files_below(ROOT)))
    return found


def test_what_is_synced_survives():
    def prepare(disk):
        disk.write(ROOT / "a", b"one")
        disk.sync(ROOT / "a")
        disk.sync_folder(ROOT)
        disk.read(ROOT / "a")

    assert after_power_failure(prepare) == {(("a", b"one"),)}


def test_a_name_without_its_folder_synced_may_be_lost():
    def prepare(disk):
        disk.write(ROOT / "a", b"one")
        disk.sync(ROOT / "a")

    assert after_power_failure(prepare) == {(), (("a", b"one"),)}


def test_bytes_without_a_sync_may_be_lost_torn_or_zeros():
    def prepare(disk):
        disk.write(ROOT / "a", b"12")
        disk.sync_folder(ROOT)

    assert after_power_failure(prepare) >= {
        (("a", content),) for content in (b"", b"1", b"12", b"\0\0", b"1\0")
    }


def test_synced_bytes_survive_an_append_that_was_not():
    def prepare(disk):
        disk.write(ROOT / "a", b"1")
        disk.sync(ROOT / "a")
        disk.sync_folder(ROOT)
        disk.append(ROOT / "a", b"2")

    assert after_power_failure(prepare) == {(("a", content),) for content in (b"1", b"12", b"1\0")}


def test_a_rename_is_whole_or_not_at_all_within_a_folder():
    def prepare(disk):
        disk.write(ROOT / "a", b"1")
        disk.sync(ROOT / "a")
        disk.sync_folder(ROOT)
        disk.rename(ROOT / "a", ROOT / "b")

    assert after_power_failure(prepare) == {(("a", b"1"),), (("b", b"1"),)}


def test_a_rename_between_folders_is_whole_or_not_at_all():
    def prepare(disk):
        disk.make_folder(ROOT / "e")
        disk.write(ROOT / "a", b"1")
        disk.sync(ROOT / "a")
        disk.sync_folder(ROOT)
        disk.rename(ROOT / "a", ROOT / "e" / "b")

    assert after_power_failure(prepare) == {(("a", b"1"),), (("b", b"1"),)}


def test_a_file_in_a_folder_whose_name_is_lost_is_lost():
    def prepare(disk):
        disk.make_folder(ROOT / "e")
        disk.write(ROOT / "e" / "a", b"1")
        disk.sync(ROOT / "e" / "a")
        disk.sync_folder(ROOT / "e")

    assert after_power_failure(prepare) == {(), (("a", b"1"),)}


def test_a_removed_file_may_come_back():
    def prepare(disk):
        disk.write(ROOT / "a", b"1")
        disk.sync(ROOT / "a")
        disk.sync_folder(ROOT)
        disk.remove(ROOT / "a")

    assert after_power_failure(prepare) == {(), (("a", b"1"),)}


def test_after_a_failed_sync_the_next_one_succeeds_and_the_bytes_are_gone():
    disk = a_disk(faults=[DiskFault("sync", 2)])
    disk.write(ROOT / "a", b"12")
    with pytest.raises(OSError, match="Input/output error"):
        disk.sync(ROOT / "a")
    disk.sync(ROOT / "a")
    disk.sync_folder(ROOT)
    assert disk.read(ROOT / "a") == b"12"
    following = disk.crash("kill", Chance(1)).crash("power", Chance(1))
    assert following.read(ROOT / "a") in {b"\0\0", b"12", b"1\0"} - {b"12"} | {b"\0\0"}


def test_a_full_disk_takes_a_part_and_has_room_again_later():
    disk = a_disk(faults=[DiskFault("full", 2, count=2)])
    for _ in range(2):
        with pytest.raises(OSError, match="No space left") as caught:
            disk.write(ROOT / "a", b"1234")
        assert caught.value.errno == errno.ENOSPC
    assert disk.read(ROOT / "a") == b"12"
    disk.write(ROOT / "a", b"1234")
    assert disk.read(ROOT / "a") == b"1234"


def test_any_call_can_fail():
    disk = a_disk(faults=[DiskFault("broken", 3)])
    with pytest.raises(OSError, match="Input/output error"):
        disk.exists(ROOT)
    assert disk.exists(ROOT)
    assert disk.faulted == 1


def test_rot_stays():
    disk = a_disk()
    disk.write(ROOT / "a", b"\0\0")
    disk.flip(ROOT / "a", 9)
    assert disk.read(ROOT / "a") == b"\0\2"
    assert disk.crash("kill", Chance(1)).read(ROOT / "a") == b"\0\2"


def test_a_dead_process_writes_nothing_and_holds_no_lock():
    disk = a_disk()
    disk.lock(ROOT / "lock")
    following = disk.crash("kill", Chance(1))
    with pytest.raises(OSError, match="crashed"):
        disk.write(ROOT / "a", b"")
    following.lock(ROOT / "lock")
    assert not following.exists(ROOT / "a")
