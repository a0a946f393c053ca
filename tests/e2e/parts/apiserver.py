"""kube-apiserver and kube-controller-manager: the cluster's memory and its loops (the HPA is one of them)."""

from pathlib import Path
from typing import Final, Self

import yaml

from tests.e2e.parts.certificates import Certificates
from tests.e2e.parts.client import Access
from tests.e2e.parts.process import LOOPBACK, Process, answers, free_port
from tests.e2e.parts.tools import Tools

# The HPA's default period is 15 s. Only the tests' patience depends on it, no assertion does.
HPA_PERIOD_S: Final = 5
HPA_ACCOUNT: Final = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
#: What the HPA asks, and who writes a scale, with the instants: when it synced is told nowhere else.
AUDIT: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "users": [HPA_ACCOUNT], "verbs": ["get", "list"]},
        {
            "level": "Metadata",
            "verbs": ["update", "patch"],
            "resources": [{"group": "apps", "resources": ["deployments/scale"]}],
        },
        {"level": "None"},
    ],
}


class ApiServer(Process):
    """RBAC, ServiceAccount tokens and the aggregation layer are on, as in any cluster."""

    url: str
    signing_key: Path
    audit: Path  # JSON lines

    def __init__(self, tools: Tools, folder: Path, certificates: Certificates, etcd_url: str) -> None:
        port = free_port()
        self.url = f"https://{LOOPBACK}:{port}"
        self.signing_key = certificates.signing_key("service-accounts")
        self._certificates = certificates
        serving = certificates.issue(
            "apiserver", common_name="kube-apiserver", hosts=("localhost", "kubernetes.default.svc", LOOPBACK)
        )
        proxy = certificates.issue("front-proxy", common_name="front-proxy-client")
        issuer = "https://kubernetes.default.svc"
        policy, self.audit = folder / "audit.yaml", folder / "logs" / "audit.jsonl"
        policy.write_text(yaml.safe_dump(AUDIT))
        super().__init__(
            name="kube-apiserver",
            logs=folder / "logs",
            argv=[
                tools.binary("kube-apiserver"),
                f"--etcd-servers={etcd_url}",
                f"--bind-address={LOOPBACK}",
                f"--advertise-address={LOOPBACK}",
                f"--secure-port={port}",
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--authorization-mode=RBAC",
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self.audit}",
                f"--client-ca-file={certificates.ca}",
                f"--tls-cert-file={serving.certificate}",
                f"--tls-private-key-file={serving.key}",
                f"--service-account-issuer={issuer}",
                f"--service-account-key-file={self.signing_key}",
                f"--service-account-signing-key-file={self.signing_key}",
                f"--requestheader-client-ca-file={certificates.ca}",
                "--requestheader-allowed-names=front-proxy-client",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-username-headers=X-Remote-User",
                f"--proxy-client-cert-file={proxy.certificate}",
                f"--proxy-client-key-file={proxy.key}",
            ],
        )

    def up(self) -> Self:
        self.start().wait_ready(answers(f"{self.url}/readyz", ca=self._certificates.ca), within_s=120)
        return self

    def access(self, file_stem: str, *, user: str, group: str | None = None) -> Access:
        """A client certificate for `user` of `group`."""
        pair = self._certificates.issue(file_stem, common_name=user, organization=group)
        return Access(
            server=self.url,
            ca=self._certificates.ca.read_bytes(),
            certificate=pair.certificate.read_bytes(),
            key=pair.key.read_bytes(),
        )


class ControllerManager(Process):
    """Deployments, ReplicaSets, DaemonSets, garbage collection, token controller, HPA."""

    def __init__(self, tools: Tools, folder: Path, certificates: Certificates, server: ApiServer) -> None:
        access = server.access("controller-manager", user="system:kube-controller-manager")
        kubeconfig = access.write(folder / "controller-manager.kubeconfig")
        port = free_port()
        self._health = f"https://{LOOPBACK}:{port}/healthz"
        serving = certificates.issue("controller-manager-serving", common_name="localhost", hosts=(LOOPBACK,))
        self._ca = certificates.ca
        super().__init__(
            name="kube-controller-manager",
            logs=folder / "logs",
            argv=[
                tools.binary("kube-controller-manager"),
                f"--kubeconfig={kubeconfig}",
                f"--authentication-kubeconfig={kubeconfig}",
                f"--authorization-kubeconfig={kubeconfig}",
                f"--bind-address={LOOPBACK}",
                f"--secure-port={port}",
                f"--tls-cert-file={serving.certificate}",
                f"--tls-private-key-file={serving.key}",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={server.signing_key}",
                f"--root-ca-file={certificates.ca}",
                "--leader-elect=false",
                f"--horizontal-pod-autoscaler-sync-period={HPA_PERIOD_S}s",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
            ],
        )

    def up(self) -> Self:
        self.start().wait_ready(answers(self._health, ca=self._ca), within_s=120)
        return self
