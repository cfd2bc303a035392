"""Timers: moments at which something is due for a key, kept in the keyed backend like any other state.

A stored timer is the key `time · payload` in its key group, the time as eight big-endian bytes in order, so that what
is due is the beginning of a scan. Timers that are set and fire soon never reach the backend: they stay in a heap until
there are `HELD` of them or a snapshot comes. For each key group the time of its first stored timer is known, so that
groups with nothing due are not looked at.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from streamflow.state.backend import SLICE, KeyedStateBackend, StateAddress

__all__ = ["HELD", "TimerQueue"]

HELD: Final = 4_096
"""How many timers wait in memory for being written."""

_BIAS: Final = 2**63
_TIME_BYTES: Final = 8

Entry = tuple[int, bytes, int]
"""(time, payload, key group)."""


class TimerQueue:
    """The timers of one operator on one clock; at most one for each time and payload.

    >>> from streamflow.state.memory import MemoryBackend
    >>> queue = TimerQueue(MemoryBackend(), StateAddress("process-1", "event-timers"))
    >>> for time in (30, 10, 10):
    ...     queue.add(time, b"k", 7)
    >>> [time for time, _, _ in queue.due(20)], queue.next_time
    ([10], 30)
    """

    def __init__(self, backend: KeyedStateBackend, address: StateAddress, *, held: int = HELD) -> None:
        self.address = address
        self._backend = backend
        self._held = held
        self._heap: list[Entry] = []
        self._fresh: set[Entry] = set()
        self._removed: set[Entry] = set()
        self._spent: list[Entry] = []
        self._first: dict[int, int] = {}
        self._firing: int | None = None

    def recover(self) -> None:
        """Find out which key groups have stored timers: after the backend has got its content."""
        self._first = {}
        for group in self._backend.groups(self.address):
            for key, _ in self._backend.scan(self.address, group):
                self._first[group] = _entry(key, group)[0]
                break

    def add(self, time: int, payload: bytes, group: int) -> None:
        """Set a timer; one that is set already stays one."""
        entry = (time, payload, group)
        if entry in self._fresh:
            return
        self._removed.discard(entry)
        self._fresh.add(entry)
        heapq.heappush(self._heap, entry)
        if len(self._fresh) > self._held:
            self.write_back()
        elif len(self._heap) > 2 * len(self._fresh) + 1_024:
            self._heap = sorted(self._fresh)

    def remove(self, time: int, payload: bytes, group: int) -> None:
        """Delete a timer, if it is set."""
        entry = (time, payload, group)
        self._fresh.discard(entry)
        if self._firing is not None or time >= self._first.get(group, time + 1):
            self._removed.add(entry)
            if len(self._removed) > self._held and self._firing is None:
                self.write_back()

    @property
    def next_time(self) -> int | None:
        """No timer is due earlier; None: there is none."""
        self._drop_stale()
        first = min(self._first.values(), default=None)
        if not self._heap:
            return first
        return self._heap[0][0] if first is None else min(first, self._heap[0][0])

    def due(self, limit: int, most: int | None = None) -> Iterator[Entry]:
        """Take out the timers up to `limit`, by time, at most so many; also those that are set meanwhile.

        What is taken is gone, whatever happens to it. To be used up or closed before anything is due again.
        """
        scans: list[_Ahead] = []
        for group in [group for group, first in self._first.items() if first <= limit]:
            start = _stored_key((self._first.pop(group), b"", group))
            _push(scans, group, self._backend.scan(self.address, group, start))
        self._firing = limit
        taken = 0
        try:
            while most is None or taken < most:
                entry = self._take(scans, limit)
                if entry is None:
                    break
                taken += 1
                yield entry
        finally:
            self._firing = None
            for entry, _ in scans:
                self._stored(entry)
            # Until they are deleted from the backend, the next scan would find them again.
            self._removed.update(self._spent)
            self._spent.clear()
            if len(self._removed) > self._held:
                self.write_back()

    def write_back(self) -> None:
        """Bring the backend up to date. While timers fire, those that are due now stay in memory, and what was
        deleted stays known: the scans that fire began before."""
        firing = self._firing
        stored = self._fresh if firing is None else {entry for entry in self._fresh if entry[0] > firing}
        changes: list[tuple[int, bytes, bytes | None]] = [
            (entry[2], _stored_key(entry), None) for entry in (*self._removed, *self._spent)
        ]
        # In order, the write buffer takes them in less time.
        changes += sorted([(entry[2], _stored_key(entry), b"") for entry in stored])
        for start in range(0, len(changes), SLICE):
            self._backend.write(self.address, changes[start : start + SLICE])
        for entry in stored:
            self._stored(entry)
        self._spent.clear()
        if firing is None:
            self._removed.clear()
            self._fresh, self._heap = set(), []
        else:
            self._fresh -= stored
            self._heap = sorted(self._fresh)

    def _stored(self, entry: Entry) -> None:
        time, _, group = entry
        if time < self._first.get(group, time + 1):
            self._first[group] = time

    def _take(self, scans: list[_Ahead], limit: int) -> Entry | None:
        """The earliest timer there is up to `limit`, out of the heap and the scans."""
        while True:
            self._drop_stale()
            fresh = self._heap[0] if self._heap and self._heap[0][0] <= limit else None
            stored = scans[0][0] if scans and scans[0][0][0] <= limit else None
            if stored is not None and (fresh is None or stored <= fresh):
                _, rows = heapq.heappop(scans)
                _push(scans, stored[2], rows)
                self._fresh.discard(stored)
                if stored in self._removed:
                    continue
                self._spent.append(stored)
                if len(self._spent) > self._held:
                    self.write_back()
                return stored
            if fresh is not None:
                heapq.heappop(self._heap)
                self._fresh.discard(fresh)
            return fresh

    def _drop_stale(self) -> None:
        """Off the heap with what has been deleted."""
        heap, fresh = self._heap, self._fresh
        while heap and heap[0] not in fresh:
            heapq.heappop(heap)


def _push(scans: list[_Ahead], group: int, rows: Iterator[tuple[bytes, bytes]]) -> None:
    """Put a scan back in its place by its next row, if it has one. Each group has one scan, so entries differ."""
    for key, _ in rows:
        heapq.heappush(scans, (_entry(key, group), rows))
        return


_Ahead = tuple[Entry, Iterator[tuple[bytes, bytes]]]
"""A scan and the entry that it stands at."""


def _stored_key(entry: Entry) -> bytes:
    return (entry[0] + _BIAS).to_bytes(_TIME_BYTES, "big") + entry[1]


def _entry(key: bytes, group: int) -> Entry:
    return int.from_bytes(key[:_TIME_BYTES], "big") - _BIAS, key[_TIME_BYTES:], group
