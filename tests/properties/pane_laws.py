"""The laws of panes that hold whenever windows fire: what they have to come to, their numbers, and what they take back.

For triggers by the clock, and records of which it depends on the machine which is first: no list of panes is the right
one then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tests.properties.trigger_model import Fired

__all__ = ["Place", "broken", "counted"]

Place = tuple[str, int, int]
"""A key and the bounds of a window."""
_TIMINGS = ("EARLY", "ON_TIME", "LATE")


def broken(
    rows: Sequence[Fired],
    whole: Mapping[Place, tuple[int, int]],
    accumulation: str,
    *,
    lasts: bool,
    merging: bool,
    told: bool = True,
) -> str | None:
    """The first law that the rows break, in words. `whole`: number and sum of all records of each window at last.
    `lasts`: the trigger never finishes, so all of them come. `told`: the rows tell their timing and their numbers."""
    panes: dict[Place, list[Fired]] = defaultdict(list)
    for row in rows:
        if row.change in ("insert", "update_after"):
            panes[row.key, row.start, row.end].append(row)
    problems: list[str | None] = [counted(each) for each in (panes.values() if told else ())]
    problems += [_somewhere(place, whole, merging=merging) for place in panes]
    if not any(problems):
        match accumulation:
            case "discarding":
                problems.append(_adds_up(panes, whole, lasts=lasts))
            case "retracting":
                problems.append(_taken_back(rows, whole, lasts=lasts))
            case _:
                problems.append(_grows(panes, whole, lasts=lasts))
    return next((problem for problem in problems if problem is not None), None)


def counted(panes: Sequence[Fired]) -> str | None:
    """Numbers without a gap, early before on time before late, nothing after the last."""
    timings = [_TIMINGS.index(pane.timing) for pane in panes]
    if [pane.number for pane in panes] != list(range(len(panes))):
        return f"the numbers have a gap: {panes}"
    if any(pane.first != (pane.number == 0) for pane in panes):
        return f"is_first is wrong: {panes}"
    if any(pane.last for pane in panes[:-1]):
        return f"there is a pane after the last: {panes}"
    if timings != sorted(timings) or timings.count(1) > 1:
        return f"the timings are out of order: {panes}"
    empty = [pane for pane in panes if not pane.n and pane.timing != "ON_TIME"]
    return f"a pane that is not on time is empty: {empty}" if empty else None


def _somewhere(place: Place, whole: Mapping[Place, tuple[int, int]], *, merging: bool) -> str | None:
    """Each window is one that there is at last, or part of one."""
    if place in whole or (merging and _around(place, whole) is not None):
        return None
    return f"there is no such window: {place}"


def _around(place: Place, windows: Iterable[Place]) -> Place | None:
    key, start, end = place
    return next((w for w in windows if w[0] == key and w[1] <= start and end <= w[2]), None)


def _adds_up(
    panes: Mapping[Place, Sequence[Fired]], whole: Mapping[Place, tuple[int, int]], *, lasts: bool
) -> str | None:
    """Panes of what is new add up to all there is."""
    sums = dict.fromkeys(whole, (0, 0))
    for place, each in panes.items():
        window = place if place in whole else _around(place, whole)
        assert window is not None
        n, total = sums[window]
        sums[window] = n + sum(pane.n for pane in each), total + sum(pane.total for pane in each)
    return _differing(sums, whole, lasts=lasts)


def _grows(
    panes: Mapping[Place, Sequence[Fired]], whole: Mapping[Place, tuple[int, int]], *, lasts: bool
) -> str | None:
    """Each pane has what the one before it had; the last one all."""
    for each in panes.values():
        counts = [pane.n for pane in each]
        if counts != sorted(counts) or not counts[0]:
            return f"a pane has less than the one before it: {each}"
    sums = dict.fromkeys(whole, (0, 0)) | {
        place: (each[-1].n, each[-1].total) for place, each in panes.items() if place in whole
    }
    return _differing(sums, whole, lasts=lasts)


def _taken_back(rows: Sequence[Fired], whole: Mapping[Place, tuple[int, int]], *, lasts: bool) -> str | None:
    """Each retraction takes back exactly the pane that stands; what stands at last is all there is."""
    standing: dict[Place, Fired] = {}
    pending: set[Place] = set()
    for row in rows:
        place = row.key, row.start, row.end
        if row.change in ("update_before", "delete"):
            if standing.pop(place, None) != row._replace(change="insert"):
                return f"takes back what does not stand: {row}"
            if row.change == "update_before":
                pending.add(place)
            continue
        if place in standing:
            return f"a second pane stands beside the first: {row}"
        if (row.change == "update_after") != (place in pending):
            return f"an update without a retraction, or a retraction without one: {row}"
        pending.discard(place)
        standing[place] = row._replace(change="insert")
    if pending:
        return f"taken back, and nothing came instead: {pending}"
    for place in standing:
        if place not in whole:
            return f"part of a larger window, and not taken back: {standing[place]}"
    sums = dict.fromkeys(whole, (0, 0)) | {place: (row.n, row.total) for place, row in standing.items()}
    return _differing(sums, whole, lasts=lasts)


def _differing(
    sums: Mapping[Place, tuple[int, int]], whole: Mapping[Place, tuple[int, int]], *, lasts: bool
) -> str | None:
    for place, wanted in whole.items():
        if sums[place] != wanted if lasts else sums[place][0] > wanted[0]:
            return f"{place} has come to {sums[place]}, and there is {wanted}"
    return None
