"""Timers: moments at which a key has to be called, kept in the keyed backend like any other state.

A stored timer is the key `time · payload` in its key group, the time as eight big-endian bytes in order, so that a
scan begins with the timer due next. The soonest timers are in memory, in a heap; those that are set and fire soon
never reach the backend. When there are too many the later ones are stored, and when the heap has come to its end the
next ones are read, many at a time, so that timers can be taken one by one. For each key group the time of its first
stored timer that has not been read is known, so that groups with nothing soon are not looked at.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from streamflow.state.backends.protocol import SLICE, KeyedStateBackend, StateAddress
from streamflow.time.timestamps import MAX_TIME

__all__ = ["HELD", "TimerQueue"]

HELD: Final = 4_096
"""The approximate number of timers in memory; as many may wait to be deleted from the backend."""

_BIAS: Final = 2**63
_TIME_BYTES: Final = 8

Entry = tuple[int, bytes, int]
"""(time, payload, key group)."""


class TimerQueue:
    """The timers of one operator on one clock; at most one for each time and payload.

    >>> from streamflow.state.backends.memory import MemoryBackend
    >>> queue = TimerQueue(MemoryBackend(), StateAddress("process-1", "event-timers"))
    >>> for time in (30, 10, 10):
    ...     queue.add(time, b"k", 7)
    >>> [time for time, _, _ in queue.due(20)], queue.next_time
    ([10], 30)
    """

    def __init__(self, backend: KeyedStateBackend, address: StateAddress, *, held: int = HELD) -> None:
        self.address = address
        self.soonest = MAX_TIME
        """A lower bound of the next timer's time that costs nothing to read."""
        self._backend = backend
        self._held = held
        self._heap: list[Entry] = []
        self._fresh: set[Entry] = set()
        """The timers in memory; the heap may have others, which are stale."""
        self._copies: set[Entry] = set()
        """Those of them that the backend has too."""
        self._gone: set[Entry] = set()
        """Deleted timers that the backend may have; one of them may have been set again."""
        self._first: dict[int, int] = {}
        self._first_stored = MAX_TIME

    def recover(self) -> None:
        """Finds the key groups with stored timers; called when the backend has its content."""
        self._first = {}
        for group in self._backend.groups(self.address):
            for key, _ in self._backend.scan(self.address, group):
                self._first[group] = _entry(key, group)[0]
                break
        self._stored()

    def add(self, time: int, payload: bytes, group: int) -> None:
        """Sets a timer; one that is set already stays one."""
        entry = (time, payload, group)
        if entry in self._fresh:
            return
        self._fresh.add(entry)
        heapq.heappush(self._heap, entry)
        if time < self.soonest:
            self.soonest = time
        if len(self._fresh) > self._held:
            self._write(keep=self._held // 2)
        elif len(self._heap) > 2 * len(self._fresh) + 1_024:
            self._heap = sorted(self._fresh)

    def remove(self, time: int, payload: bytes, group: int) -> None:
        """Delete a timer, if it is set."""
        entry = (time, payload, group)
        self._fresh.discard(entry)
        self._forget(entry)

    @property
    def next_time(self) -> int | None:
        """The time of the earliest timer, or an earlier one; None if there is none."""
        self._drop_stale()
        first = min(self._heap[0][0] if self._heap else MAX_TIME, self._first_stored)
        return first if self._heap or self._first else None

    def pop(self, limit: int) -> Entry | None:
        """Takes out the earliest timer up to `limit`; None if there is none. A timer taken out is gone in any case."""
        while True:
            self._drop_stale()
            soonest = self._heap[0][0] if self._heap else MAX_TIME
            if self._first and (self._first_stored < soonest or not self._heap):
                if self._first_stored > limit:
                    self.soonest = self._first_stored
                    return None
                self._read()
                continue
            self.soonest = soonest
            if not self._heap or soonest > limit:
                return None
            entry = heapq.heappop(self._heap)
            self._fresh.discard(entry)
            self._forget(entry)
            return entry

    def due(self, limit: int, most: int | None = None) -> Iterator[Entry]:
        """Takes out the timers up to `limit`, by time, at most `most`; also those that are set meanwhile."""
        taken = 0
        while (most is None or taken < most) and (entry := self.pop(limit)) is not None:
            taken += 1
            yield entry

    def write_back(self) -> None:
        """Writes all changes to the backend."""
        self._write(keep=0)

    def _write(self, keep: int) -> None:
        """Deletes fired timers from the backend, and stores the others except the `keep` soonest."""
        ordered = sorted(self._fresh) if keep else list(self._fresh)
        stored = ordered[keep:]
        changes: list[tuple[int, bytes, bytes | None]] = [
            (entry[2], _stored_key(entry), None) for entry in self._gone
        ]
        copies = self._copies
        # In order: the write buffer takes ordered keys in less time.
        changes += sorted((entry[2], _stored_key(entry), b"") for entry in stored if entry not in copies)
        for start in range(0, len(changes), SLICE):
            self._backend.write(self.address, changes[start : start + SLICE])
        for time, _, group in stored:
            if time < self._first.get(group, time + 1):
                self._first[group] = time
        self._gone.clear()
        self._heap = ordered[:keep]
        self._fresh = set(self._heap)
        self._copies &= self._fresh
        self._stored()

    def _read(self) -> None:
        """Brings the next stored timers into memory; they stay in the backend until they are gone."""
        groups = sorted((first, group) for group, first in self._first.items())
        ahead: list[tuple[Entry, Iterator[tuple[bytes, bytes]]]] = []
        opened = taken = 0
        while taken <= self._held // 2:
            while opened < len(groups) and (not ahead or groups[opened][0] <= ahead[0][0][0]):
                first, group = groups[opened]
                opened += 1
                del self._first[group]
                scan = self._backend.scan(self.address, group, _stored_key((first, b"", group)))
                _push(ahead, group, scan)
            if not ahead:
                break
            entry, scan = heapq.heappop(ahead)
            _push(ahead, entry[2], scan)
            if entry in self._gone:
                continue
            self._copies.add(entry)
            if entry not in self._fresh:
                self._fresh.add(entry)
                heapq.heappush(self._heap, entry)
                taken += 1
        for (time, _, group), _ in ahead:
            self._first[group] = time
        self._stored()

    def _forget(self, entry: Entry) -> None:
        """Notes that a timer is gone; the backend may have it."""
        time, _, group = entry
        if entry in self._copies:
            self._copies.discard(entry)
        elif time < self._first.get(group, time + 1):
            return
        self._gone.add(entry)
        if len(self._gone) > self._held:
            self._write(keep=self._held // 2)

    def _stored(self) -> None:
        self._first_stored = min(self._first.values(), default=MAX_TIME)
        self.soonest = min(self._heap[0][0] if self._heap else MAX_TIME, self._first_stored)

    def _drop_stale(self) -> None:
        """Removes deleted timers from the top of the heap."""
        heap, fresh = self._heap, self._fresh
        while heap and heap[0] not in fresh:
            heapq.heappop(heap)


def _push(ahead: list[_Ahead], group: int, rows: Iterator[tuple[bytes, bytes]]) -> None:
    """Puts a scan in its place by its next row, if it has one. Each group has one scan, so entries differ."""
    for key, _ in rows:
        heapq.heappush(ahead, (_entry(key, group), rows))
        return


_Ahead = tuple[Entry, Iterator[tuple[bytes, bytes]]]
"""A scan and its present entry."""


def _stored_key(entry: Entry) -> bytes:
    return (entry[0] + _BIAS).to_bytes(_TIME_BYTES, "big") + entry[1]


def _entry(key: bytes, group: int) -> Entry:
    return int.from_bytes(key[:_TIME_BYTES], "big") - _BIAS, key[_TIME_BYTES:], group
