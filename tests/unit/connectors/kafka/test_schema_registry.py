"""Avro with a schema registry, against a small one on loopback."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import polars as pl
import pytest

from streamflow.core.frame import FrameBatch
from streamflow.core.schema import OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, SinkError, SourceError
from streamflow.operators.connectors.kafka.formats import codecs
from streamflow.operators.connectors.kafka.formats.codecs import encoder
from streamflow.operators.connectors.kafka.schema_registry import (
    RegistryClient,
    SchemaRegistry,
    address_refused,
)
from tests.unit.connectors.driving import JumpingClock

decoder: Any = codecs.decoder  # rows are a frame or a list

SCHEMA = Schema({"n": pl.Int64, "at": pl.Datetime})
FORM = StreamType(SCHEMA, timed=False)
FRAME = pl.DataFrame({"n": [1, None], "at": [0, 1]}, schema=dict(SCHEMA))


class Registry(ThreadingHTTPServer):
    """Speaks as much of the API as is used; `answers` overrides what a path is answered with."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.schemas: list[str] = []
        self.subjects: list[str] = []
        self.asked: list[str] = []
        self.authorization: str | None = None
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Registry  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        id = int(self.path.rpartition("/")[2])
        known = 0 < id <= len(self.server.schemas)
        answer = (
            {"schema": self.server.schemas[id - 1]}
            if known
            else {"error_code": 40403, "message": "not found"}
        )
        self._answer(200 if known else 404, answer)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["schema"] not in self.server.schemas:
            self.server.schemas.append(body["schema"])
        self.server.subjects.append(self.path)
        self._answer(200, {"id": self.server.schemas.index(body["schema"]) + 1})

    def _answer(self, status: int, answer: Any) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.server.authorization = self.headers.get("Authorization")
        content, headers = json.dumps(answer).encode(), {}
        if self.path in self.server.answers:
            status, headers, content = self.server.answers[self.path]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Registry]:
    with Registry() as registry:
        thread = Thread(target=registry.serve_forever, kwargs={"poll_interval": 0.001})
        thread.start()
        try:
            yield registry
        finally:
            registry.shutdown()
            thread.join()


def written(server: Registry) -> list[bytes]:
    return encoder("avro", FORM, registry=SchemaRegistry(server.url), topic="a/b").encode(FrameBatch(FRAME))


def test_records_go_through_the_registry_and_ask_once(server: Registry) -> None:
    form = encoder("avro", FORM, registry=SchemaRegistry(server.url), topic="a/b")
    values = form.encode(FrameBatch(FRAME)) + form.encode(FrameBatch(FRAME))
    assert {value[:5] for value in values} == {b"\x00\x00\x00\x00\x01"}
    assert server.subjects == ["/subjects/a%2Fb-value/versions"]
    reader = decoder("avro", SCHEMA, registry=SchemaRegistry(server.url))
    assert reader.decode(values).rows.equals(pl.concat([FRAME, FRAME]))
    assert reader.decode(values).rows.height == 4
    assert server.asked.count("GET /schemas/ids/1") == 1


def test_several_schemas_in_one_batch_keep_the_order(server: Registry) -> None:
    wide = Schema({"n": pl.Int32, "more": pl.String})
    other = encoder(
        "avro", StreamType(wide, timed=False), registry=SchemaRegistry(server.url), topic="t"
    ).encode(FrameBatch(pl.DataFrame({"n": [7], "more": ["x"]}, schema=dict(wide))))
    first, second = written(server)
    decoded = decoder("avro", SCHEMA, registry=SchemaRegistry(server.url)).decode(
        [first, *other, b"\x00", second]
    )
    assert decoded.rows["n"].to_list() == [1, 7, None]
    assert decoded.origin == [0, 1, 3]
    objects = decoder("avro", OBJECTS, registry=SchemaRegistry(server.url)).decode([first, *other, second])
    assert [row["n"] for row in objects.rows] == [1, 7, None]


def test_an_unknown_id_is_the_records_fault_and_asked_for_once_in_a_while(server: Registry) -> None:
    clock = JumpingClock()
    reader = decoder("avro", SCHEMA, registry=RegistryClient(SchemaRegistry(server.url), clock))
    good = written(server)[0]
    wrong = b"\x00\x00\x00\x00\x63" + good[5:]
    for _ in range(3):
        decoded = reader.decode([wrong, good])
        assert decoded.bad == [(0, "the schema registry has no schema 99")]
        assert decoded.rows["n"].to_list() == [1]
    assert server.asked.count("GET /schemas/ids/99") == 1
    clock.time += 31
    reader.decode([wrong])
    assert server.asked.count("GET /schemas/ids/99") == 2


def test_a_schema_with_other_types_makes_its_records_bad(server: Registry) -> None:
    values = written(server)
    bad = decoder("avro", Schema({"n": pl.String}), registry=SchemaRegistry(server.url)).decode(values).bad
    assert bad == [(at, "its schema has Int64 as field 'n' where String was expected") for at in (0, 1)]


@pytest.mark.parametrize(
    ("status", "headers", "content", "says"),
    [
        (500, {}, b'{"message":"broken"}', "answers 500 broken"),
        (401, {}, b"", "check username="),
        (302, {"Location": "http://169.254.169.254/"}, b"", "redirects are not followed"),
        (200, {}, b"x" * (1 << 21), "more than 1048576 bytes"),
        (200, {}, b"<html>", "something else than JSON"),
        (200, {}, b"[" * 100_000, "something else than JSON"),
        (200, {}, b'{"schemaType":"PROTOBUF","schema":"x"}', "no Avro schema"),
        (200, {}, b'{"schema":"{}","references":[{}]}', "references"),
    ],
)
def test_a_registry_that_does_not_answer_fails_the_source(
    server: Registry, status: int, headers: dict[str, str], content: bytes, says: str
) -> None:
    values = written(server)
    server.answers["/schemas/ids/1"] = (status, headers, content)
    with pytest.raises(SourceError, match=says):
        decoder("avro", SCHEMA, registry=SchemaRegistry(server.url)).decode(values)


def test_a_schema_that_cannot_be_used_makes_its_records_bad(server: Registry) -> None:
    values = written(server)
    for schema in (
        '"string"',
        '{"type":"record"}',
        '{"type":"record","name":"R","fields":[{"name":"n","type":"R"}]}',
    ):
        server.answers["/schemas/ids/1"] = (200, {}, json.dumps({"schema": schema}).encode())
        decoded = decoder("avro", SCHEMA, registry=SchemaRegistry(server.url)).decode(values)
        assert [index for index, _ in decoded.bad] == [0, 1]


def test_a_schema_the_registry_refuses_fails_the_sink(server: Registry) -> None:
    server.answers["/subjects/a%2Fb-value/versions"] = (409, {}, b'{"message":"incompatible"}')
    with pytest.raises(SinkError, match="answers 409 incompatible; the columns' types have changed"):
        written(server)


def test_the_password_is_sent_and_never_shown(server: Registry) -> None:
    registry = SchemaRegistry(server.url, username="job", password="s3cret")
    RegistryClient(registry).schema(5)
    assert server.authorization == "Basic " + base64.b64encode(b"job:s3cret").decode()
    assert "s3cret" not in repr(registry)


def test_a_registry_that_is_down_is_named(server: Registry) -> None:
    with pytest.raises(SourceError, match=r"the schema registry http://127\.0\.0\.1:1 cannot be reached"):
        RegistryClient(SchemaRegistry("http://127.0.0.1:1")).schema(1)


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest", "http://[fd00:ec2::254]/", "http://0.0.0.0:80", "http://2852039166"],
)
def test_metadata_services_are_not_asked(url: str) -> None:
    with pytest.raises(SourceError, match="refused"):
        RegistryClient(SchemaRegistry(url)).schema(1)


@pytest.mark.parametrize("behind", ["?api_key=s3cret", "/#s3cret", "/subjects?a=b&key=s3cret#s3cret"])
def test_what_stands_behind_an_address_is_not_shown(behind: str) -> None:
    with pytest.raises(JobDefinitionError, match=r"'http://registry:8081.*' is no address") as caught:
        SchemaRegistry(f"http://registry:8081{behind}")
    assert "s3cret" not in str(caught.value)


def test_private_addresses_can_be_refused() -> None:
    assert address_refused("10.0.0.1", allow_private=True) is None
    assert address_refused("10.0.0.1", allow_private=False) is not None
    assert address_refused("::ffff:169.254.169.254", allow_private=True) == "a link-local address"
    assert address_refused("fe80::1%eth0", allow_private=True) == "a link-local address"
    assert address_refused("8.8.8.8", allow_private=False) is None


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://host"},
        {"url": "file:///etc/passwd"},
        {"url": "http://job:s3cret@host"},
        {"url": "http://host", "username": "job", "password": "s3cret"},
        {"url": "https://host", "username": "job"},
        {"url": "http://host:x"},
        {"url": "host:8081"},
    ],
)
def test_what_cannot_work_is_said_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(JobDefinitionError) as caught:
        SchemaRegistry(**options)
    assert "s3cret" not in str(caught.value)
