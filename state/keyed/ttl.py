"""Time to live: when state expires, and how expired state is cleaned up.

A state's age counts from when it was last written (or read, if declared so), on the clock of event time or processing
time. By event time *now* is the event's or timer's own time, or the watermark if that is later: so the result does
not depend on the cutting of input into batches or on the number of watermarks. Expired state is never returned.

It is cleaned up without scans: an entry has one place in a queue by time from when it is made until it is cleared or
has expired. When the time of its place comes its real age is checked: the entry is removed, or put back in the queue
at the time when it will expire if nothing more happens to it. That is a bounded number per batch.

An entry that can expire is stored with the time from which its age counts in its first eight bytes. Its place is not
stored beside it: while an entry is in memory its place may be earlier than its end, so that not each write moves it;
when it is written to the backend its place is moved to its end, and so known to later readers. Otherwise (earlier
versions did not move places, and a changed TTL moves all ends) a place may be left over; when its time comes nothing
happens, or the entry gets its right one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from streamflow.errors import JobDefinitionError
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress
from streamflow.state.keyed.cache import ABSENT, GROUP, KEY_BYTES, Changes, Current, Slot, StateCache
from streamflow.state.keyed.timers import TimerQueue
from streamflow.time.timestamps import Duration, parse_duration

__all__ = [
    "CLEANED",
    "STAMP_BYTES",
    "Aged",
    "ExpiryQueue",
    "TimeToLive",
    "TtlClock",
    "TtlRefresh",
    "stamp",
    "stamped_at",
    "time_to_live",
]

TtlClock = Literal["event", "processing"]
TtlRefresh = Literal["write", "read"]

CLEANED: Final = 512
"""The largest number of entries whose ages are checked per batch or watermark."""

STAMP_BYTES: Final = 8
_BIAS: Final = 2**63
_LENGTH_BYTES: Final = 4
_NEVER: Final = -(2**63) + 1


@dataclass(frozen=True, slots=True)
class TimeToLive:
    """The time to live of state: microseconds, clock, and the event it counts from."""

    duration: int
    clock: TtlClock
    refresh: TtlRefresh

    def now(self, current: Current) -> int:
        """The time on its clock."""
        if self.clock == "processing":
            return current.wall
        time, watermark = current.time, current.watermark
        return watermark if time is None or time < watermark else time


def time_to_live(ttl: Duration | None, clock: TtlClock, refresh: TtlRefresh) -> TimeToLive | None:
    """The time to live of a declaration; raises JobDefinitionError for values that make no sense."""
    if clock not in ("event", "processing"):
        raise JobDefinitionError(f"ttl_time is {clock!r}", hint='choose "event" or "processing"')
    if refresh not in ("write", "read"):
        raise JobDefinitionError(f"ttl_refresh is {refresh!r}", hint='choose "write" or "read"')
    if ttl is None:
        return None
    return TimeToLive(parse_duration(ttl, what="ttl", positive=True), clock, refresh)


def stamp(time: int) -> bytes:
    """The first eight bytes of an entry whose age counts from `time`.

    >>> stamped_at(stamp(-5) + b"value")
    -5
    """
    return (time + _BIAS).to_bytes(STAMP_BYTES, "big")


def stamped_at(data: bytes) -> int:
    """The time that `stamp` put before an entry."""
    return int.from_bytes(data[:STAMP_BYTES], "big") - _BIAS


class Aged:
    """A stored entry that expires: the time from which its age counts, and its place in the queue."""

    __slots__ = ("place", "since")

    def __init__(self) -> None:
        self.since = self.place = _NEVER


A = TypeVar("A", bound=Aged)


class ExpiryQueue:
    """The ages of one state's entries, and the times at which to check them. An entry is in the slot of its key; `rest`
    is the part of its own key behind the key's bytes."""

    def __init__(
        self, backend: KeyedStateBackend, address: StateAddress, ttl: TimeToLive, current: Current
    ) -> None:
        self.ttl = ttl
        self._queue = TimerQueue(backend, address)
        self._current = current

    @property
    def address(self) -> StateAddress:
        """The queue's address in the backend."""
        return self._queue.address

    def begin(self, entry: A, slot: Slot, rest: bytes = b"") -> A:
        """Counts an entry's age from now; returns the entry."""
        entry.since = self.ttl.now(self._current)
        self.settle(entry, slot, rest)
        return entry

    def read_back(self, entry: A, data: bytes) -> A:
        """Gives an entry the age in its bytes; returns the entry."""
        entry.since = stamped_at(data)
        entry.place = entry.since + self.ttl.duration
        return entry

    def written(self, entry: Aged) -> None:
        """Counts the age of a written entry from now on."""
        entry.since = max(entry.since, self.ttl.now(self._current))

    def used(self, entry: Aged) -> bool:
        """Counts the age of a read entry from now on, if declared so; returns whether it does."""
        if self.ttl.refresh == "read":
            self.written(entry)
        return self.ttl.refresh == "read"

    def over(self, entry: Aged) -> bool:
        """Whether an entry has expired."""
        return entry.since + self.ttl.duration <= self.ttl.now(self._current)

    def settle(self, entry: Aged, slot: Slot, rest: bytes = b"", *, taken: bool = False) -> None:
        """Gives an entry its place in the queue, at its end; `taken`: its earlier place has come and is gone."""
        end = entry.since + self.ttl.duration
        if entry.place != end:
            self.forget(entry, slot, rest)
            entry.place = end
        elif not taken:
            return
        self.add(end, slot[KEY_BYTES], rest, slot[GROUP])

    def forget(self, entry: Aged, slot: Slot, rest: bytes = b"") -> None:
        """Removes an entry's place from the queue."""
        if entry.place != _NEVER:
            self._queue.remove(entry.place, _payload(slot[KEY_BYTES], rest), slot[GROUP])
            entry.place = _NEVER

    def add(self, at: int, key: bytes, rest: bytes, group: int) -> None:
        """Schedules a check of this entry at time `at`."""
        self._queue.add(at, _payload(key, rest), group)

    def clean(
        self,
        cache: StateCache,
        state: StateAddress,
        known: Callable[[Slot, bytes], Any],
        drop: Callable[[Slot, bytes, Any], None],
    ) -> None:
        """Removes expired entries, a bounded number at once.

        `known` returns an entry in memory, ABSENT for a known gap, None for an unread entry; `drop` forgets an entry
        in memory, and its place.
        """
        gone: Changes = []
        for key, rest, group in self.due():
            slot = cache.peek(key)
            entry = None if slot is None else known(slot, rest)
            if slot is None or entry is None:
                data = cache.backend.get(state, group, key + rest)
                if data is None:
                    continue
                stored = self.read_back(Aged(), data)
                if self.over(stored):
                    gone.append((group, key + rest, None))
                else:
                    self.add(stored.place, key, rest, group)
            elif entry is ABSENT:
                continue
            elif self.over(entry):
                drop(slot, rest, entry)
            else:
                self.settle(entry, slot, rest, taken=True)
        if gone:
            cache.backend.write(state, gone)

    def due(self) -> list[tuple[bytes, bytes, int]]:
        """The entries to check now, as (key's bytes, rest, group); further due entries come the next time."""
        now, first = self.ttl.now(self._current), self._queue.next_time
        if first is None or first > now:
            return []
        entries: list[tuple[bytes, bytes, int]] = []
        for _, payload, group in self._queue.due(now, CLEANED):
            end = _LENGTH_BYTES + int.from_bytes(payload[:_LENGTH_BYTES], "big")
            entries.append((payload[_LENGTH_BYTES:end], payload[end:], group))
        return entries

    def write_back(self) -> None:
        """Writes all changes to the backend."""
        self._queue.write_back()

    def recover(self) -> None:
        """Finds the stored places; called when the backend has its content."""
        self._queue.recover()


def _payload(key: bytes, rest: bytes) -> bytes:
    return len(key).to_bytes(_LENGTH_BYTES, "big") + key + rest
