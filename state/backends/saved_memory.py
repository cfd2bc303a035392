"""The content of a memory backend as files: one for each state, named after its operator and itself.

A file is the magic `SFM1` and then, key group by key group and key by key in byte order, each row as the key group (two
bytes), the lengths of key and value (four bytes each), the key and the value; all numbers are big endian.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct, error
from typing import Final, Literal

from streamflow.errors import StateError
from streamflow.state.backends.protocol import StateAddress, check_address
from streamflow.state.backends.saved import SavedFile, SavedFiles

__all__ = ["SavedMemory", "saved_rows"]

_MAGIC: Final = b"SFM1"
_ROW: Final = Struct(">HII")


class SavedMemory:
    """The content of a memory backend, by state, key group and key."""

    def __init__(self, states: Mapping[StateAddress, Mapping[int, Mapping[bytes, bytes]]]) -> None:
        self._states: Mapping[StateAddress, Mapping[int, Mapping[bytes, bytes]]] = states

    @property
    def kind(self) -> Literal["memory"]:
        return "memory"

    def files(self) -> Iterator[SavedFile]:
        for address, groups in self._states.items():
            parts = [_MAGIC]
            for group, values in sorted(groups.items()):
                for key, value in sorted(values.items()):
                    parts += (_ROW.pack(group, len(key), len(value)), key, value)
            if len(parts) > 1:
                yield SavedFile(f"{address.operator}.{address.state}", data=b"".join(parts))

    def release(self) -> None:
        self._states = {}


def saved_rows(files: SavedFiles) -> Iterator[tuple[StateAddress, list[tuple[int, bytes, bytes]]]]:
    """The rows (key group, key, value) of each state. Raises StateError for files that `SavedMemory` did not write."""
    for name in files.names:
        operator, _, state = name.partition(".")
        address = check_address(StateAddress(operator, state))
        yield address, list(_rows(files.read(name), name))


def _rows(data: bytes, name: str) -> Iterator[tuple[int, bytes, bytes]]:
    if data[: len(_MAGIC)] != _MAGIC:
        raise _damaged(name, "it does not begin as one")
    position = len(_MAGIC)
    while position < len(data):
        try:
            group, key_length, value_length = _ROW.unpack_from(data, position)
        except error as problem:
            raise _damaged(name, "it ends within a row") from problem
        start = position + _ROW.size
        position = start + key_length + value_length
        if position > len(data):
            raise _damaged(name, "it ends within a row")
        yield group, data[start : start + key_length], data[start + key_length : position]


def _damaged(name: str, reason: str) -> StateError:
    return StateError(
        f"{name} is not the saved state of a memory backend: {reason}", hint="restore from another checkpoint"
    )
