"""Log lines: one per event whatever is in it, secrets taken out, the job named, records never shown."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.config import Secret
from streamflow.errors import RecordError, SourceError, Where
from streamflow.observe.logs import (
    CURRENT_JOB,
    LineFormatter,
    configured,
    log_to_stderr,
    printable,
    reason,
    told,
)

FORMATS = ("text", "json")


def record(message: str, *arguments: object, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("streamflow.job", logging.INFO, "", 1, message, arguments, None)
    made.__dict__.update(told(**fields))
    return made


@given(st.text(), st.text())
def test_an_event_is_one_line_whatever_it_tells(message: str, value: str) -> None:
    event = record("%s", message, split=value)
    text = LineFormatter("text").format(event)
    assert len(text.splitlines()) == 1
    assert text.isprintable() or all(char.isspace() or char.isprintable() or ord(char) > 127 for char in text)
    assert "\x1b" not in text
    line = LineFormatter("json").format(event)
    assert len(line.splitlines()) == 1
    assert line.isascii()
    assert isinstance(json.loads(line), dict)


def test_a_forged_line_stays_part_of_the_one_it_is_in() -> None:
    event = record("split opened", split="a\n2026-01-01T00:00:00Z ERROR job: all is lost\x1b[2J\u202e")
    (line,) = LineFormatter("text").format(event).splitlines()
    assert "a\\\\n2026" in line
    assert json.loads(LineFormatter("json").format(event))["split"].startswith("a\n2026")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "text",
    [
        "cannot reach https://alice:hunter2xyz@store.example/x",
        "Authorization: Bearer hunter2xyz",
        "sasl: password=hunter2xyz, user=alice",
        'config {"password": "hunter2xyz"}',
        "the secret hunter2xyz stands in the text",
    ],
)
def test_secrets_are_taken_out(kind: Any, text: str) -> None:
    formatter = LineFormatter(kind, hidden=["hunter2xyz"] if "stands" in text else [])
    for event in (record(text), record("event", why=text), record("event", nested={"why": [text]})):
        line = formatter.format(event)
        assert "hunter2xyz" not in line
        assert "***" in line


@pytest.mark.parametrize("kind", FORMATS)
def test_a_field_with_the_name_of_a_secret_is_not_shown(kind: Any) -> None:
    fields = {
        "metrics_token": "plain",
        "checkpoint_key": Secret("plain"),
        "sasl_password": "plain",
        "key": b"plain",
        "settings": {"control_token": "plain"},
    }
    line = LineFormatter(kind).format(record("event", **fields))
    assert "plain" not in line
    assert line.count("***") == len(fields)


def test_json_has_fields_of_their_own_that_no_event_overrides() -> None:
    event = record("published", number=7, seconds=0.5, level="fake", time="fake", none=None, many=[1, "a"])
    line = json.loads(LineFormatter("json").format(event))
    assert (line["message"], line["number"], line["seconds"], line["many"]) == ("published", 7, 0.5, [1, "a"])
    assert (line["level"], line["logger"], line["none"]) == ("info", "streamflow.job", None)
    assert line["time"].endswith("Z")


def test_values_with_blanks_are_quoted_in_text() -> None:
    line = LineFormatter("text").format(record("event", a="x y", b="", c='q"q', d=3, e=None))
    assert line.endswith('job: event a="x y" b="" c="q\\"q" d=3 e=null')


def test_what_quotes_a_record_is_not_told() -> None:
    error = RecordError("ValueError: invalid literal 'Alice'", record="Alice", where=Where(operator="parse"))
    assert reason(error) == "RecordError at operator parse"
    assert reason(SourceError("gone", where=Where(split="t-0"))) == "SourceError: split t-0: gone"
    assert len(reason(ValueError("x" * 10_000))) < 400


def test_each_task_names_its_own_job() -> None:
    async def line(job: str) -> str:
        CURRENT_JOB.set(job)
        await asyncio.sleep(0)
        return LineFormatter("text").format(record("event"))

    async def both() -> list[str]:
        return list(await asyncio.gather(line("a"), line("b")))

    first, second = asyncio.run(both())
    assert first.endswith("job a: event")
    assert second.endswith("job b: event")
    assert LineFormatter("text").format(record("event")).endswith("job: event")


def test_lines_go_to_stderr_meanwhile_and_from_a_level_on(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("streamflow.job")
    with log_to_stderr("text", "info"):
        assert configured()
        log.info("told")
        log.debug("not told")
        sys.stderr.write("in between\n")
    log.warning("not told any more")
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["told", "between"]


def test_what_terminals_and_people_would_misread_is_escaped() -> None:
    assert printable("a\r\x9b\u2028\u202e\ud800é") == "a\\r\\x9b\\u2028\\u202e\\ud800é"
