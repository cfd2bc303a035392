"""Matches of patterns, as tables: the examples of Flink's documentation, and facts that its tests state.

An event is a letter and perhaps a number ("b2"), and a condition is a letter or several. Events come a second apart.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamflow.operators.patterns.after_match import AfterMatch
from streamflow.operators.patterns.automaton import Holds, Partial, Path
from streamflow.operators.patterns.compiling import compiled
from streamflow.operators.patterns.key_matching import KeyMatching, KeyState
from streamflow.operators.patterns.pattern import Pattern, pattern

SECOND = 1_000_000


def of(letters: str) -> Callable[[str], bool]:
    """The condition of events that begin with one of these letters."""
    return lambda event: event[0] in letters


def found(
    sought: Pattern, events: str, after_match: str = "no_skip", *, until: int | None = None
) -> tuple[list[str], list[str]]:
    """The matches and the timed-out partial matches, each as its events; `until` is the watermark in the end."""
    automaton = compiled(sought)
    names = events.split()
    rule = AfterMatch.parsed(after_match, [step.name for step in automaton.steps])
    matching = KeyMatching(automaton, rule)

    def holds(number: int) -> Holds:
        def is_true(condition: int, path: Path) -> bool:
            function = automaton.conditions[condition].condition
            assert function is None or callable(function)
            return function is None or bool(function(names[number]))

        return is_true

    # A state that is packed and unpacked behind each event is the same.
    state = KeyState([], [])
    for number in range(len(names)):
        time = (number + 1) * SECOND
        state = matching.through(state, [(number, time)], holds, time)
        state = KeyState.unpacked(state.packed()[0])
    end = len(names) * SECOND if until is None else until * SECOND
    state = matching.through(state, [], holds, end)
    matching.end(state, end)
    shown = [
        [" ".join(names[event] for _, event in path) for _, path in moments]
        for moments in (matching.matches, matching.timed_out)
    ]
    return shown[0], shown[1]


A = pattern("a", of("a"))
C = pattern("c", of("c"))
D = pattern("d", of("d"))
PAIR = A.then("b", of("b"))
BC = pattern("b", of("b")).then("c", of("c"))

TABLE: dict[str, tuple[Pattern, str, str]] = {
    # Flink, "Combining patterns".
    "next: what comes between ends it": (A.next("b", of("b")), "a c b1 b2", ""),
    "then: the first that fits": (A.then("b", of("b")), "a c b1 b2", "a b1"),
    "then_any: each that fits": (A.then_any("b", of("b")), "a c b1 b2", "a b1, a b2"),
    # "Contiguity within looping patterns".
    "consecutive": (
        A.then_any("b", of("b")).one_or_more().consecutive().next("c", of("c")),
        "a b1 d1 b2 d2 b3 c",
        "a b3 c",
    ),
    "relaxed": (
        A.then_any("b", of("b")).one_or_more().then("c", of("c")),
        "a b1 d1 b2 d2 b3 c",
        "a b1 c, a b1 b2 c, a b1 b2 b3 c, a b2 c, a b2 b3 c, a b3 c",
    ),
    "combinations": (
        A.then_any("b", of("b")).one_or_more().combinations().then("c", of("c")),
        "a b1 d1 b2 d2 b3 c",
        "a b1 c, a b1 b2 c, a b1 b3 c, a b1 b2 b3 c, a b2 c, a b2 b3 c, a b3 c",
    ),
    "consecutive behind then": (
        C.then("a", of("a")).one_or_more().consecutive().then("b", of("b")),
        "c d a1 a2 a3 d a4 b",
        "c a1 b, c a1 a2 b, c a1 a2 a3 b",
    ),
    "not consecutive": (
        C.then("a", of("a")).one_or_more().then("b", of("b")),
        "c d a1 a2 a3 d a4 b",
        "c a1 b, c a1 a2 b, c a1 a2 a3 b, c a1 a2 a3 a4 b",
    ),
    "combinations behind then": (
        C.then("a", of("a")).one_or_more().combinations().then("b", of("b")),
        "c d a1 a2 a3 d a4 b",
        "c a1 b, c a1 a2 b, c a1 a3 b, c a1 a4 b, c a1 a2 a3 b, c a1 a2 a4 b, c a1 a3 a4 b, c a1 a2 a3 a4 b",
    ),
    # "Stop condition".
    "until": (
        A.one_or_more().until(of("b")),
        "a1 c a2 b a3",
        "a1 a2, a1, a2, a3",
    ),
    "until before the first event of an optional repetition": (
        C.then("a", of("a"))
        .one_or_more()
        .optional()
        .greedy()
        .until(lambda event: event == "a9")
        .then("d", of("d")),
        "c a9 a1 a2 a3 d",
        "c d",
    ),
    "until behind a greedy repetition": (
        C.then("a", of("a"))
        .one_or_more()
        .optional()
        .greedy()
        .until(lambda event: event == "a9")
        .then("d", of("d")),
        "c a1 a2 a3 a9 d",
        "c a1 a2 a3 d",
    ),
    # TimesRangeITCase, AfterMatchSkipITCase.
    "times": (A.times(3), "a1 a2 a3 a4 a5 a6", "a1 a2 a3, a2 a3 a4, a3 a4 a5, a4 a5 a6"),
    "times from to": (
        C.then("a", of("a")).times(1, 3).then("b", of("b")),
        "c a1 a2 a3 b",
        "c a1 b, c a1 a2 b, c a1 a2 a3 b",
    ),
    "times from to at the end": (
        C.then("a", of("a")).times(1, 3),
        "c a1 a2 a3 a4",
        "c a1, c a1 a2, c a1 a2 a3",
    ),
    "at least": (
        C.then("a", of("a")).at_least(2).then("b", of("b")),
        "c a1 a2 a3 b",
        "c a1 a2 b, c a1 a2 a3 b",
    ),
    "optional": (A.then("b", of("b")).optional().then("c", of("c")), "a b c", "a b c, a c"),
    "optional left out": (A.then("b", of("b")).optional().then("c", of("c")), "a d c", "a c"),
    "optional at the end": (A.then("b", of("b")).optional(), "a b", "a, a b"),
    "optional at the start": (
        pattern("a", of("a")).optional().next("b", of("b")),
        "a b",
        "a b, b",
    ),
    "optional and repeated": (
        C.then("a", of("a")).times(2).optional().then("b", of("b")),
        "c a1 a2 b",
        "c b, c a1 a2 b",
    ),
    # GreedyITCase.
    "greedy": (
        C.then("a", of("a")).one_or_more().greedy().then("d", of("d")),
        "c a1 a2 a3 d",
        "c a1 a2 a3 d",
    ),
    "greedy through others": (
        C.then("a", of("a")).one_or_more().optional().greedy().then("d", of("d")),
        "c x a1 x a2 x a3 d",
        "c a1 a2 a3 d",
    ),
    "greedy without an event": (
        C.then("a", of("a")).one_or_more().optional().greedy().then("d", of("d")),
        "c x d",
        "c d",
    ),
    "greedy before an optional step": (
        C.then("a", of("a"))
        .one_or_more()
        .optional()
        .greedy()
        .then("d", of("d"))
        .optional()
        .then("e", of("e")),
        "c a1 a2 d e",
        "c a1 a2 e, c a1 a2 d e",
    ),
    "greedy before an optional step that is left out": (
        C.then("a", of("a"))
        .one_or_more()
        .optional()
        .greedy()
        .then("d", of("d"))
        .optional()
        .then("e", of("e")),
        "c a1 a2 x e",
        "c a1 a2 e",
    ),
    # NotPatternITCase.
    "not_next": (
        A.not_next("no", of("b")).then_any("c", of("c")).then("d", of("d")),
        "a c1 b1 c2 d",
        "a c1 d, a c2 d",
    ),
    "not_next is there": (
        A.not_next("no", of("b")).then("c", of("c")).then("d", of("d")),
        "a b1 c1 c2 d",
        "",
    ),
    "not_next is there at the end": (
        A.then_any("c", of("c")).then_any("d", of("d")).not_next("no", of("b")),
        "a c1 c2 d b1",
        "",
    ),
    "not_next is not there at the end": (
        A.then("d", of("d")).not_next("no", of("b")),
        "a d x b1",
        "a d",
    ),
    "not_next at the end, and nothing comes": (A.then("d", of("d")).not_next("no", of("b")), "a d", ""),
    "not_then": (
        A.not_then("no", of("b")).then_any("c", of("c")).then("d", of("d")),
        "a c1 b1 c2 d",
        "a c1 d",
    ),
    "not_then before an optional step": (
        A.not_then("no", of("b")).then_any("c", of("c")).optional().then("d", of("d")),
        "a c1 b1 c2 d",
        "a c1 d",
    ),
    "not_then behind a repetition": (
        A.then_any("b", of("b")).times(2).not_then("no", of("c")).then("d", of("d")),
        "a b1 c b2 d",
        "",
    ),
    "not_then before an optional repetition": (
        A.not_then("no", of("b")).then_any("c", of("c")).times(2).optional().then("d", of("d")),
        "a d1 e b1 c1 c2 d2",
        "a d1",
    ),
    "not_then before an optional step at the end": (
        A.not_then("no", of("b")).then_any("c", of("c")).optional(),
        "a c1 b1 c2",
        "a, a c1",
    ),
    "not_then in the middle of an optional repetition": (
        A.not_then("no", of("b")).then_any("c", of("c")).times(2).optional().then("d", of("d")),
        "a c1 b1 c2 d",
        "a c1 c2 d",
    ),
    "not_then for one of two beginnings": (
        A.not_then("no", of("b")).then("c", of("c")).then("d", of("d")),
        "a1 b1 c1 a2 c2 d",
        "a2 c2 d",
    ),
    "not_next behind a repetition": (
        A.then("b", of("b")).one_or_more().not_next("no", of("c")).then("d", of("d")),
        "a b1 c b2 d",
        "",
    ),
    "not_next behind a repetition of any": (
        A.then_any("b", of("b")).one_or_more().not_next("no", of("c")).then("d", of("d")),
        "a b1 c b2 d",
        "a b2 d",
    ),
    "not_then behind one or more": (
        A.then("b", of("b")).one_or_more().not_then("no", of("c")).then("d", of("d")),
        "a b1 b2 b3 c b4 b5 b6 d",
        "",
    ),
    "not_then behind one or more of any": (
        A.then_any("b", of("b")).one_or_more().not_then("no", of("c")).then("d", of("d")),
        "a b1 b2 b3 c b4 b5 b6 d",
        "a b4 b5 b6 d, a b4 b5 d, a b4 d, a b5 b6 d, a b5 d, a b6 d",
    ),
    "not_then behind combinations of any": (
        A.then_any("b", of("b")).one_or_more().combinations().not_then("no", of("c")).then("d", of("d")),
        "a b1 b2 b3 c b4 b5 b6 d",
        "a b4 b5 b6 d, a b4 b5 d, a b4 b6 d, a b4 d, a b5 b6 d, a b5 d, a b6 d",
    ),
    "not_then before one or more": (
        A.not_then("no", of("c")).then("b", of("b")).one_or_more().then("d", of("d")),
        "a b1 c b4 b5 b6 d",
        "a b1 b4 b5 b6 d, a b1 b4 b5 d, a b1 b4 d, a b1 d",
    ),
    # GroupITCase.
    "a group, times": (C.then(PAIR).times(2).then("d", of("d")), "c a1 b1 a2 b2 d", "c a1 b1 a2 b2 d"),
    "an optional group": (C.then(PAIR).optional().then("d", of("d")), "c a1 a2 b d", "c d, c a1 b d"),
    "an optional group, times": (C.then(PAIR).times(2).optional().then("d", of("d")), "c a d", "c d"),
    "a group, one or more": (
        C.then(PAIR).one_or_more().then("d", of("d")),
        "c a1 b1 a2 b2 d",
        "c a1 b1 d, c a1 b1 a2 b2 d",
    ),
    "a group, none or more": (
        C.then(PAIR).one_or_more().optional().then("d", of("d")),
        "c a1 b1 a2 b2 d",
        "c d, c a1 b1 d, c a1 b1 a2 b2 d",
    ),
    "any group, combinations": (
        C.then_any(PAIR).times(2).combinations().then("d", of("d")),
        "c a1 b1 a2 b2 a3 b3 d",
        "c a1 b1 a2 b2 d, c a1 b1 a3 b3 d, c a2 b2 a3 b3 d",
    ),
    "any group, times": (
        C.then_any(PAIR).times(2).optional().then("d", of("d")),
        "c a1 b1 a2 b2 a3 b3 d",
        "c d, c a1 b1 a2 b2 d, c a2 b2 a3 b3 d",
    ),
    "any group, one or more": (
        C.then_any(PAIR).one_or_more().then("d", of("d")),
        "c a1 b1 a2 b2 a3 b3 d",
        "c a1 b1 d, c a2 b2 d, c a3 b3 d, c a1 b1 a2 b2 d, c a2 b2 a3 b3 d, c a1 b1 a2 b2 a3 b3 d",
    ),
    "the next group, consecutive": (
        C.next(PAIR).one_or_more().optional().consecutive().then("d", of("d")),
        "c a1 b1 a2 b2 a3 b3 d",
        "c d, c a1 b1 d, c a1 b1 a2 b2 d, c a1 b1 a2 b2 a3 b3 d",
    ),
    "not_then behind a group": (
        C.then_any(PAIR).not_then("no", of("d")).then("e", of("e")),
        "c a1 b1 d a2 b2 e",
        "c a2 b2 e",
    ),
    "not_next behind a group": (
        C.then_any(PAIR).not_next("no", of("d")).then("e", of("e")),
        "c a1 b1 d a2 b2 e",
        "c a2 b2 e",
    ),
    "a group in a group": (
        D.then(A.then(BC).one_or_more().optional()).optional().then("e", of("e")),
        "d a1 b1 c1 b2 c2 e",
        "d e, d a1 e, d a1 b1 c1 e, d a1 b1 c1 b2 c2 e",
    ),
    "a group in a group, times": (
        D.then_any(A.then(BC).times(3)).times(1, 2).optional().then("e", of("e")),
        "d a1 b1 c1 b2 c2 b3 c3 a2 b4 c4 b5 c5 b6 c6 e",
        (
            "d e, d a1 b1 c1 b2 c2 b3 c3 e, d a2 b4 c4 b5 c5 b6 c6 e,"
            " d a1 b1 c1 b2 c2 b3 c3 a2 b4 c4 b5 c5 b6 c6 e"
        ),
    ),
    "a group in a group, consecutive": (
        D.then_any(A.then(BC).times(3).consecutive()).times(1, 2).consecutive().optional().then("e", of("e")),
        "d a1 b1 c1 b2 c2 b3 c3 a2 b4 c4 x b5 c5 b6 c6 e",
        "d e, d a1 b1 c1 b2 c2 b3 c3 e",
    ),
    "a group at the start": (
        pattern(PAIR).times(1, 2).then("d", of("d")),
        "a1 b1 a2 b2 d",
        "a1 b1 d, a2 b2 d, a1 b1 a2 b2 d",
    ),
    "until behind a group": (
        C.then(PAIR).one_or_more().until(of("d")).then("d", of("d")),
        "c a1 b1 a2 b2 d",
        "c a1 b1 d, c a1 b1 a2 b2 d",
    ),
    "a group that starts with an optional step": (
        A.next(pattern("b", of("b")).optional().next("c", of("c"))).next("d", of("d")),
        "a c d",
        "a c d",
    ),
    "an optional group left out": (
        A.then(pattern("b", of("b")).next("c", of("c"))).optional().next("d", of("d")),
        "a d1 d2",
        "a d1",
    ),
    # Groups: decided here.
    "until in a repetition of a group, and before the first": (
        C.then(PAIR).one_or_more().until(of("x")).then("d", of("d")),
        "c1 a1 b1 a2 x b2 d c2 x a3 b3 d",
        "c1 a1 b1 d",
    ),
    "until of a group around a group": (
        pattern(A.then(BC).one_or_more()).one_or_more().until(of("x")),
        "a1 b1 c1 b2 x c2 a2 b3 c3",
        "a1 b1 c1, a2 b3 c3",
    ),
    "a group at the start of a group begins as that one does": (
        D.next(pattern(PAIR).times(2).then("c", of("c"))).times(1, 2),
        "d x a1 b1 a2 b2 c1 d a1 b1 a2 b2 c2 a3 b3 a4 b4 c3",
        "d a1 b1 a2 b2 c2, d a1 b1 a2 b2 c2 a3 b3 a4 b4 c3",
    ),
    "an absence in a group": (
        pattern(A.not_then("no", of("x")).then("b", of("b"))).times(2),
        "a1 b1 x a2 b2 a3 x b3",
        "a1 b1 a2 b2",
    ),
    "not_then behind a repeated group counts from its first repetition on, between repetitions": (
        pattern(PAIR).times(2).not_then("no", of("x")).then("d", of("d")),
        "a1 x b1 a2 x b2 d1 a3 b3 x a4 b4 d2",
        "a1 b1 a2 b2 d1",
    ),
    "greedy at the end of a group": (
        pattern(A.then("b", of("b")).one_or_more().greedy()).times(1, 2).then("d", of("bd")),
        "a1 b1 b2 a2 b3 d",
        "a1 b1 b2 b3 d, a1 b1 b2 a2 b3 d, a2 b3 d",
    ),
    "a match that may be divided in several ways is one": (
        pattern(A.one_or_more()).times(2),
        "a1 a2 a3",
        "a1 a2, a1 a2 a3, a2 a3",
    ),
    "a repetition of a repetition": (
        pattern(A.times(2)).one_or_more().then("d", of("d")),
        "a1 a2 a3 a4 d",
        "a1 a2 a3 a4 d, a1 a2 d, a2 a3 d, a3 a4 d",
    ),
    # An event may be taken by two steps.
    "an event that fits two steps": (
        pattern("one", of("x")).then("two", of("x")).optional().then("three", of("x")),
        "x1 x2",
        "x1 x2",
    ),
    "a step without a condition": (A.next("any"), "a1 b a2 c", "a1 b, a2 c"),
}


@pytest.mark.parametrize("case", TABLE)
def test_what_a_pattern_finds(case: str) -> None:
    sought, events, wanted = TABLE[case]
    assert sorted(found(sought, events)[0]) == sorted(filter(None, wanted.split(", ")))


AB = A.then_any("b", of("b"))
GREEDY = A.one_or_more().consecutive().greedy().next("b", of("b"))
TWICE = pattern("start", of("x")).times(2).next("end", of("x")).times(2)
SOME = A.next("b", of("b")).one_or_more().consecutive()

SKIPS: dict[str, tuple[Pattern, str, dict[str, str]]] = {
    "b+ c of the documentation": (
        GREEDY,
        "a1 a2 a3 b",
        {
            "no_skip": "a1 a2 a3 b, a2 a3 b, a3 b",
            "skip_to_next": "a1 a2 a3 b, a2 a3 b, a3 b",
            "skip_past_last": "a1 a2 a3 b",
            "skip_to_first:a": "a1 a2 a3 b, a2 a3 b, a3 b",
            "skip_to_last:a": "a1 a2 a3 b, a3 b",
        },
    ),
    "(a | b | c) (b | c) c+ d of the documentation": (
        pattern("x", of("abc"))
        .next("y", of("bc"))
        .next("c", of("c"))
        .one_or_more()
        .consecutive()
        .greedy()
        .next("d", of("d")),
        "a b c1 c2 c3 d",
        {
            "no_skip": "a b c1 c2 c3 d, b c1 c2 c3 d, c1 c2 c3 d",
            "skip_to_first:c": "a b c1 c2 c3 d, c1 c2 c3 d",
        },
    ),
    "a b+ of the documentation": (
        A.next("b", of("b")).one_or_more(),
        "a b1 b2 b3",
        {"no_skip": "a b1, a b1 b2, a b1 b2 b3", "skip_to_next": "a b1"},
    ),
    "any": (
        AB,
        "a1 b1 a2 b2",
        {"no_skip": "a1 b1, a1 b2, a2 b2", "skip_to_next": "a1 b1, a2 b2"},
    ),
    "times": (A.times(3), "a1 a2 a3 a4 a5 a6", {"skip_past_last": "a1 a2 a3, a4 a5 a6"}),
    "to the first": (TWICE, "x1 x2 x3 x4 x5 x6", {"skip_to_first:end": "x1 x2 x3 x4, x3 x4 x5 x6"}),
    "to the last": (TWICE, "x1 x2 x3 x4 x5 x6 x7", {"skip_to_last:end": "x1 x2 x3 x4, x4 x5 x6 x7"}),
    "of many that are complete at once the one whose events are the earliest": (
        A.then_any("b", of("b")).then_any("c", of("c")).then("d", of("d")),
        "a1 a2 b1 b2 c1 c2 d1 d2",
        {"skip_past_last": "a1 b1 c1 d1"},
    ),
    "behind one that failed": (A.next("b", of("b")), "a1 c a2 b2", {"skip_past_last": "a2 b2"}),
    "within a repetition": (
        SOME,
        "a1 b1 a2 b2 b3 a3 b4",
        {"skip_to_first:b": "a1 b1, a2 b2, a3 b4", "skip_to_last:b": "a1 b1, a2 b2, a3 b4"},
    ),
    "to a step that took nothing": (
        A.next("b", of("b")).one_or_more().optional().consecutive().next("c", of("c")),
        "a c",
        {"skip_to_first:b": "a c", "skip_to_last:b": "a c"},
    ),
    "of several lengths the longest": (
        A.one_or_more().next("b", of("b")),
        "a1 a2 b",
        {"skip_past_last": "a1 a2 b"},
    ),
}


@pytest.mark.parametrize(
    ("case", "rule"), [(case, rule) for case, (_, _, rules) in SKIPS.items() for rule in rules]
)
def test_what_a_match_takes_away(case: str, rule: str) -> None:
    sought, events, rules = SKIPS[case]
    got, wanted = found(sought, events, rule)[0], rules[rule].split(", ")
    if rule != "no_skip":
        assert got == wanted
    assert sorted(got) == sorted(wanted)


def test_a_match_waits_for_one_that_began_before() -> None:
    """AfterMatchSkipITCase.testSkipBeforeOtherAlreadyCompleted."""
    sought = A.then("c", of("c")).then("b", of("b"))
    automaton = compiled(sought)
    names = ["a1", "c1", "a2", "c2", "b2", "b1"]
    matching = KeyMatching(automaton, AfterMatch("skip_to_first", "c"))

    def holds(number: int) -> Holds:
        def is_true(condition: int, path: Path) -> bool:
            function = automaton.conditions[condition].condition
            assert callable(function)
            # b1 belongs to a1, and b2 to a2.
            fits = names[number][0] != "b" or names[path[0][1]][1] == names[number][1] if path else True
            return bool(function(names[number])) and fits

        return is_true

    state = matching.through(KeyState([], []), [(n, n) for n in range(5)], holds, 4)
    assert matching.matches == []
    matching.through(state, [(5, 5)], holds, 5)
    assert [(time, [names[event] for _, event in path]) for time, path in matching.matches] == [
        (5, ["a1", "c1", "b1"]),
        (5, ["a2", "c2", "b2"]),
    ]


def test_a_state_from_before_there_were_groups() -> None:
    """A partial match was packed without its stage, which was its last step."""
    packed = [[[SECOND, 0, 0, [0, 0], [1], 1, False, False, False]], [], 1]
    state = KeyState.unpacked(packed)
    assert state == KeyState([Partial(SECOND, ((0, 0),), (1,), 1, stage=0)], [], 1)
    assert KeyState.unpacked(state.packed()[0]) == state


WITHIN: dict[str, tuple[Pattern, str, int, str, str]] = {
    # events at 1 s, 2 s, …; the watermark in the end; matches; timed out
    "in time": (A.then("b", of("b")).within("3s"), "a x b", 9, "a b", ""),
    "too late: the time is not reached": (A.then("b", of("b")).within("2s"), "a x b", 9, "", "a"),
    "not over yet": (A.then("b", of("b")).within("3s"), "a", 3, "", ""),
    "over": (A.then("b", of("b")).within("3s"), "a", 4, "", "a"),
    "what was a match is not timed out": (A.then("b", of("b")).one_or_more().within("3s"), "a b", 9, "a b", ""),
    "another event that fits": (A.then_any("b", of("b")).within("3s"), "a b", 9, "a b", "a"),
    "absence": (A.not_then("no", of("b")).within("3s"), "a x", 9, "a", ""),
    "no absence": (A.not_then("no", of("b")).within("3s"), "a x b", 9, "", ""),
    "absence in time": (A.not_then("no", of("b")).within("2s"), "a x b", 9, "a", ""),
    "absence is not certain yet": (A.not_then("no", of("b")).within("3s"), "a x", 3, "", ""),
    "absence behind a repetition": (
        A.then("c", of("c")).one_or_more().not_then("no", of("b")).within("5s"), "a c1 c2", 9, "a c1, a c1 c2", ""
    ),
    "absence of the next": (A.not_next("no", of("b")).within("3s"), "a", 9, "a", ""),
    "no absence of the next": (A.not_next("no", of("b")).within("3s"), "a b", 9, "", ""),
    "a group that is not over": (pattern(PAIR).times(2).within("5s"), "a1 b1 a2", 9, "", "a1 b1 a2, a2"),
    "absence behind a group": (
        pattern(PAIR).times(1, 2).not_then("no", of("x")).within("6s"), "a1 b1 a2 b2 x", 19, "", ""
    ),
    "absence behind a group that is repeated": (
        pattern(PAIR).times(1, 2).not_then("no", of("x")).within("6s"), "a1 b1 a2 b2", 19,
        "a1 b1, a1 b1 a2 b2, a2 b2", ""
    ),
    "what was a match, divided otherwise, is not timed out": (
        pattern(A.times(1, 2).consecutive()).times(2).within("5s"), "a1 a2 x", 9, "a1 a2", "a2"
    ),
    "absence behind a greedy repetition": (
        A.one_or_more().greedy().not_then("no", of("b")).within("5s"), "a1 a2", 9, "a1 a2, a2", ""
    ),
    # Times between two events.
    "since the event before": (A.then("b", of("b"), within="2s"), "a1 b1 x b2 a2 x b3", 9, "a1 b1", "a2"),
    "the next one, in time": (A.next("b", of("b"), within="1s"), "a b", 9, "", "a"),
    "each has its own": (
        A.then("b", of("b"), within="2s").then("c", of("c"), within="3s"), "a1 b1 x c a2 x x", 9, "a1 b1 c", "a2"
    ),
    "a step without one waits": (
        A.then("b", of("b")).then("c", of("c"), within="2s"), "a x x x b x x", 99, "", "a b"
    ),
    "an optional step that is too late": (
        A.then("b", of("b"), within="2s").optional().then("c", of("c"), within="4s"),
        "a1 x b1 c x x a2 x x x", 99, "a1 c", "a2"
    ),
    "gaps of a repetition": (
        A.one_or_more(gap="2s").then("d", of("d")), "a1 a2 x a3 d", 9, "a1 a2 d, a1 d, a2 d, a3 d", "a3"
    ),
    "a repetition that is not enough": (A.times(2, gap="2s"), "a1 x a2 a3", 99, "a2 a3", "a1, a3"),
    "a greedy repetition that is over": (
        A.one_or_more(gap="2s").greedy().then("d", of("ad")), "a1 a2 x a3", 9, "a1 a2 a3, a2 a3", ""
    ),
    "a group begins in time, and its repetition": (
        C.then(PAIR, within="2s").times(1, 2, gap="3s").then("d", of("d")),
        "c1 a1 x x b1 x a2 b2 d1 c2 x a3 b3 d2", 99, "c1 a1 b1 d1, c1 a1 b1 a2 b2 d1", "c2"
    ),
    "each repetition of a group, in time": (
        pattern(PAIR).one_or_more(gap="2s"), "a1 b1 a2 b2 x x a3 b3", 99, "a1 b1, a1 b1 a2 b2, a2 b2, a3 b3", ""
    ),
    "a step and its group have a time": (
        C.then(pattern("a", of("a")).optional().then("b", of("b"), within="4s"), within="2s"), "c1 x b1", 99, "", "c1"
    ),
    "absence is over, and then another event is taken": (
        A.one_or_more().not_then("no", of("b"), within="2s").within("5s"), "a1 x x a2 x x x", 99, "a1, a1 a2, a2", ""
    ),
    "a group that begins with an optional step, left out": (
        C.then(pattern("a", of("a")).optional().then("b", of("b")), within="2s"), "c1 b1 c2 x b2", 99, "c1 b1", "c1, c2"
    ),
    "absence since the event before": (
        A.then("c", of("c")).not_then("no", of("b"), within="2s"), "a1 x c1 x b c2", 99, "a1 c1", ""
    ),
    "absence of the next, until a time is over": (A.not_next("no", of("b"), within="2s"), "a1 a2 b", 9, "a1", ""),
    "the whole pattern's time is over first": (
        A.then("b", of("b"), within="3s").within("3s").then("c", of("c"), within="3s"), "a x b x x", 9, "", "a b"
    ),
    "divided in two ways, and over once": (
        pattern(A.one_or_more(gap="2s")).times(2, gap="4s").then("d", of("d")), "a1 a2 x x x d", 99,
        "a1 a2 d", "a2"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WITHIN)
def test_what_is_found_within_a_time(case: str) -> None:
    sought, events, until, matches, timed_out = WITHIN[case]
    got = found(sought, events, until=until)
    assert sorted(got[0]) == sorted(filter(None, matches.split(", ")))
    assert sorted(got[1]) == sorted(filter(None, timed_out.split(", ")))
