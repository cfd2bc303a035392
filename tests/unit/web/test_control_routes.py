"""Access to the control routes, and their answers: requests against the application itself."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from streamflow.errors import ConfigError, StateError, Where
from streamflow.observe.guard import RequestGuard, is_loopback
from streamflow.observe.http import guarded
from streamflow.observe.status import JobResult, JobStatus
from streamflow.time.timestamps import MIN_TIME
from streamflow.web.control_server import MAX_BODY, control_routes

PORT = 7070
HOME = f"127.0.0.1:{PORT}"
TOKEN = "0123456789abcdef0123456789abcdef"
STATUS = JobStatus("delays", "streaming", "running", 1.5, 1_000, 7, MIN_TIME, 3, ())
RESULT = JobResult("delays", "streaming", 2.5, {"read-1": 1_000}, {}, stopped=True)


@dataclass
class FakeJob:
    """Notes its orders; `failure` is raised by each."""

    orders: list[tuple[str, object]] = field(default_factory=list)
    failure: Exception | None = None

    def status(self) -> JobStatus:
        return STATUS

    def _note(self, order: str, value: object) -> None:
        self.orders.append((order, value))
        if self.failure is not None:
            raise self.failure

    async def checkpoint(self) -> int:
        self._note("checkpoint", None)
        return 12

    async def savepoint(self, url: str) -> str:
        self._note("savepoint", url)
        return f"{url}#12"

    async def rescale(self, parallelism: int) -> None:
        self._note("rescale", parallelism)

    async def stop(self, *, drain: bool = False) -> JobResult:
        self._note("stop", drain)
        return RESULT


def ask(
    job: FakeJob,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    token: str | None = None,
    address: str = "127.0.0.1",
    **headers: str | None,
) -> tuple[int, Any, dict[str, str]]:
    """One request; `headers` override those of a well-meaning client, None leaves one out."""
    given: dict[str, str | None] = {"host": HOME}
    if method == "POST":
        given["content-type"] = "application/json"
    given.update({name.replace("_", "-"): value for name, value in headers.items()})
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [
            (name.encode(), value.encode("latin-1")) for name, value in given.items() if value is not None
        ],
    }
    sent: list[dict[str, Any]] = []
    chunks = [body[at : at + 1_000] for at in range(0, len(body), 1_000)] or [b""]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    asyncio.run(guarded(control_routes(job), RequestGuard(address, token))(scope, receive, send))
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(content) if content else None, answered


def test_status_is_the_jobs_figures() -> None:
    status, content, headers = ask(FakeJob(), "GET", "/status")
    assert (status, content["job"], content["records_read"], content["epoch"]) == (200, "delays", 1_000, 3)
    assert headers["connection"] == "close"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "body", "order", "answer"),
    [
        ("/checkpoint", b"", ("checkpoint", None), {"number": 12}),
        ("/checkpoint", b"{}", ("checkpoint", None), {"number": 12}),
        ("/savepoint", b'{"target": "/saves"}', ("savepoint", "/saves"), {"savepoint": "/saves#12"}),
        ("/rescale", b'{"parallelism": 4}', ("rescale", 4), {"parallelism": 4}),
        (
            "/savepoint",
            b'{"target": "s3://b/s"}',
            ("savepoint", "s3://b/s"),
            {"savepoint": "s3://b/s#12"},
        ),
        ("/stop", b"", ("stop", False), {"result": RESULT.as_dict()}),
        ("/stop", b'{"drain": true}', ("stop", True), {"result": RESULT.as_dict()}),
    ],
)
def test_orders_reach_the_job(path: str, body: bytes, order: tuple[str, object], answer: object) -> None:
    job = FakeJob()
    status, content, _ = ask(job, "POST", path, body)
    assert (status, job.orders) == (200, [order])
    assert content == json.loads(json.dumps(answer))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": f"evil.example:{PORT}"}, 403),
        ({"host": "127.0.0.1:8080"}, 200),  # a forwarded port
        ({"host": "127.0.0.1"}, 200),
        ({"host": "127.0.0.1:80:80"}, 403),
        ({"host": f"127.0.0.1.evil.example:{PORT}"}, 403),
        ({"host": None}, 403),
        ({"host": f"localhost:{PORT}"}, 200),
        ({"host": f"LOCALHOST:{PORT}"}, 200),
        ({"host": f"[::1]:{PORT}"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": f"https://{HOME}"}, 200),  # a proxy that speaks https
        ({"origin": "http://127.0.0.1:8080"}, 403),
        ({"origin": f"http://{HOME}"}, 200),
        ({"host": "localhost:9999", "origin": "http://localhost:9999", "sec_fetch_site": "same-origin"}, 200),
        ({"origin": "https://jobs.example", "sec_fetch_site": "same-origin"}, 200),  # a proxy that names us
        ({"host": "jobs.example", "origin": "https://jobs.example", "sec_fetch_site": "same-origin"}, 403),
        ({"origin": f"http://{HOME}", "sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "none"}, 200),
        ({"content_type": None}, 415),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": "text/plain; application/json"}, 415),
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"authorization": "Bearer whatever"}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/checkpoint", "/stop"])
def test_without_a_token_only_this_machine_is_let_in(
    path: str, headers: dict[str, str | None], status: int
) -> None:
    job = FakeJob()
    answered, content, _ = ask(job, "POST", path, **headers)
    assert answered == status
    assert bool(job.orders) == (status == 200)
    assert ("error" in content) == (status != 200)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"authorization": f"Bearer {TOKEN}0"}, 401),
        ({"authorization": f"Bearer {TOKEN.upper()}"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": "Bearer \xff\xff"}, 401),
        ({"authorization": TOKEN}, 401),
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer {TOKEN}"}, 200),
        ({"authorization": f"Bearer {TOKEN}", "host": "jobs.example"}, 200),
        ({"authorization": f"Bearer {TOKEN}", "origin": "http://jobs.example"}, 403),
        ({"authorization": f"Bearer {TOKEN}", "host": "jobs.example", "origin": "http://jobs.example"}, 200),
        ({"authorization": f"Bearer {TOKEN}", "host": "jobs.example", "origin": "http://evil.example"}, 403),
    ],
)
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/status"), ("POST", "/stop"), ("GET", "/nowhere")])
def test_with_a_token_nobody_else_is_let_in(
    method: str, path: str, address: str, headers: dict[str, str], status: int
) -> None:
    job = FakeJob()
    answered, _, told = ask(job, method, path, token=TOKEN, address=address, **headers)
    assert answered == (404 if path == "/nowhere" and status == 200 else status)
    assert bool(job.orders) == (method == "POST" and status == 200)
    assert (told.get("www-authenticate") == "Bearer") == (status == 401)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ({"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}, 200),
        ({"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}, 403),
        ({"sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"}, 403),
        ({"sec_fetch_mode": "cors", "sec_fetch_dest": "empty"}, 403),
        ({}, 403),
    ],
)
def test_a_link_on_a_page_of_another_site_may_be_followed(kind: dict[str, str], status: int) -> None:
    assert ask(FakeJob(), "GET", "/status", sec_fetch_site="cross-site", **kind)[0] == status
    assert (
        ask(FakeJob(), "GET", "/status", host="evil.example", sec_fetch_site="cross-site", **kind)[0] == 403
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/etc/passwd", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/status/", 404),
        ("GET", "/stop", 405),
        ("HEAD", "/stop", 405),
        ("GET", "/checkpoint", 405),
        ("POST", "/status", 405),
        ("PUT", "/stop", 415),
        ("DELETE", "/stop", 415),
        ("OPTIONS", "/stop", 415),
    ],
)
def test_nothing_else_is_there(method: str, path: str, status: int) -> None:
    job = FakeJob()
    assert ask(job, method, path)[0] == status
    assert job.orders == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/stop", b"not json", 400),
        ("/stop", b'{"drain": "yes"}', 400),
        ("/stop", b'{"force": true}', 400),
        ("/stop", b"[]", 400),
        ("/stop", b'"\xff"', 400),
        ("/stop", b"[" * MAX_BODY, 400),
        ("/stop", b'{"drain":' + b"[" * 3_000, 400),
        ("/stop", b" " * (MAX_BODY + 1), 413),
        ("/checkpoint", b'{"number": 3}', 400),
        ("/rescale", b"", 400),
        ("/rescale", b'{"parallelism": "4"}', 400),
        ("/savepoint", b"", 400),
        ("/savepoint", b'{"target": 3}', 400),
        ("/savepoint", b'{"target": "saves"}', 400),
        ("/savepoint", b'{"target": "file:///saves"}', 400),
        ("/savepoint", b'{"target": "http://169.254.169.254/latest"}', 400),
    ],
)
def test_a_body_that_is_not_what_it_should_be_orders_nothing(path: str, body: bytes, status: int) -> None:
    job = FakeJob()
    answered, content, _ = ask(job, "POST", path, body)
    assert (answered, job.orders) == (status, [])
    assert content["error"]


def test_the_jobs_errors_are_answers() -> None:
    known = StateError("no checkpoint directory", where=Where(operator="window-1"), hint="give one")
    status, content, _ = ask(FakeJob(failure=known), "POST", "/checkpoint")
    assert (status, content) == (
        409,
        {"error": "no checkpoint directory", "where": "operator window-1", "hint": "give one"},
    )
    status, content, _ = ask(FakeJob(failure=ZeroDivisionError("by zero")), "POST", "/checkpoint")
    assert (status, content) == (500, {"error": "unforeseen ZeroDivisionError: by zero"})


def test_two_headers_of_one_name_are_refused() -> None:
    guard = RequestGuard("127.0.0.1", None)
    refusal = guard.refusal("GET", [(b"host", HOME.encode()), (b"host", b"evil.example")])
    assert refusal is not None
    assert refusal.status == 400


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_other_addresses_need_a_token(address: str) -> None:
    assert not is_loopback(address)
    with pytest.raises(ConfigError, match="without a token"):
        RequestGuard(address, None)
    RequestGuard(address, TOKEN)


@pytest.mark.parametrize("token", ["", "short", "0123456789abcdé0", "0123456789\n0123456789"])
def test_a_token_that_could_be_guessed_or_not_sent_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="token cannot be used") as caught:
        RequestGuard("127.0.0.1", token)
    assert not token or token not in str(caught.value)
