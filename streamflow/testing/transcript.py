"""Transcripts as data: a windowed job and its steps, read from YAML and checked.

The format is in docs of `run_transcript`. Files are untrusted: bounded in size, no aliases, no tags, unknown keys and
keys given twice are errors that name the file and the step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

from streamflow.api.keyed import Accumulation
from streamflow.arguments import flag, names, whole_number
from streamflow.distribution import install_hint
from streamflow.errors import JobDefinitionError, Where, unknown_name
from streamflow.time.timestamps import MAX_TIME, MIN_TIME, to_micros
from streamflow.time.watermarks import BoundedDisorder, bounded_disorder
from streamflow.windows import aggregates, triggers
from streamflow.windows.aggregates import Aggregate
from streamflow.windows.assigners import (
    Assigner,
    calendar,
    count_window,
    cumulative,
    global_window,
    session,
    sliding,
    tumbling,
)
from streamflow.windows.triggers import Trigger

__all__ = ["Step", "Transcript", "read_transcript"]

MOST_BYTES: Final = 1 << 20
_UNITS: Final = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_SEVERAL: Final[Mapping[str, Callable[..., Trigger]]] = {
    "after_each": triggers.after_each,
    "after_any": triggers.after_any,
    "after_all": triggers.after_all,
}
_ACTIONS: Final = ("events", "watermark", "watermark_before", "idle", "end", "processing_time")
COUNTS: Final = ("dropped", "in_no_window")
_AGGREGATES: Final = (
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "first",
    "last",
    "n_unique",
    "collect_list",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a transcript, and its consequences: exactly these panes, late records and drops."""

    number: int
    action: str
    value: Any
    input: str | None
    split: int | None
    panes: tuple[Mapping[str, Any], ...]
    late: tuple[tuple[int, Any, Any], ...]
    counts: Mapping[str, int]
    """Numbers of `dropped` (late) and `in_no_window` (between two windows) records."""
    window_watermark: int | None


@dataclass(frozen=True, slots=True)
class Transcript:
    """A windowed job and its steps. Times are microseconds; `unit` is the length of the file's unit of time."""

    name: str
    unit: int
    inputs: tuple[str, ...]
    splits: int
    watermark: BoundedDisorder | None
    """The job's own strategy; None if the transcript moves event time itself."""
    assigner: Assigner
    trigger: Trigger | None
    allowed_lateness: str
    accumulation: Accumulation
    aggregates: Mapping[str, Aggregate]
    pane_info: bool
    late_used: bool
    expect_failure: bool
    steps: tuple[Step, ...]


def read_transcript(path: str | Path) -> Transcript:
    """A transcript from its file; raises JobDefinitionError that names the file, the step and the wrong key."""
    file = Path(path)
    where = Where(split=file.name)
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise JobDefinitionError(
                f"a transcript of {size} bytes", where=where, hint=f"at most {MOST_BYTES} are read"
            )
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JobDefinitionError(f"a transcript cannot be read: {error}", where=where) from error
    reader = _Reader(file.stem, where)
    try:
        return reader.transcript(_load(text, where))
    except JobDefinitionError as error:
        raise error.at(reader.where) from error.__cause__


def _load(text: str, where: Where) -> Any:
    yaml = _yaml()
    try:
        loader = yaml.SafeLoader(text)
        tree = loader.get_single_node()
        _refuse_twice(yaml, tree, where, set())
        return None if tree is None else loader.construct_document(tree)
    except yaml.YAMLError as error:
        raise JobDefinitionError(f"this is no YAML: {error}", where=where) from error


def _yaml() -> ModuleType:
    try:
        import yaml
    except ImportError as error:
        raise JobDefinitionError(
            "transcripts are YAML, and PyYAML is not installed", hint=install_hint("transcripts")
        ) from error
    module: ModuleType = yaml
    return module


def _refuse_twice(yaml: Any, node: Any, where: Where, met: set[int]) -> None:
    """Raises for a repeated key, of which YAML would silently take the second value, and for an alias: a node that is
    met again."""
    if id(node) in met:
        raise JobDefinitionError("a transcript has no aliases", where=where, hint="write the value out")
    met.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                line = key.start_mark.line + 1
                raise JobDefinitionError(
                    f"{name!r} is given twice", where=Where(split=where.split, offset=f"line {line}")
                )
            seen.add(name)
            _refuse_twice(yaml, key, where, met)
            _refuse_twice(yaml, value, where, met)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_twice(yaml, value, where, met)


class _Reader:
    """Checks the loaded YAML and turns it into a `Transcript`; `where` is the present place."""

    def __init__(self, stem: str, where: Where) -> None:
        self.where = where
        self._stem = stem
        self._unit = _UNITS["s"]

    def transcript(self, data: Any) -> Transcript:
        top = self._mapping(data, "transcript", ("name", "about", "source", "job", "steps", "expect_failure"))
        job = self._mapping(
            self._need(top, "job"),
            "job",
            (
                "window",
                "trigger",
                "allowed_lateness",
                "accumulation",
                "aggregates",
                "inputs",
                "splits",
                "watermark",
                "time_unit",
                "pane_info",
                "late_output",
            ),
        )
        unit = str(job.get("time_unit", "s"))
        if unit not in _UNITS:
            raise self._wrong(f"time_unit is {unit!r}", f"one of {', '.join(_UNITS)}")
        self._unit = _UNITS[unit]
        listed = job.get("aggregates", {"total": "sum"})
        made = {name: self._aggregate(how) for name, how in self._mapping(listed, "aggregates", None).items()}
        inputs = names(job.get("inputs", ["input"]), "inputs")
        if not inputs:
            raise self._wrong("there are no inputs", "write inputs: [a, b], or leave it out")
        late_used = flag(job.get("late_output", False), "late_output")
        whole = Transcript(
            name=str(top.get("name", self._stem)),
            unit=self._unit,
            inputs=inputs,
            splits=whole_number(job.get("splits", 1), "splits"),
            watermark=self._strategy(job.get("watermark", "script")),
            assigner=self._assigner(self._need(job, "window")),
            trigger=self._trigger(job.get("trigger", "default")),
            allowed_lateness=str(job.get("allowed_lateness", "0s")),
            accumulation=self._accumulation(job.get("accumulation", "accumulating")),
            aggregates=made,
            pane_info=flag(job.get("pane_info", False), "pane_info"),
            late_used=late_used,
            expect_failure=flag(top.get("expect_failure", False), "expect_failure"),
            steps=(),
        )
        steps = self._list(self._need(top, "steps"), "a list of steps", "begin each with a dash")
        if not steps:
            raise self._wrong("there are no steps", "begin each with a dash")
        read = [self._step(number, step, inputs) for number, step in enumerate(steps, 1)]
        for step in read:
            if step.late and not late_used:
                self.where = Where(split=self.where.split, offset=f"step {step.number}")
                raise self._wrong(
                    "late records are expected and the late output is not read", "job: late_output: true"
                )
        return replace(whole, steps=tuple(read))

    def _step(self, number: int, data: Any, inputs: Sequence[str]) -> Step:
        self.where = Where(split=self.where.split, offset=f"step {number}")
        expected = ("panes", "late", *COUNTS, "window_watermark")
        step = self._mapping(data, "step", (*_ACTIONS, "input", "split", "comment", *expected))
        actions = [name for name in _ACTIONS if name in step]
        if len(actions) != 1:
            raise self._wrong(
                f"a step does one thing, this one {len(actions)}", f"one of {', '.join(_ACTIONS)}"
            )
        name = step.get("input")
        if name is not None and name not in inputs:
            raise self._wrong(*unknown_name("input", str(name), inputs))
        if name is None and actions[0] == "events" and len(inputs) > 1:
            raise self._wrong("events without an input", f"input: one of {', '.join(inputs)}")
        mark, split = step.get("window_watermark"), step.get("split")
        panes = self._list(step.get("panes", []), "a list of panes", "write [{key: x, window: [0, 10], …}]")
        late = self._list(step.get("late", []), "a list of events", "write [[time, key, value], …]")
        return Step(
            number=number,
            action=actions[0],
            value=self._value(actions[0], step[actions[0]]),
            input=name,
            split=None if split is None else whole_number(split, "split", least=0),
            panes=tuple(map(self._pane, panes)),
            late=tuple(map(self._event, late)),
            counts={name: whole_number(step.get(name, 0), name, least=0) for name in COUNTS},
            window_watermark=None if mark is None else self._time(mark),
        )

    def _value(self, action: str, value: Any) -> Any:
        match action:
            case "events":
                events = self._list(value, "a list of events", "write [[time, key, value], …]")
                return tuple(self._event(event) for event in events)
            case "watermark":
                return self._time(value)
            case "watermark_before":
                return self._time(value) - 1
            case "processing_time":
                return str(value)
            case _:
                if value is not True:
                    raise self._wrong(f"{action} is {value!r}", f"write {action}: true")
                return True

    def _event(self, data: Any) -> tuple[int, Any, Any]:
        hint = "write [time, key, value], or [time, key] for the value 1"
        event = self._list(data, "an event", hint)
        if len(event) not in (2, 3):
            raise self._wrong(f"{event!r} is not an event", hint)
        return self._time(event[0]), event[1], event[2] if len(event) == 3 else 1

    def _pane(self, data: Any) -> Mapping[str, Any]:
        pane = dict(self._mapping(data, "pane", None))
        if "window" in pane:
            bounds = self._list(pane["window"], "a window", "write window: [start, end]")
            if len(bounds) != 2:
                raise self._wrong(f"window {bounds!r} has no two bounds", "write window: [start, end]")
            pane["window"] = (self._time(bounds[0]), self._time(bounds[1]))
        return pane

    def _time(self, value: Any) -> int:
        if value == "+inf":
            return MAX_TIME
        if value == "-inf":
            return MIN_TIME
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            micros = value * self._unit
            if MIN_TIME <= micros <= MAX_TIME:  # but not a value that is no number
                return round(micros)
        if isinstance(value, str):
            return to_micros(value)
        raise self._wrong(f"{value!r} is no time", 'write a number in time_unit, quoted ISO 8601, or "+inf"')

    def _assigner(self, data: Any) -> Assigner:
        if data == "global":
            return global_window()
        kinds = ("tumbling", "sliding", "cumulative", "calendar", "session", "count")
        fields = self._mapping(data, "window", (*kinds, "every", "step", "tz", "offset"))
        kind = [name for name in kinds if name in fields]
        offset = str(fields.get("offset", "0s"))
        match kind:
            case ["tumbling"]:
                return tumbling(str(fields["tumbling"]), offset=offset)
            case ["sliding"]:
                return sliding(str(fields["sliding"]), every=str(self._need(fields, "every")), offset=offset)
            case ["cumulative"]:
                return cumulative(
                    str(fields["cumulative"]), step=str(self._need(fields, "step")), offset=offset
                )
            case ["calendar"]:
                return calendar(fields["calendar"], tz=str(fields.get("tz", "UTC")), offset=offset)
            case ["session"]:
                return session(gap=str(fields["session"]))
            case ["count"]:
                return count_window(fields["count"], every=fields.get("every"))
            case _:
                raise self._wrong(f"window is {data!r}", f"{', '.join(kinds)} or global")

    def _trigger(self, data: Any) -> Trigger | None:
        """A trigger; a mapping of its name to its argument, or its name alone."""
        if data == "default":
            return None
        if isinstance(data, str):
            data = {data: None}
        names = ("after_watermark", "after_count", "after_processing_time", *_SEVERAL, "repeatedly", "never")
        fields = self._mapping(data, "trigger", (*names, "or_finally"))
        until = fields.pop("or_finally", None)
        if len(fields) != 1:
            raise self._wrong(f"trigger is {data!r}", f"one of {', '.join(names)}")
        ((name, given),) = fields.items()
        trigger = self._one_trigger(name, given)
        if until is None:
            return trigger
        return trigger.or_finally(self._some_trigger(until))

    def _one_trigger(self, name: str, given: Any) -> Trigger:
        match name:
            case "after_watermark":
                parts = self._mapping(given or {}, name, ("early", "late"))
                return triggers.after_watermark(
                    **{part: self._some_trigger(each) for part, each in parts.items()}
                )
            case "after_count":
                return triggers.after_count(given)
            case "after_processing_time":
                return triggers.after_processing_time(str(given))
            case "repeatedly":
                return triggers.repeatedly(self._some_trigger(given))
            case "never":
                return triggers.never()
            case _:
                listed = self._list(given, "a list of triggers", "write [{after_count: 3}, …]")
                return _SEVERAL[name](*map(self._some_trigger, listed))

    def _some_trigger(self, data: Any) -> Trigger:
        return self._trigger(data) or triggers.DEFAULT

    def _accumulation(self, how: Any) -> Accumulation:
        if how not in ("accumulating", "discarding", "retracting"):
            raise self._wrong(f"accumulation is {how!r}", "accumulating, discarding or retracting")
        chosen: Accumulation = how
        return chosen

    def _strategy(self, data: Any) -> BoundedDisorder | None:
        if data == "script":
            return None
        fields = self._mapping(data, "watermark", ("bound", "idle_after", "max_ahead", "advance_when_idle"))
        return bounded_disorder(**fields)

    def _aggregate(self, how: Any) -> Aggregate:
        if how not in _AGGREGATES:
            raise self._wrong(*unknown_name("aggregate", str(how), _AGGREGATES))
        make: Callable[..., Aggregate] = getattr(aggregates, how)
        return make("value")

    def _list(self, data: Any, what: str, hint: str) -> list[Any]:
        if not isinstance(data, list):
            raise self._wrong(f"{data!r} is not {what}", hint)
        return cast("list[object]", data)

    def _mapping(self, data: Any, what: str, known: Sequence[str] | None) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise self._wrong(f"{what} is {data!r}", "write key: value pairs")
        pairs = cast("dict[str, Any]", data)
        for name in pairs:
            if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise self._wrong(f"a key of a {what} is {name!r}", "keys are text: write it in quotes")
            if known is not None and name not in known:
                raise self._wrong(*unknown_name(f"key of a {what}", str(name), known))
        return pairs

    def _need(self, data: Mapping[str, Any], name: str) -> Any:
        if name not in data:
            raise self._wrong(f"{name!r} is missing", f"write {name}: …")
        return data[name]

    def _wrong(self, message: str, hint: str) -> JobDefinitionError:
        return JobDefinitionError(message, hint=hint)
