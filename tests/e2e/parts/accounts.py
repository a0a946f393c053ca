"""The ServiceAccounts of the manifests, as our programs use them: short-lived tokens, bound as a kubelet's would be."""

from typing import Final

from tests.e2e.parts.client import Access, Api, Json

NAMESPACE: Final = "slicewise"
TOKEN_S: Final = 7200  # longer than any run


def account_access(api: Api, account: str, *, node: str | None = None) -> Access:
    """Access as a ServiceAccount; `node`: the token says that its pod runs there, as a kubelet's tokens do."""
    spec: Json = {"expirationSeconds": TOKEN_S}
    if node is not None:
        uid = api.get(f"/api/v1/nodes/{node}")["metadata"]["uid"]
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = api.create(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token", request)
    return Access(server=api.access.server, ca=api.access.ca, token=answer["status"]["token"])
