"""The manifests agree with each other and with the code, as far as that can be seen without a cluster."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from extender.placement.demand import PREFIX, SLICE
from tests.e2e.parts.client import Json
from tests.e2e.parts.kustomize import MANIFESTS, build, container, find

BASE = build(MANIFESTS / "base")
EXAMPLES = ("agents", "queues")
AGENTS = [thing for name in EXAMPLES for thing in build(MANIFESTS / "examples" / name)]
WORKLOADS = [thing for thing in AGENTS if thing["kind"] == "Deployment"]
SCALED = [thing for thing in AGENTS if thing["kind"] == "ScaledObject"]


def pod_specs() -> Iterator[Any]:
    for thing in [*BASE, *AGENTS]:
        if thing["kind"] in {"Deployment", "DaemonSet"}:
            yield pytest.param(thing["spec"]["template"]["spec"], id=f"{thing['kind']} {thing['metadata']['name']}")


def roles() -> Iterator[Any]:
    for thing in BASE:
        if thing["kind"] in {"Role", "ClusterRole"}:
            yield pytest.param(thing, id=f"{thing['kind']} {thing['metadata']['name']}")


def scheduler_config() -> Json:
    config: Json = yaml.safe_load(find(BASE, "ConfigMap", "slicewise-scheduler")["data"]["config.yaml"])
    return config


def test_every_file_of_the_folders_is_used() -> None:
    for folder in (MANIFESTS / "base", *(MANIFESTS / "examples" / name for name in EXAMPLES)):
        listed = set(yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"])
        assert listed == {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}


def test_no_two_objects_have_the_same_name() -> None:
    names = [(t["kind"], t["metadata"].get("namespace"), t["metadata"]["name"]) for t in [*BASE, *AGENTS]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("role", list(roles()))
def test_no_role_has_a_wildcard(role: Json) -> None:
    for rule in role["rules"]:
        assert "*" not in [*rule["verbs"], *rule.get("apiGroups", []), *rule.get("resources", [])]


def test_every_binding_names_a_role_and_an_account_of_ours_or_a_built_in_role() -> None:
    names = {(t["kind"], t["metadata"]["name"]) for t in BASE}
    for binding in (t for t in BASE if t["kind"].endswith("Binding") and "roleRef" in t):
        role = (binding["roleRef"]["kind"], binding["roleRef"]["name"])
        assert role in names or re.match(r"system:|extension-apiserver-authentication-reader", role[1])
        for subject in binding["subjects"]:
            assert (subject["kind"], subject["name"]) in names
            assert subject["namespace"] == "slicewise"


@pytest.mark.parametrize("spec", list(pod_specs()))
def test_every_container_is_restricted(spec: Json) -> None:
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for c in spec["containers"]:
        assert c["securityContext"]["allowPrivilegeEscalation"] is False
        assert c["securityContext"]["readOnlyRootFilesystem"] is True
        assert c["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("spec", list(pod_specs()))
def test_every_container_says_what_it_needs_and_is_probed_where_it_serves(spec: Json) -> None:
    for c in spec["containers"]:
        assert c["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in c["resources"]["limits"]
        assert ("readinessProbe" in c) == ("ports" in c)  # an agent serves nothing; its Lease tells whether it lives


def test_the_service_reaches_the_scaler() -> None:
    service, deployment = find(BASE, "Service", "slicewise-scaler"), find(BASE, "Deployment", "slicewise-scaler")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in container(deployment, "scaler")["ports"]}
    for port in service["spec"]["ports"]:
        assert ports[port["targetPort"]] == port["port"]


@pytest.mark.parametrize("scaled", [pytest.param(s, id=s["metadata"]["name"]) for s in SCALED])
def test_a_scaled_object_names_the_service_and_a_workload(scaled: Json) -> None:
    service = find(BASE, "Service", "slicewise-scaler")
    port = next(p["port"] for p in service["spec"]["ports"] if p["name"] == "grpc")
    address = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{port}"
    assert [t["metadata"]["scalerAddress"] for t in scaled["spec"]["triggers"]] == [address]
    assert scaled["spec"]["scaleTargetRef"]["name"] in {w["metadata"]["name"] for w in WORKLOADS}
    behavior = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"]["tolerance"] == behavior["scaleDown"]["tolerance"] == "0"
    assert scaled["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"


def test_the_scheduler_asks_the_extender_for_our_resource() -> None:
    config = scheduler_config()
    (extender,) = config["extenders"]
    assert extender["managedResources"] == [{"name": SLICE, "ignoredByScheduler": True}]
    assert extender["nodeCacheCapable"] is True
    assert extender["ignorable"] is False
    assert [profile["schedulerName"] for profile in config["profiles"]] == ["slicewise-scheduler"]
    lease = config["leaderElection"]
    rules = find(BASE, "Role", "slicewise-scheduler")["rules"]
    assert any(lease["resourceName"] in rule.get("resourceNames", []) for rule in rules)


@pytest.mark.parametrize("workload", [pytest.param(w, id=w["metadata"]["name"]) for w in WORKLOADS])
def test_a_workload_asks_our_scheduler_for_slices(workload: Json) -> None:
    template = workload["spec"]["template"]
    assert template["spec"]["schedulerName"] == "slicewise-scheduler"
    assert SLICE in template["spec"]["containers"][0]["resources"]["limits"]
    assert any(key.startswith(PREFIX) for key in template["metadata"]["annotations"])
    priorities = {thing["metadata"]["name"] for thing in BASE if thing["kind"] == "PriorityClass"}
    assert template["spec"]["priorityClassName"] in priorities
