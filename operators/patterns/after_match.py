"""The rule after a match: which partial matches, and which matches that are complete, it takes away.

With a rule that skips, matches come in the order of their first events: one that is complete is held while a partial
match that began earlier is under way, since the earlier one may take it away (Flink's NFA does the same).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast

from streamflow.errors import JobDefinitionError, unknown_name
from streamflow.operators.patterns.automaton import Automaton, Partial, Path

__all__ = ["NO_SKIP", "AfterMatch", "released"]

Rule = Literal["no_skip", "skip_to_next", "skip_past_last", "skip_to_first", "skip_to_last"]

_WHOLE: Final = ("no_skip", "skip_past_last", "skip_to_next")
_OF_STEP: Final = ("skip_to_first", "skip_to_last")


@dataclass(frozen=True, slots=True)
class AfterMatch:
    """A rule, and the step that it is about.

    >>> str(AfterMatch.parsed("skip_to_last:b", ["a", "b"]))
    'skip_to_last:b'
    """

    rule: Rule = "no_skip"
    step: str = ""

    @staticmethod
    def parsed(text: object, steps: list[str]) -> AfterMatch:
        """The rule as users write it; `steps` are those with events. Raises JobDefinitionError for anything else."""
        rule, _, step = str(text).partition(":")
        if text in _WHOLE:
            return AfterMatch(cast("Rule", rule))
        if not isinstance(text, str) or rule not in _OF_STEP:
            raise JobDefinitionError(
                f"after_match is {text!r}",
                hint=f"choose {', '.join(_WHOLE)}, skip_to_first:STEP or skip_to_last:STEP",
            )
        if step not in steps:
            message, hint = unknown_name("step", step, steps)
            raise JobDefinitionError(f"after_match is {text!r}: {message}", hint=hint)
        return AfterMatch(cast("Rule", rule), step)

    @property
    def skips(self) -> bool:
        """Whether a match may take others away."""
        return self.rule != "no_skip"

    def first_kept(self, match: Path, automaton: Automaton) -> int:
        """The number of the first event with which a match may begin after this one; 0 for any."""
        if self.rule == "skip_past_last":
            return match[-1][1] + 1
        if self.rule == "skip_to_next":
            return match[0][1] + 1
        taken = [event for step, event in match if automaton.steps[step].name == self.step]
        if not taken:
            return 0
        return taken[0] if self.rule == "skip_to_first" else taken[-1]

    def __str__(self) -> str:
        return f"{self.rule}:{self.step}" if self.step else self.rule


NO_SKIP: Final = AfterMatch()


def _first(match: Path) -> int:
    return match[0][1]


def _order(match: Path) -> tuple[int, int, Path]:
    """The order of matches of one moment: by first event, the longest first, then by their events."""
    return match[0][1], -len(match), match


def released(
    rule: AfterMatch, automaton: Automaton, partials: list[Partial], held: list[Path], new: list[Path]
) -> tuple[list[Path], list[Partial], list[Path]]:
    """The matches that go out now, in order; the partial matches that stay; the matches that are held. `held` are those
    that were, `new` those that have become complete at one moment.

    >>> two = [((0, 1), (1, 3)), ((0, 2), (1, 3))]
    >>> from streamflow.operators.patterns.compiling import compiled
    >>> from streamflow.operators.patterns.pattern import pattern
    >>> released(AfterMatch("skip_past_last"), compiled(pattern("a").then("b")), [], [], two)
    ([((0, 1), (1, 3))], [], [])
    """
    if len(new) > 1:
        new = sorted(new, key=_order)
    if not rule.skips:
        return new, partials, held
    # Those that begin with one event stay in the order in which they became complete.
    held = sorted([*held, *new], key=_first) if held else new
    out: list[Path] = []
    # Partial matches stand in the order in which they began.
    while held and not (partials and partials[0].path[0][1] < _first(held[0])):
        match = held[0]
        out.append(match)
        kept = rule.first_kept(match, automaton)
        partials = [partial for partial in partials if partial.path[0][1] >= kept]
        held = [other for other in held[1:] if _first(other) >= kept]
    return out, partials, held
