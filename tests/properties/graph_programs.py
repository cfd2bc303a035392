"""Random job graphs as data: what flows in, what is done to it, and how the job is run. Nothing here knows the engine,
but for its triggers, which are data.

Every stream between two steps has the same five fields (`FIELDS`), so that any step can stand behind any other; each
record has an event time beside them, in microseconds. Numbers are whole or halves: their sums are exact in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.properties.trigger_model import lasts, random_trigger

__all__ = [
    "ADDED",
    "AGGREGATES",
    "CHOICES",
    "KEYS",
    "SIZE",
    "Program",
    "Run",
    "Step",
    "random_program",
    "random_run",
]

FIELDS = ("k", "j", "v", "f", "b")
SIZE = 16
"""About how far apart the times of two windows are."""

Row = dict[str, Any]

CHOICES = ("not_threes", "some_j", "has_key", "not_negative", "true")
KEYS: tuple[tuple[str, ...], ...] = (("k",), ("j",), ("k", "j"), ("half",), ("j", "half"), ("b",), ("f",))
"""Names of fields, or `half`, which is made of `j`."""
AGGREGATES = (
    "count",
    "count_v",
    "sum_v",
    "sum_f",
    "sum_b",
    "mean_v",
    "min_v",
    "max_f",
    "min_k",
    "max_k",
    "first_v",
    "last_k",
    "std_v",
    "var_f",
    "any_b",
    "all_b",
    "n_unique_k",
    "n_unique_f",
    "about_n_unique_v",
    "about_largest_f",
    "lower_quantile_v",
    "linear_quantile_f",
    "list_v",
    "list_k",
    "top_v",
    "top_k_by_f",
    "own_v",
)
ADDED = ("count", "count_v", "sum_v", "sum_f", "sum_b")
"""Aggregates of which those of parts add up to that of the whole."""
TAKEN_BACK = (
    *ADDED[1:],
    "mean_v",
    "min_v",
    "max_f",
    "min_k",
    "max_k",
    "any_b",
    "all_b",
    "n_unique_k",
    "n_unique_f",
    "lower_quantile_v",
    "linear_quantile_f",
    "top_v",
)
"""Aggregates, beside `count`, from which rows can be taken back."""


@dataclass(frozen=True)
class Step:
    """One node: what it does, to the outputs of which steps before it, and how it is written (`form`)."""

    kind: str
    inputs: tuple[int, ...] = ()
    form: str = "columns"
    options: Mapping[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        return (self.options or {})[name]

    def with_rows(self, rows: Any) -> Step:
        """The same source, of other rows."""
        return replace(self, options={**(self.options or {}), "rows": rows})


@dataclass(frozen=True)
class Program:
    """Steps in order; `ends` are those whose output is collected."""

    steps: tuple[Step, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """One way to run a job. `fails_at`: the call of a function at which the job fails once; None: never. Several
    `workers` are on one event loop, under virtual time."""

    mode: str = "streaming"
    parallelism: int = 1
    batch_rows: int = 65_536
    backend: str = "memory"
    memory_budget: int = 1 << 28
    fails_at: int | None = None
    workers: int = 1


def random_run(random: Random) -> Run:
    """Any way to run."""
    return Run(
        mode=random.choice(["streaming", "micro-batch", "batch"]),
        parallelism=random.randint(1, 4),
        batch_rows=random.choice([1, 2, 3, 7, 65_536]),
        backend=random.choice(["memory", "memory", "rocksdb"]),
        memory_budget=random.choice([100, 5_000, 1 << 28]),
        fails_at=random.choice([None, None, random.randint(1, 60)]),
    )


def random_program(random: Random) -> Program:
    """A graph of up to a dozen steps."""
    steps: list[Step] = []
    layouts: list[str] = []
    """Of the output of each step: `columns`, `objects`, `changes` (columns that may be taken back), or `results`,
    behind which nothing follows."""

    def add(step: Step, layout: str) -> int:
        steps.append(step)
        layouts.append(layout)
        return len(steps) - 1

    tardy = random.random() < 0.25
    for _ in range(random.choice([1, 1, 2])):
        layout = random.choice(["columns", "columns", "objects"])
        add(_source(random, layout, tardy=tardy), layout)
    for _ in range(random.randint(1, 6)):
        streams = [at for at, layout in enumerate(layouts) if layout != "results"]
        # Rather on from the last than from any.
        at = streams[-1] if random.random() < 0.7 else random.choice(streams)
        if layouts[at] == "changes":
            others = [other for other in streams if layouts[other] in ("columns", "changes")]
            # Records have versions; a row of a tardy job may come late, and be missing.
            versions = [other for other in others if layouts[other] == "columns" and not tardy]
            _change(random, add, at, others, versions if _timed(steps, at) else [])
        else:
            _further(random, add, at, layouts[at], streams, layouts, tardy=tardy)
    used = {before for step in steps for before in step.inputs}
    ends = [at for at in range(len(steps)) if at not in used or random.random() < 0.15]
    ends = [at for at in ends if steps[at].kind != "parts"]
    return Program(tuple(steps), tuple(ends))


def _source(random: Random, layout: str, *, tardy: bool) -> Step:
    """`tardy`: records come later than the bound says."""
    count, bound = random.choice([0, 1, 5, 20, 40]), random.choice([0, 3, 10])
    times = sorted(random.randint(-20, 100) for _ in range(count))
    arriving = sorted(times, key=lambda time: time + random.randint(0, 60 if tardy else bound))
    mixed = layout == "objects" and random.random() < 0.5
    rows = [
        {
            "k": random.choice(["a", "a", "b", "ü", "", None]),
            "j": random.randint(0, 3),
            "v": random.choice([None, random.randint(-9, 9), random.randint(-9, 9), 10**12]),
            "f": _half(random, mixed=mixed),
            "b": random.choice([None, True, False]),
            "ts": time,
        }
        for time in arriving
    ]
    options = {"rows": rows, "bound": bound, "batch": random.choice([1, 3, 10, 1_000])}
    return Step("source", form=layout, options=options)


def _half(random: Random, *, mixed: bool) -> float | int | None:
    """Nothing, or a multiple of a half; `mixed`: a whole one as an integer."""
    value = random.choice([None, random.randint(-8, 8) / 2, random.randint(-8, 8) / 2])
    return int(value) if mixed and value is not None and value.is_integer() else value


def _further(
    random: Random,
    add: Any,
    at: int,
    layout: str,
    streams: list[int],
    layouts: list[str],
    *,
    tardy: bool,
) -> None:
    """One step more, or the few that belong together, behind the step `at`."""
    form = random.choice(["columns", "function"]) if layout == "columns" else "function"
    # What takes rows back goes together with joins of all.
    streams = [other for other in streams if layouts[other] != "changes"]
    kind = random.choice(
        ["filter", "change", "repeat", "objects", "typed", "split", "union", "totals", "reduce"]
        + ["window"] * 6
        # What a process makes of late records is a matter of when they come, and a join of them nothing.
        + ([] if tardy else ["process", "join", "join"])
    )
    match kind:
        case "filter":
            add(Step("filter", (at,), form, {"choice": random.choice(CHOICES)}), layout)
        case "change":
            after = layout if form == "columns" else random.choice(["columns", "objects"])
            add(Step("change", (at,), form, {"after": after}), after)
        case "repeat":
            after = random.choice(["columns", "objects"])
            add(Step("repeat", (at,), "function", {"after": after}), after)
        case "objects" | "typed":
            after = "objects" if kind == "objects" else "columns"
            add(Step("same", (at,), "function", {"after": after}), after)
        case "split" if layout == "columns":
            choices = random.sample(CHOICES, random.randint(1, 2))
            options = {"choices": choices, "of": at}
            for branch in [*choices, "rest"]:
                add(Step("branch", (at,), "columns", {**options, "branch": branch}), layout)
        case "union" | "join":
            _together(random, add, kind, at, {other: layouts[other] for other in streams})
        case "process":
            options = {**_keyed(random, layout), "size": random.choice([5, SIZE])}
            after = random.choice(["columns", "objects"])
            add(Step(random.choice(["process", "in_order"]), (at,), after, options), after)
        case "totals":
            add(
                Step("totals", (at,), layout, {**_keyed(random, layout), "aggregates": _some(random)}),
                "results",
            )
        case "reduce":
            add(Step("reduce", (at,), layout, {**_keyed(random, layout), "window": None}), "results")
        case "window":
            _window(random, add, at, layout, tardy=tardy)
        case _:
            assert kind == "split", kind


def _timed(steps: list[Step], at: int) -> bool:
    """Whether the event times of rows that may be taken back do not depend on what comes first, and are not behind the
    watermark: a window that waits for late records may put its rows out after its end."""
    step = steps[at]
    if step.kind == "rows":
        window = steps[step.inputs[0]]
        return window["lateness"] == 0 or window["trigger"] is None
    kept = step.kind in ("filter", "change") or (step.kind == "join" and step["by"] == ("as of",))
    return kept and _timed(steps, step.inputs[0])


def _change(random: Random, add: Any, at: int, others: list[int], versions: list[int]) -> None:
    """A step behind rows that may be taken back: what it gives at last does not depend on the rows between. `versions`
    are the streams that can be looked up at its rows' times."""
    kinds = ["filter", "change", "totals", "totals", "join", "join", *(["as of"] * 3 if versions else [])]
    match random.choice(kinds):
        case "filter":
            add(Step("filter", (at,), "columns", {"choice": random.choice(CHOICES)}), "changes")
        case "change":
            add(Step("change", (at,), "columns", {"after": "columns"}), "changes")
        case "as of":
            options = {
                "by": ("as of",),
                "how": random.choice(["semi", "anti"]),
                "key": random.choice(["k", "j"]),
            }
            add(Step("join", (at, random.choice(versions)), "columns", options), "changes")
        case "join":
            how = random.choice(["inner", "left", "semi", "anti"])
            options = {"by": ("all",), "how": how, "key": random.choice(["k", "j"])}
            both = (at, random.choice(others))
            add(Step("join", both if random.random() < 0.5 else both[::-1], "columns", options), "changes")
        case _:
            names = ["count", *random.sample(TAKEN_BACK, random.randint(0, 4))]
            forms = [(name, random.choice(["name", "expression"])) for name in names]
            options = {"keys": random.choice(KEYS), "by": "columns", "aggregates": tuple(forms)}
            add(Step("totals", (at,), "columns", options), "results")


def _together(random: Random, add: Any, kind: str, at: int, layouts: Mapping[int, str]) -> None:
    """A step that brings streams together; `layouts` are those of all streams that there are."""
    if kind == "union":
        same = [other for other in layouts if layouts[other] == layouts[at]]
        others = [random.choice(same) for _ in range(random.randint(1, 2))]
        add(Step("union", (at, *others), layouts[at]), layouts[at])
        return
    other = random.choice([*layouts])
    both = "columns" if layouts[at] == layouts[other] == "columns" else "objects"
    add(Step("join", (at, other), both, _join(random)), both)


def _join(random: Random) -> dict[str, Any]:
    """The options of a join: within an interval, by windows, as of a time, or all; of kinds whose rows and times do
    not depend on what comes first."""
    lower = random.randint(-8, 8)
    by, hows = random.choice(
        [
            (("interval", lower, lower + random.randint(0, 8)), ("inner", "left", "semi", "anti")),
            (("window", random.randint(1, SIZE)), ("inner", "left", "semi", "anti")),
            (("session", random.randint(1, 8)), ("inner", "left", "semi", "anti")),
            (("own", random.randint(1, 5), random.randint(5, SIZE)), ("inner", "left", "semi", "anti")),
            (("as of",), ("semi", "anti")),
            (("all",), ("inner",)),
        ]
    )
    return {"by": by, "how": random.choice(hows), "key": random.choice(["k", "j"])}


def _window(random: Random, add: Any, at: int, layout: str, *, tardy: bool) -> None:
    """A window; where records are tardy, one that waits for all of them and says how its results change."""
    window = random.choice(
        [
            ("tumbling", random.randint(1, SIZE)),
            ("tumbling", SIZE),
            ("sliding", random.randint(1, SIZE), random.randint(1, SIZE)),
            ("cumulative", random.randint(1, 3), random.randint(1, 6)),
            ("session", random.randint(1, 8)),
            ("global",),
        ]
    )
    options = {
        **_keyed(random, layout),
        "window": window,
        "lateness": random.choice([0, 0, 3, 1_000]),
        "accumulation": random.choice(["accumulating", "discarding", "retracting"]),
        "trigger": None,
        "panes": random.random() < 0.3,
    }
    if tardy:
        options |= {"lateness": 1_000, "accumulation": "retracting"}
    if random.random() < 0.5:
        trigger = random_trigger(random, clock=True)
        # One that finishes leaves records out, and which depends on what comes first.
        options["trigger"] = trigger if lasts(trigger) else None
    if random.random() < 0.15:
        accumulation = options["accumulation"] if options["trigger"] is None else "retracting"
        add(
            Step("reduce", (at,), layout, {**options, "accumulation": accumulation, "panes": False}),
            "results",
        )
        return
    goes_on = random.random() < 0.6 and (options["by"] == "columns" or not tardy)
    if goes_on and options["trigger"] is None and not tardy and random.random() < 0.7:
        options["accumulation"] = random.choice(["accumulating", "discarding"])
    elif goes_on and options["accumulation"] == "accumulating":
        options["accumulation"] = "retracting"
    if goes_on and options["by"] != "columns" and options["accumulation"] == "retracting":
        # The types of keys that are functions are not declared, and changes do not pass functions.
        options["accumulation"] = "discarding"
    aggregates = _some(random)
    adds = options["trigger"] is not None and options["accumulation"] == "discarding"
    if adds:
        aggregates = tuple((name, form) for name, form in aggregates if name in ADDED)
    result = add(Step("window", (at,), layout, {**options, "aggregates": aggregates}), "results")
    if not goes_on:
        return
    if options["accumulation"] == "retracting":
        add(Step("rows", (result,), "columns", {"after": "columns", "keys": options["keys"]}), "changes")
        return
    after = random.choice(["columns", "columns", "objects"])
    form = (
        "function"
        if after == "objects" or options["by"] != "columns"
        else random.choice(["columns", "function"])
    )
    rows = Step("parts" if adds else "rows", (result,), form, {"after": after, "keys": options["keys"]})
    if not adds:
        add(rows, after)
        return
    # How many panes there are depends on the machine; what they add up to does not.
    sums = tuple((name, random.choice(["name", "function"])) for name in ("sum_v", "sum_f"))
    # Their `f` is made of the number of records, which an empty pane has none of.
    keyed = {**_keyed(random, after), "keys": random.choice([keys for keys in KEYS if keys != ("f",)])}
    add(Step("totals", (add(rows, "results"),), after, {**keyed, "aggregates": sums}), "results")


def _keyed(random: Random, layout: str) -> dict[str, Any]:
    forms = ["columns", "functions", "mixed"] if layout == "columns" else ["names", "functions", "mixed"]
    return {"keys": random.choice(KEYS), "by": random.choice(forms)}


def _some(random: Random) -> tuple[tuple[str, str], ...]:
    """Aggregates in any order, each with how its input is written; `count` is among them."""
    names = random.sample(AGGREGATES[1:], random.randint(0, 4))
    names.insert(random.randint(0, len(names)), "count")
    return tuple((name, random.choice(["name", "expression", "function"])) for name in names)


def without_step(program: Program, at: int) -> Program | None:
    """The same program without a step and what follows from it; None where nothing would be left."""
    gone = {at}
    for number, step in enumerate(program.steps):
        if gone & set(step.inputs):
            gone.add(number)
    kept = [number for number in range(len(program.steps)) if number not in gone]
    numbers = {old: new for new, old in enumerate(kept)}
    steps = tuple(
        replace(program.steps[old], inputs=tuple(numbers[before] for before in program.steps[old].inputs))
        for old in kept
    )
    used = {before for step in steps for before in step.inputs}
    ends = {numbers[end] for end in program.ends if end in numbers}
    ends |= {at for at, step in enumerate(steps) if at not in used and step.kind != "parts"}
    return Program(steps, tuple(sorted(ends))) if ends and any(s.kind != "source" for s in steps) else None
