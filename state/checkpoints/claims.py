"""Claims: the right to write a job's checkpoints, held by the process with the lock, or with the highest claim.

A claim is a number that is made once. In a local folder a lock keeps a second process out and ends with the process
that holds it. An object store has no locks, and a local folder may do without: there the later claim counts, and the
earlier process is fenced off at its next publication.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import msgspec

from streamflow.errors import StateError
from streamflow.state.checkpoints.blobs import Blobs
from streamflow.state.checkpoints.layout import JobLayout, numbers_of
from streamflow.time.clock import Clock

__all__ = ["Claims", "FencedError"]

_LIMIT = 4096


class FencedError(StateError):
    """Another process has taken the job over; this one can publish nothing any more and has to end."""


class _Claim(msgspec.Struct):
    incarnation: int
    at: int
    seen: int
    by: str = ""


class Claims:
    """The claims on one job, and this process's own."""

    def __init__(self, blobs: Blobs, layout: JobLayout, clock: Clock) -> None:
        self.incarnation: int | None = None
        """None until `take`."""
        self.seen = 0
        """The highest number of a checkpoint when the job was taken over."""
        self.had_checkpoints = False
        """Whether there was any checkpoint when the job was taken over."""
        self._blobs = blobs
        self._layout = layout
        self._clock = clock
        self._release: Callable[[], None] | None = None

    def take(self) -> int:
        """Makes the highest claim. Raises StateError if a live process has the lock."""
        if self._release is None:
            self._release = self._blobs.lock(self._layout.lock)
        try:
            earlier = self._all()
            there = numbers_of(self._blobs.entries(self._layout.manifests))
            self.had_checkpoints = bool(there)
            self.seen = max([*there, *self._seen(earlier)], default=0)
            incarnation = max(earlier, default=0) + 1
            while not self._blobs.create(
                self._layout.claim(incarnation), self._content(incarnation), _unwatched
            ):
                incarnation += 1
        except StateError:
            self.release()
            raise
        self.incarnation = incarnation
        with suppress(StateError):  # an old claim does no harm
            for each in earlier:
                self._blobs.remove(self._layout.claim(each))
        return incarnation

    def release(self) -> None:
        """Lets another process take the job over. May be called twice."""
        release, self._release = self._release, None
        self.incarnation = None
        if release is not None:
            release()

    def check(self) -> None:
        """Raises FencedError if another process has taken the job over."""
        highest = max(self._all(), default=0)
        if self.incarnation is not None and highest > self.incarnation:
            raise FencedError(
                f"another process has taken over job {self._layout.job} in {self._blobs.place} "
                f"(incarnation {highest}, this one is {self.incarnation})",
                hint="this process is fenced off: it publishes no more; stop it",
            )

    @contextmanager
    def exclusively(self) -> Generator[None]:
        """A context with the right to write: as the claimant, or with the lock for the time being."""
        if self.incarnation is not None:
            self.check()
            yield
            return
        release = self._blobs.lock(self._layout.lock)
        try:
            yield
        finally:
            release()

    def highest_seen(self) -> int:
        """The highest number of a checkpoint that any claim knows of."""
        return max(self.seen, *self._seen(self._all()), 0)

    def _all(self) -> list[int]:
        return numbers_of(self._blobs.entries(self._layout.claims))

    def _seen(self, claims: list[int]) -> list[int]:
        seen: list[int] = []
        for each in claims:
            with suppress(StateError, msgspec.MsgspecError):
                data = self._blobs.get(self._layout.claim(each), _LIMIT)
                seen.append(msgspec.json.decode(data, type=_Claim).seen)
        return seen

    def _content(self, incarnation: int) -> bytes:
        # Where two processes may try at once, they must not write the same bytes: after a lost answer the bytes tell
        # whose claim it is.
        by = "" if self._blobs.exclusive else f"{platform.node()}:{os.getpid()}:{id(self)}"
        return msgspec.json.encode(_Claim(incarnation, self._clock.now(), self.seen, by))


def _unwatched(point: str) -> None:
    """Does nothing: no test crashes here."""
