"""Manifests come back as they were written; any other bytes are refused, and only in the ways that are declared."""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import blake2b

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import DamagedError, StateError
from streamflow.state.checkpoints.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    OperatorEntry,
    SignatureError,
    StoredFile,
    SubtaskEntry,
    UnsignedError,
    decode_manifest,
    encode_manifest,
)

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
file_names = st.from_regex(
    r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,20}){0,3}", fullmatch=True
)
counts = st.integers(0, 2**63 - 1)
numbers = st.integers(0, 9_999_999_999)
groups = st.integers(0, 32_767)
keys = st.none() | st.binary(min_size=1, max_size=64)
files = st.builds(
    StoredFile,
    name=file_names,
    size=counts,
    digest=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    generation=numbers,
    immutable=st.booleans(),
)


def file_tuples() -> st.SearchStrategy[tuple[StoredFile, ...]]:
    return st.lists(files, max_size=3, unique_by=lambda file: file.name).map(tuple)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
subtasks = st.builds(
    lambda subtask, ends, backend, found: SubtaskEntry(subtask, min(ends), max(ends), backend, found),
    groups,
    st.tuples(groups, groups),
    st.sampled_from([None, "memory", "rocksdb"]),
    file_tuples(),
)
operators = st.builds(
    OperatorEntry,
    id=names,
    kind=st.text(max_size=20),
    parallelism=groups,
    signature=st.none() | st.dictionaries(st.text(max_size=5), plain, max_size=3),
    subtasks=st.lists(subtasks, max_size=3, unique_by=lambda entry: entry.subtask).map(tuple),
)
manifests = st.builds(
    Manifest,
    number=numbers,
    kind=st.sampled_from(["checkpoint", "savepoint"]),
    parent=st.none() | numbers,
    mode=st.text(max_size=20),
    max_parallelism=st.integers(1, 32_768),
    finished=st.booleans(),
    operators=st.lists(operators, max_size=3, unique_by=lambda entry: entry.id).map(tuple),
    files=file_tuples(),
    streamflow=st.text(max_size=20),
    job=names,
    incarnation=numbers,
    generation=numbers,
    created=counts,
)


def signed(body: bytes, key: bytes | None = None) -> bytes:
    """A body with the line that fits it, as anybody who can write there could make it."""
    method = b"blake2b" if key is None else b"blake2b-keyed"
    return method + b" " + blake2b(body, digest_size=32, key=key or b"").hexdigest().encode() + b"\n" + body


def altered(**changes: object) -> bytes:
    fields = json.loads(msgspec.json.encode(Manifest(1)))
    return signed(json.dumps(fields | changes).encode())


BAD_NAMES = [
    "../a", "a/../b", "/a", "a//b", "a/", "", ".", "..", "a/.", ".a", "a\\b", "a\x00", "a\n", "ü", "a:b",
    "x" * 256, "/".join("a" * 9),
]  # fmt: skip
FILE = {"name": "a", "size": 1, "digest": "0" * 64, "generation": 1}
SUBTASK = {"subtask": 0, "first_group": 0, "last_group": 127, "backend": None, "files": []}
OPERATOR = {"id": "a", "kind": "k", "parallelism": 1, "signature": None, "subtasks": []}


@given(manifests, keys)
def test_a_manifest_comes_back(manifest: Manifest, key: bytes | None) -> None:
    assert decode_manifest(encode_manifest(manifest, key), key) == manifest


@given(manifests, keys, st.data())
def test_changed_bytes_are_damage(manifest: Manifest, key: bytes | None, data: st.DataObject) -> None:
    before = encode_manifest(manifest, key)
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "swap"]))
    at = data.draw(st.integers(0, len(before) - 1))
    match kind:
        case "flip":
            after = before[:at] + bytes([before[at] ^ (1 << data.draw(st.integers(0, 7)))]) + before[at + 1 :]
        case "cut":
            after = before[:at]
        case "insert":
            after = before[:at] + data.draw(st.binary(min_size=1, max_size=4)) + before[at:]
        case _:
            after = before[at:] + before[:at]
    if after != before:
        with pytest.raises(DamagedError):
            decode_manifest(after, key)


@given(st.binary(max_size=400), keys)
def test_any_bytes_raise_what_is_declared(body: bytes, key: bytes | None) -> None:
    for data in (body, signed(body, key), signed(b'{"format":1,' + body, key)):
        with pytest.raises(StateError):
            decode_manifest(data, key)


@given(manifests, st.data())
def test_a_well_signed_manifest_with_changed_content_is_a_manifest_or_damage(manifest, data) -> None:
    body = bytearray(msgspec.json.encode(manifest))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(StateError):
        assert isinstance(decode_manifest(signed(bytes(body))), Manifest)


@pytest.mark.parametrize(
    "changes",
    [
        {"number": -1},
        {"number": 10_000_000_000},
        {"number": True},
        {"number": "1"},
        {"job": "../x"},
        {"job": "A"},
        {"job": ""},
        {"job": "x\n"},
        {"kind": "other"},
        {"format": 0},
        {"format": "1"},
        {"created": 2**64},
        {"unknown": 1},
        {"max_parallelism": 0},
        {"max_parallelism": 32_769},
        {"streamflow": "x" * 201},
        {"files": [FILE, FILE]},
        *({"files": [FILE | {"name": name}]} for name in BAD_NAMES),
        {"files": [FILE | {"digest": "0" * 63}]},
        {"files": [FILE | {"digest": "G" * 64}]},
        {"files": [FILE | {"digest": "../" + "0" * 61}]},
        {"files": [FILE | {"size": -1}]},
        {"files": [FILE | {"generation": -1}]},
        {"operators": [OPERATOR, OPERATOR]},
        {"operators": [OPERATOR | {"id": "../a"}]},
        {"operators": [OPERATOR | {"subtasks": [SUBTASK | {"backend": "pickle"}]}]},
        {"operators": [OPERATOR | {"subtasks": [SUBTASK, SUBTASK]}]},
        {"operators": [OPERATOR | {"subtasks": [SUBTASK | {"first_group": 5, "last_group": 4}]}]},
        {"operators": [OPERATOR | {"subtasks": [SUBTASK | {"last_group": 32_768}]}]},
        {"operators": None},
    ],
    ids=repr,
)  # fmt: skip
def test_a_manifest_that_says_what_cannot_be_is_damage(changes: dict[str, object]) -> None:
    with pytest.raises(DamagedError):
        decode_manifest(altered(**changes))


def test_what_could_not_be_read_again_is_not_written() -> None:
    with pytest.raises(StateError, match="cannot be described"):
        encode_manifest(Manifest(1, files=(StoredFile("../a", 1, "0" * 64, 1),)))
    with pytest.raises(StateError, match="cannot be described"):
        encode_manifest(Manifest(1, operators=(OperatorEntry("a", "k", 1, {"x": object()}, ()),)))


def test_a_newer_format_is_refused_by_the_version_that_wrote_it() -> None:
    body = b'{"format":3,"streamflow":"7.3.0","and":{"much":"else"}}'
    with pytest.raises(
        StateError, match=r"format 3, written by streamflow 7\.3\.0.*reads formats up to 2"
    ) as raised:
        decode_manifest(signed(body))
    assert not isinstance(raised.value, DamagedError), "it is not to be put aside"


def test_bombs_are_refused() -> None:
    deep = b'{"format":1,"number":1,"operators":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(DamagedError):
        decode_manifest(signed(deep))
    with pytest.raises(DamagedError):
        decode_manifest(signed(b'{"format":1,"number":' + b"9" * 100_000 + b"}"))
    with pytest.raises(DamagedError):
        decode_manifest(signed(b" " * (MAX_MANIFEST_BYTES + 1)))


class TestKeys:
    manifest = Manifest(1)

    def test_with_a_key_an_unsigned_one_is_refused(self) -> None:
        with pytest.raises(UnsignedError, match="not signed") as raised:
            decode_manifest(encode_manifest(self.manifest), b"key")
        assert not isinstance(raised.value, DamagedError)

    def test_a_signed_one_asks_for_the_key(self) -> None:
        with pytest.raises(UnsignedError, match=r"it is signed; give the key .*checkpoint_key"):
            decode_manifest(encode_manifest(self.manifest, b"key"))

    def test_another_keys_is_refused(self) -> None:
        with pytest.raises(SignatureError, match="not that of this key"):
            decode_manifest(encode_manifest(self.manifest, b"other"), b"key")

    def test_content_changed_by_somebody_without_the_key_is_refused(self) -> None:
        body = encode_manifest(self.manifest, b"key").split(b"\n", 1)[1].replace(b'"number":1', b'"number":2')
        for forged in (
            signed(body),
            signed(body).replace(b"blake2b ", b"blake2b-keyed "),
            signed(body, b"guess"),
        ):
            with pytest.raises(StateError):
                decode_manifest(forged, b"key")

    @pytest.mark.parametrize("key", [b"", b"x" * 65])
    def test_a_key_has_a_length(self, key: bytes) -> None:
        with pytest.raises(StateError, match="1 to 64 bytes"):
            encode_manifest(self.manifest, key)

    def test_the_key_is_in_no_message(self) -> None:
        with pytest.raises(StateError) as raised:
            decode_manifest(encode_manifest(self.manifest, b"other"), b"canary-key")
        assert "canary-key" not in repr(raised.value) + str(raised.value)
