"""One suite for every keyed state backend: the memory backend is the specification, the others agree with it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from streamflow.errors import ConfigError, StateError
from streamflow.state.backends.factory import open_backend, open_saved, twin_of
from streamflow.state.backends.growing import GrowingBackend
from streamflow.state.backends.memory import MemoryBackend
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress
from streamflow.state.backends.rocksdb.backend import RocksDBBackend
from streamflow.state.backends.saved import FilesInMemory, Saved

FACTORIES: dict[str, Callable[[], KeyedStateBackend]] = {
    "memory": MemoryBackend,
    "rocksdb": RocksDBBackend,
    "growing-memory": lambda: GrowingBackend(MemoryBackend),
    "growing-rocksdb": lambda: GrowingBackend(RocksDBBackend),
    "small-rocksdb": lambda: GrowingBackend(RocksDBBackend, small=100),
}
PANES = StateAddress("window-3", "panes")
OTHERS = [
    StateAddress("window-3", "panes2"),
    StateAddress("window-33", "panes"),
    StateAddress("window", "3-panes"),
]


@pytest.fixture(params=FACTORIES)
def backend(request: pytest.FixtureRequest) -> Iterator[KeyedStateBackend]:
    made = FACTORIES[request.param]()
    yield made
    made.close()


def test_an_empty_backend_has_nothing(backend: KeyedStateBackend) -> None:
    assert backend.get(PANES, 0, b"k") is None
    assert list(backend.scan(PANES, 0)) == []
    assert list(backend.groups(PANES)) == []
    backend.delete(PANES, 0, b"k")
    backend.write(PANES, [(0, b"k", None)])
    assert list(backend.groups(PANES)) == []


def test_values_come_back_also_empty_ones(backend: KeyedStateBackend) -> None:
    backend.put(PANES, 0, b"", b"")
    backend.put(PANES, 0, b"\x00", b"x" * 100_000)
    assert backend.get(PANES, 0, b"") == b""
    assert backend.get(PANES, 0, b"\x00") == b"x" * 100_000
    backend.put(PANES, 0, b"", b"second")
    assert backend.get(PANES, 0, b"") == b"second"
    backend.delete(PANES, 0, b"")
    assert backend.get(PANES, 0, b"") is None


def test_many_keys_are_read_in_the_order_asked_for(backend: KeyedStateBackend) -> None:
    asked = [(3, b"a"), (2, b"a"), (3, b"none"), (3, b""), (3, b"a")]
    assert backend.get_many(PANES, asked) == [None] * 5
    backend.write(PANES, [(3, b"a", b"3a"), (2, b"a", b"2a"), (3, b"", b"")])
    assert backend.get_many(PANES, asked) == [b"3a", b"2a", None, b"", b"3a"]
    assert backend.get_many(OTHERS[0], asked) == [None] * 5
    assert backend.get_many(PANES, []) == []


def test_scans_are_in_byte_order_and_half_open(backend: KeyedStateBackend) -> None:
    keys = [b"", b"\x00", b"\x00\x00", b"a", b"a\x00", b"a\xff", b"b", b"\xff", b"\xff\xff"]
    backend.write(PANES, [(5, key, b"v" + key) for key in reversed(keys)])
    assert list(backend.scan(PANES, 5)) == [(key, b"v" + key) for key in keys]
    assert [key for key, _ in backend.scan(PANES, 5, b"a", b"b")] == [b"a", b"a\x00", b"a\xff"]
    assert [key for key, _ in backend.scan(PANES, 5, b"b")] == [b"b", b"\xff", b"\xff\xff"]
    assert [key for key, _ in backend.scan(PANES, 5, b"", b"\x00")] == [b""]
    assert list(backend.scan(PANES, 5, b"b", b"a")) == []
    assert list(backend.scan(PANES, 5, b"", b"")) == []


def test_groups_operators_and_states_are_apart(backend: KeyedStateBackend) -> None:
    backend.put(PANES, 1, b"k", b"mine")
    for other in OTHERS:
        backend.put(other, 1, b"k", b"other")
    for group in (0, 2, 255, 256, 257, 32_767):
        backend.put(PANES, group, b"k", b"group %d" % group)
    assert list(backend.scan(PANES, 1)) == [(b"k", b"mine")]
    backend.delete(PANES, 1, b"k")
    assert list(backend.scan(PANES, 1)) == []
    assert all(backend.get(other, 1, b"k") == b"other" for other in OTHERS)
    assert list(backend.groups(PANES)) == [0, 2, 255, 256, 257, 32_767]
    assert list(backend.groups(OTHERS[0])) == [1]


def test_a_state_is_not_the_beginning_of_another(backend: KeyedStateBackend) -> None:
    """`ab` + `c…` and `a` + `bc…` would be the same bytes without the lengths."""
    backend.put(StateAddress("ab", "c"), 0, b"d", b"1")
    backend.put(StateAddress("a", "bc"), 0, b"d", b"2")
    backend.put(StateAddress("a", "b"), 0, b"cd", b"3")
    assert list(backend.scan(StateAddress("ab", "c"), 0)) == [(b"d", b"1")]
    assert list(backend.scan(StateAddress("a", "bc"), 0)) == [(b"d", b"2")]
    assert list(backend.scan(StateAddress("a", "b"), 0)) == [(b"cd", b"3")]


def test_a_scan_sees_what_was_there_when_it_was_called(backend: KeyedStateBackend) -> None:
    rows = [(b"%03d" % i, b"v") for i in range(300)]
    backend.write(PANES, [(0, key, value) for key, value in rows])
    scan = backend.scan(PANES, 0)
    backend.put(PANES, 0, b"000", b"changed")
    backend.put(PANES, 0, b"0005", b"new")
    backend.delete(PANES, 0, b"299")
    seen = []
    for key, value in scan:
        backend.delete(PANES, 0, key)
        seen.append((key, value))
    assert seen == rows
    assert list(backend.scan(PANES, 0)) == [(b"0005", b"new")]


def test_an_exhausted_scan_stays_exhausted(backend: KeyedStateBackend) -> None:
    backend.put(PANES, 0, b"k", b"v")
    scan = backend.scan(PANES, 0)
    assert list(scan) == [(b"k", b"v")]
    assert list(scan) == []


def test_of_two_changes_to_a_key_the_last_counts(backend: KeyedStateBackend) -> None:
    backend.write(
        PANES, [(0, b"a", b"1"), (0, b"a", b"2"), (0, b"b", b"1"), (0, b"b", None), (1, b"b", b"3")]
    )
    assert list(backend.scan(PANES, 0)) == [(b"a", b"2")]
    assert list(backend.scan(PANES, 1)) == [(b"b", b"3")]


BAD_CHANGES: list[tuple[object, object, object]] = [
    (32_768, b"k", b"v"),
    (-1, b"k", b"v"),
    (0, "k", b"v"),
    (0, b"k", "v"),
    (0, bytearray(b"k"), b"v"),
    (0, b"k", 7),
]


@pytest.mark.parametrize("bad", BAD_CHANGES, ids=repr)
def test_a_write_is_all_or_nothing(backend: KeyedStateBackend, bad: tuple[object, object, object]) -> None:
    backend.put(PANES, 0, b"kept", b"1")
    changes: list[object] = [(0, b"new", b"1"), (0, b"kept", None), bad]
    with pytest.raises(StateError):
        backend.write(PANES, changes)  # type: ignore[arg-type]
    assert list(backend.scan(PANES, 0)) == [(b"kept", b"1")]


def test_a_write_whose_changes_cannot_be_made_does_nothing(backend: KeyedStateBackend) -> None:
    def changes() -> Iterator[tuple[int, bytes, bytes | None]]:
        yield 0, b"new", b"1"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        backend.write(PANES, changes())
    assert list(backend.scan(PANES, 0)) == []


@pytest.mark.parametrize("name", ["", "Window", "../etc", "a/b", "-a", "_a", "a" * 64, "a.b", "ä", "a\n"])
def test_names_that_cannot_stand_in_keys_and_paths(backend: KeyedStateBackend, name: str) -> None:
    for address in (StateAddress(name, "panes"), StateAddress("window-3", name)):
        for call in (
            lambda address=address: backend.get(address, 0, b"k"),
            lambda address=address: backend.put(address, 0, b"k", b"v"),
            lambda address=address: backend.scan(address, 0),
            lambda address=address: list(backend.groups(address)),
        ):
            with pytest.raises(StateError, match="cannot be used"):
                call()


def test_after_close_everything_says_so(backend: KeyedStateBackend) -> None:
    backend.write(PANES, [(0, b"%d" % i, b"v") for i in range(10)])
    scan = backend.scan(PANES, 0)
    next(scan)
    backend.close()
    backend.close()
    for call in (
        lambda: next(scan),
        lambda: backend.get(PANES, 0, b"k"),
        lambda: backend.put(PANES, 0, b"k", b"v"),
        lambda: backend.delete(PANES, 0, b"k"),
        lambda: backend.write(PANES, []),
        lambda: list(backend.scan(PANES, 0)),
        lambda: list(backend.groups(PANES)),
    ):
        with pytest.raises(StateError, match="closed"):
            call()


_keys = st.binary(max_size=3)
_groups = st.sampled_from([0, 1, 255, 256])
_addresses = st.sampled_from([PANES, *OTHERS[:2]])
_changes = st.lists(st.tuples(_groups, _keys, st.none() | st.binary(max_size=3)), max_size=8)


class BackendBesideDict(RuleBasedStateMachine):
    """Calls on a backend and on a dict, with scans left open across changes."""

    kind: ClassVar[str]

    @initialize()
    def start(self) -> None:
        self.backend = FACTORIES[self.kind]()
        self.model: dict[tuple[StateAddress, int, bytes], bytes] = {}
        self.scans: list[tuple[Iterator[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]] = []
        self.folder = Path(tempfile.mkdtemp())
        self.saves: list[tuple[Saved | None, dict[tuple[StateAddress, int, bytes], bytes]]] = []

    @rule(address=_addresses, group=_groups, key=_keys, value=st.binary(max_size=3))
    def put(self, address: StateAddress, group: int, key: bytes, value: bytes) -> None:
        self.backend.put(address, group, key, value)
        self.model[address, group, key] = value

    @rule(address=_addresses, group=_groups, key=_keys)
    def delete(self, address: StateAddress, group: int, key: bytes) -> None:
        self.backend.delete(address, group, key)
        self.model.pop((address, group, key), None)

    @rule(address=_addresses, changes=_changes)
    def write(self, address: StateAddress, changes: list[tuple[int, bytes, bytes | None]]) -> None:
        self.backend.write(address, iter(changes))
        for group, key, value in changes:
            if value is None:
                self.model.pop((address, group, key), None)
            else:
                self.model[address, group, key] = value

    @rule(address=_addresses, group=_groups, key=_keys)
    def get(self, address: StateAddress, group: int, key: bytes) -> None:
        assert self.backend.get(address, group, key) == self.model.get((address, group, key))

    @rule(address=_addresses, group=_groups, start=_keys, end=st.none() | _keys)
    def begin_scan(self, address: StateAddress, group: int, start: bytes, end: bytes | None) -> None:
        expected = sorted(
            (key, value)
            for (of, at, key), value in self.model.items()
            if (of, at) == (address, group) and key >= start and (end is None or key < end)
        )
        self.scans.append((self.backend.scan(address, group, start, end), expected))

    @rule()
    def finish_scans(self) -> None:
        for scan, expected in self.scans:
            assert list(scan) == expected
        self.scans.clear()

    @precondition(lambda self: len(self.saves) < 2)
    @rule(flush=st.booleans())
    def save(self, flush: bool) -> None:
        if flush:
            self.backend.flush()
        self.saves.append((self.backend.save(self.folder / str(len(self.saves))), dict(self.model)))

    @rule(address=_addresses)
    def groups(self, address: StateAddress) -> None:
        assert list(self.backend.groups(address)) == sorted({at for of, at, _ in self.model if of == address})

    def teardown(self) -> None:
        if hasattr(self, "backend"):
            self.finish_scans()
            self.backend.close()
            for saved, model in self.saves:
                if saved is None:
                    assert model == {}
                    continue
                again = open_saved(saved.kind, FilesInMemory.of(saved))
                assert _content(again, [PANES, *OTHERS]) == model
                again.close()
            shutil.rmtree(self.folder)


@pytest.mark.parametrize("kind", FACTORIES)
def test_any_sequence_of_calls_agrees_with_a_dict(kind: str) -> None:
    machine = type("Machine", (BackendBesideDict,), {"kind": kind})
    run_state_machine_as_test(machine)


# What only a growing backend does.


def test_a_growing_backend_opens_nothing_while_there_is_nothing() -> None:
    opened: list[MemoryBackend] = []

    def factory() -> MemoryBackend:
        opened.append(MemoryBackend())
        return opened[-1]

    growing = GrowingBackend(factory)
    growing.get(PANES, 0, b"k")
    growing.delete(PANES, 0, b"k")
    growing.write(PANES, [(0, b"k", None)])
    assert list(growing.scan(PANES, 0)) == []
    with pytest.raises(StateError):
        growing.put(PANES, -1, b"k", b"v")
    assert (opened, growing.grown) == ([], False)
    growing.put(PANES, 0, b"k", b"v")
    growing.put(PANES, 0, b"l", b"v")
    assert (len(opened), growing.grown) == (1, True)
    growing.close()
    with pytest.raises(StateError, match="closed"):
        opened[0].get(PANES, 0, b"k")


def test_a_growing_backend_takes_all_that_it_has_along(tmp_path: Path) -> None:
    growing = GrowingBackend(RocksDBBackend, small=1_000)
    rows = {(group, b"%03d" % key): b"v" for group in range(4) for key in range(60)}
    for (group, key), value in rows.items():
        growing.put(PANES, group, key, value)
    assert not growing.grown
    small = growing.save(tmp_path / "small")
    assert small is not None
    assert small.kind == "memory"
    scan = growing.scan(PANES, 2)
    assert next(scan) == (b"000", b"v")
    growing.write(OTHERS[0], [(3, b"k%d" % key, b"w" * 10) for key in range(20)])
    assert growing.grown
    assert [key for key, _ in scan] == [b"%03d" % key for key in range(1, 60)], "as it was"
    expected = {(PANES, *row): value for row, value in rows.items()}
    expected |= {(OTHERS[0], 3, b"k%d" % key): b"w" * 10 for key in range(20)}
    assert _content(growing, [PANES, *OTHERS]) == expected
    large = growing.save(tmp_path / "large")
    assert large is not None
    assert large.kind == "rocksdb"
    growing.close()


def test_what_is_overwritten_and_deleted_does_not_make_it_grow() -> None:
    growing = GrowingBackend(RocksDBBackend, small=1_000)
    for number in range(1_000):
        growing.put(PANES, 0, b"k%d" % (number % 10), b"%d" % number)
        growing.delete(PANES, 0, b"k%d" % ((number + 5) % 10))
    assert not growing.grown
    growing.close()


def test_a_growing_backend_that_cannot_grow_keeps_what_it_has() -> None:
    def full() -> KeyedStateBackend:
        raise StateError("no room")

    growing = GrowingBackend(full, small=10)
    growing.put(PANES, 0, b"k", b"v")
    with pytest.raises(StateError, match="no room"):
        growing.put(PANES, 0, b"l", b"v" * 20)
    assert growing.get(PANES, 0, b"k") == b"v"
    growing.close()


# What only RocksDB does.


def test_the_factory_knows_its_kinds(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'memory' or 'rocksdb'"):
        open_backend("redis")
    with_directory = open_backend("rocksdb", tmp_path / "db")
    with_directory.close()
    assert (tmp_path / "db" / "CURRENT").exists()


def test_what_was_flushed_is_there_after_reopening(tmp_path: Path) -> None:
    first = RocksDBBackend(tmp_path / "db")
    first.write(PANES, [(i % 7, b"%04d" % i, b"v%d" % i) for i in range(1_000)])
    left_open = first.scan(PANES, 0)
    next(left_open)
    first.flush()
    first.close()
    second = RocksDBBackend(tmp_path / "db", must_exist=True)
    assert list(second.groups(PANES)) == list(range(7))
    assert sum(len(list(second.scan(PANES, group))) for group in range(7)) == 1_000
    assert second.get(PANES, 999 % 7, b"0999") == b"v999"
    second.close()


def test_no_database_is_made_where_one_was_expected(tmp_path: Path) -> None:
    for directory in (tmp_path / "missing", tmp_path):
        with pytest.raises(StateError, match="no state database"):
            RocksDBBackend(directory, must_exist=True)
    with pytest.raises(StateError, match="temporary"):
        RocksDBBackend(must_exist=True)
    assert list(tmp_path.iterdir()) == []


def test_a_second_backend_on_one_database_is_told_who_holds_it(tmp_path: Path) -> None:
    first = RocksDBBackend(tmp_path / "db")
    with pytest.raises(StateError, match="this process has it open"):
        RocksDBBackend(tmp_path / "db")
    script = (
        "import sys; from pathlib import Path; from streamflow.errors import StateError\n"
        "from streamflow.state.backends.rocksdb.backend import RocksDBBackend\n"
        "try: RocksDBBackend(Path(sys.argv[1]))\n"
        "except StateError as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "db")],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    assert "another process has it open" in done.stdout
    first.close()


def test_a_temporary_database_is_private_and_gone_at_close() -> None:
    backend = RocksDBBackend()
    directory = backend.directory
    assert directory.is_relative_to(tempfile.gettempdir())
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    backend.put(PANES, 0, b"k", b"v")
    backend.close()
    assert not directory.exists()


def test_directory_and_files_are_for_their_owner_only(tmp_path: Path) -> None:
    backend = RocksDBBackend(tmp_path / "deep" / "db")
    backend.put(PANES, 0, b"k", b"v")
    backend.flush()
    backend.close()
    assert stat.S_IMODE((tmp_path / "deep" / "db").stat().st_mode) == 0o700
    files = list((tmp_path / "deep" / "db").iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def _filled(directory: Path, rows: int = 4_000) -> list[Path]:
    backend = RocksDBBackend(directory)
    backend.write(PANES, [(0, b"%06d" % i, os.urandom(100)) for i in range(rows)])
    backend.flush()
    backend.close()
    return sorted(directory.glob("*.sst"))


def test_a_flipped_byte_in_a_file_is_never_a_short_scan(tmp_path: Path) -> None:
    (file,) = _filled(tmp_path / "db")
    whole = file.read_bytes()
    caught = 0
    for place in range(0, len(whole), len(whole) // 20):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            backend = RocksDBBackend(tmp_path / "db", must_exist=True)
            try:
                rows = len(list(backend.scan(PANES, 0)))
            finally:
                backend.close()
        except StateError as error:
            assert "restore it from a checkpoint" in str(error)  # noqa: PT017  (most places raise, a few are unused)
            caught += 1
        else:
            assert rows == 4_000
    assert caught >= 15


def test_damage_where_groups_and_get_look_is_reported(tmp_path: Path) -> None:
    (file,) = _filled(tmp_path / "db")
    content = file.read_bytes()
    file.write_bytes(content[:10] + bytes([content[10] ^ 1]) + content[11:])
    backend = RocksDBBackend(tmp_path / "db", must_exist=True)
    with pytest.raises(StateError, match="damaged"):
        backend.get(PANES, 0, b"000000")
    with pytest.raises(StateError, match="damaged"):
        list(backend.groups(PANES))
    backend.close()


def test_a_lost_file_is_reported(tmp_path: Path) -> None:
    (file,) = _filled(tmp_path / "db")
    file.unlink()
    with pytest.raises(StateError, match="restore it from a checkpoint"):
        RocksDBBackend(tmp_path / "db", must_exist=True)


def test_a_database_that_would_be_unpickled_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    from rocksdict import Rdict

    other = Rdict(str(tmp_path / "db"))
    other["k"] = {"a": 1}
    other.close()
    before = {path.name: path.read_bytes() for path in (tmp_path / "db").iterdir()}
    with pytest.raises(StateError, match="not written by streamflow"):
        RocksDBBackend(tmp_path / "db")
    assert {path.name: path.read_bytes() for path in (tmp_path / "db").iterdir()} == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000, b"\xff"])
def test_a_damaged_description_is_refused(tmp_path: Path, content: bytes) -> None:
    _filled(tmp_path / "db", rows=1)
    (tmp_path / "db" / "rocksdict-config.json").write_bytes(content)
    with pytest.raises(StateError, match="missing or damaged"):
        RocksDBBackend(tmp_path / "db")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "db"):
        with pytest.raises(StateError, match="a file where the directory should be"):
            RocksDBBackend(path)


# What was saved.


def _saved(backend: KeyedStateBackend, folder: Path) -> tuple[str, FilesInMemory]:
    saved = backend.save(folder)
    assert saved is not None
    files = saved.kind, FilesInMemory.of(saved)
    saved.release()
    saved.release()
    assert not folder.exists()
    return files


def _content(
    backend: KeyedStateBackend, addresses: Sequence[StateAddress]
) -> dict[tuple[StateAddress, int, bytes], bytes]:
    return {
        (address, group, key): value
        for address in addresses
        for group in backend.groups(address)
        for key, value in backend.scan(address, group)
    }


def test_what_was_saved_is_what_was_there_at_that_moment(backend: KeyedStateBackend, tmp_path: Path) -> None:
    for address in (PANES, *OTHERS):
        backend.write(address, [(group, b"%03d" % i, b"v" * i) for i in range(50) for group in (0, 3, 127)])
    expected = _content(backend, [PANES, *OTHERS])
    backend.flush()
    backend.put(PANES, 3, b"not flushed", b"")
    expected[PANES, 3, b"not flushed"] = b""
    saved = backend.save(tmp_path / "saved")
    assert saved is not None
    backend.put(PANES, 3, b"later", b"1")
    backend.write(PANES, [(0, b"%03d" % i, None) for i in range(50)])
    kind, files = saved.kind, FilesInMemory.of(saved)
    for number in range(2):
        again = open_saved(kind, files, None if number else tmp_path / "deep" / "again")
        assert _content(again, [PANES, *OTHERS]) == expected
        again.put(PANES, 3, b"it goes on", b"1")
        assert again.get(PANES, 3, b"it goes on") == b"1"
        again.close()
    assert backend.get(PANES, 3, b"later") == b"1"
    assert list(backend.scan(PANES, 0)) == []


def test_what_was_saved_again_after_being_restored(backend: KeyedStateBackend, tmp_path: Path) -> None:
    backend.put(PANES, 1, b"first", b"1")
    second = open_saved(*_saved(backend, tmp_path / "1"), tmp_path / "second")
    second.put(PANES, 2, b"second", b"2")
    third = open_saved(*_saved(second, tmp_path / "2"))
    assert _content(third, [PANES]) == {(PANES, 1, b"first"): b"1", (PANES, 2, b"second"): b"2"}
    second.close()
    third.close()


def test_key_groups_find_their_way_to_other_backends(backend: KeyedStateBackend, tmp_path: Path) -> None:
    rows = [(group, b"%02d" % key, b"%d" % group) for group in range(8) for key in range(30)]
    for address in (PANES, OTHERS[0]):
        backend.write(address, rows)
    old = open_saved(*_saved(backend, tmp_path / "saved"))
    found = 0
    for groups in (range(3), range(3, 6), range(6, 8)):
        new = GrowingBackend(MemoryBackend)
        assert new.take(old, [PANES], groups) == 30 * len(groups)
        assert list(new.groups(PANES)) == list(groups)
        assert list(new.groups(OTHERS[0])) == []
        found += len(_content(new, [PANES]))
    assert found == len(rows)
    old.close()


def test_key_groups_are_taken_from_several_backends(backend: KeyedStateBackend, tmp_path: Path) -> None:
    sources: list[KeyedStateBackend] = [RocksDBBackend(), MemoryBackend(), RocksDBBackend()]
    for at, source in enumerate(sources):
        for address in (PANES, OTHERS[0]):
            source.write(address, [(2 * at, b"k", b"%d" % at), (2 * at + 1, b"\xff" * 9, b"")])
    wanted = range(1, 5)
    assert [backend.take(source, [PANES], wanted) for source in sources] == [1, 2, 1]
    assert list(backend.groups(PANES)) == list(wanted)
    assert _content(backend, [PANES, OTHERS[0]]) == {
        (PANES, 1, b"\xff" * 9): b"",
        (PANES, 2, b"k"): b"1",
        (PANES, 3, b"\xff" * 9): b"",
        (PANES, 4, b"k"): b"2",
    }
    for source in sources:
        source.close()


def test_a_twin_shares_the_files_and_has_its_own_keys_only(tmp_path: Path) -> None:
    with closing(RocksDBBackend(tmp_path / "old")) as old:
        for address in (PANES, *OTHERS):
            old.write(address, [(group, b"%02d" % key, b"v") for group in range(8) for key in range(30)])
        twin = GrowingBackend(RocksDBBackend, partial(twin_of, directory=tmp_path / "twin"))
        assert twin.take(old, [PANES, OTHERS[0]], range(3, 6)) == 0
        tables = {path.name: path.stat().st_ino for path in (tmp_path / "twin").glob("*.sst")}
        assert tables
        assert tables == {path.name: path.stat().st_ino for path in (tmp_path / "old").glob("*.sst")}
        for address in (PANES, OTHERS[0]):
            assert list(twin.groups(address)) == [3, 4, 5]
            assert len(_content(twin, [address])) == 90
        assert _content(twin, OTHERS[1:]) == {}
        twin.put(PANES, 7, b"k", b"v")
        assert twin.get(PANES, 7, b"00") is None
        twin.close()
        assert len(_content(old, [PANES, *OTHERS])) == 240 * (1 + len(OTHERS))


def test_what_has_keys_already_gets_the_others_beside_them(tmp_path: Path) -> None:
    with closing(RocksDBBackend()) as first, closing(RocksDBBackend()) as second:
        first.write(PANES, [(group, b"%05d" % key, b"v") for group in range(2) for key in range(5_000)])
        second.write(PANES, [(group, b"%05d" % key, b"w") for group in range(2, 4) for key in range(5_000)])
        target = GrowingBackend(RocksDBBackend, partial(twin_of, directory=tmp_path / "twin"))
        assert target.take(first, [PANES], range(1, 4)) == 0
        assert target.take(second, [PANES], range(1, 4)) == 10_000
        assert {group: len(list(target.scan(PANES, group))) for group in range(4)} == {
            0: 0,
            1: 5_000,
            2: 5_000,
            3: 5_000,
        }
        target.close()


def test_a_twin_of_nothing_is_not_made(tmp_path: Path) -> None:
    with closing(RocksDBBackend()) as old:
        old.put(PANES, 5, b"k", b"v")
        twin = GrowingBackend(RocksDBBackend, partial(twin_of, directory=tmp_path / "twin"))
        assert twin.take(old, [PANES], range(5)) == 0
        assert not twin.grown
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_saved_of_a_growing_backend_that_has_nothing(tmp_path: Path) -> None:
    growing = GrowingBackend(RocksDBBackend)
    growing.flush()
    assert growing.save(tmp_path / "saved") is None
    assert list(tmp_path.iterdir()) == []


def test_after_close_nothing_can_be_saved(backend: KeyedStateBackend, tmp_path: Path) -> None:
    backend.put(PANES, 0, b"k", b"v")
    backend.close()
    for call in (backend.flush, lambda: backend.save(tmp_path / "saved")):
        with pytest.raises(StateError, match="closed"):
            call()


def test_an_unknown_kind_of_saved_backend_is_refused() -> None:
    with pytest.raises(ConfigError, match="no state backend 'redis'"):
        open_saved("redis", FilesInMemory({}))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"window-3.panes": b""}, "does not begin"),
        ({"window-3.panes": b"SFM1\x00"}, "ends within a row"),
        ({"window-3.panes": b"SFM1\x00\x01\x00\x00\x00\x02\x00\x00\x00\x01ab"}, "ends within a row"),
        ({"window-3.panes": b"SFM1\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"}, "key group"),
        ({"../window.panes": b"SFM1"}, "cannot be used"),
        ({"panes": b"SFM1"}, "cannot be used"),
    ],
)
def test_what_no_memory_backend_has_written_is_refused(files: dict[str, bytes], message: str) -> None:
    with pytest.raises(StateError, match=message):
        open_saved("memory", FilesInMemory(files))


@pytest.mark.parametrize("name", ["../000001.sst", "/tmp/x.sst", "LOCK", "a/000001.sst", ".", "000001.sst\n"])
def test_names_that_are_no_database_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no file of a saved RocksDB"):
        open_saved("rocksdb", FilesInMemory({"CURRENT": b"", name: b""}), tmp_path / "db")
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_rocksdb_would_read_for_ever_is_refused(tmp_path: Path) -> None:
    """Records of a kind for logs that are written over: found by `reliability fuzz-checkpoints`."""
    backend = RocksDBBackend()
    backend.put(PANES, 0, b"k", b"v")
    _, files = _saved(backend, tmp_path / "saved")
    content = {name: files.read(name) for name in files.names}
    (manifest,) = (name for name in content if name.startswith("MANIFEST"))
    content[manifest] = content[manifest][:49] + b"\xc8\x00\x01\x07" * 100_000 + content[manifest][49:]
    with pytest.raises(StateError, match=f"{manifest} .* is damaged"):
        open_saved("rocksdb", FilesInMemory(content), tmp_path / "db")


def test_a_saved_database_without_its_files_is_refused_and_leaves_no_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StateError, match="no state database"):
        open_saved("rocksdb", FilesInMemory({}))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_in_the_way_is_left_as_it_is(tmp_path: Path) -> None:
    backend = RocksDBBackend()
    backend.put(PANES, 0, b"k", b"v")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "other").write_text("x")
    with pytest.raises(StateError, match="cannot save"):
        backend.save(tmp_path / "saved")
    backend.close()
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "CURRENT").write_text("x")
    with pytest.raises(StateError, match="cannot put a saved state database"):
        open_saved("rocksdb", FilesInMemory({"CURRENT": b"y"}), tmp_path / "db")
    assert (tmp_path / "db" / "CURRENT").read_text() == "x"


class _Linked:
    """Stored files that are fetched as hard links."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def fetch(self, name: str, path: Path) -> None:
        path.hardlink_to(self.folder / name)


def test_saved_tables_are_links_that_nobody_ever_changes(tmp_path: Path) -> None:
    backend = RocksDBBackend(tmp_path / "db")
    stored = tmp_path / "stored"
    stored.mkdir()
    tables: dict[str, bytes] = {}
    for number in range(3):
        backend.write(PANES, [(0, b"%06d" % i, os.urandom(50)) for i in range(number * 100, 4_000)])
        saved = backend.save(tmp_path / "saved" / str(number))
        assert stat.S_IMODE((tmp_path / "saved").stat().st_mode) == 0o700
        for file in saved.files():
            assert file.path is not None
            assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
            assert file.immutable == file.name.endswith(".sst")
            if file.immutable:
                assert file.path.stat().st_nlink >= 2
                content = file.path.read_bytes()
                assert tables.setdefault(file.name, content) == content, "one name, two contents"
        if number < 2:
            saved.release()
            continue
        for file in saved.files():
            assert file.path is not None
            (stored / file.name).hardlink_to(file.path)
        saved.release()
    expected = _content(backend, [PANES])
    backend.close()
    before = {path.name: path.read_bytes() for path in stored.iterdir()}
    for number in range(2):
        restored = open_saved("rocksdb", _Linked(stored), tmp_path / f"restored-{number}")
        assert _content(restored, [PANES]) == expected
        restored.write(PANES, [(0, b"%06d" % i, None) for i in range(4_000)])
        restored.flush()
        assert isinstance(restored, RocksDBBackend)
        restored.close()
        assert stat.S_IMODE((tmp_path / f"restored-{number}").stat().st_mode) == 0o700
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == before
