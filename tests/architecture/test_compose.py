"""docker-compose.yml, as far as no engine is needed: ports, mounts, commands, the broker, what Prometheus scrapes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from deploy.kafka.jars import KAFKA_VERSION
from deploy.kafka.local_broker import SETTINGS
from streamflow.cli.main import main
from tests.architecture.repository import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def _streamflow() -> dict[str, Any]:
    return SERVICES["streamflow"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_on_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_from_here_exists_and_cannot_be_written(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source, _, *access = mount.split(":")
        if source not in COMPOSE["volumes"]:
            assert (ROOT / source).exists(), f"{source}: docker would make an empty folder of it"
            assert access == ["ro"]


def test_prometheus_has_the_token_that_the_job_asks_for() -> None:
    (scrape,) = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))[
        "scrape_configs"
    ]
    token = scrape["authorization"]["credentials_file"]
    assert _streamflow()["environment"]["STREAMFLOW_METRICS_TOKEN"] == f"file:{token}"
    for service in ("streamflow", "prometheus"):
        assert "metrics-token:/run/metrics-token:ro" in SERVICES[service]["volumes"]
        assert (
            SERVICES[service]["depends_on"]["metrics-token"]["condition"] == "service_completed_successfully"
        )


def test_the_image_is_built_from_what_is_in_the_repository() -> None:
    steps = _streamflow()["build"]["dockerfile_inline"]
    for lock in re.findall(r"requirements[a-z-]*\.lock", steps):
        assert (ROOT / lock).is_file()
    assert re.match(r"FROM python:3\.11-slim\n", steps)


@pytest.mark.parametrize("service", ["streamflow", "flights"])
def test_the_command_is_one_that_there_is(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, command, job, *flags = SERVICES[service]["command"]
    assert program == "streamflow"
    assert (ROOT / job).is_file()
    assert main([command, "--help"]) == 0
    usage = capsys.readouterr().out
    assert [flag for flag in flags if flag.startswith("--") and flag not in usage] == []
    assert main(["plan", str(ROOT / job)]) == 0


def test_kafka_is_the_broker_that_tests_have() -> None:
    kafka = SERVICES["kafka"]
    assert kafka["image"] == f"apache/kafka:{KAFKA_VERSION}"
    tested = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in SETTINGS.items()}
    assert kafka["environment"].items() >= tested.items()


@pytest.mark.parametrize("service", ["streamflow", "flights"])
def test_the_programs_go_where_kafka_says_it_is(service: str) -> None:
    advertised = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    inside, outside = re.findall(r"://([^,]+)", advertised)
    assert f"kafka={inside}" in SERVICES[service]["command"]
    # README and examples: the one on this machine.
    assert SERVICES["kafka"]["ports"] == [f"{outside}:9094"]
    assert f'"{outside}"' in (ROOT / SERVICES[service]["command"][2]).read_text(encoding="utf-8")


def test_prometheus_scrapes_the_port_that_the_job_serves() -> None:
    command = _streamflow()["command"]
    port = command[command.index("--metrics-port") + 1]
    settings = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    groups = [group for job in settings["scrape_configs"] for group in job["static_configs"]]
    targets = [target for group in groups for target in group["targets"]]
    assert targets == [f"streamflow:{port}"]
    assert _streamflow()["environment"]["STREAMFLOW_METRICS_ADDRESS"] == "0.0.0.0"
