"""Partitioners: the choice of a record's partition.

"murmur2" is the Java client's rule for keys, so that a topic written by both is partitioned alike: murmur2 of the
key's bytes, without its sign, modulo the number of partitions. Records without a key take turns, a run of them at a
time, as the Java client's do since KIP-480: many small batches are slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

from streamflow.errors import RecordError
from streamflow.user_code import user_error

__all__ = ["PartitionFunction", "Partitioner", "murmur2", "partitioner"]

PartitionFunction = Callable[[bytes | None, int], int]
"""(key, number of partitions) → partition."""

Partitioner = Callable[[Sequence[bytes | None]], list[int]]
"""The partitions of a batch's keys."""

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF
_REMEMBERED: Final = 100_000


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash of `data` as Kafka's `Utils.murmur2` computes it, signed.

    >>> murmur2(b"foobar")
    -790332482
    """
    length = len(data)
    h = (_SEED ^ length) & _MASK
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    h ^= h >> 15
    return h - (1 << 32) if h & 0x80000000 else h


def partitioner(
    kind: Literal["murmur2", "round_robin"] | PartitionFunction, count: int, *, first: int = 0
) -> Partitioner:
    """The rule `kind` for a topic of `count` partitions. `first` is the first partition for records without a key,
    so that subtasks do not all begin at the same one. A function that names a missing partition: RecordError.

    >>> partitioner("murmur2", 4)([b"JFK", b"LGA", b"JFK"])
    [1, 0, 1]
    >>> partitioner("round_robin", 2)([b"a", b"b", b"c"])
    [0, 1, 0]
    """
    if kind == "round_robin":
        return _RoundRobin(count, first)
    if kind == "murmur2":
        return _Murmur2(count, first)
    return _Own(kind, count)


class _RoundRobin:
    def __init__(self, count: int, first: int) -> None:
        self._count = count
        self._next = first % count

    def __call__(self, keys: Sequence[bytes | None]) -> list[int]:
        start, count = self._next, self._count
        self._next = (start + len(keys)) % count
        return [(start + i) % count for i in range(len(keys))]


class _Murmur2:
    def __init__(self, count: int, first: int) -> None:
        self._count = count
        self._turn = first % count
        self._known: dict[bytes, int] = {}

    def __call__(self, keys: Sequence[bytes | None]) -> list[int]:
        known, turn, count = self._known, self._turn, self._count
        if len(known) > _REMEMBERED:
            known.clear()
        partitions: list[int] = []
        for key in keys:
            if key is None:
                partitions.append(turn)
                continue
            partition = known.get(key)
            if partition is None:
                partition = known[key] = (murmur2(key) & 0x7FFFFFFF) % count
            partitions.append(partition)
        self._turn = (turn + 1) % count
        return partitions


class _Own:
    def __init__(self, function: PartitionFunction, count: int) -> None:
        self._function = function
        self._count = count

    def __call__(self, keys: Sequence[bytes | None]) -> list[int]:
        count = self._count
        partitions: list[int] = []
        for key in keys:
            try:
                partition = self._function(key, count)
            except BaseException as raised:
                raise user_error("the partitioner", raised, record=key) from raised
            partitions.append(partition)
            # A bool or a numpy integer would be written as something else.
            if type(partition) is not int or not 0 <= partition < count:
                raise RecordError(
                    f"the partitioner answers {partition!r}",
                    record=key,
                    hint=f"the topic has {count} partitions: an int from 0 to {count - 1} is wanted",
                )
        return partitions
