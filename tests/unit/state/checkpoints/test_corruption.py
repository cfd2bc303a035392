"""Any damage to a file of a checkpoint is noticed, and an older checkpoint takes its place."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from streamflow.errors import DamagedError, GoneError, StateError
from streamflow.state.backends.protocol import StateAddress
from streamflow.state.backends.rocksdb.backend import RocksDBBackend
from streamflow.state.backends.rocksdb.opening import open_database
from streamflow.state.backends.rocksdb.shared_memory import SharedMemory
from streamflow.state.checkpoints.store import CheckpointStore
from tests.unit.state.checkpoints.checkpointing import content, local_store, take

TOTALS = StateAddress("window-1", "totals")
Damage = Callable[[Path, random.Random], None]


class Case(NamedTuple):
    root: Path
    truth: dict[int, dict[str, bytes]]
    """The content of each checkpoint by number."""

    def store(self, **options) -> CheckpointStore:
        return local_store(self.root, **options)


@pytest.fixture(scope="module", params=[None, b"a key"], ids=["plain", "signed"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make(tmp_path_factory.mktemp("corruption"), request.param)


def make(folder: Path, key: bytes | None = None) -> Case:
    """Checkpoints 9, 10, 11 of a growing database; 10 begins a generation, 11 shares the first two tables with it."""
    backend = RocksDBBackend(folder / "live")
    truth: dict[int, dict[str, bytes]] = {}
    with local_store(folder / "root", key=key) as store:
        store.claim()
        for number in (8, 9, 10, 11):
            backend.write(TOTALS, [(g, b"JFK%d" % number, b"%d" % (g * number)) for g in range(40)])
            saved = backend.save(folder / f"saved-{number}")
            assert saved is not None
            files = {
                f"backend/{each.name}": each.path if each.immutable else each.path.read_bytes()
                for each in saved.files()
                if each.path is not None
            }
            manifest = take(
                store, number, {**files, "values.msgpack": b"\x81\xa1n%c" % number}, parent=number - 1
            )
            truth[number] = content(store, manifest)
            saved.release()
            if number == 8:
                # RocksDB compacts by itself, sooner or later, once four tables lie on the uppermost level.
                backend.close()
                database = open_database(folder / "live", SharedMemory(), must_exist=True)
                database.compact_range(None, None)
                database.close()
                backend = RocksDBBackend(folder / "live")
        store.remove(8)
    backend.close()
    return Case(folder / "root", truth)


def test_the_checkpoints_share_tables_within_a_generation_only(case: Case) -> None:
    store = case.store(key=key_of(case))
    tables = {
        number: {
            file.digest: file.generation for _, file in store.manifest(number).all_files() if file.immutable
        }
        for number in case.truth
        if number > 8
    }
    assert set(tables[9].values()) == {8}
    assert set(tables[10].values()) == {10}
    assert set(tables[11].values()) == {10}
    assert set(tables[9]) < set(tables[10]) < set(tables[11])
    for digest in tables[9]:
        one, other = (case.root / f"flights/blobs/{generation:010}/{digest}" for generation in (8, 10))
        assert not one.samefile(other)


def key_of(case: Case) -> bytes | None:
    first = (case.root / "flights/manifests/0000000009").read_bytes().split(b" ")[0]
    return b"a key" if first == b"blake2b-keyed" else None


def overwrite(path: Path, data: bytes) -> None:
    """In place, as rot does; a file that is cut to nothing first would be flushed by some file systems."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(data)
        file.truncate()


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for place in chance.sample(range(len(data)), min(1, len(data))):
        data[place] ^= 1 << chance.randrange(8)
    overwrite(path, data)


def truncate(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    overwrite(path, data[: chance.randrange(max(len(data), 1))])


def zero(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = chance.randrange(max(len(data), 1))
    length = chance.choice([1, 16, 512, 4096])
    data[start : start + length] = bytes(len(data[start : start + length]))
    overwrite(path, data)


def append(path: Path, chance: random.Random) -> None:
    overwrite(path, path.read_bytes() + chance.randbytes(chance.choice([1, 7, 4096])))


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


def swap(path: Path, chance: random.Random) -> None:
    """With another file of the job: one's content under the other's name, and back."""
    others = sorted(each for each in path.parents[2].rglob("*") if each.is_file() and each != path)
    overwrite(path, chance.choice(others).read_bytes())


# How often each is done to each of 11 files, with and without a key.
TIMES: dict[Damage, int] = {flip: 40, truncate: 16, zero: 16, append: 8, delete: 1, swap: 10}


@contextmanager
def damaged(path: Path, damage: Damage, chance: random.Random) -> Generator[bool]:
    """Whether anything is different now; put back afterwards."""
    before = path.read_bytes()
    try:
        damage(path, chance)
        yield not path.exists() or path.read_bytes() != before
    finally:
        overwrite(path, before)


def stored_files(case: Case, number: int) -> dict[Path, bool]:
    """Every file of a checkpoint, and whether the one before needs it as well."""
    store = case.store(key=key_of(case))
    place = case.root / "flights"
    earlier = {(file.generation, file.digest) for _, file in store.manifest(number - 1).all_files()}
    files = {
        place / f"blobs/{file.generation:010}/{file.digest}": (file.generation, file.digest) in earlier
        for _, file in store.manifest(number).all_files()
    }
    return {place / f"manifests/{number:010}": False, **files}


@pytest.mark.slow
@pytest.mark.parametrize("damage", TIMES, ids=lambda damage: damage.__name__)
def test_damage_is_noticed_and_an_older_checkpoint_takes_over(case: Case, damage: Damage) -> None:
    chance = random.Random(damage.__name__)
    store = case.store(key=key_of(case))
    cases = 0
    for path, shared in stored_files(case, 11).items():
        expected = 9 if shared else 10
        for time in range(TIMES[damage]):
            with damaged(path, damage, chance) as changed:
                manifest, skipped = store.latest_intact()
                assert manifest is not None
                assert manifest.number == (expected if changed else 11), path
                if manifest.number == 11 or time == 0:  # the files of the others are as they were
                    assert content(store, manifest) == case.truth[manifest.number]
                if changed and path.exists():
                    assert [each.number for each in skipped] == list(range(11, expected, -1))
                    assert never_wrong(store, 11, case.truth[11]), path
                cases += 1
    assert cases >= 11 * TIMES[damage]
    assert store.latest_intact()[0] == store.manifest(11)


def never_wrong(store: CheckpointStore, number: int, truth: dict[str, bytes]) -> bool:
    """Reading a damaged checkpoint straight away raises somewhere, and gives nothing wrong before."""
    try:
        manifest = store.manifest(number)
    except DamagedError:
        return store.verify(number)[0].file == "manifest"
    raised = 0
    for path, file in manifest.all_files():
        try:
            right = store.read(file) == truth[path.removeprefix("window-1/0/")]
        except DamagedError as error:
            raised += file.name in str(error) or file.digest in str(error)
        else:
            assert right
    return raised > 0 and len(store.verify(number)) == raised


def test_the_number_of_cases_is_what_was_promised(case: Case) -> None:
    assert 2 * len(stored_files(case, 11)) * sum(TIMES.values()) >= 2_000


@pytest.mark.parametrize("damage", TIMES, ids=lambda damage: damage.__name__)
def test_with_no_intact_checkpoint_left_it_is_refused_again_and_again(tmp_path: Path, damage: Damage) -> None:
    with local_store(tmp_path) as store:
        store.claim()
        assert store.latest_intact() == (None, [])
        first = take(store, 1, {"a": b"aaaa" * 100, "b": b"bbbb" * 100})
        path = tmp_path / "flights/blobs" / f"{first.generation:010}" / first.all_files()[0][1].digest
        damage(path, random.Random(1))
    for _ in range(2):  # the second start must not find an empty place and begin with nothing
        with local_store(tmp_path) as store:
            store.claim()
            with pytest.raises(DamagedError, match=r"no checkpoint of flights in .* is intact"):
                store.latest_intact()


def test_the_loss_of_all_manifests_is_refused(tmp_path: Path) -> None:
    with local_store(tmp_path) as store:
        store.claim()
        take(store, 1, {"a": b"a"})
    (tmp_path / "flights/manifests/0000000001").unlink()
    with local_store(tmp_path) as store:
        store.claim()
        with pytest.raises(StateError, match="are gone"):
            store.latest_intact()


def test_the_loss_of_everything_after_the_claim_is_refused(tmp_path: Path) -> None:
    with local_store(tmp_path) as store:
        store.claim()
        take(store, 1, {"a": b"a"})
    with local_store(tmp_path) as store:
        store.claim()
        shutil.rmtree(tmp_path / "flights")
        with pytest.raises(GoneError, match="are gone"):
            store.latest_intact()


def test_damaged_checkpoints_are_put_aside_with_the_reason(tmp_path: Path) -> None:
    case = make(tmp_path)
    table = max(
        (path for path, shared in stored_files(case, 11).items() if shared),
        key=lambda path: path.stat().st_size,
    )
    flip(table, random.Random(1))
    with case.store() as store:
        store.claim()
        manifest, skipped = store.latest_intact()
        assert manifest is not None
        assert (manifest.number, [each.number for each in skipped]) == (9, [11, 10])
        assert store.numbers() == [9]
        aside = sorted(path.name for path in (tmp_path / "root/flights/quarantine").iterdir())
        assert aside == [f"00000000{number}.1{end}" for number in (10, 11) for end in ("", ".why")]
        assert "digest differs" in (tmp_path / "root/flights/quarantine/0000000011.1.why").read_text()
        assert store.next_number() == 12
        # Going on: the next checkpoint stores the damaged content again.
        take(store, 12, {"again": table.read_bytes()}, parent=9)
        assert store.verify(12) == []
