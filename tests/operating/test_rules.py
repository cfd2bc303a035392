"""The alert rules and the configuration, as promtool judges them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.operating.prometheus_server import CONFIGURATION, configured, program

RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((CONFIGURATION / "rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    checked = promtool("check", "config", configured(tmp_path, ["127.0.0.1:9249"], "0123456789abcdef"))
    assert checked.returncode == 0, checked.stderr


def test_the_rules_are_valid_without_a_warning() -> None:
    checked = promtool("check", "rules", "--lint-fatal", CONFIGURATION / "rules.yml")
    assert checked.returncode == 0, checked.stderr


def test_every_alert_fires_where_it_should_and_only_there() -> None:
    tested = promtool("test", "rules", CONFIGURATION / "rules_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def firings() -> list[tuple[dict[str, Any], dict[str, Any], set[str]]]:
    """(test, expectation, names of the alerts that fire then) of rules_test.yml."""
    cases = yaml.safe_load((CONFIGURATION / "rules_test.yml").read_text(encoding="utf-8"))["tests"]
    return [
        (case, expected, set(re.findall(r'alertname="(\w+)"', str(expected.get("exp_samples", "")))))
        for case in cases
        for expected in case["promql_expr_test"]
    ]


def test_each_alert_is_shown_firing() -> None:
    assert set().union(*(names for _, _, names in firings())) == set(RULES)


def test_the_rules_tests_fail_for_rules_that_never_fire(tmp_path: Path) -> None:
    silent = [{**rule, "expr": "vector(0) > 1"} for rule in RULES.values()]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "silent", "rules": silent}]}))
    (tmp_path / "rules_test.yml").write_bytes((CONFIGURATION / "rules_test.yml").read_bytes())
    tested = promtool("test", "rules", tmp_path / "rules_test.yml")
    assert tested.returncode != 0
    expected = "".join(line for line in tested.stderr.splitlines() if "exp: {" in line)
    assert set(re.findall(r'alertname="(\w+)"', expected)) == set(RULES)


def test_what_an_alert_says_can_be_filled_in(tmp_path: Path) -> None:
    # promtool compares whole texts: told to expect none, it shows what each alert says.
    cases = [
        {
            **case,
            "promql_expr_test": [],
            "alert_rule_test": [
                {"eval_time": expected["eval_time"], "alertname": name, "exp_alerts": []} for name in names
            ],
        }
        for case, expected, names in firings()
        if names
    ]
    test = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "rules.yml").write_bytes((CONFIGURATION / "rules.yml").read_bytes())
    (tmp_path / "rules_test.yml").write_text(yaml.safe_dump(test))
    shown = promtool("test", "rules", tmp_path / "rules_test.yml").stderr
    assert set(re.findall(r'Labels:\{alertname="(\w+)"', shown)) == set(RULES)
    assert not re.findall(r".*(?:error expanding|\{\{|<no value>|NaN|Inf).*", shown)


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_what_is_wrong_and_what_to_do(name: str) -> None:
    rule = RULES[name]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "action"}
    assert all(
        text.rstrip('"').endswith((".", "?")) for key, text in rule["annotations"].items() if key != "summary"
    )
    assert "{{" in rule["annotations"]["summary"], "which job?"


def test_the_documentation_lists_every_alert_with_its_severity() -> None:
    text = (CONFIGURATION.parents[1] / "docs" / "dashboards.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| (Streamflow\w+) \|.*\| (\w+) \|$", text, re.MULTILINE))
    assert listed == {name: rule["labels"]["severity"] for name, rule in RULES.items()}
