"""The checkpoint store on object stores: as on folders, but with claims for locks, and answers that get lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path

import pytest

from streamflow.disk import LocalDisk
from streamflow.errors import DamagedError, StateError
from streamflow.state.checkpoints.blobs import open_blobs
from streamflow.state.checkpoints.object_blobs import ObjectBlobs
from streamflow.state.checkpoints.store import CheckpointStore, FencedError, jobs_in
from streamflow.testing.clock import TestClock
from streamflow.time.clock import SystemClock
from tests.conformance.s3_server import BUCKET, s3_server
from tests.unit.state.checkpoints.checkpointing import content, described, take

PLACES = count(1)
Open = Callable[..., CheckpointStore]


@pytest.fixture(scope="module")
def s3() -> Iterator[Mapping[str, str]]:
    with s3_server() as variables:
        yield variables


@pytest.fixture(params=["memory", "s3"])
def open_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens the same place each time it is called, as another process would."""
    place = f"store-{next(PLACES)}"
    if request.param == "s3":
        for name, value in request.getfixturevalue("s3").items():
            monkeypatch.setenv(name, value)
        place = f"{BUCKET}/{place}"

    def opened(**options) -> CheckpointStore:
        blobs = open_blobs(f"{request.param}://{place}", LocalDisk())
        return CheckpointStore(blobs, "flights", clock=options.pop("clock", SystemClock()), **options)

    return opened


def test_checkpoints_are_taken_verified_and_restored(open_store: Open, tmp_path: Path) -> None:
    table = tmp_path / "1.sst"
    table.write_bytes(b"sorted" * 1_000_000)
    with open_store() as store:
        store.claim()
        for number in (1, 2, 3):
            take(store, number, {"1.sst": table, "n": b"%d" % number})
    with open_store() as store:
        assert store.claim() == 2
        brought, skipped = store.bring_latest(tmp_path / "fetched")
        assert brought is not None
        assert (brought.manifest.number, skipped) == (3, [])
        files = {file.name: file for _, file in brought.manifest.all_files()}
        brought.link(files["1.sst"], tmp_path / "out.sst")
        assert (tmp_path / "out.sst").read_bytes() == table.read_bytes()
        assert brought.read(files["n"]) == b"3"
        again = take(store, 4, {"1.sst": tmp_path / "out.sst"}, parent=3)
        assert again.all_files()[0][1] == files["1.sst"], "what was fetched is known"
        assert jobs_in(store.blobs) == ["flights"]


def test_damage_falls_back(open_store: Open) -> None:
    with open_store() as store:
        store.claim()
        take(store, 1, {"n": b"1"})
        file = take(store, 2, {"n": b"2"}).all_files()[0][1]
        store.blobs.remove(f"flights/blobs/{file.generation:010}/{file.digest}")
    with open_store() as store:
        store.claim()
        manifest, skipped = store.latest_intact()
        assert manifest is not None
        assert (manifest.number, [each.number for each in skipped]) == (1, [2])
        assert store.numbers() == [1]
        assert len(store.blobs.entries("flights/quarantine")) == 2


def test_whoever_claims_later_may_publish_and_the_other_may_not(open_store: Open) -> None:
    old, new = open_store(), open_store()
    old.claim()
    take(old, 1, {"n": b"1"})
    writer = old.session(2)
    file = writer.put([b"2"], "n")
    assert new.claim() == 2
    with pytest.raises(FencedError, match=r"another process has taken over job flights .*fenced off"):
        writer.publish(described(2, [file]))
    with pytest.raises(FencedError, match="taken over"):
        old.retain()
    assert new.numbers() == [1]
    take(new, 2, {"n": b"new"}, parent=1)
    assert content(new, new.manifest(2)) == {"n": b"new"}


def test_two_that_claim_at_once_get_two_numbers(open_store: Open) -> None:
    first, second = open_store(), open_store()
    create = first.blobs.create
    once = iter([True])

    def interrupted(key: str, data: bytes, reach: Callable[[str], None]) -> bool:
        if next(once, False):
            second.claim()
        return create(key, data, reach)

    first.blobs.create = interrupted  # type: ignore[method-assign]
    assert (first.claim(), second.incarnation) == (2, 1)
    with pytest.raises(FencedError, match="taken over"):
        take(second, 1, {})


class Zombie:
    """A process that stops for a while between looking whether it may publish and publishing."""

    def __init__(self, store: CheckpointStore, meanwhile: Callable[[], None]) -> None:
        create = store.blobs.create

        def late(key: str, data: bytes, reach: Callable[[str], None]) -> bool:
            if "/manifests/" in key:
                meanwhile()
            return create(key, data, reach)

        store.blobs.create = late  # type: ignore[method-assign]


def test_a_zombie_that_publishes_in_spite_of_it_is_told_so_and_its_number_is_set_aside(
    open_store: Open,
) -> None:
    old, new = open_store(), open_store()
    old.claim()
    take(old, 1, {"n": b"1"})

    def take_over() -> None:
        new.claim()
        manifest, _ = new.latest_intact()
        assert manifest is not None
        assert manifest.number == 1

    Zombie(old, take_over)
    with pytest.raises(FencedError, match="taken over"):  # so that it does not commit its output
        take(old, 2, {"n": b"old"})
    take(new, 2, {"n": b"new"}, parent=1)
    assert content(new, new.manifest(2)) == {"n": b"new"}
    assert [entry.key.rpartition("/")[2] for entry in new.blobs.entries("flights/quarantine")] == [
        "0000000002.1", "0000000002.1.why",
    ]  # fmt: skip


def test_a_zombies_higher_number_is_set_aside(open_store: Open) -> None:
    old, new = open_store(), open_store()
    old.claim()
    take(old, 1, {"n": b"1"})
    Zombie(old, lambda: None if new.incarnation else (new.claim(), None)[1])
    with pytest.raises(FencedError, match="taken over"):
        take(old, 7, {"n": b"old"})
    take(new, 2, {"n": b"new"}, parent=1)
    assert new.numbers() == [1, 2]


def test_what_no_manifest_names_is_removed_after_a_while_only(open_store: Open) -> None:
    clock = TestClock(SystemClock().now())
    with open_store(clock=clock, grace=3600, keep=1) as store:
        store.claim()
        take(store, 1, {"n": b"1"})
        writer = store.session(2)
        writer.put([b"abandoned"], "n")
        writer.abandon()
        take(store, 3, {"n": b"3"})
        assert store.retain() == [1]
        assert len(store.blobs.entries("flights/blobs")) == 3
        clock.advance("2h")
        take(store, 4, {"n": b"4"})
        assert store.retain() == [3]
        assert len(store.blobs.entries("flights/blobs")) == 1
        assert store.verify(4) == []


def test_retention_without_a_claim_disturbs_nobody(open_store: Open) -> None:
    with open_store() as store:
        store.claim()
        for number in (1, 2, 3):
            take(store, number, {"n": b"%d" % number})
        assert open_store(keep=1).retain() == [1, 2]
        take(store, 4, {"n": b"4"})
        assert store.numbers() == [3, 4]


class Unreliable:
    """Stands in for the client: answers to conditional puts get lost, before or after the put."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, arrives: bool, answer: Exception) -> None:
        import obstore

        put = obstore.put
        self.lost = 0

        def lossy(store, path, file, **options):
            if options.get("mode") == "create" and "/manifests/" in path and not self.lost:
                self.lost += 1
                if arrives:
                    put(store, path, file, **options)
                raise answer
            return put(store, path, file, **options)

        monkeypatch.setattr(obstore, "put", lossy)


def lost_answers() -> list[Exception]:
    from obstore.exceptions import AlreadyExistsError, GenericError

    return [
        GenericError("Generic S3 error: error sending request: operation timed out"),
        GenericError(
            "Generic S3 error: Server returned non-2xx status code: 503 Service Unavailable: SlowDown"
        ),
        # The client has repeated the put by itself and met what its first attempt had made.
        AlreadyExistsError("Object at location x already exists"),
    ]


@pytest.mark.parametrize("answer", lost_answers(), ids=["timeout", "503", "repeated"])
def test_a_put_whose_answer_got_lost_counts_if_it_arrived(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, answer: Exception
) -> None:
    with open_store() as store:
        store.claim()
        unreliable = Unreliable(monkeypatch, arrives=True, answer=answer)
        published = take(store, 1, {"n": b"1"})
        assert unreliable.lost == 1
        assert store.latest_intact() == (published, [])


def test_a_put_that_did_not_arrive_fails_the_checkpoint(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store() as store:
        store.claim()
        Unreliable(monkeypatch, arrives=False, answer=lost_answers()[0])
        with pytest.raises(StateError, match="operation timed out"):
            take(store, 1, {"n": b"1"})
        assert store.numbers() == []
        take(store, 2, {"n": b"2"})
        assert store.numbers() == [2]


def test_a_put_that_arrives_late_does_not_stand_in_the_way(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint was given up, then turned up: going back to it would be going back to another past."""
    import obstore

    late: list[tuple[str, bytes]] = []
    put = obstore.put

    def delayed(store, path, file, **options):
        if "/manifests/" in path and not late:
            late.append((path, bytes(file)))
            raise lost_answers()[0]
        return put(store, path, file, **options)

    monkeypatch.setattr(obstore, "put", delayed)
    with open_store() as store:
        store.claim()
        with pytest.raises(StateError):
            take(store, 1, {"n": b"1"})
        assert isinstance(store.blobs, ObjectBlobs)
        store.blobs.create(late[0][0], late[0][1], lambda step: None)
        assert store.numbers() == [1]
        take(store, 2, {"n": b"2"})
        assert store.numbers() == [2]
        manifest, skipped = store.latest_intact()
        assert (manifest and manifest.number, skipped) == (2, [])


def test_an_object_that_is_gone_is_damage_and_one_that_cannot_be_reached_is_not(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from obstore.exceptions import GenericError

    with open_store() as store:
        store.claim()
        file = take(store, 1, {"n": b"1"}).all_files()[0][1]

        def unreachable(*args, **options):
            raise GenericError("Generic S3 error: secret_access_key=canary connection refused")

        with monkeypatch.context() as patched:
            patched.setattr("obstore.get", unreachable)
            with pytest.raises(StateError, match="connection refused") as raised:
                store.latest_intact()
        assert not isinstance(raised.value, DamagedError)
        assert "canary" not in str(raised.value)
        assert store.numbers() == [1]
        store.blobs.remove(f"flights/blobs/{file.generation:010}/{file.digest}")
        with pytest.raises(DamagedError, match="missing"):
            store.read(file)
