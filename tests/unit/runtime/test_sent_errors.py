"""Errors that come from another process: as useful as they were there, and never unpickled."""

from __future__ import annotations

import io

import pytest

from streamflow.cli.failure import describe, report
from streamflow.errors import (
    DamagedError,
    GoneError,
    JobDefinitionError,
    JobFailedError,
    RawRecord,
    RecordError,
    SinkError,
    SourceError,
    StateError,
    StreamflowError,
    Where,
)
from streamflow.observe.logs import reason
from streamflow.operators.connectors.kafka.clients.port import LostRecordsError
from streamflow.runtime.blame import blamed
from streamflow.runtime.control import messages as m
from streamflow.runtime.control.messages import Told
from streamflow.runtime.control.sent_errors import SentError
from streamflow.runtime.control.wire import encoded, from_process
from streamflow.state.checkpoints.blobs import UnreachableError, UnsyncedError
from streamflow.state.checkpoints.claims import FencedError


def sent(error: BaseException) -> StreamflowError:
    """The error as it comes out of another process."""
    message = from_process(encoded(Told(1, m.Raised(error)))).message
    assert isinstance(message, m.Raised)
    assert isinstance(message.error, StreamflowError)
    return message.error


@pytest.mark.parametrize(
    "kind",
    [
        *(DamagedError, FencedError, GoneError, JobDefinitionError, JobFailedError, SinkError, SourceError),
        *(StateError, StreamflowError, UnreachableError, UnsyncedError),
    ],
)
def test_an_error_keeps_its_class_its_place_and_its_hint(kind: type[StreamflowError]) -> None:
    where = Where("window", "flights.ndjson", "line 7", "job.py:12 in delay")
    back = sent(kind("it broke", where=where, hint="mend it"))
    assert (type(back), back.message, back.where, back.hint) == (kind, "it broke", where, "mend it")
    assert back.final is kind.final


def test_a_records_error_shows_the_record_as_it_was_cut_and_has_the_raw_one() -> None:
    raw = RawRecord("t", 1, 7, 5, None, b"\xff", [("h", None)])
    error = RecordError("no number", record="x" * 1_000, raw=raw)
    back = sent(error)
    assert isinstance(back, RecordError)
    assert (back.record, str(back)) == (error.record, str(error))
    assert back.raw == RawRecord("t", 1, 7, 5, None, b"\xff", [("h", None)])
    large = sent(RecordError("no", raw=RawRecord("t", 1, 7, 5, None, bytes(2 << 20))))
    assert isinstance(large, RecordError)
    assert large.raw is None


def test_a_connectors_own_error_comes_back_as_the_one_it_is_derived_from_and_is_as_final() -> None:
    back = sent(LostRecordsError("deleted"))
    assert (type(back), back.message, back.final) == (SourceError, "deleted", True)


def test_an_error_that_nobody_foresaw_comes_back_in_the_words_of_one_process() -> None:
    back = sent(KeyError("origin"))
    assert type(back) is JobFailedError
    assert str(back) == "KeyError: 'origin'; this is not expected: please report it"


def test_the_traceback_of_the_other_process_is_shown_for_debugging_only() -> None:
    def origin(row: dict[str, int]) -> int:
        return row["origin"]

    with pytest.raises(JobFailedError) as failed, blamed("map-1"):
        origin({})
    there = describe(failed.value)
    back = sent(failed.value)
    assert describe(back) == there
    stream = io.StringIO()
    report(back, debug=True, stream=stream)
    assert 'return row["origin"]' in stream.getvalue()
    assert "in another process" in stream.getvalue()
    stream = io.StringIO()
    report(back, debug=False, stream=stream)
    assert "return row" not in stream.getvalue()
    assert reason(back) == reason(failed.value)


def test_a_cause_that_the_message_does_not_have_is_told() -> None:
    error = JobFailedError("the sink failed")
    error.__cause__ = ValueError("7")
    assert "cause: ValueError: 7" in describe(sent(error))
    assert describe(sent(JobFailedError("no cause"))) == describe(JobFailedError("no cause"))


def test_texts_are_bounded_and_legible() -> None:
    back = sent(StateError("\ud800" + "x" * 100_000, hint="y" * 100_000))
    assert len(str(back)) < 40_000
    assert back.message.startswith("\\ud800")

    def deeper(n: int) -> None:
        if n:
            deeper(n - 1)
        raise ValueError("x" * 1_000_000)

    with pytest.raises(ValueError, match="x") as deep:
        deeper(50)
    assert len(encoded(Told(1, m.Raised(deep.value)))) < 150_000


def test_no_other_class_is_made() -> None:
    with pytest.raises(ValueError, match="there is no error 'SystemExit'"):
        SentError("SystemExit", "", None, False, (None,) * 4, ("", "")).error()
