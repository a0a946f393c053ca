"""What the ServiceAccounts of the manifests may do, asked of a real API server."""

from collections.abc import Iterator

import pytest

from tests.e2e.parts.accounts import account_access
from tests.e2e.parts.client import Api, ApiError, Json
from tests.e2e.parts.controlplane import ControlPlane
from tests.e2e.parts.nodes import add_nodes, remove_nodes
from tests.e2e.parts.waiting import wait_for

pytestmark = pytest.mark.e2e
NODES = ("accounts-1", "accounts-2")
LEASES = "/apis/coordination.k8s.io/v1/namespaces/slicewise/leases"


@pytest.fixture
def agent(plane: ControlPlane, base: None) -> Iterator[Api]:
    """The API as the agent of the first node sees it."""
    add_nodes(plane.api, *NODES)
    try:
        with Api(account_access(plane.api, "slicewise-agent", node=NODES[0])) as api:
            wait_for("the policy is in force", lambda: not _may(api, NODES[1], INVENTORY), within_s=60)
            yield api
    finally:
        remove_nodes(plane.api, *NODES)


INVENTORY: Json = {"metadata": {"annotations": {"slicewise.dev/inventory": "{}"}}}


def _may(api: Api, node: str, change: Json) -> bool:
    try:
        api.merge(f"/api/v1/nodes/{node}", change)
    except ApiError as e:
        if e.status in {403, 422}:
            return False
        raise
    return True


def _lease(name: str) -> Json:
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {}}


def test_an_agent_writes_the_annotations_of_its_own_node_and_nothing_else(agent: Api) -> None:
    assert _may(agent, NODES[0], INVENTORY)
    assert not _may(agent, NODES[1], INVENTORY)
    assert not _may(agent, NODES[0], {"metadata": {"labels": {"nvidia.com/gpu.present": "true"}}})
    assert not _may(agent, NODES[0], {"spec": {"taints": []}})


def test_an_agent_holds_the_lease_of_its_own_node_only(plane: ControlPlane, agent: Api) -> None:
    agent.create(LEASES, _lease(NODES[0]))
    try:
        for other in (NODES[1], "slicewise-scheduler"):
            with pytest.raises(ApiError, match="an agent may write its own node and its own Lease"):
                agent.create(LEASES, _lease(other))
    finally:
        plane.api.delete(f"{LEASES}/{NODES[0]}")


@pytest.mark.parametrize(
    ("account", "verb", "attributes", "allowed"),
    [
        pytest.param("scaler", "get", ("keda.sh", "scaledobjects"), True, id="the scaler reads what is scaled"),
        pytest.param("scaler", "list", ("apps", "deployments"), True, id="the scaler reads how many there are"),
        pytest.param("scaler", "update", ("apps", "deployments/scale"), False, id="the scaler scales nothing itself"),
        pytest.param("scaler", "get", ("", "secrets"), False, id="the scaler reads no secrets"),
        pytest.param("scheduler", "create", ("", "pods/binding"), True, id="the extender binds"),
        pytest.param("scheduler", "watch", ("", "nodes"), True, id="the extender watches nodes"),
        pytest.param("scheduler", "patch", ("", "nodes"), False, id="the extender changes no node"),
        pytest.param("scheduler", "get", ("", "secrets"), False, id="the scheduler reads no secrets"),
        pytest.param("agent", "list", ("", "nodes"), False, id="an agent does not see all nodes"),
        pytest.param("agent", "get", ("", "pods"), False, id="an agent reads no pods"),
        pytest.param("agent", "delete", ("coordination.k8s.io", "leases"), False, id="an agent deletes no Lease"),
    ],
)
def test_an_account_may_do_its_work_and_no_more(
    plane: ControlPlane, base: None, account: str, verb: str, attributes: tuple[str, str], *, allowed: bool
) -> None:
    group, resource = attributes
    resource, _, part = resource.partition("/")
    asked = {"verb": verb, "group": group, "resource": resource, "subresource": part, "namespace": "slicewise"}
    user = f"system:serviceaccount:slicewise:slicewise-{account}"
    groups = ["system:serviceaccounts", "system:serviceaccounts:slicewise", "system:authenticated"]
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"resourceAttributes": asked, "user": user, "groups": groups},
    }
    answer = plane.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    assert answer["status"]["allowed"] is allowed
