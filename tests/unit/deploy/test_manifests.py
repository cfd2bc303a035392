"""The manifests for Kubernetes: fields that there are, settings that there are, secrets by reference only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from streamflow.cli.main import main
from streamflow.config import Settings
from tests.unit.deploy.crd_schema import mistakes, rayjob, within
from tests.unit.deploy.manifests import FOLDER, ROOT, PodTemplate, objects, pod_templates

HEAD = ("spec", "rayClusterSpec", "headGroupSpec")
CONTAINERFILE = (FOLDER / "Containerfile").read_text(encoding="utf-8")
TEMPLATES = pod_templates()
JOB_TEMPLATES = [each for each in TEMPLATES if "STREAMFLOW_CONTROL_PORT" in each.environment]

any_pod = pytest.mark.parametrize("pod", TEMPLATES, ids=lambda pod: pod.place)
job_pod = pytest.mark.parametrize("pod", JOB_TEMPLATES, ids=lambda pod: pod.place)


def of_kind(kind: str) -> list[dict[str, Any]]:
    found = [each for each in objects() if each["kind"] == kind]
    assert found
    return found


@any_pod
def test_a_pod_has_only_fields_that_there_are(pod: PodTemplate) -> None:
    assert list(mistakes(pod.content, within(rayjob(), *HEAD, "template"), pod.place)) == []


def test_a_service_has_only_fields_that_there_are() -> None:
    for service in of_kind("Service"):
        assert list(mistakes(service, within(rayjob(), *HEAD, "headService"))) == []


def test_a_misspelt_field_a_wrong_type_and_a_missing_one_are_found() -> None:
    schema = within(rayjob(), *HEAD, "template")
    pod: dict[str, Any] = {
        "spec": {"containers": [{"image": "a", "command": "streamflow"}], "restartpolicy": "Never"}
    }
    assert sorted(mistakes(pod, schema)) == [
        ".spec.containers[0].command: 'streamflow' is no array",
        ".spec.containers[0].name: is missing",
        ".spec.restartpolicy: there is no such field",
    ]


@any_pod
def test_a_pod_has_no_rights_that_it_does_not_need(pod: PodTemplate) -> None:
    spec, rights = pod.content["spec"], pod.container["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["capabilities"] == {"drop": ["ALL"]}


@any_pod
def test_a_pod_says_how_much_memory_it_takes(pod: PodTemplate) -> None:
    resources = pod.container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


@job_pod
def test_a_pod_that_ends_has_time_for_a_last_checkpoint(pod: PodTemplate) -> None:
    assert pod.content["spec"]["terminationGracePeriodSeconds"] >= 60
    assert "lifecycle" not in pod.container


@any_pod
def test_no_secret_stands_in_a_manifest(pod: PodTemplate) -> None:
    for each in pod.container.get("env", ()):
        if re.search("TOKEN|KEY|SECRET|PASSWORD", each["name"]):
            assert each["value"].startswith("file:/"), each["name"]


def test_the_template_of_the_secrets_has_no_values() -> None:
    for secret in of_kind("Secret"):
        assert set(secret["stringData"].values()) == {""}
        assert "data" not in secret


@any_pod
def test_secrets_that_a_pod_names_are_those_of_the_template(pod: PodTemplate) -> None:
    secrets = {each["metadata"]["name"]: set(each["stringData"]) for each in of_kind("Secret")}
    mounted: dict[str, str] = {
        each["name"]: each["secret"]["secretName"]
        for each in pod.content["spec"].get("volumes", ())
        if "secret" in each
    }
    assert {each["secretRef"]["name"] for each in pod.container.get("envFrom", ())} <= secrets.keys()
    folders = {
        Path(each["mountPath"]): secrets[mounted[each["name"]]]
        for each in pod.container.get("volumeMounts", ())
        if each["name"] in mounted
    }
    for value in pod.environment.values():
        if value.startswith("file:"):
            path = Path(value.removeprefix("file:"))
            assert path.name in folders[path.parent]


@any_pod
def test_variables_are_settings(pod: PodTemplate) -> None:
    given = {
        name.removeprefix("STREAMFLOW_").lower() for name in pod.environment if name.startswith("STREAMFLOW_")
    }
    assert given <= set(Settings.names())
    plain = {name: value for name, value in pod.environment.items() if not value.startswith("file:")}
    Settings.resolve(environ=plain)


@pytest.mark.parametrize(
    "pod", [each for each in JOB_TEMPLATES if "args" in each.container], ids=lambda pod: pod.place
)
def test_the_command_is_one_that_there_is(pod: PodTemplate, capsys: pytest.CaptureFixture[str]) -> None:
    command, job, *flags = pod.container["args"]
    assert main([command, "--help"]) == 0
    usage = capsys.readouterr().out
    assert [flag for flag in flags if flag.partition("=")[0] not in usage] == []
    assert re.search(rf"^COPY \$\{{JOB\}} {job}$", CONTAINERFILE, re.MULTILINE)
    values = [flag for flag in flags if flag.startswith("--set=")]
    assert main(["plan", str(ROOT / _job_of_the_image()), *values]) == 0


def _job_of_the_image() -> str:
    found = re.search(r"^ARG JOB=(.+)$", CONTAINERFILE, re.MULTILINE)
    assert found
    return found[1]


@job_pod
def test_probes_ask_the_file_that_the_image_has(pod: PodTemplate) -> None:
    probes = {name: each["exec"]["command"] for name, each in pod.container.items() if name.endswith("Probe")}
    assert probes["livenessProbe"][2] == "healthz"
    for program, path, *_ in probes.values():
        assert program == "python"
        assert f"COPY deploy/kubernetes/probe.py {path}\n" in CONTAINERFILE


def test_one_process_is_ready_when_its_job_runs() -> None:
    ((_, pod),) = pod_templates("one-process.yaml")
    (container,) = pod["spec"]["containers"]
    assert container["readinessProbe"]["exec"]["command"][2:] == ["readyz"]
    assert container["startupProbe"]["exec"]["command"][2:] == ["healthz"]
    (stateful_set,) = objects("one-process.yaml")
    assert stateful_set["kind"] == "StatefulSet"
    assert stateful_set["spec"]["replicas"] == 1
    assert stateful_set["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


@job_pod
def test_the_service_leads_to_the_ports_of_the_job(pod: PodTemplate) -> None:
    (service,) = of_kind("Service")
    assert service["spec"]["selector"].items() <= pod.content["metadata"]["labels"].items()
    assert service["spec"]["type"] == "ClusterIP"
    listening = {each["name"]: each["containerPort"] for each in pod.container["ports"]}
    for port in service["spec"]["ports"]:
        assert listening[port["targetPort"]] == port["port"]
        assert pod.environment[f"STREAMFLOW_{port['name'].upper()}_PORT"] == str(port["port"])
        assert f"STREAMFLOW_{port['name'].upper()}_TOKEN" in pod.environment
    assert pod.content["metadata"]["annotations"]["prometheus.io/port"] == str(listening["metrics"])


@any_pod
def test_the_network_policy_is_for_every_pod(pod: PodTemplate) -> None:
    for policy in of_kind("NetworkPolicy"):
        chosen = policy["spec"]["podSelector"]["matchLabels"]
        if "streamflow/role" not in chosen:
            assert chosen.items() <= pod.content["metadata"]["labels"].items()


def test_the_network_policy_names_who_may_come_in() -> None:
    (service,) = of_kind("Service")
    ports = {each["port"] for each in service["spec"]["ports"]}
    (policy,) = objects("network-policy.yaml")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    opened = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert opened == ports
    assert all(rule["from"] for rule in policy["spec"]["ingress"])


def test_the_image_is_built_from_what_is_in_the_repository() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.MULTILINE)
    for name in " ".join(copied).replace("${JOB}", _job_of_the_image()).split():
        assert (ROOT / name).exists(), name
    installs = [line for line in CONTAINERFILE.splitlines() if "pip install" in line and ".lock" in line]
    assert installs
    assert all("--require-hashes" in line for line in installs)
    user = re.findall(r"^USER (\d+):\d+$", CONTAINERFILE, re.MULTILINE)
    assert user
    assert int(user[-1]) > 0
    assert set(re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE)) == {"python:3.11-slim"}
