"""The real disk: what the port promises beyond what the operating system does anyway."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from streamflow.disk import FileInfo, LocalDisk

disk = LocalDisk()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def no_mask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_private_files_and_folders_are_their_owners(tmp_path: Path) -> None:
    disk.make_folder(tmp_path / "a", private=True)
    disk.write(tmp_path / "a/written", b"1", private=True)
    disk.append(tmp_path / "a/appended", b"1", private=True)
    disk.make_folder(tmp_path / "b")
    disk.write(tmp_path / "b/written", b"1")
    assert [mode(tmp_path / name) for name in ("a", "a/written", "a/appended")] == [0o700, 0o600, 0o600]
    assert [mode(tmp_path / name) for name in ("b", "b/written")] == [0o777, 0o666]


def test_a_file_is_written_anew_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "a"
    disk.write(path, b"a longer one")
    disk.write(path, b"one")
    disk.append(path, b"two")
    disk.sync(path)
    disk.sync_folder(tmp_path)
    assert disk.read(path) == b"onetwo"


def test_a_link_is_a_second_name_and_takes_nobody_elses(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    disk.write(one, b"1")
    disk.link(one, two)
    assert disk.info(one).identity == disk.info(two).identity
    disk.remove(one)
    assert disk.read(two) == b"1"
    disk.write(one, b"other")
    with pytest.raises(FileExistsError):
        disk.link(one, two)
    assert disk.read(two) == b"1"


def test_a_name_is_not_followed(tmp_path: Path) -> None:
    disk.write(tmp_path / "a", b"1234")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert disk.info(tmp_path / "link").is_link
    found = disk.info(tmp_path / "a")
    assert (found.size, found.is_link, found.writable_by_others) == (4, False, True)
    assert found.modified > FileInfo(0, 0).modified
    with pytest.raises(FileNotFoundError):
        disk.info(tmp_path / "b")
    with pytest.raises(OSError, match="symbolic links"):
        disk.lock(tmp_path / "link")


def test_a_lock_is_held_by_one_and_says_by_whom(tmp_path: Path) -> None:
    release = disk.lock(tmp_path / "lock")
    with pytest.raises(BlockingIOError, match=f"held by process {os.getpid()}"):
        disk.lock(tmp_path / "lock")
    release()
    program = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from streamflow.disk import LocalDisk; from pathlib import Path\n"
        f"LocalDisk().lock(Path({str(tmp_path / 'lock')!r}))"
    )
    subprocess.run([sys.executable, "-I", "-c", program], check=True)  # and it ends with the process
    disk.lock(tmp_path / "lock")()
    assert mode(tmp_path / "lock") == 0o600
