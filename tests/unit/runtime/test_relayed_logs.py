"""Log records of workers: they reach the coordinator's log as they were, bounded and without secrets."""

from __future__ import annotations

import json
import logging
import threading
import warnings
from enum import IntEnum

import pytest

from streamflow.observe.logs import LineFormatter, told
from streamflow.runtime.control.messages import Logged, Told
from streamflow.runtime.control.wire import encoded, from_process
from streamflow.runtime.relayed_logs import LogRelay, log_of, relayed

LOG = logging.getLogger("streamflow.source")


def relay(hidden: tuple[str, ...] = ()) -> LogRelay:
    return LogRelay(lambda: None, hidden)


def brought(logged: Logged) -> Logged:
    """The message as it comes out of another process."""
    message = from_process(encoded(Told(1, logged))).message
    assert isinstance(message, Logged)
    return message


def test_a_workers_event_is_logged_by_the_coordinator_with_its_facts_and_the_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = relay()
    with relayed(worker, "info"):
        LOG.debug("not asked for")
        LOG.info(
            "split %s opened", "a%b", extra=told(source="read-1", rows=7, share=0.5, splits=("a", {"b": 1}))
        )
    [logged] = worker.take()
    assert worker.take() == []
    caplog.clear()
    with caplog.at_level("INFO", "streamflow"):
        log_of(brought(logged), worker=2)
    [record] = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == (
        "streamflow.source",
        "INFO",
        "split a%b opened",
    )
    assert record.created == logged.time
    facts = {"source": "read-1", "rows": 7, "share": 0.5, "splits": ["a", {"b": 1}], "worker": 2}
    assert vars(record)["told"] == facts
    assert (
        LineFormatter("text")
        .format(record)
        .endswith(
            'INFO source: split a%b opened source=read-1 rows=7 share=0.5 splits="[\\"a\\", {\\"b\\": 1}]" worker=2'
        )
    )


def test_what_the_coordinator_does_not_log_is_not_logged_for_a_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("WARNING", "streamflow"):
        log_of(Logged(logging.INFO, "streamflow.source", "x", {}, 0.0), worker=0)
    assert caplog.records == []


def test_secrets_do_not_leave_the_worker() -> None:
    worker = relay(("s3cret",))
    with relayed(worker, "info"):
        LOG.warning(
            "no s3cret in s3://me:pass@host", extra=told(password="x", error="token=abc", on=["s3cret"])
        )
        try:
            raise ValueError("s3cret")
        except ValueError:
            LOG.exception("it failed")
    sent = b"".join(encoded(Told(1, each)) for each in worker.take())
    assert b"it failed" in sent
    assert b"ValueError: ***" in sent
    for secret in (b"s3cret", b"pass@", b"abc"):
        assert secret not in sent


def test_an_exception_is_shown_where_it_would_be_in_one_process() -> None:
    worker = relay()
    with relayed(worker, "info"):
        try:
            raise ValueError("x")
        except ValueError:
            LOG.exception("it failed", extra=told(number=7))
    [logged] = worker.take()
    kept: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: kept.append(LineFormatter("json").format(record))  # type: ignore[method-assign]
    LOG.addHandler(handler)
    try:
        log_of(brought(logged), worker=1)
    finally:
        LOG.removeHandler(handler)
    line = json.loads(kept[0])
    assert (line["level"], line["message"], line["number"], line["worker"]) == ("error", "it failed", 7, 1)
    assert line["exception"].endswith("ValueError: x")


def test_warnings_of_python_are_told_too() -> None:
    worker = relay()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with relayed(worker, "warning"):
            warnings.warn("token=abcd is old", DeprecationWarning, stacklevel=1)
        [logged] = worker.take()
        assert (logged.logger, logged.level) == ("streamflow.warnings", logging.WARNING)
        assert "DeprecationWarning: token=*** is old" in logged.message
        with warnings.catch_warnings(record=True) as own:
            warnings.warn("after", UserWarning, stacklevel=1)
        assert [str(each.message) for each in own] == ["after"]
    LOG.warning("after")
    assert worker.take() == []


def test_a_full_queue_keeps_the_first_records_and_counts_the_others_and_wakes_once() -> None:
    woken: list[int] = []
    worker = LogRelay(lambda: woken.append(1))

    def log() -> None:
        for at in range(700):
            LOG.info("x", extra=told(at=at))

    with relayed(worker, "info"):
        threads = [threading.Thread(target=log) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(woken) == 1
        *kept, last = worker.take()
        assert (len(kept), last.message, last.facts) == (1_000, "log records left out", {"records": 400})
        LOG.info("y")
        assert (len(woken), [each.message for each in worker.take()]) == (2, ["y"])


def test_whatever_is_told_can_be_sent_and_is_small() -> None:
    class Level(IntEnum):
        HIGH = 3

    deep: list[object] = []
    for _ in range(40):
        deep = [deep, 2**70, object()]
    worker = relay()
    # Not by a logger: pytest would keep the text for its report, and cannot send it.
    record = logging.LogRecord("streamflow.source", logging.INFO, "", 1, "\ud800" + "x" * 10_000, (), None)
    facts = {f"f{n}": "y" * 9_000 for n in range(99)}
    record.__dict__.update(told(level=Level.HIGH, deep=deep, many=list(range(10_000)), **facts))
    worker.handle(record)
    [logged] = worker.take()
    assert len(encoded(Told(1, logged))) < 400_000
    assert type(brought(logged).facts["level"]) is int


def test_a_record_that_cannot_be_told_stops_nothing() -> None:
    worker = relay()
    worker.handle(logging.LogRecord("streamflow.source", logging.INFO, "", 1, "%d", ("no number",), None))
    [logged] = worker.take()
    assert (logged.message, logged.facts) == ("log record cannot be told", {"error": "TypeError"})


def test_a_logger_of_another_name_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "streamflow"):
        log_of(Logged(logging.ERROR, "root\nevil", "x", {}, 0.0), worker=0)
    assert [record.name for record in caplog.records] == ["streamflow.logs"]
