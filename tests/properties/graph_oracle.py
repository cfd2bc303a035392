"""The expected results of a random job graph, in plain Python: lists of (event time, row), each step by its
definition.

Shares no code with the engine. A result is a list of rows in no order; results of totals are their values at the
end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import mean, stdev, variance
from typing import Any

from tests.properties.graph_programs import Program, Step

__all__ = ["CHOOSE", "changed", "evaluated", "half", "larger", "listed", "repeated"]

Row = dict[str, Any]
Timed = tuple[int, Row]

# What users' functions do; jobs call the same ones.

CHOOSE: dict[str, Callable[[Row], bool]] = {
    "not_threes": lambda row: row["v"] is not None and row["v"] % 3 != 0,
    "some_j": lambda row: row["j"] > 1,
    "has_key": lambda row: row["k"] is not None,
    "not_negative": lambda row: row["f"] is not None and row["f"] >= 0,
    "true": lambda row: row["b"] is True,
}


def changed(row: Row) -> Row:
    """Another `v` and `j`."""
    return {**row, "v": None if row["v"] is None else row["v"] * 2 + 1, "j": (row["j"] + 1) % 4}


def repeated(row: Row) -> list[Row]:
    """None, one or two rows for one."""
    return [{**row, "j": copy} for copy in range(row["j"] % 3)]


def half(row: Row) -> int:
    """A key that is made of a field."""
    return int(row["j"]) // 2


def order_of(row: Row) -> tuple[Any, ...]:
    """An order of all rows."""
    return tuple(
        (row[name] is not None, row[name] if row[name] is not None else 0)
        for name in ("v", "f", "j", "k", "b")
    )


def larger(left: Row, right: Row) -> Row:
    """One of two rows, whichever comes first."""
    return max(left, right, key=order_of)


def listed(keys: Iterable[Any]) -> str:
    """Keys as text; 2 and 2.0 are one key."""
    return str([int(key) if isinstance(key, float) and key.is_integer() else key for key in keys])


# The evaluation.


def evaluated(program: Program) -> dict[int, list[Row]]:
    """The result of each end."""
    outputs: list[list[Timed]] = []
    for step in program.steps:
        outputs.append(_step(step, [outputs[before] for before in step.inputs]))
    return {end: [row for _, row in outputs[end]] for end in program.ends}


def _step(step: Step, inputs: Sequence[list[Timed]]) -> list[Timed]:
    if step.kind == "source":
        return [(row["ts"], {name: row[name] for name in row if name != "ts"}) for row in step["rows"]]
    if step.kind == "union":
        return [record for records in inputs for record in records]
    if step.kind == "join":
        return list(_joined(step, *inputs))
    return list(_STEPS[step.kind](step, inputs[0]))


def _joined(step: Step, left: list[Timed], right: list[Timed]) -> Iterable[Timed]:
    """The left row of each pair with the `v` of the right one; rows alone with nothing there, or unchanged."""
    key, how = step["key"], step["how"]
    # A row of a window has the time of its end.
    last = _last_moments(step, [*left, *right])
    for time, row in left:
        others = [
            (at, other)
            for at, other in right
            if row[key] == other[key] is not None
            and _meet(step["by"], (time, at), (last(time, row), last(at, row)))
        ]
        alone = last(time, row)
        if how in ("semi", "anti"):
            if bool(others) == (how == "semi"):
                yield alone, row
            continue
        for at, other in others:
            yield max(alone, last(at, other)), {**row, "v": other["v"]}
        if how == "left" and not others:
            yield alone, {**row, "v": None}


def _meet(by: tuple[Any, ...], times: tuple[int, int], last: tuple[int, int]) -> bool:
    left, right = times
    match by:
        case ("interval", lower, upper):
            return bool(lower <= right - left <= upper)
        case ("window" | "session" | "own", *_):
            return last[0] == last[1]
        case ("as of",):
            return right <= left
        case _:
            return True


def _last_moments(step: Step, records: list[Timed]) -> Callable[[int, Row], int]:
    """The last moment of the window of a join that a row with this time is in; its time if there are no windows."""
    key = step["key"]
    match step["by"]:
        case ("window", size):
            return lambda time, _: time // size * size + size - 1
        case ("own", every, size):
            return lambda time, _: time // every * every + size - 1
        case ("session", gap):
            ends: dict[tuple[Any, int], int] = {}
            for time, row in sorted(records, key=lambda record: -record[0]):
                # What comes next of the key continues the session, or not.
                after = [at for of, at in ends if of == row[key] is not None and time <= at < time + gap]
                ends[row[key], time] = ends[row[key], min(after)] if after else time + gap - 1
            return lambda time, row: ends[row[key], time]
        case _:
            return lambda time, _: time


def _windowed(step: Step, records: list[Timed]) -> Iterable[Timed]:
    for keys, bounds, time, members in _windows(step, records):
        yield time, {**keys, **bounds, **_aggregates(step, members)}


def _totals(step: Step, records: list[Timed]) -> Iterable[Timed]:
    for keys, members in _by_key(step, records):
        yield max(time for time, _ in members), {**keys, **_aggregates(step, members)}


def row_of_result(row: Row, keys: Sequence[str]) -> Row:
    """A window's result as a row with the usual fields."""
    count = row["count"]
    return {
        "k": row["k"] if "k" in keys else None,
        "j": row["j"] if "j" in keys else row["half"] if "half" in keys else 0,
        "v": count,
        "f": count / 2,
        "b": None,
    }


def _rows(step: Step, records: list[Timed]) -> list[Timed]:
    return [(time, row_of_result(row, step["keys"])) for time, row in records]


def _branch(step: Step, row: Row) -> str:
    return next((choice for choice in step["choices"] if CHOOSE[choice](row)), "rest")


def _by_key(step: Step, records: Iterable[Timed]) -> list[tuple[Row, list[Timed]]]:
    groups: dict[tuple[Any, ...], list[Timed]] = defaultdict(list)
    for time, row in records:
        groups[tuple(half(row) if key == "half" else row[key] for key in step["keys"])].append((time, row))
    return [(dict(zip(step["keys"], key, strict=True)), group) for key, group in groups.items()]


def _windows(step: Step, records: list[Timed]) -> list[tuple[Row, Row, int, list[Timed]]]:
    """Keys, bounds, event time and records of each window."""
    found: list[tuple[Row, Row, int, list[Timed]]] = []
    for keys, group in _by_key(step, records):
        match step["window"]:
            case ("global",):
                found.append((keys, {}, max(time for time, _ in group), group))
                continue
            case ("session", gap):
                windows = _sessions(sorted(group, key=lambda record: record[0]), gap)
            case ("tumbling", size):
                windows = _sliding(group, size, size)
            case ("sliding", size, every):
                windows = _sliding(group, size, every)
            case ("cumulative", parts, every):
                windows = _cumulative(group, parts * every, every)
            case other:
                raise AssertionError(other)
        for start, end, members in windows:
            found.append((keys, {"window_start": start, "window_end": end}, end - 1, members))
    return found


def _sliding(group: list[Timed], size: int, every: int) -> list[tuple[int, int, list[Timed]]]:
    windows: dict[int, list[Timed]] = defaultdict(list)
    for record in group:
        for start in range(record[0] - size + 1, record[0] + 1):
            if start % every == 0:
                windows[start].append(record)
    return [(start, start + size, members) for start, members in windows.items()]


def _cumulative(group: list[Timed], size: int, every: int) -> list[tuple[int, int, list[Timed]]]:
    windows: dict[tuple[int, int], list[Timed]] = defaultdict(list)
    for record in group:
        start = record[0] // size * size
        for end in range(start + every, start + size + 1, every):
            if record[0] < end:
                windows[start, end].append(record)
    return [(start, end, members) for (start, end), members in windows.items()]


def _sessions(ordered: list[Timed], gap: int) -> list[tuple[int, int, list[Timed]]]:
    sessions: list[list[Timed]] = []
    for record in ordered:
        if sessions and record[0] - sessions[-1][-1][0] < gap:
            sessions[-1].append(record)
        else:
            sessions.append([record])
    return [(members[0][0], members[-1][0] + gap, members) for members in sessions]


def _reduced(step: Step, records: list[Timed]) -> list[Timed]:
    if step["window"] is None:
        groups = [(keys, {}, max(t for t, _ in group), group) for keys, group in _by_key(step, records)]
    else:
        groups = _windows(step, records)
    found: list[Timed] = []
    for keys, bounds, time, group in groups:
        value = group[0][1]
        for _, row in group[1:]:
            value = larger(value, row)
        found.append((time, {**keys, **bounds, "value": value}))
    return found


def _processed(step: Step, records: list[Timed]) -> Iterable[Timed]:
    """Each event goes on with a mark; at the end of each stretch of time a row with the number of its events."""
    size = step["size"]
    for keys, group in _by_key(step, records):
        counts: dict[int, int] = defaultdict(int)
        for time, row in group:
            counts[time // size * size + size] += 1
            yield time, {**row, "j": 7}
        for end, count in counts.items():
            yield end, {"k": listed(keys.values()), "j": count, "v": count, "f": count / 2, "b": None}


def _in_order(step: Step, records: list[Timed]) -> Iterable[Timed]:
    """For each event how long after the one before it comes; nothing for one that comes more than `size` later."""
    for keys, group in _by_key(step, records):
        last: int | None = None
        for time, _ in sorted(group, key=lambda record: record[0]):
            since = None if last is None or time - last > step["size"] else time - last
            yield time, {"k": listed(keys.values()), "j": 0, "v": since, "f": None, "b": None}
            last = time


def _aggregates(step: Step, records: list[Timed]) -> Row:
    return {name: _VALUES[name](records) for name, _ in step["aggregates"]}


def _all(field: str) -> Callable[[list[Timed]], list[Any]]:
    """All values of a field by event time, those of one moment by value, null first."""

    def values(records: list[Timed]) -> list[Any]:
        def place(record: Timed) -> tuple[Any, ...]:
            value = record[1][field]
            return record[0], value is not None, 0 if value is None else value

        return [row[field] for _, row in sorted(records, key=place)]

    return values


def _there(field: str, of: Callable[[list[Any]], Any], least: int = 1) -> Callable[[list[Timed]], Any]:
    """Something of the values that are not null; null for too few of them."""

    def value(records: list[Timed]) -> Any:
        values = [row[field] for _, row in records if row[field] is not None]
        return of(values) if len(values) >= least else None

    return value


def _quantile(q: float, linear: bool) -> Callable[[list[Any]], float]:
    def value(values: list[Any]) -> float:
        ordered = sorted(values)
        at = q * (len(ordered) - 1)
        low = int(at)
        if not linear or low + 1 == len(ordered):
            return float(ordered[low])
        return float(ordered[low] + (ordered[low + 1] - ordered[low]) * (at - low))

    return value


def _top_k_by_f(records: list[Timed]) -> list[Any]:
    def place(row: Row) -> tuple[Any, ...]:
        return row["f"], row["k"] is not None, row["k"] or ""

    rows = sorted((row for _, row in records if row["f"] is not None), key=place, reverse=True)
    return [row["k"] for row in rows[:2]]


def _distinct(field: str) -> Callable[[list[Timed]], int]:
    return lambda records: len({row[field] for _, row in records})


_VALUES: dict[str, Callable[[list[Timed]], Any]] = {
    "count": len,
    "count_v": _there("v", len, 0),
    "sum_v": _there("v", sum, 0),
    "sum_f": _there("f", sum, 0),
    "sum_b": _there("b", sum, 0),
    "mean_v": _there("v", lambda values: float(mean(values))),
    "min_v": _there("v", min),
    "max_f": _there("f", max),
    "min_k": _there("k", min),
    "max_k": _there("k", max),
    "first_v": lambda records: _all("v")(records)[0],
    "last_k": lambda records: _all("k")(records)[-1],
    "std_v": _there("v", lambda values: float(stdev(values)), 2),
    "var_f": _there("f", lambda values: float(variance(values)), 2),
    "any_b": _there("b", any, 0),
    "all_b": _there("b", all, 0),
    "n_unique_k": _distinct("k"),
    "n_unique_f": _distinct("f"),
    "about_n_unique_v": _distinct("v"),
    "about_largest_f": _there("f", max),
    "lower_quantile_v": _there("v", _quantile(0.3, linear=False)),
    "linear_quantile_f": _there("f", _quantile(0.6, linear=True)),
    "list_v": _all("v"),
    "list_k": _all("k"),
    "top_v": _there("v", lambda values: sorted(values, reverse=True)[:3], 0),
    "top_k_by_f": _top_k_by_f,
    "own_v": _there("v", lambda values: max(values) - min(values)),
}

_STEPS: dict[str, Callable[[Step, list[Timed]], Iterable[Timed]]] = {
    "filter": lambda step, records: [record for record in records if CHOOSE[step["choice"]](record[1])],
    "change": lambda step, records: [(time, changed(row)) for time, row in records],
    "repeat": lambda step, records: [(time, copy) for time, row in records for copy in repeated(row)],
    "same": lambda step, records: records,
    "branch": lambda step, records: [
        (time, row) for time, row in records if _branch(step, row) == step["branch"]
    ],
    "window": _windowed,
    "rows": _rows,
    "parts": _rows,
    "totals": _totals,
    "reduce": _reduced,
    "process": _processed,
    "in_order": _in_order,
}
