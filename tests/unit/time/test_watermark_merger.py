"""One watermark out of several inputs': the rules of SEMANTICS §3, one by one, and laws over random histories."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from streamflow.time.timestamps import MAX_TIME, MIN_TIME
from streamflow.time.watermarks import WatermarkMerger
from tests.steps import steps_of


def merger(*names: str) -> WatermarkMerger:
    return WatermarkMerger(names or ("a", "b"))


def test_it_is_the_minimum() -> None:
    m = merger()
    assert m.advance("a", 10) is None
    assert m.current == MIN_TIME
    assert m.advance("b", 7) == 7
    assert m.advance("b", 12) == 10


def test_a_smaller_one_of_an_input_is_ignored() -> None:
    m = merger("a")
    assert m.advance("a", 10) == 10
    assert m.advance("a", 4) is None
    assert m.current == 10


def test_an_idle_input_is_left_out() -> None:
    m = merger()
    m.advance("a", 10)
    assert m.idle("b") == 10
    assert m.is_idle("b")
    assert m.advance("a", 20) == 20


def test_an_idle_input_that_has_never_spoken_is_left_out_too() -> None:
    m = merger("a", "b", "c")
    m.idle("c")
    m.advance("a", 3)
    assert m.advance("b", 5) == 3


def test_one_that_returns_behind_counts_only_once_it_has_caught_up() -> None:
    m = merger()
    m.advance("a", 100)
    m.idle("b")
    m.active("b")
    # b is awake but behind: it holds nothing back,
    assert m.advance("a", 110) == 110
    assert m.advance("b", 50) is None
    assert m.advance("a", 120) == 120
    # until it has reached the output; from then on it does.
    assert m.advance("b", 120) is None
    assert m.advance("a", 200) is None
    assert m.advance("b", 130) == 130


def test_one_that_returns_at_or_past_the_output_counts_at_once() -> None:
    m = merger()
    m.advance("a", 100)
    m.advance("b", 105)
    m.idle("b")
    m.advance("a", 104)
    m.active("b")
    assert m.advance("a", 200) == 105


def test_one_that_returns_alone_is_the_output() -> None:
    m = merger("a", "b", "c")
    m.advance("a", 90)
    m.idle("a")
    m.idle("b")
    assert m.idle("c") is None
    assert m.current == MIN_TIME
    assert m.active("a") == 90
    m.idle("a")
    assert m.advance("a", 90) is None


def test_when_all_are_idle_the_watermark_stays() -> None:
    m = merger()
    m.advance("a", 10)
    m.advance("b", 5)
    assert m.idle("a") is None
    assert not m.all_idle
    assert m.idle("b") is None
    assert m.all_idle
    assert m.current == 5


def test_inputs_that_turn_idle_together_leave_the_watermark_where_it_is() -> None:
    m = merger()
    m.advance("a", 10)
    m.advance("b", 5)
    assert m.idle("b", "a") is None
    assert m.current == 5


def test_the_last_one_to_turn_idle_lets_the_rest_go_on() -> None:
    m = merger()
    m.advance("a", 10)
    m.advance("b", 5)
    m.idle("b")
    assert m.current == 10


def test_after_a_quiet_time_a_watermark_behind_changes_nothing() -> None:
    m = merger()
    m.advance("a", 10)
    m.advance("b", 20)
    m.idle("a")
    m.idle("b")
    assert m.current == 20
    assert m.advance("a", 15) is None
    assert m.current == 20
    assert m.advance("a", 25) == 25


def test_ended_inputs_hold_nothing_back() -> None:
    m = merger()
    m.advance("a", 10)
    assert m.end("b") == 10
    assert m.end("a") == MAX_TIME


def test_an_ended_input_does_not_close_the_windows_of_an_idle_one() -> None:
    m = merger()
    m.advance("a", 10)
    m.idle("a")
    assert m.end("b") is None
    assert m.current < MAX_TIME
    assert m.all_idle
    assert m.advance("a", 20) == 20


def test_an_input_that_is_gone_is_not_waited_for() -> None:
    m = merger()
    m.advance("a", 10)
    assert m.remove("b") == 10
    assert m.remove("a") is None
    assert m.current == 10


def test_a_new_input_holds_the_output_until_it_has_caught_up() -> None:
    m = merger("a")
    m.advance("a", 10)
    m.add("b")
    assert m.advance("a", 20) is None
    assert m.advance("b", 15) == 15


def test_a_new_input_takes_back_what_nobody_was_told():
    merger = WatermarkMerger(["a"])
    merger.advance("a", 10)
    merger.add("b")
    merger.hold(4)
    assert merger.current == 4
    assert merger.advance("b", 3) is None
    assert merger.advance("b", 7) == 7
    merger.hold(5)
    assert merger.current == 7


def test_the_holder_is_named() -> None:
    m = merger()
    m.advance("a", 10)
    assert m.holder == "b"
    m.idle("b")
    assert m.holder == "a"
    m.idle("a")
    assert m.holder is None


def test_processing_time_may_push_it_and_it_does_not_go_back_after() -> None:
    m = merger("a")
    m.advance("a", 10)
    m.idle("a")
    m.push(50)
    assert m.current == 50
    assert m.advance("a", 30) is None
    assert m.advance("a", 60) == 60


steps = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.sampled_from("abc"), st.integers(-50, 50)),
        st.tuples(st.just("idle"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("active"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("end"), st.sampled_from("abc"), st.just(0)),
    ),
    max_size=40,
)


@given(steps)
def test_the_output_only_moves_forward(history: list[tuple[str, str, int]]) -> None:
    m = merger("a", "b", "c")
    outputs = [m.current]
    for word, name, time in history:
        before = m.current
        answer = m.advance(name, time) if word == "advance" else getattr(m, word)(name)
        outputs.append(m.current)
        assert (answer is not None) == (m.current > before)
        assert answer is None or answer == m.current
    assert outputs == sorted(outputs)


@given(steps)
def test_no_input_that_counts_is_behind_the_output(history: list[tuple[str, str, int]]) -> None:
    """Whenever the output moves, it moves to the smallest watermark of the inputs that are awake and have caught up."""
    m = merger("a", "b", "c")
    marks = dict.fromkeys("abc", MIN_TIME)
    idle = dict.fromkeys("abc", False)
    counts = dict.fromkeys("abc", True)
    for word, name, time in history:
        before = m.current
        if word == "idle":
            idle[name] = True
        else:
            if idle[name]:
                idle[name], counts[name] = False, marks[name] >= before
            marks[name] = max(marks[name], {"advance": time, "end": MAX_TIME, "active": MIN_TIME}[word])
            counts[name] = counts[name] or marks[name] >= before
        answer = m.advance(name, time) if word == "advance" else getattr(m, word)(name)
        if answer is not None:
            assert answer == min(marks[n] for n in "abc" if not idle[n] and counts[n])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-50, 50)), max_size=40))
def test_without_idleness_it_is_exactly_the_minimum(words: list[tuple[str, int]]) -> None:
    m = merger("a", "b", "c")
    marks = dict.fromkeys("abc", MIN_TIME)
    for name, time in words:
        m.advance(name, time)
        marks[name] = max(marks[name], time)
        assert m.current == min(marks.values())


def test_after_a_restore_it_stands_where_it_was_until_each_has_spoken() -> None:
    m = WatermarkMerger(["a", "b"], restored=100)
    assert m.current == 100
    assert m.advance("a", 120) is None
    assert m.advance("b", 110) == 110


def test_one_that_speaks_from_behind_where_it_was_restored_is_left_out_until_it_has_caught_up() -> None:
    m = WatermarkMerger(["a", "b"], restored=100)
    m.advance("a", 120)
    assert m.advance("b", 10) == 120
    assert m.advance("a", 150) == 150
    assert m.advance("b", 150) is None
    assert m.advance("a", 200) is None


def test_an_input_that_was_left_out_before_a_restore_holds_the_others_until_it_speaks() -> None:
    m = WatermarkMerger([])
    m.add("a", 100)
    m.add("b", 10, left_out=True)
    m.hold(MIN_TIME, before=90)
    assert (m.current, m.silent) == (100, False)
    assert m.advance("a", 120) is None
    assert m.advance("b", 11) == 120


def test_where_all_had_been_left_out_they_say_nothing_before_one_speaks() -> None:
    m = WatermarkMerger([])
    m.add("b", 10, left_out=True)
    m.hold(MIN_TIME, before=90)
    assert (m.current, m.silent) == (10, True)
    assert m.advance("b", 11) == 11
    assert not m.silent


@dataclass
class _State:
    watermark: int = MIN_TIME
    idle: bool = False
    aligned: bool = True
    restored: bool = False


class Plain:
    """The rules as they are written: everything is looked at each time."""

    def __init__(self, names: str, restored: int) -> None:
        self.inputs = {name: _State(restored=restored > MIN_TIME) for name in names}
        self.current = restored

    def add(self, name: str, watermark: int, left_out: bool) -> None:
        self.inputs[name] = _State(watermark, restored=left_out)

    def hold(self, told: int, before: int) -> None:
        known = [each.watermark for each in self.counted if not each.restored]
        if known:
            self.current = max(told, before, min(known))
        elif self.counted:
            self.current = max(told, min(each.watermark for each in self.counted))

    def remove(self, name: str) -> int | None:
        self.inputs.pop(name, None)
        return self.recompute() if self.inputs else None

    def advance(self, name: str, watermark: int) -> int | None:
        state = self.inputs[name]
        returned = self.wake(state)
        if state.restored:
            state.restored, returned = False, True
            state.aligned = max(state.watermark, watermark) >= self.current
        if watermark <= state.watermark:
            return self.recompute() if returned else None
        state.watermark = watermark
        state.aligned = state.aligned or watermark >= self.current
        return self.recompute()

    def active(self, name: str) -> int | None:
        return self.recompute() if self.wake(self.inputs[name]) else None

    def idle(self, name: str) -> int | None:
        self.inputs[name].idle = True
        return self.recompute()

    def wake(self, state: _State) -> bool:
        returned, state.idle = state.idle, False
        if returned:
            state.aligned = state.watermark >= self.current
        return returned

    def recompute(self) -> int | None:
        smallest = min((each.watermark for each in self.counted), default=self.current)
        open_inputs = any(each.watermark < MAX_TIME for each in self.inputs.values())
        if smallest <= self.current or (smallest == MAX_TIME and open_inputs):
            return None
        self.current = smallest
        return smallest

    @property
    def counted(self) -> list[_State]:
        return [each for each in self.inputs.values() if not each.idle and each.aligned]

    def told(self) -> object:
        open_inputs = [each for each in self.inputs.values() if each.watermark < MAX_TIME]
        awake = [(each.watermark, name) for name, each in self.inputs.items() if not each.idle]
        return (
            self.current,
            bool(open_inputs) and all(each.idle for each in open_inputs),
            bool(self.counted) and all(each.restored for each in self.counted),
            min(awake)[1] if awake else None,
            {
                one: min(
                    (
                        each.watermark
                        for name, each in self.inputs.items()
                        if name != one and not each.idle and each.aligned
                    ),
                    default=MAX_TIME,
                )
                for one in self.inputs
            },
        )


words = st.lists(
    st.tuples(
        st.sampled_from(["advance", "advance", "advance", "idle", "active", "end", "add", "remove", "hold"]),
        st.sampled_from("abcd"),
        st.integers(-20, 20),
        st.booleans(),
    ),
    max_size=40,
)


@given(words, st.sampled_from([MIN_TIME, 0, 10]))
def test_it_does_what_the_rules_say_read_plainly(
    history: list[tuple[str, str, int, bool]], restored: int
) -> None:
    m, plain = WatermarkMerger("abc", restored=restored), Plain("abc", restored)
    for word, name, time, flag in history:
        if word == "add":
            m.add(name, time, left_out=flag)
            plain.add(name, time, flag)
        elif word == "hold":
            m.hold(time, before=time - 5)
            plain.hold(time, time - 5)
        elif word == "remove":
            assert m.remove(name) == plain.remove(name)
        elif name in plain.inputs:
            if word in ("advance", "end"):
                mark = time if word == "advance" else MAX_TIME
                assert m.advance(name, mark) == plain.advance(name, mark)
            else:
                assert getattr(m, word)(name) == getattr(plain, word)(name)
        beside = {one: m.beside(one) for one in plain.inputs}
        assert (m.current, m.all_idle, m.silent, m.holder, beside) == plain.told()


def test_the_cost_of_a_watermark_does_not_follow_the_number_of_inputs() -> None:
    assert advancing(2_000) < 2 * advancing(200)


def advancing(count: int) -> float:
    """Steps for each watermark, where the inputs advance in turn."""
    m = WatermarkMerger(range(count))

    def advance() -> None:
        for time in range(3):
            for name in range(count):
                m.advance(name, time)
                m.hold(m.current)

    return steps_of(advance) / (3 * count)
