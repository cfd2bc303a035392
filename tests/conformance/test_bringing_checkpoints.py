"""Going on from a checkpoint: every byte of it is read once, verified meanwhile, several files at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from streamflow.disk import LocalDisk
from streamflow.errors import DamagedError
from streamflow.runtime.ports import Threads
from streamflow.state.checkpoints.blobs import Blobs
from streamflow.state.checkpoints.content import Content
from streamflow.state.checkpoints.local_blobs import LocalBlobs
from streamflow.state.checkpoints.object_blobs import ObjectBlobs
from streamflow.state.checkpoints.store import CheckpointStore
from streamflow.testing.clock import TestClock
from tests.unit.state.checkpoints.checkpointing import take

PLACES = count(1)
THREADS = 3


class Counted:
    """How many bytes of content were read, and how many files at the same time."""

    def __init__(self) -> None:
        self.nbytes = 0
        self.at_once = 0
        self.most = 0
        self.begun = 0
        self.meet: threading.Barrier | None = None
        """Where set, the first files wait for one another, so that they are read at the same time."""
        self._guard = threading.Lock()

    def reads(self, key: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        if "/blobs/" not in key:
            yield from chunks
            return
        with self._guard:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            self.begun += 1
            meet = self.meet if self.begun <= THREADS else None
        if meet is not None:
            meet.wait(10)
        for chunk in chunks:
            self.nbytes += len(chunk)
            yield chunk
        with self._guard:
            self.at_once -= 1


class CountedObjects(ObjectBlobs):
    def __init__(self, url: str, counted: Counted) -> None:
        super().__init__(url)
        self.counted = counted

    def _chunks(self, key: str, limit: int) -> Iterator[bytes]:
        return self.counted.reads(key, super()._chunks(key, limit))


class CountedDisk(LocalDisk):
    def __init__(self, counted: Counted) -> None:
        self.counted = counted

    def read(self, path: Path) -> bytes:
        return b"".join(self.counted.reads(path.as_posix(), iter([super().read(path)])))

    def chunks(self, path: Path) -> Iterator[bytes]:
        return self.counted.reads(path.as_posix(), super().chunks(path))


class CountedLocal(LocalBlobs):
    def __init__(self, root: Path, counted: Counted) -> None:
        super().__init__(root, CountedDisk(counted))
        self.counted = counted


@pytest.fixture(params=["local", "objects"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    counted = Counted()
    if request.param == "local":
        return CountedLocal(tmp_path / "root", counted)
    return CountedObjects(f"memory://bringing-{next(PLACES)}", counted)


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads(THREADS, "uploads")
    yield made
    made.close()


def store(blobs: Blobs, **options: Any) -> CheckpointStore:
    return CheckpointStore(blobs, "flights", clock=TestClock(), **options)


def tables(folder: Path, number: int = 9) -> dict[str, bytes | Path]:
    files: dict[str, bytes | Path] = {"values": b"v" * 10_000, "same": b"s" * 500, "again": b"s" * 500}
    for at in range(number):
        path = folder / f"{at:06}.sst"
        path.write_bytes(b"%06d" % at * (at + 1) * 1_000)
        files[path.name] = path
    return files


def contents(content: Content) -> dict[str, bytes]:
    return {file.name: content.read(file) for _, file in content.manifest.all_files()}


def expected(files: dict[str, bytes | Path]) -> dict[str, bytes]:
    return {
        name: content if isinstance(content, bytes) else content.read_bytes()
        for name, content in files.items()
    }


def test_every_byte_is_read_once_and_some_files_at_a_time(
    blobs: Any, threads: Threads, tmp_path: Path
) -> None:
    files = tables(tmp_path)
    with store(blobs) as writing:
        writing.claim()
        manifest = take(writing, 1, files)
    counted: Counted = blobs.counted
    counted.nbytes, counted.begun, counted.meet = 0, 0, threading.Barrier(THREADS)
    with store(blobs, each=threads.each) as reading:
        reading.claim()
        content, skipped = reading.bring_latest(tmp_path / "fetched")
        assert content is not None
        assert skipped == []
        for _, file in content.manifest.all_files():
            if file.immutable:
                content.link(file, tmp_path / f"{file.name}.linked")
                assert (tmp_path / f"{file.name}.linked").read_bytes() == (tmp_path / file.name).read_bytes()
        assert contents(content) == expected(files)
        assert counted.nbytes == manifest.size
        assert counted.most == THREADS
        content.close()
        assert not (tmp_path / "fetched").exists()


def test_what_was_brought_is_not_stored_again(blobs: Any, tmp_path: Path) -> None:
    files = tables(tmp_path)
    with store(blobs) as writing:
        writing.claim()
        first = take(writing, 1, files)
    with store(blobs) as reading:
        reading.claim()
        content, _ = reading.bring_latest(tmp_path / "fetched")
        assert content is not None
        linked: dict[str, bytes | Path] = {}
        for _, file in first.all_files():
            if file.immutable:
                linked[file.name] = tmp_path / f"{file.name}.linked"
                content.link(file, tmp_path / f"{file.name}.linked")
        content.close()
        blobs.counted.nbytes = 0
        again = take(reading, 2, linked, parent=1)
        assert {file.name: file.generation for _, file in again.all_files()} == dict.fromkeys(linked, 1)
        assert blobs.counted.nbytes == 0


@pytest.mark.parametrize("name", ["values", "000004.sst"])
def test_damage_falls_back_and_leaves_nothing(
    blobs: Any, threads: Threads, tmp_path: Path, name: str
) -> None:
    files = tables(tmp_path)
    with store(blobs) as writing:
        writing.claim()
        take(writing, 1, {"values": b"earlier"})
        second = take(writing, 2, files)
    damaged = next(file for _, file in second.all_files() if file.name == name)
    key = f"flights/blobs/{damaged.generation:010}/{damaged.digest}"
    blobs.remove(key)
    blobs.create(key, b"x" * damaged.size, lambda step: None)
    with store(blobs, each=threads.each) as reading:
        reading.claim()
        content, skipped = reading.bring_latest(tmp_path / "fetched")
        assert content is not None
        assert contents(content) == {"values": b"earlier"}
        assert [each.number for each in skipped] == [2]
        assert f"{name} " in skipped[0].why
        assert reading.numbers() == [1]
        with pytest.raises(DamagedError, match="its digest differs"):
            reading.bring(second, tmp_path / "again")
    assert not (tmp_path / "fetched").exists()
    assert not (tmp_path / "again").exists()


def test_a_temporary_folder_goes_with_what_was_brought(blobs: Any, tmp_path: Path) -> None:
    files = tables(tmp_path, 1)
    with store(blobs) as writing:
        writing.claim()
        manifest = take(writing, 1, files)
        content = writing.bring(manifest, None)
        table = next(file for _, file in manifest.all_files() if file.immutable)
        assert content.path(table).read_bytes() == (tmp_path / table.name).read_bytes()
        content.close()
        assert not content.path(table).parent.exists()


def test_several_at_a_time_end_before_the_first_failure_is_raised(threads: Threads) -> None:
    ended: list[int] = []
    begun = threading.Barrier(THREADS)

    def work(number: int) -> int:
        begun.wait(10)
        if number == 0:
            raise DamagedError("the first")
        ended.append(number)
        return number

    with pytest.raises(DamagedError, match="the first"):
        threads.each(work, range(THREADS))
    assert sorted(ended) == list(range(1, THREADS))
    doubled: Callable[[int], int] = lambda number: 2 * number  # noqa: E731
    assert threads.each(doubled, range(10)) == [2 * number for number in range(10)]
