"""One suite for every disk: the machine's own is the specification, the simulated one agrees with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.disk import Disk, LocalDisk
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.disk import SimDisk


@pytest.fixture(params=["local", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, Path]:
    if request.param == "local":
        return LocalDisk(), tmp_path
    disk = SimDisk()
    disk.make_folder(tmp_path)
    return disk, tmp_path


def test_a_file_is_what_was_written_last(place):
    disk, root = place
    disk.write(root / "a", b"one")
    disk.append(root / "a", b" two")
    disk.append(root / "b", b"three")
    disk.sync(root / "a")
    disk.sync_folder(root)
    assert (disk.read(root / "a"), disk.read(root / "b")) == (b"one two", b"three")
    disk.write(root / "a", b"x")
    assert disk.read(root / "a") == b"x"
    assert disk.info(root / "a").size == 1


def test_a_link_is_the_same_file(place):
    disk, root = place
    disk.write(root / "a", b"one")
    disk.link(root / "a", root / "b")
    assert disk.info(root / "a").identity == disk.info(root / "b").identity
    disk.append(root / "a", b" two")
    assert disk.read(root / "b") == b"one two"
    disk.remove(root / "a")
    assert disk.read(root / "b") == b"one two"


def test_an_overwritten_file_is_told_from_the_one_before(place):
    disk, root = place
    disk.write(root / "a", b"one")
    before = disk.info(root / "a")
    disk.write(root / "b", b"two")
    disk.rename(root / "b", root / "a")
    assert disk.info(root / "a").identity != before.identity


def test_a_link_never_replaces(place):
    disk, root = place
    disk.write(root / "a", b"one")
    disk.write(root / "b", b"two")
    with pytest.raises(FileExistsError):
        disk.link(root / "a", root / "b")
    assert disk.read(root / "b") == b"two"


def test_a_rename_replaces(place):
    disk, root = place
    disk.make_folder(root / "d")
    disk.write(root / "a", b"one")
    disk.write(root / "d" / "b", b"two")
    disk.rename(root / "a", root / "d" / "b")
    assert disk.read(root / "d" / "b") == b"one"
    assert not disk.exists(root / "a")


def test_files_below_are_those_of_all_folders(place):
    disk, root = place
    disk.make_folder(root / "d" / "e")
    disk.make_folder(root / "d" / "e")
    for name in ("b", "a", "d/c", "d/e/f"):
        disk.write(root / name, b"")
    assert disk.files_below(root) == sorted(root / name for name in ("a", "b", "d/c", "d/e/f"))
    assert disk.files_below(root / "d") == [root / "d" / "c", root / "d" / "e" / "f"]
    assert disk.files_below(root / "nothing") == []
    assert disk.folders_in(root) == [root / "d"]
    assert disk.folders_in(root / "d" / "c") == disk.folders_in(root / "nothing") == []


def test_only_an_empty_folder_is_removed(place):
    disk, root = place
    disk.make_folder(root / "d")
    disk.write(root / "d" / "a", b"")
    disk.remove_folder(root / "d")
    assert disk.exists(root / "d" / "a")
    disk.remove(root / "d" / "a")
    disk.remove_folder(root / "d")
    disk.remove_folder(root / "d")
    assert not disk.exists(root / "d")


MISUSES: dict[str, tuple[Callable[[Disk, Path], object], type[OSError]]] = {
    "read nothing": (lambda disk, root: disk.read(root / "no"), FileNotFoundError),
    "sync nothing": (lambda disk, root: disk.sync(root / "no"), FileNotFoundError),
    "sync no folder": (lambda disk, root: disk.sync_folder(root / "no"), FileNotFoundError),
    "write into no folder": (lambda disk, root: disk.write(root / "no" / "a", b""), FileNotFoundError),
    "rename nothing": (lambda disk, root: disk.rename(root / "no", root / "a"), FileNotFoundError),
    "rename into no folder": (
        lambda disk, root: disk.rename(root / "f", root / "no" / "f"),
        FileNotFoundError,
    ),
    "link nothing": (lambda disk, root: disk.link(root / "no", root / "a"), FileNotFoundError),
    "info of nothing": (lambda disk, root: disk.info(root / "no"), FileNotFoundError),
    "folder over a file": (lambda disk, root: disk.make_folder(root / "f"), FileExistsError),
    "folder below a file": (lambda disk, root: disk.make_folder(root / "f" / "d"), NotADirectoryError),
    "file over a folder": (lambda disk, root: disk.write(root / "d", b""), IsADirectoryError),
    "rename over a folder": (lambda disk, root: disk.rename(root / "f", root / "d"), IsADirectoryError),
}


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_told_as_the_system_tells_it(place, name):
    disk, root = place
    disk.write(root / "f", b"")
    disk.make_folder(root / "d")
    misuse, error = MISUSES[name]
    with pytest.raises(error):
        misuse(disk, root)


def test_removing_nothing_is_no_error(place):
    disk, root = place
    disk.remove(root / "no")
    assert not disk.exists(root / "no")


def test_a_lock_is_held_by_one(place):
    disk, root = place
    release = disk.lock(root / "lock")
    with pytest.raises(BlockingIOError):
        disk.lock(root / "lock")
    release()
    disk.lock(root / "lock")()


def test_a_lock_is_not_one_on_a_file_that_another_process_has_removed_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A lock on it would keep nobody out: the next one would make a file of the same name."""
    fcntl = pytest.importorskip("fcntl")
    flock, path = fcntl.flock, tmp_path / "lock"
    removed: list[Path] = []

    def after_its_removal(descriptor: int, how: int) -> None:
        if not removed:
            path.unlink()
            removed.append(path)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", after_its_removal)
    release = LocalDisk().lock(path)
    assert removed
    with pytest.raises(BlockingIOError):
        LocalDisk().lock(path)
    release()


NAMES = st.sampled_from(["a", "b", "d/a", "d/b"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES, st.binary(max_size=4)),
        st.tuples(st.just("append"), NAMES, st.binary(max_size=4)),
        st.tuples(st.just("rename"), NAMES, NAMES),
        st.tuples(st.just("link"), NAMES, NAMES),
        st.tuples(st.sampled_from(["remove", "sync", "read"]), NAMES),
        st.tuples(st.just("sync_folder"), st.sampled_from(["d", "."])),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 99))
def test_the_simulated_disk_does_what_the_real_one_does(tmp_path_factory, steps, seed):
    root = tmp_path_factory.mktemp("disk")
    results = []
    simulated = SimDisk()
    simulated.make_folder(root)
    disks: list[Disk] = [LocalDisk(), simulated]
    for disk in disks:
        disk.make_folder(root / "d")
        results.append([_outcome(disk, root, step) for step in steps])
        results[-1].append({path: disk.read(path) for path in disk.files_below(root)})
    assert results[0] == results[1]
    # A killed process takes nothing with it, however little was synced.
    after = simulated.crash("kill", Chance(seed))
    assert {path: after.read(path) for path in after.files_below(root)} == results[0][-1]


def _outcome(disk: Disk, root: Path, step: tuple) -> object:
    name, *rest = step
    arguments = [root / each if isinstance(each, str) else each for each in rest]
    try:
        return getattr(disk, name)(*arguments)
    except OSError as error:
        return os.strerror(error.errno or 0)
