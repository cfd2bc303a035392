"""The layout of a RocksDB key: key group · operator · state · key.

The group takes two bytes, big endian, so that a range of key groups is a range of keys. Both names follow
with their length in one byte before them, so that no prefix of one state is a prefix of another; the user's
key comes last, as it is, so that its byte order is kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from streamflow.state.backends.protocol import StateAddress, check_address, check_group

__all__ = ["AFTER_LAST_GROUP", "address_prefix", "group_of", "prefix_end", "prefix_of", "state_prefix"]

AFTER_LAST_GROUP: Final = b"\xff\xff"
"""A key above every other: groups end far below it."""


@lru_cache(maxsize=4096)
def address_prefix(address: StateAddress) -> bytes:
    """The names of an operator and its state, each after its length.

    >>> address_prefix(StateAddress("sum-1", "total"))
    b'\\x05sum-1\\x05total'
    """
    check_address(address)
    operator, state = address.operator.encode("ascii"), address.state.encode("ascii")
    return bytes([len(operator)]) + operator + bytes([len(state)]) + state


def state_prefix(address: StateAddress, group: int) -> bytes:
    """The beginning of every key of this state in this key group.

    >>> state_prefix(StateAddress("sum-1", "total"), 258)
    b'\\x01\\x02\\x05sum-1\\x05total'
    """
    check_group(group)
    return group.to_bytes(2, "big") + address_prefix(address)


def prefix_end(prefix: bytes) -> bytes:
    """The smallest key above all that begin with `prefix`, which is not all 0xff.

    >>> prefix_end(b"ab"), prefix_end(b"a\\xff")
    (b'ac', b'b')
    """
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])


def prefix_of(key: bytes) -> bytes:
    """The common beginning of the whole keys of one state in one key group, from any of them.

    >>> prefix_of(state_prefix(StateAddress("sum-1", "total"), 258) + b"JFK")
    b'\\x01\\x02\\x05sum-1\\x05total'
    """
    operator = 3 + key[2]
    return key[: operator + 1 + key[operator]]


def group_of(key: bytes) -> int:
    """The key group of a whole key."""
    return int.from_bytes(key[:2], "big")
