"""The views of `streamflow status` and `top`, for made-up statuses of a job."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from streamflow.cli.terminal.overview import facts, overview, rows
from streamflow.observe.status import CheckpointStatus, JobStatus, OperatorStatus, PublicationStatus
from streamflow.time.timestamps import to_micros

NOW = to_micros("2026-11-21T10:00:00Z")


def operator(name: str, kind: str = "window", **changes: Any) -> OperatorStatus:
    made = OperatorStatus(name, kind, 1, 0, 0, 0, 0, 0, None, 0.0, 0.0)
    return replace(made, **changes)


def status(*operators: OperatorStatus, **changes: Any) -> JobStatus:
    made = JobStatus("flights", "streaming", "running", 90.0, 0, 0, None, 0, operators, time=NOW)
    return replace(made, **changes)


def shown(now: JobStatus, before: JobStatus | None = None, width: int = 160) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(overview(now, before))
    return stream.getvalue()


def test_a_job_that_has_just_begun_shows_little() -> None:
    assert facts(status()) == [("watermark", "–"), ("passed over", "0 late · 0 dropped · 0 bad")]
    columns, lines = rows(status(operator("count")))
    assert columns == ["operator", "in", "out", "busy", "blocked", "behind"]
    assert lines == [["count", "0/s", "0/s", "0%", "0%", "–"]]


def test_rates_are_those_between_two_looks() -> None:
    before = status(operator("count", records_in=1_000, records_out=10), elapsed=90.0)
    now = status(operator("count", records_in=6_000, records_out=30, parallelism=4), elapsed=92.0)
    assert rows(now, before)[1][0][:3] == ["count ×4", "2.50 k/s", "10.0/s"]
    restarted = status(operator("count", records_in=5), elapsed=93.0)
    assert rows(restarted, now)[1][0][1] == "0/s"
    assert rows(now, now)[1][0][1] == "–"


def test_the_watermark_says_how_far_it_is_behind_and_which_split_holds_it() -> None:
    reads = [
        operator("read-1", "read", watermark=NOW - 5_000_000, held_back_by="flights-0", lag_records=7),
        operator("read-2", "read", watermark=NOW - 75_000_000, held_back_by="flights-3", lag_records=1_000),
    ]
    now = status(*reads, watermark=NOW - 75_000_000)
    told = dict(facts(now))
    assert told["watermark"] == "2026-11-21 09:58:45, 1 min 15 s behind, held back by flights-3"
    assert told["log"] == "1,007 records behind"
    columns, lines = rows(now)
    assert columns[-2:] == ["held by", "log lag"]
    assert lines[1][-3:] == ["1 min 15 s", "flights-3", "1,000"]


def test_checkpoints_and_publications_have_a_line_each() -> None:
    told = dict(facts(status(checkpoint=CheckpointStatus(None, 0, 0, 0, 0, 2))))
    assert told["checkpoint"] == "none yet · 0 taken, 2 failed"
    checkpoint = CheckpointStatus(41, 3.0, 0.12, 3 << 20, 40, 1)
    publication = PublicationStatus(1_234, 2 << 20, 39, 2, 0.045, 2.5)
    told = dict(facts(status(checkpoint=checkpoint, publication=publication)))
    assert told["checkpoint"] == "41, 3.0 s ago · took 120 ms · 3.00 MiB · 40 taken, 1 failed"
    assert told["publication"] == (
        "2.5 s ago · took 45 ms · 39 epochs, 2 tried again · 1,234 records, 2.00 MiB waiting"
    )
    never = replace(publication, age=None, published=0)
    assert dict(facts(status(publication=never)))["publication"].startswith("not yet · 0 epochs")


def test_what_was_passed_over_is_shown_by_operator() -> None:
    now = status(operator("parse", errors=3), operator("count", late=5, late_dropped=2))
    assert dict(facts(now))["passed over"] == "5 late · 2 dropped · 3 bad"
    columns, lines = rows(now)
    assert columns[-3:] == ["late", "dropped", "bad"]
    assert [line[-3:] for line in lines] == [["", "", "3"], ["5", "2", ""]]


def test_the_picture_has_all_of_it() -> None:
    picture = shown(status(operator("count"), restarts=2, notes=("restarted after: no broker",)))
    first = picture.splitlines()[0]
    assert first == "flights  running for 1 min 30 s · streaming · 2 restarts"
    assert "note: restarted after: no broker" in picture
    assert "count" in shown(status(operator("count")), width=60)


def test_what_a_stranger_says_moves_no_cursor() -> None:
    evil = "\x1b[2Jx\n"
    now = status(operator(evil, "read", held_back_by=evil), job=evil, state=evil, mode=evil, notes=(evil,))
    picture = shown(now)
    assert "\x1b" not in picture
    assert "\\x1b[2Jx\\n" in picture
