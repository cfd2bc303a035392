"""Watermarks: made per split, and merged over several inputs.

`BoundedDisorder` is the strategy (immutable), `SplitWatermark` its logic for one split, `WatermarkMerger` the minimum
over the active inputs of a task or the splits of a source. All are pure: time comes in as a parameter.
Rules: the Dataflow Model paper; idleness as in Flink (FLIP-27, FLINK-18934).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streamflow.time.smallest import Smallest
from streamflow.time.timestamps import MAX_TIME, MIN_TIME, Duration, parse_duration

__all__ = ["BoundedDisorder", "SplitWatermark", "WatermarkMerger", "bounded_disorder"]


@dataclass(frozen=True, slots=True)
class BoundedDisorder:
    """Events arrive at most `bound` behind the latest seen in their split. All in microseconds.

    `idle_after`: a split without records for that long (processing time) holds nothing back. `advance_when_idle`:
    while every split is quiet, the watermark goes on at the pace of processing time. `max_ahead`: an event further
    ahead of processing time than this does not move the watermark (KIP-937 asks the same of brokers). `max_drift`: a
    split that is further than this ahead of the slowest, of this source and of those that it meets, waits for it
    (FLIP-182); None: it does not.
    """

    bound: int = 0
    idle_after: int | None = None
    max_ahead: int = 86_400_000_000
    advance_when_idle: bool = False
    max_drift: int | None = None


def bounded_disorder(
    bound: Duration = "0s",
    *,
    idle_after: Duration | None = None,
    max_ahead: Duration = "1d",
    advance_when_idle: bool = False,
    max_drift: Duration | None = None,
) -> BoundedDisorder:
    """A watermark that trails the latest event of each split by `bound`.

    `idle_after`: a split without records for that long holds nothing back. `max_drift`: a split further than that
    ahead of the slowest, of this source and of those whose records it meets, waits for it, which keeps a backfill's
    open windows and joins small. `max_ahead`: an event further than that ahead of processing time does not move the
    watermark. `advance_when_idle`: while all splits are quiet, the watermark goes on with processing time.

    >>> bounded_disorder("5s", idle_after="1m").bound
    5000000
    """
    return BoundedDisorder(
        bound=parse_duration(bound, what="the disorder bound", negative=False),
        idle_after=None
        if idle_after is None
        else parse_duration(idle_after, what="idle_after", positive=True),
        max_ahead=parse_duration(max_ahead, what="max_ahead", positive=True),
        advance_when_idle=advance_when_idle,
        max_drift=None if max_drift is None else parse_duration(max_drift, what="max_drift"),
    )


class SplitWatermark:
    """The watermark of one split: `max − bound − 1 µs`.

    >>> split = SplitWatermark(BoundedDisorder(bound=5))
    >>> split.observe(100)
    >>> split.current
    94
    """

    __slots__ = ("_bound", "current")

    def __init__(self, strategy: BoundedDisorder, restored: int = MIN_TIME) -> None:
        self._bound = strategy.bound
        self.current = restored

    def observe(self, max_time: int) -> None:
        """Takes in the largest event time of an emitted batch; events too far ahead are not counted."""
        self.current = max(self.current, max_time - self._bound - 1)

    def reach(self, watermark: int) -> None:
        """Takes in a watermark that the split itself gives."""
        self.current = max(self.current, watermark)


@dataclass(slots=True)
class _Input:
    watermark: int = MIN_TIME
    idle: bool = False
    aligned: bool = True
    restored: bool = False
    """Whether the input has sent nothing since a restore, before which the others may have gone on without it."""
    group: Smallest[object, int] | None = None
    """The group of inputs that the input is in; None for an idle one."""


class WatermarkMerger:
    """The minimum of the active inputs' watermarks; it never goes back.

    Idle inputs are left out. An input that returns counts again once it has reached the last output watermark, so
    that a quiet partition never makes the others' data wait twice, nor later data late. After a restore the output is
    at its old value: an input holds it there until it sends a watermark, and an input left out before is left out
    again.

    >>> merger = WatermarkMerger(["a", "b"])
    >>> merger.advance("a", 10), merger.advance("b", 7), merger.idle("b"), merger.advance("b", 8)
    (None, 7, 10, None)
    """

    def __init__(self, inputs: Iterable[object], *, restored: int = MIN_TIME) -> None:
        """`restored` is the output watermark in the checkpoint from which the inputs go on."""
        names = list(inputs)
        silent = restored > MIN_TIME
        beginning: Smallest[object, int] = Smallest(dict.fromkeys(names, MIN_TIME))
        self._counted: Smallest[object, int] = Smallest() if silent else beginning
        """Inputs that count, but for the silent ones."""
        self._silent: Smallest[object, int] = beginning if silent else Smallest()
        """Inputs that count and have sent nothing since a restore."""
        self._behind: Smallest[object, int] = Smallest()
        """Inputs that have returned and not caught up yet."""
        self._inputs = {name: _Input(restored=silent, group=beginning) for name in names}
        self._open: set[object] = set(names)
        """Inputs that have not ended."""
        self._awake: set[object] = set(names)
        """Open inputs that are not idle."""
        self.current = restored

    def add(self, name: object, watermark: int = MIN_TIME, *, left_out: bool = False) -> None:
        """Adds an input, which holds the output at its present value until it has caught up, or, if it had been
        `left_out` before a restore, until it sends a watermark."""
        self._forget(name)
        state = self._inputs[name] = _Input(watermark=watermark, restored=left_out)
        self._place(name, state)

    def hold(self, told: int, *, before: int = MIN_TIME) -> None:
        """Lets inputs added since hold the output back, down to what has been announced: `told` to some reader, and
        `before` a restore to all."""
        if (counted := self._counted.first) is not None:
            self.current = max(told, before, counted[1])
        elif (silent := self._silent.first) is not None:
            self.current = max(told, silent[1])

    def remove(self, name: object) -> int | None:
        """Removes an input whose split has been read; gives the new output watermark if that moves it."""
        self._forget(name)
        return self._recompute() if self._inputs else None

    def advance(self, name: object, watermark: int) -> int | None:
        """Takes in an input's watermark, which ends its idleness; gives the new output watermark if that moves it."""
        state = self._inputs[name]
        returned = self._wake(state)
        if state.restored:
            state.restored, returned = False, True
            state.aligned = max(state.watermark, watermark) >= self.current
        if watermark > state.watermark:
            state.watermark = watermark
            state.aligned = state.aligned or watermark >= self.current
        elif not returned:
            return None
        self._place(name, state)
        return self._recompute()

    def active(self, name: object) -> int | None:
        """Ends an input's idleness; gives the new output watermark if that moves it (all others being idle)."""
        state = self._inputs[name]
        if not self._wake(state):
            return None
        self._place(name, state)
        return self._recompute()

    def idle(self, *names: object) -> int | None:
        """Marks inputs as idle, all at once; gives the new output watermark if that moves it."""
        for name in names:
            state = self._inputs[name]
            state.idle = True
            self._place(name, state)
        return self._recompute()

    def end(self, name: object) -> int | None:
        """Takes in an input's end: +∞."""
        return self.advance(name, MAX_TIME)

    def push(self, watermark: int) -> None:
        """Moves the output watermark on without an input: all are idle, and processing time passes."""
        self.current = max(self.current, watermark)

    def beside(self, name: object) -> int:
        """The smallest watermark of the other inputs that count; +∞ if there is none."""
        others = self._counted.beside(name), self._silent.beside(name)
        return min((other[1] for other in others if other is not None), default=MAX_TIME)

    def is_idle(self, name: object) -> bool:
        """Whether this input is idle."""
        return self._inputs[name].idle

    @property
    def all_idle(self) -> bool:
        """Whether no input is active (ended ones aside)."""
        return bool(self._open) and not self._awake

    @property
    def silent(self) -> bool:
        """Whether all inputs that count had been left out before a restore and have sent nothing since."""
        return not self._counted and bool(self._silent)

    @property
    def holder(self) -> object | None:
        """The input that holds the output back: the active one with the smallest watermark."""
        groups = self._counted.first, self._silent.first, self._behind.first
        active = [(first[1], str(first[0]), first[0]) for first in groups if first is not None]
        return min(active)[2] if active else None

    def _wake(self, state: _Input) -> bool:
        if not state.idle:
            return False
        state.idle = False
        state.aligned = state.watermark >= self.current
        return True

    def _forget(self, name: object) -> None:
        state = self._inputs.pop(name, None)
        if state is not None and state.group is not None:
            state.group.remove(name)
        self._open.discard(name)
        self._awake.discard(name)

    def _place(self, name: object, state: _Input) -> None:
        """Moves an input into its group, after anything about the input has changed."""
        group = None if state.idle else self._behind
        if not state.idle and state.aligned:
            group = self._silent if state.restored else self._counted
        if state.group is not None and state.group is not group:
            state.group.remove(name)
        state.group = group
        if group is not None:
            group.put(name, state.watermark)
        is_open = state.watermark < MAX_TIME
        (self._open.add if is_open else self._open.discard)(name)
        (self._awake.add if is_open and not state.idle else self._awake.discard)(name)

    def _recompute(self) -> int | None:
        counted = [first[1] for first in (self._counted.first, self._silent.first) if first is not None]
        if not counted:
            return None
        smallest = min(counted)
        if smallest == MAX_TIME and self._open:
            # Ended inputs tell nothing of idle or returning ones, which may still send events.
            return None
        if smallest <= self.current:
            return None
        self.current = smallest
        return smallest
