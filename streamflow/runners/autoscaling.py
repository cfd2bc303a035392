"""Autoscaling: decides when a running job gets another parallelism. Does no I/O.

The busiest operator counts: while its subtasks work nearly all the time, the job needs more of them; while they mostly
wait, fewer will do. Each change costs a checkpoint and a restart, so that one look is not enough: what is seen has to
last, and after a change nothing is decided for the same time. (Flink's reactive scaling by load, FLIP-271, without its
model of rates.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from streamflow.errors import ConfigError
from streamflow.time.timestamps import parse_duration

__all__ = ["AutoscalePolicy", "Autoscaler", "parse_autoscale"]

_PART: Final = re.compile(r"(busy)\s*([<>])\s*(0?\.\d+)|(\d+)\.\.(\d+)|every\s+(\S+)")
_LOOK: Final = 5.0
_EXAMPLE: Final = 'write it like "busy>0.8 busy<0.3 1..8 every 5m"'


@dataclass(frozen=True, slots=True)
class AutoscalePolicy:
    """More subtasks where the busiest operator is busy for more than `above` of its time, fewer below `below`, from
    `least` to `most`; `every` is the time in microseconds for which that has to last, and between two changes."""

    above: float
    below: float
    least: int
    most: int
    every: int


def parse_autoscale(text: str) -> AutoscalePolicy:
    """The policy in a text. Raises ConfigError for any other text.

    >>> parse_autoscale("busy>0.8 busy<0.3 1..8 every 5m")
    AutoscalePolicy(above=0.8, below=0.3, least=1, most=8, every=300000000)
    """
    found: dict[str, float | int] = {}
    rest = text
    for match in _PART.finditer(text):
        what, sign, ratio, least, most, every = match.groups()
        if what:
            found["above" if sign == ">" else "below"] = float(ratio)
        elif least:
            found |= {"least": int(least), "most": int(most)}
        else:
            found["every"] = parse_duration(every, what="autoscale", positive=True)
        rest = rest.replace(match[0], "", 1)
    if rest.strip(" ,") or "above" not in found or "most" not in found:
        raise ConfigError(f"autoscale is {text!r}", hint=_EXAMPLE)
    above = float(found["above"])
    below, least = float(found.get("below", 0.0)), int(found["least"])
    if not 1 <= least <= int(found["most"]) or not 2 * below <= above:
        raise ConfigError(
            f"autoscale is {text!r}",
            hint="the least number is at least 1, and the lower ratio at most half of the upper one: with half of its "
            "subtasks a job is twice as busy",
        )
    return AutoscalePolicy(above, below, least, int(found["most"]), int(found.get("every", 120_000_000)))


class Autoscaler:
    """The decisions by one policy. Times are seconds of one monotonic clock.

    >>> autoscaler = Autoscaler(parse_autoscale("busy>0.8 busy<0.2 1..8 every 60s"), now=0.0)
    >>> [autoscaler.decide(2, 0.9, now) for now in (10.0, 40.0, 70.0, 75.0)]
    [None, None, 4, None]
    """

    def __init__(self, policy: AutoscalePolicy, now: float) -> None:
        self._policy = policy
        self._since: tuple[int, float] | None = None
        """The direction in which a change would go, and the time since which it would."""
        self._rest_until = now
        self._every = policy.every / 1e6

    @property
    def pause(self) -> float:
        """Seconds between two looks."""
        return min(_LOOK, self._every / 4)

    def decide(self, parallelism: int, busy: float, now: float) -> int | None:
        """The parallelism to go on with, by the share of time for which the busiest operator is busy now; None: the
        present one."""
        policy = self._policy
        direction = 0
        if busy > policy.above and parallelism < policy.most:
            direction = 1
        elif busy < policy.below and parallelism > policy.least:
            direction = -1
        if direction == 0 or now < self._rest_until:
            self._since = None
            return None
        if self._since is None or self._since[0] != direction:
            self._since = (direction, now)
        if now - self._since[1] < self._every:
            return None
        self._since, self._rest_until = None, now + self._every
        return min(policy.most, parallelism * 2) if direction > 0 else max(policy.least, parallelism // 2)
