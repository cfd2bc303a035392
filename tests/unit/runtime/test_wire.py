"""Messages as bytes: they come back as they were, and no other bytes do anything but raise."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.core.serde import pack
from streamflow.errors import RecordError, StateError, Where
from streamflow.observe.changes import Changes, Declared
from streamflow.operators.contract.source import Split
from streamflow.operators.contract.waiting import Waiting
from streamflow.runtime.checkpoints.snapshots import SubtaskPart
from streamflow.runtime.control import messages as m
from streamflow.runtime.control.assignment import SplitState
from streamflow.runtime.control.framing import ProtocolError
from streamflow.runtime.control.messages import FromProcess, Told, ToProcess
from streamflow.runtime.control.wire import encoded, from_process, to_process
from streamflow.runtime.figures import Figures, SourceFigures
from streamflow.state.checkpoints.manifest import StoredFile, SubtaskEntry
from streamflow.state.checkpoints.probe import Probe
from tests.stored_values import stored_values

_names = st.text("abc-0", max_size=4)
_counts = st.integers(0, 2**40)
_times = st.integers(-(2**63), 2**63 - 1)
_flags = st.booleans()
_numbers = st.floats(allow_nan=False)
_objects = st.dictionaries(_names, stored_values, max_size=2)
_sealed = st.lists(st.tuples(_names, _objects), max_size=2)
_file = st.builds(
    StoredFile,
    name=st.just("backend/000012.sst"),
    size=_counts,
    digest=st.text("0123456789abcdef", min_size=64, max_size=64),
    generation=st.integers(0, 9),
    immutable=_flags,
)
_part = st.builds(
    SubtaskPart,
    st.dictionaries(
        _names,
        st.builds(
            SubtaskEntry,
            subtask=st.integers(0, 9),
            first_group=st.just(3),
            last_group=st.integers(3, 9),
            backend=st.sampled_from([None, "memory", "rocksdb"]),
            files=st.lists(_file, max_size=1).map(tuple),
        ),
        max_size=2,
    ),
)
_series = st.tuples(_names, st.lists(st.tuples(_names, _names), max_size=1).map(tuple))
_counted = st.dictionaries(
    st.tuples(_names, _counts), st.dictionaries(_series, _numbers, max_size=2), max_size=2
)
_waiting = st.builds(Waiting, _names, _times, _counts, _flags, st.none() | _times)
_source = st.builds(SourceFigures, _counts, st.none() | _names, _times, _times, _times)
_figures = st.builds(
    Figures,
    _times,
    st.dictionaries(_names, _times, max_size=2),
    st.dictionaries(_names, st.lists(_source, max_size=2).map(tuple), max_size=2),
    st.dictionaries(_names, st.lists(st.tuples(_names, _waiting), max_size=2).map(tuple), max_size=2),
)
_labels = st.dictionaries(_names, _names, max_size=2)
_declared = st.builds(
    Declared,
    _counts,
    st.none() | st.tuples(_names, _counts),
    _names,
    _names,
    st.sampled_from(["counter", "gauge"]),
    _labels,
)
_changes = st.builds(
    Changes,
    st.lists(_declared, max_size=2).map(tuple),
    st.dictionaries(_counts, _numbers, max_size=2),
    st.lists(_counts, max_size=2).map(tuple),
)
_split = st.builds(Split, _names, _objects, _flags, _flags)
_state = st.builds(SplitState, _split, _counts, st.none() | _objects, _times, _flags)
_news = st.builds(m.SplitNews, _names, _flags, _flags, _flags, _flags)

_probe = st.none() | st.builds(Probe, _names, _names)

FROM: Mapping[type[msgspec.Struct], st.SearchStrategy[Any]] = {
    m.Hello: st.builds(m.Hello, _counts, _counts, _counts, _names, _names, _labels),
    m.Alive: st.builds(m.Alive),
    m.Ready: st.builds(m.Ready, _probe),
    m.Passed: st.builds(m.Passed, _names, _counts),
    m.Acknowledged: st.builds(
        m.Acknowledged,
        _names,
        _counts,
        _sealed,
        st.none() | _part,
        st.none(),
        st.none() | st.tuples(_names, st.dictionaries(_names, _objects, max_size=2)),
        _counted,
    ),
    m.Finished: st.builds(m.Finished, _names, _sealed, _counts),
    m.EpochWanted: st.builds(m.EpochWanted),
    m.Flushed: st.builds(m.Flushed),
    m.GaveUp: st.builds(m.GaveUp, _counts),
    m.Raised: st.builds(m.Raised, st.builds(StateError, _names)),
    m.LetGo: st.builds(m.LetGo, st.none()),
    m.Beat: st.builds(m.Beat, _figures, _changes),
    m.PeerLost: st.builds(m.PeerLost, _counts, _counts, _counts, _names),
    m.Logged: st.builds(m.Logged, _counts, _names, _names, _objects, _numbers),
    m.SplitWanted: st.builds(m.SplitWanted, _names, _counts, _counts),
    m.Started: st.builds(m.Started, _names),
    m.SplitEnded: st.builds(m.SplitEnded, _names, _names),
    m.Slowest: st.builds(m.Slowest, _names, _counts, st.none() | _times),
}
TO: Mapping[type[msgspec.Struct], st.SearchStrategy[Any]] = {
    m.Deploy: st.builds(
        m.Deploy,
        _counts,
        _counts,
        st.lists(_names, max_size=2),
        _objects,
        _names,
        _counts,
        _flags,
        st.none() | st.binary(),
        st.none() | _names,
        st.none() | _names,
        _names,
        _probe,
    ),
    m.Start: st.builds(m.Start, _flags),
    m.Flush: st.builds(m.Flush),
    m.Inject: st.builds(m.Inject, _counts, _flags, _counts, _flags),
    m.Settled: st.builds(m.Settled, _flags, _flags),
    m.Hurry: st.builds(m.Hurry),
    m.Stop: st.builds(m.Stop, _flags),
    m.Cancel: st.builds(m.Cancel),
    m.Leave: st.builds(m.Leave),
    m.Pulse: st.builds(m.Pulse),
    m.SplitNews: _news,
    m.SplitGranted: st.builds(m.SplitGranted, _names, _counts, st.none() | _state, _news),
    m.SlowestOfAll: st.builds(m.SlowestOfAll, _names, st.none() | _times),
}


def test_every_message_has_a_test() -> None:
    assert set(FROM) == set(FromProcess.__args__)  # type: ignore[attr-defined]
    assert set(TO) == set(ToProcess.__args__)  # type: ignore[attr-defined]


@settings(max_examples=100)
@given(st.builds(Told, _counts, st.one_of(*FROM.values())))
def test_a_workers_message_comes_back_as_it_was(told: Told[FromProcess]) -> None:
    back = from_process(encoded(told))
    if isinstance(told.message, m.Raised):
        assert isinstance(back.message, m.Raised)
        assert (type(back.message.error), str(back.message.error)) == (StateError, str(told.message.error))
    else:
        assert back == told
        assert repr(back) == repr(told)


@settings(max_examples=50)
@given(st.builds(Told, _counts, st.one_of(*TO.values())))
def test_a_coordinators_message_comes_back_as_it_was(told: Told[ToProcess]) -> None:
    back = to_process(encoded(told))
    assert back == told
    assert repr(back) == repr(told)


def test_a_failure_and_an_error_at_the_end_come_back() -> None:
    told = Told(1, m.Acknowledged("window-1-0", 3, (), failure=StateError("disk full", hint="make room")))
    back = from_process(encoded(told)).message
    assert isinstance(back, m.Acknowledged)
    assert str(back.failure) == "disk full; make room"
    left = from_process(encoded(Told(1, m.LetGo(RecordError("7", record="x", where=Where("op")))))).message
    assert isinstance(left, m.LetGo)
    assert str(left.unclosed) == "operator op: 7\n  record: x"


def test_an_error_of_the_operating_system_is_a_part_that_was_not_stored_and_fails_a_job() -> None:
    full = OSError(28, "No space left on device")
    part = from_process(encoded(Told(1, m.Acknowledged("a", 1, (), failure=full)))).message
    assert isinstance(part, m.Acknowledged)
    assert (type(part.failure), str(part.failure)) == (OSError, "[Errno 28] No space left on device")
    raised = from_process(encoded(Told(1, m.Raised(full)))).message
    assert isinstance(raised, m.Raised)
    assert str(raised.error) == (
        "OSError: [Errno 28] No space left on device; this is not expected: please report it"
    )


def test_values_nest_as_deep_as_in_a_checkpoint_and_no_deeper() -> None:
    deep: Any = 1
    for _ in range(59):
        deep = [deep]
    told = Told(1, m.Finished("a", [("sink", {"v": deep})], 1))
    assert from_process(encoded(told)) == told
    with pytest.raises(RecordError, match="deeper than 64"):
        encoded(Told(1, m.Finished("a", [("sink", {"v": [[deep]]})], 1)))


def test_a_value_that_could_not_be_stored_is_refused_where_it_is_sent() -> None:
    with pytest.raises(RecordError, match=r"it holds a builtins\.set"):
        encoded(Told(1, m.Finished("a", [("sink", {"v": {1}})], 1)))


@pytest.mark.parametrize(
    "values",
    [
        [],
        1,
        [1],
        [1, "Ready", 1],
        [1, "Nonsense"],
        [1, ["Ready"]],
        ["1", "Ready"],
        [1, "Passed", "a"],
        [1, "Passed", "a", "b"],
        [1, "Passed", "a", 2**70, 3],
        [1, "Inject", 1, True, 0, False],
        [1, "Raised", None],
        [1, "Raised", {"kind": "SystemExit"}],
        [1, "LetGo", {"kind": "OSError", "message": "", "hint": None, "final": False, "where": [None] * 4}],
        [1, "Beat", {"watermark": 1}, {"values": {"a": 1}}],
        [1, "Beat", {"watermark": 1}, {"values": {1: 2**5_000}}],
        [1, "Acknowledged", "a", 1, [["s", {1: 2}]], None, None, None, {}],
        [1, "Acknowledged", "a", 1, [], {"entries": {"a": {"subtask": -1}}}, None, None, {}],
    ],
)
def test_other_values_are_no_message(values: object) -> None:
    with pytest.raises(ProtocolError, match=r"bytes from another process are no message"):
        from_process(pack(values))


def test_cut_and_changed_bytes_raise_only_what_is_declared() -> None:
    state = SplitState(Split("s", {"p": (1, 2)}), position={"row": 7})
    news = m.SplitNews("r", discovered=True, holds_watermark=True, exhausted=False, all_started=True)
    error = RecordError("7", record="x", where=Where("op"))
    figures = Figures(
        5, {"t": 5}, {"t": (SourceFigures(0, "s", 1, 2, 3),)}, {"t": (("o", Waiting("w", 1, 2)),)}
    )
    sent = [
        encoded(Told(1, m.SplitGranted("r", 0, state, news))),
        encoded(Told(1, m.Raised(error))),
        encoded(Told(1, m.Beat(figures, Changes((Declared(1, ("o", 1), "n", "h", "gauge", {}),), {1: 2.0})))),
        encoded(Told(1, m.Acknowledged("a", 1, [("s", {"b": b"x"})], None, error, ("r", {"s": {"row": 1}})))),
    ]
    rng, refused = random.Random(14), 0
    for turn in range(4_000):
        data = bytearray(sent[turn % len(sent)])
        if turn % 3:
            for _ in range(rng.randint(1, 3)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        else:
            del data[rng.randrange(len(data)) :]
        try:
            (from_process, to_process)[turn % 2](bytes(data))
        except ProtocolError:
            refused += 1
    assert refused > 1_000
    for nonsense in (b"", b"\xc1", bytes(9), b"\xdd\xff\xff\xff\xff", b"\x91" * 9_000):
        with pytest.raises(ProtocolError):
            to_process(nonsense)
