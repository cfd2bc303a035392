"""Access to the metrics port and its answers, on a real socket: methods, hosts, tokens, clients that are slow, long
or many."""

from __future__ import annotations

import json
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from streamflow.errors import ConfigError
from streamflow.observe import http
from streamflow.observe.health import Health
from streamflow.observe.operating import OperatingServer
from streamflow.observe.registry import MetricsRegistry
from streamflow.time.clock import SystemClock

TOKEN = "0123456789abcdef"


@contextmanager
def served(
    token: str | None = None, state: Any = "running", address: str = "127.0.0.1"
) -> Generator[OperatingServer]:
    health = Health("delays", SystemClock())
    health.state = state
    server = OperatingServer(MetricsRegistry("delays"), health, 0, address, token)
    try:
        yield server
    finally:
        server.close()


def exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        if request:
            connection.sendall(request)
        answer = b""
        try:
            while more := connection.recv(65_536):
                answer += more
        except ConnectionResetError:
            return answer
        return answer


def ask(
    port: int, path: str = "/metrics", method: str = "GET", **headers: str | None
) -> tuple[int, str, str]:
    """Status, head and body; `headers` override those of a well-meaning client, None leaves one out."""
    given: dict[str, str | None] = {"Host": f"127.0.0.1:{port}", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value is not None]
    request = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""])
    head, _, body = exchange(port, request.encode("latin-1")).decode().partition("\r\n\r\n")
    return int(head.split()[1]), head, body


def test_the_three_routes() -> None:
    with served() as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        status, head, body = ask(server.port)
        assert (status, "text/plain" in head) == (200, True)
        assert body.startswith("# HELP streamflow_")
        assert ask(server.port, "/%6detrics")[0] == 200  # the same path (RFC 3986, 6.2.2.2)
        for path in ("/healthz", "/readyz", "/readyz?verbose=1"):
            status, head, body = ask(server.port, path)
            assert (status, "application/json" in head, json.loads(body)["ok"]) == (200, True, True)
        status, head, body = ask(
            server.port, "/metrics", Accept="application/openmetrics-text; version=1.0.0"
        )
        assert ("openmetrics" in head, body.endswith("# EOF\n")) == (True, True)


def test_a_job_that_is_not_well_answers_503_and_why() -> None:
    with served(state="failed") as server:
        for path in ("/healthz", "/readyz"):
            status, _, body = ask(server.port, path)
            assert (status, json.loads(body)["reasons"]) == (503, ["the job has failed"])
        assert ask(server.port)[0] == 200
    with served(state="restarting") as server:
        assert (ask(server.port, "/healthz")[0], ask(server.port, "/readyz")[0]) == (200, 503)


@pytest.mark.parametrize("path", ["/", "/status", "/metrics/", "/../metrics", "/%2fmetrics", "*"])
def test_other_paths_are_not_there(path: str) -> None:
    with served() as server:
        assert ask(server.port, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_only_what_reads_is_let_in(method: str) -> None:
    with served(TOKEN) as server:
        assert ask(server.port, "/metrics", method)[0] == 401
        admitted = {"Authorization": f"Bearer {TOKEN}", "Content_Type": "application/json"}
        status, head, _ = ask(server.port, "/metrics", method, **admitted)
        allowed = next(line for line in head.splitlines() if line.lower().startswith("allow: "))
        assert (status, set(allowed[7:].split(", "))) == (405, {"GET", "HEAD"})


def test_what_is_no_method_is_refused_and_not_shown() -> None:
    with served() as server:
        status, _, body = ask(server.port, "/metrics", "<b>x</b>")
        assert (status, "<b>" in body) == (400, False)


def test_head_is_get_without_its_body() -> None:
    with served() as server:
        status, head, body = ask(server.port, "/healthz", "HEAD")
        assert (status, body, "content-length: 0" in head.lower()) == (200, "", False)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Host": "127.0.0.1:1"}, 200),
        ({"Host": "127.0.0.1.evil.example:{port}"}, 403),
        ({"Host": None}, 400),
        ({"Host": "localhost:{port}"}, 200),
        ({"Host": "[::1]:{port}"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Authorization": "Bearer whatever"}, 200),
    ],
)
def test_pages_of_other_sites_read_nothing(headers: dict[str, str | None], status: int) -> None:
    with served() as server:
        given = {name: value and value.format(port=server.port) for name, value in headers.items()}
        for path in ("/metrics", "/healthz", "/readyz", "/nothing"):
            answer = ask(server.port, path, **given)
            assert answer[0] == (404 if status == 200 and path == "/nothing" else status)
            if status != 200:
                assert "streamflow_" not in answer[2]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("", 401),
        (TOKEN, 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN}0", 401),
        ("Bearer t\xf6ken", 401),
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_where_there_is_a_token_it_is_asked_for(path: str, authorization: str | None, status: int) -> None:
    with served(TOKEN) as server:
        # By a name of the network's: with a token the Host header does not matter.
        answer = ask(server.port, path, Host="job.internal:9249", Authorization=authorization)
        assert answer[0] == status
        assert ("www-authenticate: bearer" in answer[1].lower()) == (status == 401)
        assert TOKEN not in answer[1] + answer[2]


def test_two_headers_where_one_counts_are_refused() -> None:
    with served(TOKEN) as server:
        twice = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nAuthorization: Bearer x\r\n\r\n"
        assert exchange(server.port, twice.encode()).split()[1] == b"400"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.7", "job.internal"])
def test_what_others_reach_needs_a_token(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_server", None)  # it never comes to listen
    registry, health = MetricsRegistry("delays"), Health("delays", SystemClock())
    with pytest.raises(ConfigError, match=r"metrics server would listen on .*; set STREAMFLOW_METRICS_TOKEN"):
        OperatingServer(registry, health, 0, address)
    for token in (TOKEN[:-1], "with a t\u00f6ken in it", "line\nbreak-0123456789"):
        with pytest.raises(ConfigError, match="the metrics token cannot be used"):
            OperatingServer(registry, health, 0, address, token)


def test_with_a_token_it_listens_wherever_it_is_told_to() -> None:
    with served(TOKEN, address="0.0.0.0") as server:
        assert ask(server.port, Authorization=f"Bearer {TOKEN}")[0] == 200


def test_clients_that_are_slow_or_long_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_HEAD_SECONDS", 0.4)
    with served() as server:
        assert exchange(server.port, b"") == b""
        assert exchange(server.port, b"GET /metrics HTTP/1.1\r\nHost:") == b""
        long = b"GET /metrics HTTP/1.1\r\nX-Long: " + b"x" * (1 << 20)
        try:
            assert b" 200 " not in exchange(server.port, long)
        except OSError:
            assert ask(server.port)[0] == 200
        assert exchange(server.port, b"\x16\x03\x01\x02\r\n\r\n").split()[:2] != [b"HTTP/1.0", b"200"]
        assert ask(server.port)[0] == 200


def test_one_that_hangs_on_holds_up_nobody_and_too_many_are_sent_away() -> None:
    with served() as server:
        hanging = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(3)]
        assert ask(server.port)[0] == 200
        hanging += [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(40)]
        assert ask(server.port)[0] == 503
        for each in hanging:
            each.close()
        assert any(ask(server.port)[0] == 200 for _ in range(100))
