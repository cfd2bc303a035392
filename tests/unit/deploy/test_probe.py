"""The probe of the pods: its verdict on a job, asked for with the job's own token."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy.kubernetes.probe import main
from streamflow.observe.health import Health
from streamflow.observe.operating import OperatingServer
from streamflow.observe.registry import MetricsRegistry
from streamflow.time.clock import SystemClock

TOKEN = "a token of the metrics"


@pytest.fixture
def health() -> Health:
    return Health("delays", SystemClock())


@pytest.fixture
def environ(health: Health, tmp_path: Path) -> Iterator[dict[str, str]]:
    path = tmp_path / "metrics-token"
    path.write_text(f"{TOKEN}\n")
    with closing(OperatingServer(MetricsRegistry(), health, 0, token=TOKEN)) as server:
        yield {
            "STREAMFLOW_METRICS_PORT": str(server.port),
            "STREAMFLOW_METRICS_TOKEN": f"file:{path}",
        }


def test_a_job_that_starts_is_alive_and_not_ready(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["healthz"], environ) == 0
    assert main(["readyz"], environ) == 1
    assert "the job is starting" in capsys.readouterr().err


def test_a_job_that_runs_is_ready_and_one_that_failed_is_not_alive(
    environ: dict[str, str], health: Health
) -> None:
    health.state = "running"
    assert main(["readyz"], environ) == 0
    health.state = "failed"
    assert main(["healthz"], environ) == 1
    assert main(["healthz", "--unless-absent"], environ) == 1


def test_a_wrong_token_is_a_failure(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["healthz"], environ | {"STREAMFLOW_METRICS_TOKEN": "another token altogether"}) == 1
    said = capsys.readouterr().err
    assert "401" in said
    assert "another" not in said


def test_a_job_that_is_not_there_fails_unless_it_may_be_absent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens, and nobody else can
        environ = {"STREAMFLOW_METRICS_PORT": str(taken.getsockname()[1])}
        assert main(["healthz"], environ) == 1
        assert main(["healthz", "--unless-absent"], environ) == 0
