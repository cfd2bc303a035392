"""Which broker a test run gets, and what it says when it gets none. No broker is needed for this."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.kafka import jars
from deploy.kafka.jars import BrokerError, why_no_java
from deploy.kafka.local_broker import SETTINGS, LocalBroker, answers, free_port
from tests.kafka import broker
from tests.kafka.broker import GIVEN, REQUIRED, Way, container_settings, open_broker, why_no_docker

ROOT = Path(__file__).parents[2]


def _way(name: str, why_not: str | None = None, *, log: list[str], fails: str | None = None) -> Way:
    @contextmanager
    def opened() -> Generator[str]:
        log.append(f"{name} up")
        if fails:
            raise BrokerError(fails)
        yield name
        log.append(f"{name} down")

    return name, lambda: why_not, opened


def _open(*ways: Way, environ: dict[str, str] | None = None) -> str:
    with ExitStack() as stack:
        return open_broker(environ or {}, ways, stack)


def test_the_first_way_that_leads_to_a_broker_is_taken() -> None:
    log: list[str] = []
    assert _open(_way("docker", log=log), _way("jars", log=log)) == "docker"
    assert log == ["docker up", "docker down"]


def test_a_way_that_cannot_be_gone_or_fails_is_passed_over() -> None:
    log: list[str] = []
    ways = [_way("a", "no engine", log=log), _way("b", log=log, fails="no image"), _way("c", log=log)]
    assert _open(*ways) == "c"
    assert log == ["b up", "c up", "c down"]


def test_without_any_every_reason_is_given() -> None:
    log: list[str] = []
    with pytest.raises(BrokerError, match=r"^docker: no engine; jars: mvn could not$"):
        _open(_way("docker", "no engine", log=log), _way("jars", log=log, fails="mvn could not"))


def test_a_broker_that_is_named_is_not_replaced_by_another() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    log: list[str] = []
    with pytest.raises(ConnectionError, match=f"{GIVEN}={nobody}"):
        _open(_way("docker", log=log), environ={GIVEN: nobody})
    assert log == []


def test_a_broker_that_is_named_is_taken_and_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "answers", lambda _: True)
    log: list[str] = []
    assert _open(_way("docker", log=log), environ={GIVEN: "there:9092"}) == "there:9092"
    assert log == []


def _programs(folder: Path, **scripts: str) -> str:
    for name, script in scripts.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("scripts", "reason"),
    [
        ({}, "no docker on the PATH"),
        ({"docker": "exit 1"}, "no engine answers"),
        ({"docker": "echo 28.1"}, None),
    ],
)
def test_docker_is_asked(
    scripts: dict[str, str], reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", _programs(tmp_path, **scripts))
    assert _says(why_no_docker, reason)


JAVA_17 = "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2"


@pytest.mark.parametrize(
    ("scripts", "reason"),
    [
        ({}, "no java on the PATH"),
        ({"java": "echo 'java version \"1.8.0_202\"' >&2", "mvn": ""}, "needs 17 or newer"),
        ({"java": JAVA_17}, "no mvn on the PATH"),
        ({"java": JAVA_17, "mvn": ""}, None),
    ],
)
def test_java_is_asked(
    scripts: dict[str, str], reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", _programs(tmp_path, **scripts))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert _says(why_no_java, reason)


def _says(why_not: Callable[[], str | None], reason: str | None) -> bool:
    said = why_not()
    return said is None if reason is None else said is not None and reason in said


def test_jars_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []

    def maven(folder: Path) -> None:
        calls.append(folder)
        folder.mkdir()
        (folder / f"kafka_2.13-{jars.KAFKA_VERSION}.jar").touch()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jars, "_copy_with_maven", maven)
    assert jars.fetch_jars() == jars.fetch_jars()
    assert len(calls) == 1
    assert sorted(path.name for path in (tmp_path / "streamflow").iterdir()) == [
        f"kafka-{jars.KAFKA_VERSION}",
        f"kafka-{jars.KAFKA_VERSION}.lock",
    ]


def test_what_maven_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", _programs(tmp_path, mvn="echo '[ERROR] nobody there'; exit 1"))
    with pytest.raises(BrokerError, match="nobody there"):
        jars.fetch_jars()
    assert [path.suffix for path in (tmp_path / "cache" / "streamflow").iterdir()] == [".lock"]


def test_a_container_has_the_settings_of_the_local_broker() -> None:
    settings = container_settings(20_123)
    assert settings["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert settings["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://127.0.0.1:20123"
    assert len(settings) > len(SETTINGS)


class _Engine:
    """In place of the client that testcontainers talks to the engine with."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.removed = False
        self.client = self

    def create(self, image: str, **settings: Any) -> _Engine:
        self.asked.append((image, settings))
        return self

    def start(self, container: _Engine) -> None:
        self.running = True

    def remove(self, **_: Any) -> None:
        self.removed = True

    def close(self) -> None: ...

    short_id = "0123"


def _with_an_engine(monkeypatch: pytest.MonkeyPatch) -> _Engine:
    from testcontainers.core import config, container

    engine = _Engine()
    monkeypatch.setattr(container, "DockerClient", lambda: engine)
    monkeypatch.setattr(config.testcontainers_config, "ryuk_disabled", True)
    return engine


def test_the_container_is_for_this_machine_and_goes_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _with_an_engine(monkeypatch)
    monkeypatch.setattr(broker, "answers", lambda _: True)
    with broker.in_docker() as bootstrap:
        [(image, settings)] = engine.asked
        host, port = bootstrap.split(":")
        assert image == f"apache/kafka:{jars.KAFKA_VERSION}"
        assert settings["ports"] == {"9092": (host, int(port))}
        assert settings["environment"] == container_settings(int(port))
        assert engine.running
        assert not engine.removed
    assert engine.removed


def test_an_image_that_cannot_be_had_leaves_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from docker.errors import ImageNotFound  # type: ignore[import-untyped]

    engine = _with_an_engine(monkeypatch)

    def create(image: str, **_: Any) -> None:
        raise ImageNotFound(f"no {image}")

    monkeypatch.setattr(engine, "create", create)
    log: list[str] = []
    assert _open(("docker", lambda: None, broker.in_docker), _way("jars", log=log)) == "jars"


@pytest.mark.slow
@pytest.mark.skipif(why_no_java() is not None, reason="needs Java and Maven")
def test_the_local_broker_dies_with_its_parent_and_begins_where_it_was(tmp_path: Path) -> None:
    dying = (
        "import os; from pathlib import Path; from deploy.kafka.local_broker import LocalBroker\n"
        f"broker = LocalBroker(data=Path({str(tmp_path)!r})).start()\n"
        "print(broker.port, flush=True); os.kill(os.getpid(), 9)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", dying], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, timeout=60
    )
    port = int(ran.stdout)
    until = time.monotonic() + 10
    while answers(f"127.0.0.1:{port}") and time.monotonic() < until:
        time.sleep(0.01)
    with LocalBroker(port, tmp_path) as local:  # the port is free, the data in order
        assert local.bootstrap == f"127.0.0.1:{port}"
        with pytest.raises(BrokerError, match="is taken"):
            LocalBroker(port).start()


def test_nobody_answers_where_nobody_is() -> None:
    assert not answers(f"127.0.0.1:{free_port()}", seconds=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("required", [False, True])
def test_a_run_without_a_broker_says_so(required: bool, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in (GIVEN, REQUIRED)}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/kafka/test_topics.py"],
        cwd=ROOT,
        env={**environ, "PATH": str(tmp_path), **({REQUIRED: "1"} if required else {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    why = "Docker: there is no docker on the PATH; Kafka's jars: there is no java on the PATH"
    if required:
        assert ran.returncode == pytest.ExitCode.TESTS_FAILED
        assert f"{REQUIRED}=1, and there is no Kafka broker: {why}" in ran.stdout
    else:
        assert ran.returncode == pytest.ExitCode.OK
        assert "tests against Kafka were skipped" in ran.stdout
        assert f"There was no broker. {why}" in ran.stdout
