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

from dataclasses import dataclass
from typing import Final, Literal

from streamflow.errors import JobDefinitionError
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress
from streamflow.state.keyed.cache import Current
from streamflow.state.keyed.timers import TimerQueue
from streamflow.time.timestamps import Duration, parse_duration

__all__ = [
    "CLEANED",
    "STAMP_BYTES",
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


class ExpiryQueue:
    """The queue of age checks by time; entries are (bytes of the key, the rest of the entry's own key, group)."""

    def __init__(self, backend: KeyedStateBackend, address: StateAddress) -> None:
        self._queue = TimerQueue(backend, address)

    @property
    def address(self) -> StateAddress:
        """The queue's address in the backend."""
        return self._queue.address

    def add(self, at: int, key: bytes, rest: bytes, group: int) -> None:
        """Schedules a check of this entry at time `at`."""
        self._queue.add(at, len(key).to_bytes(_LENGTH_BYTES, "big") + key + rest, group)

    def remove(self, at: int, key: bytes, rest: bytes, group: int) -> None:
        """Cancels the check of this entry at time `at`."""
        self._queue.remove(at, len(key).to_bytes(_LENGTH_BYTES, "big") + key + rest, group)

    def due(self, now: int) -> list[tuple[bytes, bytes, int]]:
        """The entries to check now; further due entries come the next time."""
        first = self._queue.next_time
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
