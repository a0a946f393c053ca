"""KEDA: the operator asks scalers and writes HPAs, the adapter answers the HPA as an aggregated API."""

import base64
from pathlib import Path
from typing import Final, Self

import yaml

from tests.e2e.parts.certificates import Certificates
from tests.e2e.parts.client import Api, Json
from tests.e2e.parts.process import LOOPBACK, Process, answers, free_port
from tests.e2e.parts.tools import Tools, module_folder
from tests.e2e.parts.waiting import wait_for

NAMESPACE: Final = "keda"
EXTERNAL_METRICS: Final = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"


class Keda:
    """Both programs. The API server reaches the adapter at `host`, everything else stays on loopback."""

    def __init__(
        self, tools: Tools, folder: Path, certificates: Certificates, api: Api, kubeconfig: Path, *, host: str
    ) -> None:
        certs = folder / "keda-certs"
        certs.mkdir()
        pair = certificates.issue(
            "keda", common_name="keda", hosts=("localhost", LOOPBACK, f"keda-adapter.{NAMESPACE}.svc")
        )
        for source, name in ((certificates.ca, "ca.crt"), (pair.certificate, "tls.crt"), (pair.key, "tls.key")):
            (certs / name).write_bytes(source.read_bytes())
        env = {
            "KUBECONFIG": str(kubeconfig),
            "POD_NAMESPACE": NAMESPACE,
            "WATCH_NAMESPACE": "",
            "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
        }
        metrics_service, probes = f"localhost:{free_port()}", f"{LOOPBACK}:{free_port()}"
        self._api, self._host, self._port, self._probes = api, host, free_port(), probes
        self._ca = certificates.ca
        self.operator = Process(
            name="keda-operator",
            logs=folder / "logs",
            env=env,
            argv=[
                tools.binary("keda-operator"),
                f"--cert-dir={certs}",
                f"--metrics-service-bind-address={metrics_service}",
                f"--health-probe-bind-address={probes}",
                f"--metrics-bind-address={LOOPBACK}:{free_port()}",
                "--enable-webhook-patching=false",
                "--enable-apiservice-patching=false",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
                "--zap-log-level=info",
            ],
        )
        self.adapter = Process(
            name="keda-adapter",
            logs=folder / "logs",
            env=env,
            argv=[
                tools.binary("keda-adapter"),
                f"--lister-kubeconfig={kubeconfig}",
                f"--authentication-kubeconfig={kubeconfig}",
                f"--authorization-kubeconfig={kubeconfig}",
                f"--client-ca-file={certificates.ca}",
                f"--tls-cert-file={pair.certificate}",
                f"--tls-private-key-file={pair.key}",
                f"--cert-dir={certs}",
                f"--metrics-service-address={metrics_service}",
                f"--bind-address={host}",
                f"--secure-port={self._port}",
                f"--port={free_port()}",  # its own metrics: no flag binds them to one address
            ],
        )

    def up(self) -> Self:
        crds = module_folder("keda", "github.com/kedacore/keda/v2") / "config" / "crd" / "bases"
        self._api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        for path in sorted(crds.glob("*.yaml")):
            if path.name != "kustomization.yaml":
                self._api.apply(yaml.safe_load(path.read_text()))
        wait_for("KEDA's kinds served", lambda: self._api.get("/apis/keda.sh/v1alpha1"), within_s=60)
        # The adapter first: an APIService that has failed its first check is asked again only half a minute later.
        self.operator.start()
        self.adapter.start()
        self.operator.wait_ready(answers(f"http://{self._probes}/readyz"), within_s=120)
        self.adapter.wait_ready(answers(f"https://{LOOPBACK}:{self._port}/readyz", ca=self._ca), within_s=120)
        for thing in self._registration():
            self._api.apply(thing)
        wait_for("external metrics available", self._available, within_s=120)
        return self

    def stop(self) -> None:
        self.adapter.stop()
        self.operator.stop()

    def _available(self) -> bool:
        conditions = self._api.get(EXTERNAL_METRICS).get("status", {}).get("conditions", [])
        return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)

    def _registration(self) -> list[Json]:
        """The adapter as server of external metrics, without a pod network: a Service that is a name for `host`."""
        service = {"name": "keda-adapter", "namespace": NAMESPACE}
        name = "localhost" if self._host == LOOPBACK else self._host
        rbac = "rbac.authorization.k8s.io"
        reader = "keda-external-metrics-reader"
        hpa = {"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": "kube-system"}
        return [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": service,
                "spec": {"type": "ExternalName", "externalName": name, "ports": [{"port": self._port}]},
            },
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": reader},
                "rules": [{"apiGroups": ["external.metrics.k8s.io"], "resources": ["*"], "verbs": ["get", "list"]}],
            },
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": reader},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": reader},
                "subjects": [hpa],
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": EXTERNAL_METRICS.rpartition("/")[2]},
                "spec": {
                    "group": "external.metrics.k8s.io",
                    "version": "v1beta1",
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "service": {**service, "port": self._port},
                    "caBundle": base64.b64encode(self._ca.read_bytes()).decode(),
                },
            },
        ]
