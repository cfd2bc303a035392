"""Watermarks: made per split, and merged over several inputs.

`BoundedDisorder` is the strategy (immutable), `SplitWatermark` its logic for one split, `WatermarkMerger` the minimum
over the active inputs of a task or the splits of a source. All are pure: time comes in as a parameter.
Rules: the Dataflow Model paper; idleness as in Flink (FLIP-27, FLINK-18934).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streamflow.time.timestamps import MAX_TIME, MIN_TIME, Duration, parse_duration

__all__ = ["BoundedDisorder", "SplitWatermark", "WatermarkMerger", "bounded_disorder"]


@dataclass(frozen=True, slots=True)
class BoundedDisorder:
    """Events arrive at most `bound` behind the latest seen in their split. All in microseconds.

    `idle_after`: a split without records for that long (processing time) holds nothing back. `advance_when_idle`:
    while every split is quiet, the watermark goes on at the pace of processing time. `max_ahead`: an event further
    ahead of processing time than this does not move the watermark (KIP-937 asks the same of brokers). `max_drift`: a
    split that is further ahead of the source's slowest than this waits for it (FLIP-182); None: it does not.
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
    ahead of the source's slowest waits for it, which keeps a backfill's open windows few. `max_ahead`: an event
    further than that ahead of processing time does not move the watermark. `advance_when_idle`: while all splits are
    quiet, the watermark goes on with processing time.

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


class WatermarkMerger:
    """The minimum of the active inputs' watermarks; it never goes back.

    Idle inputs are left out. An input that returns counts again once it has reached the last output watermark, so
    that a quiet partition never makes the others' data wait twice, nor later data late. After a restore the output is
    at its old value: an input holds it there until it sends a watermark, and an input left out before is left out
    again.

    Idle inputs are left out. One that returns counts again once it has reached the last output watermark, so that a
    quiet partition never makes the others' data wait twice, nor later data late. After a restore the output is where it
    was: an input holds it there until it speaks, and one that was left out before is left out again.

    >>> merger = WatermarkMerger(["a", "b"])
    >>> merger.advance("a", 10), merger.advance("b", 7), merger.idle("b"), merger.advance("b", 8)
    (None, 7, 10, None)
    """

    def __init__(self, inputs: Iterable[object], *, restored: int = MIN_TIME) -> None:
        """`restored` is the output watermark in the checkpoint from which the inputs go on."""
        self._inputs: dict[object, _Input] = {name: _Input(restored=restored > MIN_TIME) for name in inputs}
        self.current = restored

    def add(self, name: object, watermark: int = MIN_TIME, *, left_out: bool = False) -> None:
        """Adds an input, which holds the output at its present value until it has caught up, or, if it had been
        `left_out` before a restore, until it sends a watermark."""
        self._inputs[name] = _Input(watermark=watermark, restored=left_out)

    def hold(self, told: int, *, before: int = MIN_TIME) -> None:
        """Lets inputs added since hold the output back, down to what has been announced: `told` to some reader, and
        `before` a restore to all."""
        counted = [s for s in self._inputs.values() if not s.idle and s.aligned]
        known = [s.watermark for s in counted if not s.restored]
        if known:
            self.current = max(told, before, min(known))
        elif counted:
            self.current = max(told, min(s.watermark for s in counted))

    def remove(self, name: object) -> int | None:
        """Removes an input whose split has been read; gives the new output watermark if that moves it."""
        self._inputs.pop(name, None)
        return self._recompute() if self._inputs else None

    def advance(self, name: object, watermark: int) -> int | None:
        """Takes in an input's watermark, which ends its idleness; gives the new output watermark if that moves it."""
        state = self._inputs[name]
        returned = self._wake(state)
        if state.restored:
            state.restored, returned = False, True
            state.aligned = max(state.watermark, watermark) >= self.current
        if watermark <= state.watermark:
            return self._recompute() if returned else None
        state.watermark = watermark
        if not state.aligned and watermark >= self.current:
            state.aligned = True
        return self._recompute()

    def active(self, name: object) -> int | None:
        """Ends an input's idleness; gives the new output watermark if that moves it (all others being idle)."""
        return self._recompute() if self._wake(self._inputs[name]) else None

    def idle(self, *names: object) -> int | None:
        """Marks inputs as idle, all at once; gives the new output watermark if that moves it."""
        for name in names:
            self._inputs[name].idle = True
        return self._recompute()

    def end(self, name: object) -> int | None:
        """Takes in an input's end: +∞."""
        return self.advance(name, MAX_TIME)

    def push(self, watermark: int) -> None:
        """Moves the output watermark on without an input: all are idle, and processing time passes."""
        self.current = max(self.current, watermark)

    def beside(self, name: object) -> int:
        """The smallest watermark of the other inputs that count; +∞ if there is none."""
        others = [
            s.watermark for other, s in self._inputs.items() if other != name and not s.idle and s.aligned
        ]
        return min(others, default=MAX_TIME)

    def is_idle(self, name: object) -> bool:
        """Whether this input is idle."""
        return self._inputs[name].idle

    @property
    def all_idle(self) -> bool:
        """Whether no input is active (ended ones aside)."""
        open_inputs = [state for state in self._inputs.values() if state.watermark < MAX_TIME]
        return bool(open_inputs) and all(state.idle for state in open_inputs)

    @property
    def silent(self) -> bool:
        """Whether all inputs that count had been left out before a restore and have sent nothing since."""
        counted = [state for state in self._inputs.values() if not state.idle and state.aligned]
        return bool(counted) and all(state.restored for state in counted)

    @property
    def holder(self) -> object | None:
        """The input that holds the output back: the active one with the smallest watermark."""
        active = [
            (state.watermark, str(name), name) for name, state in self._inputs.items() if not state.idle
        ]
        return min(active)[2] if active else None

    def _wake(self, state: _Input) -> bool:
        if not state.idle:
            return False
        state.idle = False
        state.aligned = state.watermark >= self.current
        return True

    def _recompute(self) -> int | None:
        counted = [s.watermark for s in self._inputs.values() if not s.idle and s.aligned]
        if not counted:
            return None
        smallest = min(counted)
        if smallest == MAX_TIME and any(s.watermark < MAX_TIME for s in self._inputs.values()):
            # Ended inputs tell nothing of idle or returning ones, which may still send events.
            return None
        if smallest <= self.current:
            return None
        self.current = smallest
        return smallest
