"""One suite for every place where checkpoints can be: a folder, memory, and S3 as a server process speaks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import count
from pathlib import Path

import pytest

from streamflow.disk import LocalDisk
from streamflow.errors import DamagedError, StateError
from streamflow.state.checkpoints.blobs import Blobs, Stored, open_blobs
from tests.conformance.s3_server import BUCKET, SECRET, s3_server

PLACES = count(1)


def digest(data: bytes) -> str:
    return blake2b(data, digest_size=32).hexdigest()


@pytest.fixture(scope="module")
def s3() -> Iterator[Mapping[str, str]]:
    with s3_server() as variables:
        yield variables


@pytest.fixture(params=["local", "memory", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    place = f"place-{next(PLACES)}"
    if request.param == "local":
        return open_blobs(tmp_path / "root", LocalDisk())
    if request.param == "memory":
        return open_blobs(f"memory://{place}", LocalDisk())
    for name, value in request.getfixturevalue("s3").items():
        monkeypatch.setenv(name, value)
    return open_blobs(f"s3://{BUCKET}/{place}", LocalDisk())


def create(blobs: Blobs, key: str, data: bytes) -> bool:
    return blobs.create(key, data, lambda step: None)


def keys(blobs: Blobs, prefix: str = "job") -> list[str]:
    return [entry.key for entry in blobs.entries(prefix)]


LARGE = bytes(range(256)) * (6 << 12)  # 6 MiB: several parts of an upload


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "one byte", "6 MiB"])
def test_content_comes_back_under_its_digest(blobs: Blobs, data: bytes) -> None:
    stored = blobs.put("job/blobs/1", [data[:100], data[100:]])
    blobs.settle()
    assert stored == Stored(digest(data), len(data))
    key = f"job/blobs/1/{stored.digest}"
    assert blobs.get(key, len(data)) == data
    assert blobs.digest(key, len(data)) == stored
    assert [(entry.key, entry.size) for entry in blobs.entries("job")] == [(key, len(data))]


def test_no_chunk_at_all_is_empty_content(blobs: Blobs) -> None:
    assert blobs.put("job/blobs/1", []) == Stored(digest(b""), 0)
    assert blobs.get(f"job/blobs/1/{digest(b'')}", 0) == b""


def test_content_put_twice_is_there_once(blobs: Blobs) -> None:
    assert blobs.put("job/blobs/1", [b"same"]) == blobs.put("job/blobs/1", [b"sa", b"me"])
    assert len(keys(blobs)) == 1


@pytest.mark.parametrize("link", [False, True])
def test_a_file_is_stored_and_fetched(blobs: Blobs, tmp_path: Path, link: bool) -> None:
    path = tmp_path / "000012.sst"
    path.write_bytes(LARGE)
    stored = blobs.put_file("job/blobs/1", path, link=link)
    assert stored == Stored(digest(LARGE), len(LARGE))
    path.unlink()  # what is stored does not need it
    assert blobs.fetch(f"job/blobs/1/{stored.digest}", tmp_path / "out", len(LARGE)) == stored
    assert (tmp_path / "out").read_bytes() == LARGE
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_a_file_linked_twice_is_stored_once(blobs: Blobs, tmp_path: Path) -> None:
    path = tmp_path / "000012.sst"
    path.write_bytes(b"sorted")
    assert blobs.put_file("job/blobs/1", path, link=True) == blobs.put_file("job/blobs/1", path, link=True)
    assert keys(blobs) == [f"job/blobs/1/{digest(b'sorted')}"]


def test_a_file_that_is_copied_shares_nothing_with_what_is_stored(blobs: Blobs, tmp_path: Path) -> None:
    path = tmp_path / "CURRENT"
    path.write_bytes(b"MANIFEST-000001")
    stored = blobs.put_file("job/blobs/1", path, link=False)
    path.write_bytes(b"MANIFEST-000002")
    assert blobs.get(f"job/blobs/1/{stored.digest}", 100) == b"MANIFEST-000001"


def test_a_file_that_is_not_there_is_said(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"gone\.sst"):
        blobs.put_file("job/blobs/1", tmp_path / "gone.sst", link=True)


def test_what_is_missing_or_too_long_is_damage(blobs: Blobs, tmp_path: Path) -> None:
    create(blobs, "job/manifests/1", b"1234")
    for call in (blobs.get, blobs.digest):
        with pytest.raises(DamagedError, match="missing"):
            call("job/manifests/2", 10)
        with pytest.raises(DamagedError, match="4 bytes"):
            call("job/manifests/1", 3)
    with pytest.raises(DamagedError, match="missing"):
        blobs.fetch("job/manifests/2", tmp_path / "out", 10)


def test_an_entry_is_made_once(blobs: Blobs) -> None:
    assert create(blobs, "job/claims/1", b"mine")
    assert not create(blobs, "job/claims/1", b"yours")
    assert blobs.get("job/claims/1", 10) == b"mine"
    assert keys(blobs) == ["job/claims/1"]


def test_entries_are_listed_below_a_folder_only(blobs: Blobs) -> None:
    for key in ("job/a/2", "job/a/1", "job/ab/1", "other/a/1"):
        create(blobs, key, key.encode())
    assert keys(blobs, "job/a") == ["job/a/1", "job/a/2"]
    assert keys(blobs, "job") == ["job/a/1", "job/a/2", "job/ab/1"]
    assert keys(blobs, "nothing") == []
    assert blobs.folders("") == ["job", "other"]
    assert blobs.folders("job") == ["a", "ab"]
    assert blobs.folders("nothing") == []


def test_an_entry_says_when_it_was_made(blobs: Blobs) -> None:
    create(blobs, "job/a", b"")
    create(blobs, "job/b", b"")
    times = {entry.key: entry.modified for entry in blobs.entries("job")}
    assert abs(times["job/b"] - times["job/a"]) < 60_000_000
    assert times["job/a"] > 1_700_000_000_000_000


def test_what_is_removed_is_gone_and_may_be_removed_again(blobs: Blobs) -> None:
    create(blobs, "job/a", b"")
    blobs.remove("job/a")
    blobs.remove("job/a")
    blobs.settle()
    assert keys(blobs) == []
    assert create(blobs, "job/a", b"")


def test_an_entry_moves(blobs: Blobs) -> None:
    create(blobs, "job/manifests/1", b"1")
    blobs.move("job/manifests/1", "job/quarantine/1")
    blobs.settle()
    assert keys(blobs) == ["job/quarantine/1"]
    assert blobs.get("job/quarantine/1", 1) == b"1"


@pytest.mark.parametrize(
    "key", ["../x", "a/../b", "/etc/x", "a//b", "", "a/", ".hidden", "a\\b", "a\n", "ü", "a/."]
)
def test_a_key_that_leads_elsewhere_is_refused(blobs: Blobs, key: str, tmp_path: Path) -> None:
    for call in (
        lambda: blobs.get(key, 1),
        lambda: blobs.put(key, [b"x"]),
        lambda: create(blobs, key, b"x"),
        lambda: blobs.remove(key),
        lambda: blobs.move(key, "a/b"),
        lambda: blobs.entries(key),
        lambda: blobs.lock(key),
    ):
        with pytest.raises(StateError, match="cannot be the name"):
            call()


def test_sweeping_leaves_what_is_stored(blobs: Blobs) -> None:
    blobs.put("job/blobs/1", [b"x"])
    blobs.sweep("job", 1 << 62)
    assert keys(blobs) == [f"job/blobs/1/{digest(b'x')}"]
    blobs.sweep("nothing", 1 << 62)


def test_a_failure_is_told_without_credentials(
    s3: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    elsewhere = open_blobs("s3://no-such-bucket/x", LocalDisk())
    with pytest.raises(StateError, match="no-such-bucket") as raised:
        create(elsewhere, "job/a", b"x")
    shown = f"{raised.value!s} {raised.value!r} {raised.value.__cause__!r}"
    assert SECRET not in shown
    assert "canary-id" not in shown
