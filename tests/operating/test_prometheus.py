"""Dashboards and alerts against a real Prometheus that scrapes running jobs: one is well, one is not."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from deploy.grafana.checkpoints import CHECKPOINTS
from deploy.grafana.overview import OVERVIEW
from deploy.grafana.panels import Dashboard
from tests.operating.metric_names import shown_by
from tests.operating.panel_queries import assert_shows_data, filled_in, panels_of
from tests.operating.prometheus_server import PrometheusServer, program, running_prometheus
from tests.operating.running_jobs import TOKEN, healthy, running_jobs, sick

PANELS = panels_of(OVERVIEW, CHECKPOINTS)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    program("prometheus")
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    folder = tmp_path_factory.mktemp("prometheus")
    settings = {"checkpoint_dir": str(checkpoints), "checkpoint_interval": "300ms"}
    with (
        running_jobs(healthy(), sick(), healthy=settings) as addresses,
        running_prometheus(folder, addresses, TOKEN) as server,
    ):
        server.until(lambda: len(server.query("up == 1")) == 2, "both jobs are scraped")
        yield server


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_shows_data(prometheus: PrometheusServer, name: str) -> None:
    assert_shows_data(prometheus, PANELS[name], "healthy")


@pytest.mark.parametrize("dashboard", [OVERVIEW, CHECKPOINTS], ids=lambda each: each.title)
def test_marks_and_choices_can_be_asked_for(prometheus: PrometheusServer, dashboard: Dashboard) -> None:
    model = dashboard.model()
    for mark in model["annotations"]["list"]:
        assert prometheus.query(filled_in(mark["expr"], "healthy")) == [], "nothing has restarted"
    choices = {
        "job": ("streamflow_job_info", {"healthy", "sick"}),
        "operator": ('streamflow_records_in_total{job="sick"}', {"counts", "refusing"}),
    }
    for variable in model["templating"]["list"]:
        if variable["name"] in choices:
            series, expected = choices[variable["name"]]
            asked = variable["query"]["query"].replace("$job", "sick")
            assert asked == f"label_values({series}, {variable['name']})"
            offered = prometheus.get(f"label/{variable['name']}/values", **{"match[]": series})
            assert expected <= set(offered)


def test_every_alert_is_evaluated(prometheus: PrometheusServer) -> None:
    def evaluated() -> bool:
        return all(rule["health"] != "unknown" for rule in prometheus.rules().values())

    prometheus.until(evaluated, "every rule has been evaluated")
    for name, rule in prometheus.rules().items():
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), name
        prometheus.query(rule["query"])


def test_what_is_wrong_is_told_of_the_sick_job_only(prometheus: PrometheusServer) -> None:
    expected = {("StreamflowDeadLetters", "refusing"), ("StreamflowLateRecordsDropped", "counts")}

    def firing() -> set[tuple[str, str]]:
        raised = prometheus.query('ALERTS{alertstate="firing"}')
        assert {series["metric"]["job"] for series in raised} <= {"sick"}
        return {(each["metric"]["alertname"], each["metric"]["operator"]) for each in raised}

    prometheus.until(lambda: firing() == expected, str(expected))
    assert prometheus.query('ALERTS{job="healthy"}') == []
    (alert,) = prometheus.rules()["StreamflowDeadLetters"]["alerts"]
    assert alert["annotations"]["summary"] == "refusing of sick sorts out records"


def test_a_scrape_without_the_token_is_refused(prometheus: PrometheusServer) -> None:
    for target in prometheus.get("targets")["activeTargets"]:
        with pytest.raises(HTTPError, match="401"):
            urlopen(target["scrapeUrl"], timeout=10)


def test_all_that_a_job_tells_is_shown_on_some_dashboard(prometheus: PrometheusServer) -> None:
    told = {name for name in prometheus.get("label/__name__/values") if name.startswith("streamflow_")}
    assert told == shown_by([OVERVIEW, CHECKPOINTS])
