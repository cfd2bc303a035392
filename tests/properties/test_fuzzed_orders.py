"""Orders of people and programs to a job, drawn at random: settings, durations, control requests, SQL over state.

Each is taken for what it means or refused with an error of ours that says what is wrong; nothing else is raised, and a
control request that is refused orders nothing.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamflow.cli.parameters import assignments
from streamflow.cli.state_output import answer, shown
from streamflow.config import Settings
from streamflow.errors import ConfigError, StreamflowError
from streamflow.observe.guard import RequestGuard
from streamflow.observe.http import guarded
from streamflow.observe.status import JobResult, JobStatus
from streamflow.savepoints.reading import SavedState
from streamflow.time.timestamps import MAX_TIME, MIN_TIME, parse_duration
from streamflow.web.control_server import control_routes

DURATIONS = [
    "5s",
    "1h30m",
    "0s",
    "-1s",
    "1e9d",
    "s",
    "5",
    "1.5h",
    "9" * 400 + "s",
    "\uff11s",
    "1 s",
    "5ms",
    "∞",
    "nan",
]
texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [*DURATIONS, "", "true", "auto", "2/4", "1e3", "0x10", "1_000", "64MiB", "NaN", "file:", "file:/"]
    ),
)
anything = st.one_of(
    texts,
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.none(),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
    st.timedeltas(),
)


@given(
    st.dictionaries(st.one_of(st.sampled_from(Settings.names()), st.text(max_size=8)), anything, max_size=3)
)
def test_settings_are_taken_or_refused(given: dict[str, Any]) -> None:
    try:
        settings = Settings.resolve(given, environ={})
    except ConfigError:
        return
    for name, value in given.items():
        if isinstance(value, float) and name in ("parallelism", "batch_rows"):
            assert getattr(settings, name) == value


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(Settings.names()), st.text(max_size=8)).map(
            lambda name: f"STREAMFLOW_{name.upper()}"
        ),
        texts,
        max_size=3,
    )
)
def test_variables_are_taken_or_refused(environ: dict[str, str]) -> None:
    try:
        settings = Settings.resolve({}, environ=environ)
    except ConfigError:
        return
    assert settings.parallelism <= settings.max_parallelism


@given(st.lists(st.text(max_size=12), max_size=3))
def test_assignments_are_taken_or_refused(words: list[str]) -> None:
    try:
        taken = assignments(tuple(words))
    except ConfigError:
        return
    assert all("=" in word for word in words)
    assert set(taken.values()) <= {word.partition("=")[2].strip() for word in words}


@given(anything)
@example("\uff19s")
def test_durations_are_taken_or_refused(value: Any) -> None:
    try:
        micros = parse_duration(value)
    except StreamflowError:
        return
    assert type(micros) is int
    assert MIN_TIME <= micros <= MAX_TIME


@dataclass
class _Job:
    orders: list[object] = field(default_factory=list)

    def status(self) -> JobStatus:
        return JobStatus("delays", "streaming", "running", 1.5, 1_000, 7, MIN_TIME, 3, ())

    async def checkpoint(self) -> int:
        self.orders.append("checkpoint")
        return 12

    async def savepoint(self, url: str, **more: object) -> str:
        self.orders.append(url)
        return f"{url}#12"

    async def rescale(self, parallelism: int) -> None:
        self.orders.append(parallelism)

    async def stop(self, *, drain: bool = False, **more: object) -> JobResult:
        self.orders.append(drain)
        return JobResult("delays", "streaming", 2.5, {"read-1": 1_000}, {}, stopped=True)


bodies = st.one_of(
    st.binary(max_size=30),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=2),
            st.dictionaries(st.sampled_from(["drain", "target", "savepoint", "x"]), inner, max_size=2),
        ),
        max_leaves=4,
    ).map(lambda value: json.dumps(value).encode()),
)
headers = st.lists(
    st.tuples(
        st.sampled_from([b"host", b"origin", b"sec-fetch-site", b"authorization", b"content-length", b"x"]),
        st.one_of(st.sampled_from([b"127.0.0.1:7070", b"null", b"none", b"0", b"-1"]), st.binary(max_size=8)),
    ),
    max_size=3,
)
HOME = [(b"host", b"localhost:7070"), (b"content-type", b"application/json")]


@given(
    st.sampled_from(["GET", "POST", "HEAD", "PUT", "", "STOP"]),
    st.one_of(st.sampled_from(["/status", "/checkpoint", "/savepoint", "/stop"]), st.text(max_size=6)),
    st.one_of(st.just(HOME), headers.map(lambda more: [*HOME[1:], *more])),
    bodies,
)
def test_requests_are_answered_or_refused(
    method: str, path: str, given_headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    job = _Job()
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(errors="replace"),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": given_headers,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    asyncio.run(
        guarded(control_routes(cast("Any", job)), RequestGuard("127.0.0.1", None))(scope, receive, send)
    )
    status = sent[0]["status"]
    assert status in (200, 400, 403, 404, 405, 413, 415)
    assert len(job.orders) == (1 if status == 200 and path != "/status" else 0)
    content = b"".join(message.get("body", b"") for message in sent[1:])
    if content and method != "HEAD":
        json.loads(content)


class _Operator:
    id = "visits"
    states = ("total", "places")


class _Saved:
    """The two things that a query asks of a checkpoint, without one."""

    operators: ClassVar = {"visits": _Operator}

    def operator(self, id: str) -> type[_Operator]:
        return _Operator

    def frame(self, operator: str, state: str) -> pl.DataFrame:
        return pl.DataFrame({"origin": ["EWR", "JFK", None], "value": [1.5, float("nan"), None]})


WORDS = (
    "select from where group by order limit join using on as union all with having case when then end distinct count "
    "( ) * , . ; total places visits origin value x 1 0 -1 'a' \"total\" = < + / null over partition drop table create "
    "read_csv scan_parquet ('/etc/hostname') -- /* */ $1 ? \x00 é"
)
words = st.sampled_from(WORDS.split(" "))


@given(st.one_of(st.lists(words, max_size=12).map(" ".join), st.text(max_size=20)))
@example("select * from read_csv('/etc/hostname')")
@example("select * from total" + " where (" * 60)
@pytest.mark.filterwarnings("ignore")
def test_queries_are_answered_or_refused(query: str) -> None:
    try:
        frame = answer(cast("SavedState", _Saved()), query, None)
    except ConfigError:
        return
    assert "read_" not in query
    assert isinstance(frame, pl.DataFrame)
    shown({"": frame}, as_json=True)
