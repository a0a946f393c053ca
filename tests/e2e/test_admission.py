"""Nobody but the extender says where a pod's GPU is, asked of a real API server."""

from collections.abc import Iterator

import pytest

from tests.e2e.parts.client import Api, ApiError, Json
from tests.e2e.parts.controlplane import ControlPlane
from tests.e2e.parts.waiting import wait_for

pytestmark = pytest.mark.e2e
NAMESPACE = "admission"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
RECORD = {"slicewise.dev/allocation": "{}"}


def _pod(name: str, annotations: dict[str, str] | None = None, *, node: str = "") -> Json:
    slice_wanted = {"limits": {"slicewise.dev/gpu-slice": "1"}, "requests": {"slicewise.dev/gpu-slice": "1"}}
    spec: Json = {"schedulerName": "nobody", "containers": [{"name": "c", "image": "i", "resources": slice_wanted}]}
    if node:
        spec["nodeName"] = node
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": spec,
    }


@pytest.fixture(scope="module")
def api(plane: ControlPlane, base: None) -> Iterator[Api]:
    """A namespace of team `blue`, once the policy is in force there."""
    meta = {"name": NAMESPACE, "labels": {"slicewise.dev/tenant": "blue"}}
    plane.api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
    wait_for("the namespace has its account", lambda: plane.api.get(account), within_s=30)
    wait_for("the policy is in force", lambda: _refused(plane.api, _pod("probe", RECORD)), within_s=60)
    try:
        yield plane.api
    finally:
        plane.api.delete(f"/api/v1/namespaces/{NAMESPACE}")


def _refused(api: Api, pod: Json) -> str:
    """Why the API server does not take a pod; empty if it does (and then the pod is deleted again)."""
    try:
        api.create(PODS, pod)
    except ApiError as e:
        return str(e)
    api.delete(f"{PODS}/{pod['metadata']['name']}")
    return ""


def test_a_pod_cannot_bring_its_own_allocation(api: Api) -> None:
    assert "only the extender writes slicewise.dev/allocation" in _refused(api, _pod("forged", RECORD))


def test_a_pod_that_wants_a_slice_cannot_choose_its_node(api: Api) -> None:
    assert "leave spec.nodeName out" in _refused(api, _pod("jumper", node="some-node"))


def test_a_pod_cannot_call_itself_another_tenant(api: Api) -> None:
    assert "does not carry the label slicewise.dev/tenant=red" in _refused(
        api, _pod("spy", {"slicewise.dev/tenant": "red"})
    )
    assert _refused(api, _pod("own", {"slicewise.dev/tenant": "blue"})) == ""


def test_an_allocation_cannot_be_written_or_changed_later_nor_with_a_binding_of_ones_own(api: Api) -> None:
    api.create(PODS, _pod("plain"))
    with pytest.raises(ApiError, match="only the extender writes"):
        api.merge(f"{PODS}/plain", {"metadata": {"annotations": RECORD}})
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "plain", "annotations": RECORD},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "some-node"},
    }
    with pytest.raises(ApiError, match="only the extender writes"):
        api.create(f"{PODS}/plain/binding", binding)
