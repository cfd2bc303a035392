"""Foreign content among the checkpoints is not followed, not believed and above all not run."""

from __future__ import annotations

import os
import pickle
import stat
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path

import polars as pl
import pytest

from streamflow.core.serde import unpack
from streamflow.disk import LocalDisk
from streamflow.errors import ConfigError, DamagedError, StateError
from streamflow.state.checkpoints.blobs import open_blobs
from streamflow.state.checkpoints.manifest import encode_manifest
from streamflow.state.checkpoints.store import CheckpointStore
from streamflow.state.checkpoints.tables import decode_table, encode_table
from tests.unit.state.checkpoints.checkpointing import content, described, local_store, take


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def test_no_pickle_is_run_from_any_file(tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    table = b"".join(encode_table([(1, pl.DataFrame({"k": ["a"]}))]))
    with local_store(tmp_path / "root") as store:
        store.claim()
        take(
            store,
            1,
            {"values.msgpack": b"\x80", "table-panes": table, "backend/rocksdict-config.json": b"{}"},
        )
        take(store, 2, {})
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        bomb = pickle.dumps(Bomb(mark), protocol)
        digest = blake2b(bomb, digest_size=32).hexdigest().encode()
        for path in sorted(path for path in (tmp_path / "root").rglob("*") if path.is_file()):
            before = path.read_bytes()
            for data in (bomb, b"SFT1" + bomb, b"blake2b " + digest + b"\n" + bomb):
                path.write_bytes(data)
                read_all(tmp_path / "root", data)
            path.write_bytes(before)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))  # noqa: S301  (the bomb is one)
    assert mark.exists()


def read_all(root: Path, data: bytes) -> None:
    """Reads the content of a checkpoint through every reader; errors are StateErrors."""
    store = local_store(root)
    for call in (
        store.latest_intact,
        partial(store.verify, 1),
        partial(unpack, data),
        partial(decode_table, data),
    ):
        with suppress(StateError):
            call()


def claim_and_take(store: CheckpointStore) -> None:
    store.claim()
    take(store, 1, {"a": b"a"})


class TestLinks:
    def test_a_file_that_is_a_symbolic_link_is_refused(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        with local_store(tmp_path / "root") as store:
            store.claim()
            file = take(store, 1, {"a": b"a"}).all_files()[0][1]
            stored = tmp_path / f"root/flights/blobs/{file.generation:010}/{file.digest}"
            stored.rename(secret)
            stored.symlink_to(secret)
            for call in (
                lambda: store.read(file),
                store.latest_intact,
                lambda: store.fetch(file, tmp_path / "out"),
            ):
                with pytest.raises(StateError, match="is a symbolic link"):
                    call()
            assert not (tmp_path / "out").exists()

    def test_a_manifest_that_is_a_symbolic_link_is_refused(self, tmp_path: Path) -> None:
        with local_store(tmp_path / "root") as store:
            store.claim()
            take(store, 1, {"a": b"a"})
            manifest = tmp_path / "root/flights/manifests/0000000001"
            manifest.rename(tmp_path / "elsewhere")
            manifest.symlink_to(tmp_path / "elsewhere")
            with pytest.raises(StateError, match="is a symbolic link"):
                store.manifest(1)

    @pytest.mark.parametrize("place", ["flights", "flights/blobs", "flights/manifests", "flights/claims"])
    def test_a_folder_that_is_a_symbolic_link_is_refused(self, tmp_path: Path, place: str) -> None:
        link = tmp_path / "root" / place
        link.parent.mkdir(parents=True)
        (tmp_path / "target").mkdir()
        link.symlink_to(tmp_path / "target")
        store = local_store(tmp_path / "root")
        with pytest.raises(StateError, match="is a symbolic link"), store:
            claim_and_take(store)
        assert list((tmp_path / "target").iterdir()) == []

    def test_the_lock_is_not_taken_through_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "root/flights").mkdir(parents=True)
        (tmp_path / "root/flights/lock").symlink_to(tmp_path / "victim")
        with pytest.raises(StateError):
            local_store(tmp_path / "root").claim()
        assert not (tmp_path / "victim").exists()

    def test_the_root_itself_may_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "root").symlink_to(tmp_path / "real")
        with local_store(tmp_path / "root") as store:
            store.claim()
            assert content(store, take(store, 1, {"a": b"a"})) == {"a": b"a"}
        assert (tmp_path / "real/flights").is_dir()


class TestModes:
    def test_files_and_folders_are_their_owners_only(self, tmp_path: Path) -> None:
        mask = os.umask(0)
        try:
            table = tmp_path / "1.sst"
            table.write_bytes(b"sorted")
            table.chmod(0o600)
            with local_store(tmp_path / "new" / "root") as store:
                store.claim()
                take(store, 1, {"a": b"a" * (3 << 20), "1.sst": table})
                store.quarantine(1, "to see")
        finally:
            os.umask(mask)
        modes = {
            path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
            for path in (tmp_path / "new").rglob("*")
        }
        assert {mode for path, mode in modes.items() if (tmp_path / path).is_dir()} == {0o700}
        assert {mode for path, mode in modes.items() if (tmp_path / path).is_file()} == {0o600}

    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
    def test_a_root_that_everybody_may_write_to_is_refused(self, tmp_path: Path, mode: int) -> None:
        root = tmp_path / "root"
        root.mkdir()
        root.chmod(mode)
        store = local_store(root)
        with pytest.raises(StateError, match=r"every account of this machine may write to .*chmod o-w"):
            store.claim()
        with pytest.raises(StateError, match="may write to"):
            store.latest_intact()
        assert list(root.iterdir()) == []

    def test_a_folder_above_it_may_be_like_tmp(self, tmp_path: Path) -> None:
        above = tmp_path / "tmp"
        above.mkdir()
        above.chmod(0o1777)
        with local_store(above / "root") as store:
            store.claim()
            assert store.numbers() == []

    def test_a_link_to_a_root_that_is_not_there_yet(self, tmp_path: Path) -> None:
        (tmp_path / "root").symlink_to(tmp_path / "elsewhere")
        with local_store(tmp_path / "root") as store:
            store.claim()
        assert (tmp_path / "elsewhere").is_dir()

    def test_a_place_that_cannot_be_one_says_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StateError, match=r"cannot make .*Not a directory; .*give another checkpoint_dir"):
            local_store(tmp_path / "file").claim()

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which nobody can make another")
    def test_a_place_in_which_nothing_can_be_made_is_not_called_damaged(self) -> None:
        with pytest.raises(StateError, match=r"cannot make .*give another checkpoint_dir") as raised:
            local_store(Path("/proc/nowhere")).claim()
        assert not isinstance(raised.value, DamagedError)

    def test_a_link_to_a_root_that_everybody_may_write_to_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        (tmp_path / "root").symlink_to(tmp_path / "open")
        with pytest.raises(StateError, match="may write to"):
            local_store(tmp_path / "root").claim()


class TestKeys:
    def test_a_forged_checkpoint_is_refused_where_there_is_a_key(self, tmp_path: Path) -> None:
        with local_store(tmp_path, key=b"secret") as store:
            store.claim()
            real = take(store, 1, {"a": b"a"})
        forged = encode_manifest(described(2, [file for _, file in real.all_files()], job="flights"))
        (tmp_path / "flights/manifests/0000000002").write_bytes(forged)
        with local_store(tmp_path, key=b"secret") as store, pytest.raises(StateError, match="is not signed"):
            store.latest_intact()

    def test_a_changed_file_is_noticed_although_its_name_fits(self, tmp_path: Path) -> None:
        with local_store(tmp_path, key=b"secret") as store:
            store.claim()
            file = take(store, 1, {"a": b"a"}).all_files()[0][1]
            other = (
                tmp_path / f"flights/blobs/{file.generation:010}" / blake2b(b"b", digest_size=32).hexdigest()
            )
            other.write_bytes(b"b")
            manifest = tmp_path / "flights/manifests/0000000001"
            manifest.write_bytes(manifest.read_bytes().replace(file.digest.encode(), other.name.encode()))
            with pytest.raises(StateError, match="signature"):
                store.manifest(1)


def test_no_file_is_larger_than_its_manifest_says(tmp_path: Path) -> None:
    """A file that has grown is refused by its length, before any of it is read."""

    class Careful(LocalDisk):
        def read(self, path: Path) -> bytes:
            assert path.stat().st_size < 1_000_000
            return super().read(path)

    with local_store(tmp_path, Careful()) as store:
        store.claim()
        file = take(store, 1, {"a": b"a"}).all_files()[0][1]
        with (tmp_path / f"flights/blobs/{file.generation:010}/{file.digest}").open("ab") as grown:
            grown.truncate(1 << 30)
        with pytest.raises(StateError, match="1073741824 bytes"):
            store.read(file)
        with (tmp_path / "flights/manifests/0000000001").open("ab") as grown:
            grown.truncate(1 << 30)
        with pytest.raises(StateError, match="bytes"):
            store.manifest(1)


@pytest.mark.parametrize(
    "place", ["s3://key:canary@bucket/x", "s3://bucket/x?secret=canary", "gs://canary@bucket"]
)
def test_credentials_in_a_place_are_refused_and_not_shown(place: str) -> None:
    with pytest.raises(ConfigError, match="environment variables") as raised:
        open_blobs(place, LocalDisk())
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("place", ["http://host/x", "ftp://host/x", "s4://bucket"])
def test_a_place_of_another_kind_is_refused(place: str) -> None:
    with pytest.raises(ConfigError, match=r"use a folder, s3://"):
        open_blobs(place, LocalDisk())


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    assert open_blobs(f"file://{tmp_path}/a", LocalDisk()).place == f"{tmp_path}/a"
