"""The manifest for KubeRay: fields that there are, and the facts without which a stream in Ray does not come back."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest

from streamflow.cli.main import main
from tests.unit.deploy.crd_schema import mistakes, rayjob
from tests.unit.deploy.manifests import FOLDER, ROOT, objects

(JOB,) = objects("rayjob.yaml")
SPEC: dict[str, Any] = JOB["spec"]
CLUSTER: dict[str, Any] = SPEC["rayClusterSpec"]
GROUPS: dict[str, dict[str, Any]] = {each["groupName"]: each for each in CLUSTER["workerGroupSpecs"]}
ENTRYPOINT = shlex.split(SPEC["entrypoint"])


def _value(flag: str) -> str:
    return ENTRYPOINT[ENTRYPOINT.index(flag) + 1]


def test_it_has_only_fields_that_there_are() -> None:
    assert list(mistakes(JOB, rayjob())) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"entrypointNumCpu": 1}, ".spec.entrypointNumCpu: there is no such field"),
        ({"backoffLimit": "20"}, ".spec.backoffLimit: '20' is no integer"),
        ({"rayClusterSpec": {}}, ".spec.rayClusterSpec.headGroupSpec: is missing"),
        (
            {"rayClusterSpec": CLUSTER | {"authOptions": {"mode": "tls"}}},
            ".spec.rayClusterSpec.authOptions.mode: 'tls' is none of ['disabled', 'token']",
        ),
    ],
)
def test_a_mistake_in_it_would_be_found(change: dict[str, Any], found: str) -> None:
    assert list(mistakes({**JOB, "spec": {**SPEC, **change}}, rayjob())) == [found]


def test_nothing_of_the_job_runs_on_the_head() -> None:
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert SPEC["entrypointNumCpus"] > 0


def test_the_driver_has_a_pod_of_its_own() -> None:
    wanted = json.loads(SPEC["entrypointResources"])
    quoted = GROUPS["coordinator"]["rayStartParams"]["resources"]
    assert json.loads(json.loads(quoted)) == wanted
    assert GROUPS["coordinator"]["replicas"] == GROUPS["coordinator"]["maxReplicas"] == 1
    assert GROUPS["coordinator"]["rayStartParams"]["num-cpus"] == str(SPEC["entrypointNumCpus"])
    assert "resources" not in GROUPS["worker"]["rayStartParams"]


def test_there_is_a_pod_for_each_worker() -> None:
    assert _value("--runner") == "ray"
    worker = GROUPS["worker"]
    assert worker["replicas"] == worker["minReplicas"] == worker["maxReplicas"] == int(_value("--processes"))
    assert worker["rayStartParams"]["num-cpus"] == "1"


def test_a_job_that_fails_is_begun_again_by_kuberay_from_checkpoints_that_all_pods_reach() -> None:
    assert SPEC["submissionMode"] == "K8sJobMode"
    assert SPEC["backoffLimit"] >= 1
    assert SPEC["shutdownAfterJobFinishes"] is True
    assert "activeDeadlineSeconds" not in SPEC
    assert _value("--checkpoint-dir").startswith("s3://")
    assert "gcsFaultToleranceOptions" not in CLUSTER
    assert CLUSTER["enableInTreeAutoscaling"] is False


def test_the_cluster_asks_for_a_token_and_has_the_version_of_the_image() -> None:
    assert CLUSTER["authOptions"] == {"mode": "token"}
    containerfile = (FOLDER / "Containerfile").read_text(encoding="utf-8")
    version = re.search(r"^ARG RAY=(\S+)$", containerfile, re.MULTILINE)
    assert version
    assert CLUSTER["rayVersion"] == version[1]


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS.keys())
def test_a_group_lets_a_worker_end(group: dict[str, Any]) -> None:
    spec = group["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= 60
    for container in spec["containers"]:
        assert "preStop" not in container.get("lifecycle", {})


def test_a_pod_is_ready_before_the_job_is() -> None:
    """KubeRay submits the job once all pods are ready: a pod that waited for the job would wait for ever."""
    for group in [CLUSTER["headGroupSpec"], *GROUPS.values()]:
        (container,) = group["template"]["spec"]["containers"]
        assert "readinessProbe" not in container
        assert "startupProbe" not in container
    (driver,) = GROUPS["coordinator"]["template"]["spec"]["containers"]
    assert driver["livenessProbe"]["exec"]["command"][2:] == ["healthz", "--unless-absent"]


def test_its_command_is_one_that_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    program, name, command, job, *flags = ENTRYPOINT
    assert (program, name, job) == ("exec", "streamflow", "/job/job.py")
    assert main([command, "--help"]) == 0
    usage = capsys.readouterr().out
    assert [flag for flag in flags if flag.startswith("--") and flag not in usage] == []


def test_the_pods_of_the_job_reach_one_another_and_the_operator_the_head() -> None:
    among, head = (each["spec"] for each in objects("network-policy-ray.yaml"))
    assert among["ingress"] == [{"from": [{"podSelector": among["podSelector"]}]}]
    assert among["egress"] == [{"to": [{"podSelector": among["podSelector"]}]}]
    labels = CLUSTER["headGroupSpec"]["template"]["metadata"]["labels"]
    assert head["podSelector"]["matchLabels"].items() <= labels.items()
    assert [port["port"] for rule in head["ingress"] for port in rule["ports"]] == [8265]


def test_the_page_on_clusters_is_there() -> None:
    assert (ROOT / "docs" / "cluster.md").is_file()
