"""A real Prometheus (Debian's package `prometheus`) with the project's configuration, scraping what a test starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import pytest
import yaml

from deploy.kafka.local_broker import free_port

__all__ = ["CONFIGURATION", "PrometheusServer", "configured", "program", "running_prometheus"]

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "prometheus"
REQUIRE = "STREAMFLOW_REQUIRE_PROMETHEUS"
SCRAPE_INTERVAL = "500ms"
"""Also how long a scrape may take: of one that takes longer there is no figure until the next."""
PATIENCE = 60.0

_direct = build_opener(ProxyHandler({}))


def program(name: str) -> str:
    """Where prometheus or promtool is; skips the test where it is not, or fails it where it has to be there."""
    found = shutil.which(name)
    if found is not None:
        return found
    reason = f"{name} is not installed (Debian: apt-get install prometheus)"
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{reason}, and {REQUIRE}=1 asks for it")
    pytest.skip(reason)


def configured(folder: Path, targets: Sequence[str], token: str) -> Path:
    """deploy/prometheus/ in `folder`, as it is but for targets, token and intervals."""
    token_file = folder / "token"
    token_file.write_text(token)
    settings = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text(encoding="utf-8"))
    settings["global"] = {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL}
    (scrape,) = settings["scrape_configs"]
    scrape["authorization"]["credentials_file"] = str(token_file)
    scrape["static_configs"] = [{"targets": list(targets)}]
    shutil.copy(CONFIGURATION / "rules.yml", folder)
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(settings))
    return path


@dataclass(frozen=True)
class PrometheusServer:
    """The HTTP API of a running Prometheus."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer; AssertionError with Prometheus' own words where it refuses."""
        try:
            with _direct.open(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=10) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now: `metric` (its labels) and `value` (time, text of the number)."""
        result: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return result

    def rules(self) -> dict[str, dict[str, Any]]:
        """The alert rules by name."""
        return {rule["name"]: rule for group in self.get("rules")["groups"] for rule in group["rules"]}

    def until(self, holds: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Wait for what scrapes bring with them."""
        deadline = time.monotonic() + patience
        while not holds():
            assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
            time.sleep(0.05)


@contextmanager
def running_prometheus(folder: Path, targets: Sequence[str], token: str) -> Generator[PrometheusServer]:
    """A Prometheus on a free port of the loopback address that scrapes `targets` twice a second."""
    binary = program("prometheus")
    configuration = configured(folder, targets, token)
    port = free_port()
    command = [
        binary, f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    server = PrometheusServer(f"http://127.0.0.1:{port}")

    def ready() -> bool:
        assert process.poll() is None, f"Prometheus has ended:\n{log.read_text()}"
        try:
            return bool(_direct.open(f"{server.url}/-/ready", timeout=1).status == 200)
        except OSError:
            return False

    try:
        server.until(ready, "Prometheus is ready")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
