"""The fixture `kafka`: a real broker for the whole run, a topic for each test, records in and out through librdkafka.

Where the broker comes from, in this order: STREAMFLOW_TEST_KAFKA (an address), Docker where an engine answers, Kafka's
jars where there are Java and Maven. Where none is possible, tests that take the fixture are skipped and the end of the
run says why; with STREAMFLOW_REQUIRE_KAFKA=1 they fail. Processes that share a run (`pytest -n`) share its broker.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NoReturn

import pytest

from deploy.kafka.jars import KAFKA_VERSION, BrokerError, why_no_java
from deploy.kafka.local_broker import SETTINGS, LocalBroker, answers, free_port
from tests.kafka.topics import Topics

__all__ = [
    "GIVEN",
    "REQUIRED",
    "Way",
    "kafka",
    "open_broker",
    "pytest_sessionstart",
    "pytest_terminal_summary",
]

GIVEN = "STREAMFLOW_TEST_KAFKA"
REQUIRED = "STREAMFLOW_REQUIRE_KAFKA"

Way = tuple[str, Callable[[], str | None], Callable[[], AbstractContextManager[str]]]
"""A name, why it cannot be gone (None: it can be tried), and what opens a broker and says its address."""

_skipped = pytest.StashKey[str]()


def open_broker(environ: Mapping[str, str], ways: Sequence[Way], stack: ExitStack) -> str:
    """The address of a broker, by the first way that leads to one; `stack` ends it. BrokerError with every reason where
    none does."""
    if given := environ.get(GIVEN):
        # Whoever names a broker wants that one: no other takes its place.
        if not answers(given):
            raise ConnectionError(f"no Kafka broker answers at {GIVEN}={given}")
        return given
    reasons: list[str] = []
    for name, why_not, opened in ways:
        reason = why_not()
        if reason is None:
            try:
                return stack.enter_context(opened())
            except BrokerError as error:
                reason = str(error)
        reasons.append(f"{name}: {reason}")
    raise BrokerError("; ".join(reasons))


def why_no_docker() -> str | None:
    """The command line asks where the library would, and leaves no socket behind when nobody answers."""
    if shutil.which("docker") is None:
        return "there is no docker on the PATH"
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return "the engine does not answer within 10 s"
    return None if asked.returncode == 0 else "no engine answers"


@contextmanager
def in_docker() -> Generator[str]:
    from docker.errors import DockerException  # type: ignore[import-untyped]
    from testcontainers.core.container import DockerContainer

    # Clients are sent to the advertised address, so that the port has to be known before.
    port = free_port()
    with ExitStack() as stack:
        try:
            container = DockerContainer(f"apache/kafka:{KAFKA_VERSION}", env=container_settings(port))
            container.ports["9092"] = ("127.0.0.1", port)  # type: ignore[assignment]  # for this machine only
            stack.enter_context(container)
        except DockerException as error:
            raise BrokerError(f"the container cannot be started ({error})") from error
        until = time.monotonic() + 60
        while not answers(f"127.0.0.1:{port}"):
            if time.monotonic() > until:
                raise BrokerError("the container's broker did not answer within 60 s")
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"


def container_settings(port: int) -> dict[str, str]:
    """The image takes Kafka's properties as variables; where it is given any, it takes none of its own."""
    properties = {
        **SETTINGS,
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    }
    return {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in properties.items()}


@contextmanager
def from_jars() -> Generator[str]:
    with LocalBroker() as broker:
        yield broker.bootstrap


WAYS: list[Way] = [("Docker", why_no_docker, in_docker), ("Kafka's jars", why_no_java, from_jars)]


def pytest_sessionstart(session: pytest.Session) -> None:
    """The process that hands the tests out to others opens the broker for all of them."""
    config = session.config
    if getattr(config.option, "dist", "no") == "no" or hasattr(config, "workerinput"):
        return
    stack = ExitStack()
    config.add_cleanup(stack.close)
    try:
        os.environ[GIVEN] = open_broker(os.environ, WAYS, stack)
    except BrokerError as error:
        config.stash[_skipped] = str(error)


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[Topics]:
    """A broker with Topics: `.bootstrap`, `.topic()`, `.produce()`, `.read()`."""
    with ExitStack() as stack:
        try:
            bootstrap = open_broker(os.environ, WAYS, stack)
        except BrokerError as error:
            no_broker(pytestconfig, str(error), required=os.environ.get(REQUIRED) == "1")
        yield stack.enter_context(Topics(bootstrap))


def no_broker(config: pytest.Config, reason: str, *, required: bool) -> NoReturn:
    if required:
        pytest.fail(f"{REQUIRED}=1, and there is no Kafka broker: {reason}", pytrace=False)
    config.stash[_skipped] = reason
    pytest.skip(f"there is no Kafka broker: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Nobody should believe that everything was tested when it was not."""
    if reason := config.stash.get(_skipped, None):
        terminalreporter.section("tests against Kafka were skipped", yellow=True)
        terminalreporter.line(f"There was no broker. {reason}.")
        terminalreporter.line(f"`make kafka` starts one; {GIVEN}=127.0.0.1:9092 names it.")
