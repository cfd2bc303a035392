"""The exporter, over HTTP on the loopback address and through Prometheus' own parser."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.request import urlopen

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from streamflow.errors import ConfigError
from streamflow.observe.health import Health
from streamflow.observe.operating import OperatingServer
from streamflow.observe.prometheus import RegistryCollector
from streamflow.observe.registry import MetricsRegistry
from streamflow.time.clock import SystemClock


@pytest.fixture
def registry() -> MetricsRegistry:
    registry = MetricsRegistry("departures")
    for subtask in range(2):
        metrics = registry.operator("window-1", subtask)
        metrics.records_in.add(10 + subtask)
        metrics.gauge("streamflow_watermark_seconds", 'The watermark, "event time"').set(-1.5 - subtask)
    return registry


def scrape(port: int) -> dict[str, Metric]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def serve(registry: MetricsRegistry, port: int, address: str = "127.0.0.1") -> OperatingServer:
    return OperatingServer(registry, Health("departures", SystemClock()), port, address)


@pytest.fixture
def port(registry: MetricsRegistry) -> Iterator[int]:
    server = serve(registry, 0)
    yield server.port
    server.close()


def test_counters_and_gauges_with_help_type_and_labels(port: int) -> None:
    families = scrape(port)
    counter = families["streamflow_records_in"]
    assert (counter.type, counter.documentation) == ("counter", "Records taken in")
    assert {
        (s.name, s.labels["job"], s.labels["operator"], s.labels["subtask"], s.value) for s in counter.samples
    } == {
        ("streamflow_records_in_total", "departures", "window-1", "0", 10.0),
        ("streamflow_records_in_total", "departures", "window-1", "1", 11.0),
    }
    gauge = families["streamflow_watermark_seconds"]
    assert (gauge.type, gauge.documentation) == ("gauge", 'The watermark, "event time"')
    assert [sample.value for sample in gauge.samples] == [-1.5, -2.5]


def test_values_are_those_of_the_scrape(registry: MetricsRegistry, port: int) -> None:
    scrape(port)
    registry.operator("window-1", 0).records_in.add(90)
    registry.operator("late-joiner", 0).records_in.add(1)
    samples = scrape(port)["streamflow_records_in"].samples
    assert {
        sample.labels["operator"]: sample.value for sample in samples if sample.labels["subtask"] == "0"
    } == {
        "window-1": 100.0,
        "late-joiner": 1.0,
    }


def test_only_the_registry_and_the_process_are_shown(port: int) -> None:
    assert {name.partition("_")[0] for name in scrape(port)} <= {"streamflow", "process"}


def test_series_beyond_the_cap_are_counted_not_shown(registry: MetricsRegistry) -> None:
    total = sum(1 for _ in registry)
    families = {family.name: family for family in RegistryCollector(registry, max_series=3).collect()}
    (left_out,) = families.pop("streamflow_metrics_series_left_out").samples
    assert sum(len(family.samples) for family in families.values()) == 3
    assert (left_out.value, left_out.labels) == (total - 3, {"job": "departures"})


def test_label_values_are_escaped(registry: MetricsRegistry, port: int) -> None:
    registry.operator('a"b\\c\nd', 0).records_in.add(1)
    operators = {sample.labels["operator"] for sample in scrape(port)["streamflow_records_in"].samples}
    assert 'a"b\\c\nd' in operators


def test_it_listens_on_the_loopback_address_and_stops(registry: MetricsRegistry) -> None:
    server = serve(registry, 0)
    port = server.port
    assert server.address == "127.0.0.1"
    server.close()
    server.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_port_that_is_taken_or_impossible_is_a_configuration_error(
    registry: MetricsRegistry, port: int
) -> None:
    with pytest.raises(ConfigError, match="choose another port"):
        serve(registry, port)
    for impossible in (-1, 65_536):
        with pytest.raises(ConfigError, match="the metrics port is"):
            serve(registry, impossible)
    with pytest.raises(ConfigError, match="without a token"):
        serve(registry, 0, "256.0.0.1")
