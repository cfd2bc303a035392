"""One Kafka broker as a child process: KRaft, one node, small and quick to come up, killed and started again at will.

It ends with the process that started it, however that ends. Only the standard library is needed.
"""

from __future__ import annotations

import base64
import os
import random
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.kafka.jars import BrokerError, fetch_jars

__all__ = ["SETTINGS", "LocalBroker", "answers", "free_port"]

SETTINGS: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
}
"""One node that is enough for everything, in a container too: without it a broker waits for two others. Rebalancing
does not wait, a topic with a typing error in its name is not made, and after a kill it is back in a second or two."""

_SECURITY_PROTOCOLS: Final = (
    "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL"
)
_JAVA: Final = (
    "java",
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
_DYING: Final = 5.0
"""Seconds after which nobody can still be on the way out."""

# exec makes the broker the child itself. What stays behind waits for a line: at the end of the pipe without one the
# parent has died, and the broker goes with it.
_LEASH: Final = 'exec 3<&0; (read -r _ <&3 || kill -9 $$) & exec "$@" </dev/null 3<&-'


class LocalBroker:
    """A broker on 127.0.0.1, also as a context manager.

    `port` 0: one that is free, which it keeps for its life. `data` None: a temporary folder that is removed by `stop`.
    `properties` are Kafka's own and win over SETTINGS. `listeners`: further ones, the security protocol with its port
    (`{"SASL_PLAINTEXT": 9093}`); what they need in settings stands in `properties`.

    >>> broker = LocalBroker(9092)
    >>> broker.bootstrap
    '127.0.0.1:9092'
    """

    def __init__(
        self,
        port: int = 0,
        data: Path | None = None,
        properties: Mapping[str, str] | None = None,
        *,
        listeners: Mapping[str, int] | None = None,
    ) -> None:
        self.port = port or free_port()
        self._controller = free_port()
        self._data = data
        self._temporary: Path | None = None
        self._properties = dict(properties or {})
        self._listeners = dict(listeners or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the Java process; None while there is none. For SIGSTOP and SIGCONT."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> Path:
        """The broker's messages: warnings and errors."""
        return self._folder() / "broker.log"

    def start(self, *, patience: float = 60.0) -> Self:
        """Start it, the first time or again after `kill`, and wait until it answers, `patience` seconds at most."""
        if self._process is not None:
            raise BrokerError(f"the broker at {self.bootstrap} is running")
        until = time.monotonic() + _DYING
        while not _is_free(self.port):
            # A broker that was killed holds its port a moment longer than it answers.
            if answers(self.bootstrap) or time.monotonic() > until:
                raise BrokerError(f"port {self.port} is taken: is there another broker?")
            time.sleep(0.05)
        jars = fetch_jars()
        folder = self._folder()
        folder.mkdir(parents=True, exist_ok=True)
        settings = folder / "server.properties"
        settings.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))
        java = [*_JAVA, "-cp", f"{jars}/*"]
        if not (folder / "log" / "meta.properties").exists():
            self._format([*java, "kafka.tools.StorageTool"], settings)
        self._process = self._run([*java, "kafka.Kafka", str(settings)])
        self._wait(patience)
        return self

    def kill(self) -> None:
        """SIGKILL: what was not on disk is for Kafka's recovery; `start` brings it back with the same port and data."""
        process = self._take()
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End it in order, and remove the temporary folder."""
        process = self._take()
        if process is not None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def wait(self) -> int:
        """Until it ends by itself; its exit code."""
        return 0 if self._process is None else self._process.wait()

    def __enter__(self) -> Self:
        return self.start() if self._process is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _folder(self) -> Path:
        if self._data is not None:
            return self._data
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="streamflow-kafka-"))
        return self._temporary

    def _settings(self) -> dict[str, str]:
        listeners = {"PLAINTEXT": self.port, **self._listeners, "CONTROLLER": self._controller}
        return {
            **SETTINGS,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items()),
            "listener.security.protocol.map": _SECURITY_PROTOCOLS,
            "log.dirs": str(self._folder().resolve() / "log"),
            **self._properties,
        }

    def _format(self, tool: list[str], settings: Path) -> None:
        cluster = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        # A cluster's id that begins with a dash would be taken for a flag.
        command = [*tool, "format", f"--cluster-id={cluster}", "--config", str(settings)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BrokerError(
                f"Kafka could not prepare {settings.parent}: {(done.stderr or done.stdout).strip()}"
            )

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                ["sh", "-c", _LEASH, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for who started it, who then stops it in order
            )

    def _take(self) -> subprocess.Popen[bytes] | None:
        """The process, off its leash."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            try:
                process.stdin.write(b"\n")
                process.stdin.close()
            except BrokenPipeError:  # whoever held the other end is gone already
                return process
        return process

    def _wait(self, patience: float) -> None:
        until = time.monotonic() + patience
        while not answers(self.bootstrap):
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > until:
                why = "ended" if ended else f"did not answer within {patience:g} s"
                said = self.log.read_text(errors="replace").strip().splitlines()[-5:]
                self.kill()
                raise BrokerError("\n  ".join([f"the broker at {self.bootstrap} {why}:", *said]))
            time.sleep(0.05)


def answers(bootstrap: str, *, seconds: float = 2.0) -> bool:
    """Whether a broker at this address knows itself to be one of the cluster, so that topics can be made."""
    host, _, port = bootstrap.partition(",")[0].rpartition(":")
    # Metadata v1 (key 3) about no topic: correlation id 1, client "up".
    request = struct.pack(">hhih2si", 3, 1, 1, 2, b"up", 0)
    try:
        with socket.create_connection((host, int(port)), timeout=seconds) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = b""
            while len(answer) < 12:
                received = connection.recv(4096)
                if not received:
                    return False
                answer += received
    except OSError:
        return False
    brokers = int.from_bytes(answer[8:12])  # behind the answer's size and its correlation id
    return brokers > 0


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on, from below those that outgoing connections get: while a killed broker
    is away, a client that tries to reach it must not be given its port as its own."""
    for _ in range(200):
        port = random.randrange(20_000, 32_000)
        if _is_free(port):
            return port
    raise BrokerError("no port is free on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Connections that a killed broker has left behind do not keep the port from the next.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
