"""The memory for state in one worker: each subtask is sure of a part, and takes more from what all have in common.

A subtask that needs more than it is sure of borrows, a step at a time. When another one asks in vain, those that have
borrowed more than an equal part of what is common are to give the rest back: they spill a few megabytes with each
call, and what they have given back can be borrowed again. Until then the other one spills, so that all together never
hold more than there is.
"""

from __future__ import annotations

import threading
from typing import Final, Protocol

from streamflow.errors import StateError

__all__ = ["Holder", "MemoryPool", "MemoryShare"]

_STEPS: Final = 64
"""The number of steps in which one subtask could borrow all that is common."""
_ROOM: Final = 10
"""The part of its limit (a tenth) that a subtask frees at once: a spill for each append would be slow."""
_AT_ONCE: Final = 8 << 20
"""Bytes: spilling more takes longer than an event loop should be gone."""


class Holder(Protocol):
    """A store that holds memory of one subtask and can make room."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        ...

    def make_room(self, nbytes: int) -> None:
        """Frees about so many bytes, or what it can. Called between two calls of the subtask's operator, or at the end
        of a call of one of its stores."""
        ...


class MemoryPool:
    """`nbytes` for the state of `subtasks`: half in equal parts that each is sure of, half in common.

    Its calls come from the threads of all subtasks.

    >>> pool = MemoryPool(800, subtasks=4)
    >>> one, other = pool.share(), pool.share()
    >>> one.hold(450)
    >>> one.held, one.limit, other.limit
    (450, 450, 100)
    """

    def __init__(self, nbytes: int, subtasks: int) -> None:
        self.equal = max(1, nbytes // max(1, subtasks))
        """Bytes of a subtask if all had the same."""
        self._sure = max(1, self.equal // 2)
        self._left = max(1, subtasks)
        self._common = max(0, nbytes - self._sure * self._left)
        self._free = self._common
        self.step = self._common // _STEPS
        self._shares: list[MemoryShare] = []
        self._guard = threading.Lock()

    def share(self) -> MemoryShare:
        """The share of one more subtask; those beyond the number of `subtasks` only borrow."""
        with self._guard:
            self._left -= 1
            share = MemoryShare(self, self._sure if self._left >= 0 else 0)
            self._shares.append(share)
            return share

    def lend(self, share: MemoryShare, *, asks: bool = True) -> None:
        """Lends what a share holds beyond its limit, as far as there is any; if there is not and it `asks`, others are
        to give back."""
        with self._guard:
            short = share.held - share.sure - share.lent
            share.wants = asks and short > self._free
            borrowers = [each for each in self._shares if each.lent or each.wants or each is share]
            contended = any(each.wants for each in borrowers)
            fair = self._common // len(borrowers) if contended else self._common
            more = min(max(short, self.step), fair - share.lent, self._free)
            if short > 0 and more > 0:
                self._free -= more
                share.lent += more
            for each in borrowers if share.wants else (share,):
                each.limit = each.sure + min(each.lent, fair)

    def take_back(self, share: MemoryShare, lent: int) -> None:
        """Takes back what a share has borrowed beyond `lent` bytes."""
        with self._guard:
            self._free += share.lent - lent
            share.lent = lent
            share.limit = min(share.limit, share.sure + lent)


class MemoryShare:
    """The memory of one subtask's operator, for all of its stores; only that subtask calls it.

    `held` are the bytes in its stores, `limit` those that it may hold now: `sure` ones, and what it has borrowed.
    """

    def __init__(self, pool: MemoryPool, sure: int) -> None:
        self._pool = pool
        self._holders: list[Holder] = []
        self.sure = sure
        self.lent = 0
        self.limit = sure
        self.held = 0
        self.wants = False
        """Whether the last request was refused in part."""

    @staticmethod
    def alone(nbytes: int) -> MemoryShare:
        """The share of a subtask that has `nbytes` for itself. Raises StateError if that is nothing."""
        if nbytes <= 0:
            raise StateError(
                f"the memory budget for state is {nbytes} bytes", hint="give at least some megabytes"
            )
        return MemoryPool(nbytes, 1).share()

    @property
    def equal(self) -> int:
        """Bytes that it would have if all subtasks had the same: the measure for work on a part at a time."""
        return self._pool.equal

    def join(self, holder: Holder) -> None:
        """Adds a store, which is asked to make room from then on."""
        self._holders.append(holder)

    def hold(self, more: int) -> None:
        """Notes that the stores hold so many bytes more, or fewer; if these are too many, they make room. Constant in
        time unless that changes what is borrowed."""
        self.held += more
        if self.held > self.limit:
            self._pool.lend(self)
            if self.held > self.limit:
                self._make_room(more)
        elif more < 0 and self.lent and self.held + 2 * self._pool.step < self.sure + self.lent:
            self._give_back()

    def take(self, nbytes: int) -> bool:
        """Holds so many bytes more if nothing has to make room for them; returns whether it does."""
        self.held += nbytes
        if self.held > self.limit:
            self._pool.lend(self, asks=False)
        if self.held > self.limit:
            self.held -= nbytes
            return False
        return True

    def give_way(self) -> None:
        """Makes some room if others need what was borrowed; called between two elements."""
        if self.held > self.limit:
            self.hold(0)

    def _make_room(self, more: int) -> None:
        most = self.sure + self.lent
        goal = self.limit - self.limit // _ROOM
        goal = max(goal, min(self.held, most) - max(_AT_ONCE, 2 * more))
        for holder in sorted(self._holders, key=lambda each: each.nbytes, reverse=True):
            before = holder.nbytes
            holder.make_room(self.held - goal)
            self.held -= before - holder.nbytes
            if self.held <= goal:
                break
        if self.limit < most:
            # As far as it has come: what is held is still accounted for.
            self._pool.take_back(self, min(self.lent, max(self.limit, self.held) - self.sure))

    def _give_back(self) -> None:
        self.wants = False
        self._pool.take_back(self, min(self.lent, max(0, self.held + self._pool.step - self.sure)))
