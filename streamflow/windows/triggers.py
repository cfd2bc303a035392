"""Triggers: when a window's results so far go out, as immutable data. Durations are microseconds.

A trigger is asked after each batch, at each moment of processing time that it waits for, and when the watermark passes
the window's end. It then fires or not, and may finish: a window whose trigger has finished is closed. Triggers compose
as in the Dataflow model (Akidau et al., VLDB 2015; Apache Beam). `operators.windows.trigger_machine` runs them.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamflow.errors import JobDefinitionError, represented
from streamflow.time.timestamps import Duration, format_duration, parse_duration

__all__ = [
    "DEFAULT",
    "AfterAll",
    "AfterAny",
    "AfterCount",
    "AfterEach",
    "AfterProcessingTime",
    "AfterWatermark",
    "Never",
    "OrFinally",
    "Repeatedly",
    "Trigger",
    "after_all",
    "after_any",
    "after_count",
    "after_each",
    "after_processing_time",
    "after_watermark",
    "as_default",
    "never",
    "repeatedly",
]


class Trigger:
    """The base class of triggers; `sf.after_watermark`, `sf.after_count`, … make them."""

    __slots__ = ()

    def or_finally(self, until: Trigger) -> OrFinally:
        """This trigger until the other one fires, which is the last time.

        >>> str(repeatedly(after_count(100)).or_finally(after_watermark()))
        'repeatedly(after_count(100)).or_finally(after_watermark())'
        """
        (checked,) = _checked("or_finally", (until,))
        return OrFinally(self, checked)

    @property
    def fires_once(self) -> bool:
        """Whether it finishes when it fires."""
        return True

    @property
    def waits(self) -> bool:
        """Whether records may be waiting for it to fire; False if it fires for every batch."""
        return True


@dataclass(frozen=True, slots=True)
class AfterWatermark(Trigger):
    """Fires when the watermark passes the window's end; `early` fires before that again and again, `late` after it."""

    early: Trigger | None = None
    late: Trigger | None = None

    @property
    def fires_once(self) -> bool:
        return self.early is None and self.late is None

    def __str__(self) -> str:
        parts = [("early", self.early), ("late", self.late)]
        return f"after_watermark({', '.join(f'{name}={part}' for name, part in parts if part is not None)})"


@dataclass(frozen=True, slots=True)
class AfterCount(Trigger):
    """Fires when `n` records have come since it last fired."""

    n: int

    @property
    def waits(self) -> bool:
        return self.n > 1

    def __str__(self) -> str:
        return f"after_count({self.n})"


@dataclass(frozen=True, slots=True)
class AfterProcessingTime(Trigger):
    """Fires `delay` after the first record that has come since it last fired, by the clock."""

    delay: int

    def __str__(self) -> str:
        return f"after_processing_time({format_duration(self.delay)})"


@dataclass(frozen=True, slots=True)
class AfterEach(Trigger):
    """Its triggers one after the other, each until it finishes."""

    triggers: tuple[Trigger, ...]

    @property
    def fires_once(self) -> bool:
        return len(self.triggers) == 1 and self.triggers[0].fires_once

    def __str__(self) -> str:
        return _call("after_each", self.triggers)


@dataclass(frozen=True, slots=True)
class AfterAny(Trigger):
    """Fires once, as soon as one of its triggers would."""

    triggers: tuple[Trigger, ...]

    @property
    def waits(self) -> bool:
        return all(trigger.waits for trigger in self.triggers)

    def __str__(self) -> str:
        return _call("after_any", self.triggers)


@dataclass(frozen=True, slots=True)
class AfterAll(Trigger):
    """Fires once, when all of its triggers would."""

    triggers: tuple[Trigger, ...]

    @property
    def waits(self) -> bool:
        return any(trigger.waits for trigger in self.triggers)

    def __str__(self) -> str:
        return _call("after_all", self.triggers)


@dataclass(frozen=True, slots=True)
class Repeatedly(Trigger):
    """Its trigger, from the beginning again whenever it finishes."""

    trigger: Trigger

    @property
    def fires_once(self) -> bool:
        return False

    @property
    def waits(self) -> bool:
        return self.trigger.waits

    def __str__(self) -> str:
        return _call("repeatedly", (self.trigger,))


@dataclass(frozen=True, slots=True)
class OrFinally(Trigger):
    """`trigger`, until `until` fires: then for the last time."""

    trigger: Trigger
    until: Trigger

    @property
    def fires_once(self) -> bool:
        return self.trigger.fires_once

    @property
    def waits(self) -> bool:
        return self.trigger.waits

    def __str__(self) -> str:
        return f"{self.trigger}.or_finally({self.until})"


@dataclass(frozen=True, slots=True)
class Never(Trigger):
    """Never fires: what a window holds goes out when it is over."""

    def __str__(self) -> str:
        return "never()"


DEFAULT = Repeatedly(AfterWatermark())
"""Once when the watermark passes the window's end, then for each batch with late records that are still allowed."""


def after_watermark(*, early: Trigger | None = None, late: Trigger | None = None) -> AfterWatermark:
    """Fires when the watermark passes the window's end, and before and after that whenever `early` and `late` do.

    The pane at the window's end comes even if nothing is new since the last early one. Without `late` the trigger has
    finished then: later records are dropped and counted.

    >>> str(after_watermark(early=after_processing_time("10s"), late=after_count(1)))
    'after_watermark(early=after_processing_time(10s), late=after_count(1))'
    """
    given = tuple(trigger for trigger in (early, late) if trigger is not None)
    _checked("after_watermark", given)
    return AfterWatermark(early, late)


def after_count(n: int) -> AfterCount:
    """Fires when at least `n` records of a key and window have come since it last fired; asked after each batch.

    >>> after_count(100)
    AfterCount(n=100)
    """
    if type(n) is not int or n < 1:
        raise JobDefinitionError(f"after_count({represented(n)})", hint="it is a whole number from 1 on")
    return AfterCount(n)


def after_processing_time(delay: Duration) -> AfterProcessingTime:
    """Fires `delay` after the first record that has come since it last fired, by the machine's clock.

    >>> after_processing_time("30s")
    AfterProcessingTime(delay=30000000)
    """
    return AfterProcessingTime(
        parse_duration(delay, what="the delay of after_processing_time", positive=True)
    )


def after_each(*triggers: Trigger) -> AfterEach:
    """The triggers one after the other, each until it finishes; then it has finished.

    >>> str(after_each(after_count(10), after_count(1_000)))
    'after_each(after_count(10), after_count(1000))'
    """
    return AfterEach(_checked("after_each", triggers))


def after_any(*triggers: Trigger) -> AfterAny:
    """Fires once, as soon as one of the triggers would.

    >>> str(repeatedly(after_any(after_count(100), after_processing_time("10s"))))
    'repeatedly(after_any(after_count(100), after_processing_time(10s)))'
    """
    return AfterAny(_once("after_any", triggers))


def after_all(*triggers: Trigger) -> AfterAll:
    """Fires once, when all of the triggers would.

    >>> str(after_all(after_count(100), after_watermark()))
    'after_all(after_count(100), after_watermark())'
    """
    return AfterAll(_once("after_all", triggers))


def repeatedly(trigger: Trigger) -> Repeatedly:
    """A trigger, from the beginning again whenever it finishes.

    >>> str(repeatedly(after_count(100)))
    'repeatedly(after_count(100))'
    """
    (checked,) = _checked("repeatedly", (trigger,))
    return checked if isinstance(checked, Repeatedly) else Repeatedly(checked)


def never() -> Never:
    """Never fires: a window's records go out once, when it is over.

    >>> str(never())
    'never()'
    """
    return Never()


def as_default(trigger: Trigger | None, allowed_lateness: int) -> Trigger | None:
    """None for a trigger that does what windows do without one; itself otherwise.

    >>> as_default(after_watermark(), 0), as_default(after_watermark(), 5)
    (None, AfterWatermark(early=None, late=None))
    """
    alike = [DEFAULT, AfterWatermark(None, AfterCount(1))]
    if not allowed_lateness:
        alike.append(AfterWatermark())
    return None if trigger in alike else trigger


def _checked(what: str, triggers: tuple[Trigger, ...]) -> tuple[Trigger, ...]:
    """The triggers; raises JobDefinitionError if there is none, or one that is no trigger."""
    if not triggers and what != "after_watermark":
        raise JobDefinitionError(f"{what} without a trigger", hint="give some, like sf.after_count(100)")
    for trigger in triggers:
        if not isinstance(trigger, Trigger):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise JobDefinitionError(
                f"{what} got {represented(trigger)}, which is no trigger",
                hint="give one like sf.after_count(100) or sf.after_watermark()",
            )
    return triggers


def _once(what: str, triggers: tuple[Trigger, ...]) -> tuple[Trigger, ...]:
    for trigger in _checked(what, triggers):
        if not trigger.fires_once:
            raise JobDefinitionError(
                f"{what} takes triggers that fire once, and {trigger} may fire again",
                hint=f"repeat the whole: sf.repeatedly(sf.{what}(…))",
            )
    return triggers


def _call(name: str, triggers: tuple[Trigger, ...]) -> str:
    return f"{name}({', '.join(map(str, triggers))})"
