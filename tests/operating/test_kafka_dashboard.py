"""The Kafka dashboard on a real Prometheus: one job writes a topic, one reads it and writes another, exactly once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import streamflow as sf
from deploy.grafana.__main__ import DASHBOARDS
from deploy.grafana.kafka import KAFKA
from streamflow import col
from streamflow.operators.connectors.kafka.sink import KafkaSink
from streamflow.operators.connectors.kafka.source import KafkaSource
from tests.kafka.topics import Topics
from tests.operating.metric_names import shown_by
from tests.operating.panel_queries import assert_shows_data, panels_of
from tests.operating.prometheus_server import PrometheusServer, program, running_prometheus
from tests.operating.running_jobs import SCHEMA, TOKEN, running_jobs, ticks

PANELS = panels_of(KAFKA)
PIPING = f"piping-{Topics.name()}"  # on a broker that others use, too: a job's name is its transactions' name


@pytest.fixture(scope="module")
def prometheus(kafka: Topics, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    program("prometheus")
    orders, even = kafka.topic(2), kafka.topic(2)
    feeding = sf.Job("feeding")
    feeding.read(sf.source(ticks(), schema=SCHEMA)).write(
        KafkaSink(orders, kafka.bootstrap, key="key", delivery="at_least_once")
    )
    piping = sf.Job(PIPING)
    # What is behind open transactions is looked up along with new partitions.
    read = piping.read(KafkaSource(orders, kafka.bootstrap, schema=SCHEMA, discover_every="1s"))
    read.filter(col("n") % 2 == 0).write(KafkaSink(even, kafka.bootstrap, key="key"))
    settings = {
        "checkpoint_dir": str(tmp_path_factory.mktemp("checkpoints")),
        "checkpoint_interval": "300ms",
    }
    with (
        running_jobs(feeding, piping, **{PIPING: settings}) as addresses,
        running_prometheus(tmp_path_factory.mktemp("prometheus"), addresses, TOKEN) as server,
    ):
        server.until(lambda: len(server.query("up == 1")) == 2, "both jobs are scraped")
        yield server


@pytest.mark.parametrize("name", PANELS)
def test_a_kafka_panel_shows_data(prometheus: PrometheusServer, name: str) -> None:
    assert_shows_data(prometheus, PANELS[name], PIPING)


def test_each_partition_has_its_lag_and_gets_on(prometheus: PrometheusServer) -> None:
    offsets = f'deriv(streamflow_kafka_offset{{job="{PIPING}"}}[3s]) > 0'
    prometheus.until(lambda: len(prometheus.query(offsets)) == 2, offsets)
    lag = f'streamflow_kafka_lag_records{{job="{PIPING}"}}'
    prometheus.until(lambda: len(prometheus.query(lag)) == 2, lag)


def test_who_holds_event_time_back_is_a_partition(prometheus: PrometheusServer) -> None:
    def splits(metric: str) -> set[str]:
        return {each["metric"]["split"] for each in prometheus.query(f'{metric}{{job="{PIPING}"}}')}

    def shown() -> bool:
        held = splits("streamflow_watermark_holder_lag_seconds")
        return bool(held) and held <= splits("streamflow_kafka_offset")

    prometheus.until(shown, "a partition of those that are read holds event time back")


def test_output_is_published_again_and_again(prometheus: PrometheusServer) -> None:
    more = f'increase(streamflow_publications_total{{job="{PIPING}"}}[3s]) > 2'
    prometheus.until(lambda: prometheus.query(more), more)


def test_no_alert_is_raised(prometheus: PrometheusServer) -> None:
    assert prometheus.query('ALERTS{alertstate="firing"}') == []
    for name, rule in prometheus.rules().items():
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), name


def test_all_that_a_job_tells_is_shown_on_some_dashboard(prometheus: PrometheusServer) -> None:
    told = {name for name in prometheus.get("label/__name__/values") if name.startswith("streamflow_")}
    assert shown_by([KAFKA]) <= told <= shown_by(DASHBOARDS.values())
