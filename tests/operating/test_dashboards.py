"""The dashboards as Grafana reads them: complete, in place, explained, and the same as the programs that write them."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
import yaml

from deploy.grafana.__main__ import DASHBOARDS, FOLDER, text
from deploy.grafana.preview import draw
from tests.operating.panel_queries import panels_of

PROVISIONING = Path(__file__).parents[2] / "deploy" / "grafana" / "provisioning"
MODELS: dict[str, dict[str, Any]] = {name: dashboard.model() for name, dashboard in DASHBOARDS.items()}
PANELS = panels_of(*DASHBOARDS.values())

# Units that Grafana knows by these names (https://grafana.com/docs: standard options, units).
UNITS = {"none", "short", "s", "bytes", "binBps", "cps", "ops", "percentunit"}


def loaded(path: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PROVISIONING / path).read_text(encoding="utf-8"))
    assert content["apiVersion"] == 1
    return content


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_file_is_what_the_program_writes(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == text(DASHBOARDS[name]), "python -m deploy.grafana"


def test_there_are_no_other_files() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(DASHBOARDS)


@pytest.mark.parametrize("name", MODELS)
def test_a_dashboard_can_be_found_and_chosen_from(name: str) -> None:
    model = MODELS[name]
    assert re.fullmatch(r"[a-z-]{8,40}", model["uid"])
    assert [variable["name"] for variable in model["templating"]["list"]] == ["datasource", "job", "operator"]
    assert json.loads(text(DASHBOARDS[name])) == model, "nothing in it that JSON changes"
    for key in ("id", "title"):
        assert len({panel[key] for panel in model["panels"]}) == len(model["panels"])


def test_no_two_dashboards_have_the_same_uid_or_title() -> None:
    for key in ("uid", "title"):
        assert len({model[key] for model in MODELS.values()}) == len(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_panels_lie_on_the_grid_and_not_on_each_other(name: str) -> None:
    places = [panel["gridPos"] for panel in MODELS[name]["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_explains_itself(name: str) -> None:
    panel = PANELS[name]
    assert panel["type"] in {"timeseries", "stat", "bargauge"}
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert 'job="$job"' in target["expr"]
        assert target["instant"] != target["range"]


@pytest.mark.parametrize("name", PANELS)
def test_a_legend_names_labels_that_its_query_keeps(name: str) -> None:
    for target in PANELS[name]["targets"]:
        asked = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        kept = re.match(r"(?:(?:top|bottom)k\(4, )?(?:sum|max|min|count) by \(([^)]*)\)", target["expr"])
        if kept is not None:
            assert asked == set(kept[1].split(", ")), target
        elif re.match(r"(?:time\(\) - )?(?:sum|max|min|count)\(", target["expr"]):
            assert not asked, target


def test_grafana_is_told_of_prometheus_and_of_the_dashboards() -> None:
    (source,) = loaded("datasources/prometheus.yml")["datasources"]
    for model in MODELS.values():
        chosen = model["templating"]["list"][0]
        assert (chosen["query"], chosen["current"]["value"]) == (source["type"], source["uid"])
    prometheus = Path(__file__).parents[2] / "deploy" / "prometheus" / "prometheus.yml"
    scraping = yaml.safe_load(prometheus.read_text(encoding="utf-8"))["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraping

    (provider,) = loaded("dashboards/streamflow.yml")["providers"]
    compose = yaml.safe_load((PROVISIONING.parents[2] / "docker-compose.yml").read_text(encoding="utf-8"))
    grafana, place = compose["services"]["grafana"], provider["options"]["path"]
    assert f"./deploy/grafana/dashboards:{place}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in {f"{place}/{name}" for name in DASHBOARDS}
    assert source["url"] == "http://prometheus:9090"


def test_a_preview_shows_every_panel_with_its_figures() -> None:
    for dashboard in DASHBOARDS.values():
        drawn = fromstring(
            draw(dashboard.model(), lambda target: [(f"<{target['refId']}>", [(0, 1.0), (1, 3.0)])])
        )
        texts = [each.text or "" for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
        assert {panel["title"] for panel in dashboard.model()["panels"]} <= {
            text.lstrip("⌄ ") for text in texts
        }
        assert "no data" not in texts
        empty = draw(dashboard.model(), lambda _: [])
        panels = [panel for panel in dashboard.model()["panels"] if panel["type"] in {"stat", "timeseries"}]
        assert empty.count("no data") == len(panels)
