"""The control plane as one thing: started in the order of its dependencies, stopped in reverse.

Or a given one: with KUBECONFIG and SLICEWISE_E2E_HOST (an address of this machine that the cluster's API server
reaches) etcd, kube-apiserver and kube-controller-manager are the cluster's; KWOK (for its own labelled nodes only)
and KEDA are started here.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.parts.apiserver import ApiServer, ControllerManager
from tests.e2e.parts.certificates import Certificates
from tests.e2e.parts.client import Access, Api
from tests.e2e.parts.etcd import Etcd
from tests.e2e.parts.keda import EXTERNAL_METRICS, Keda
from tests.e2e.parts.kwok import Kwok
from tests.e2e.parts.process import LOOPBACK
from tests.e2e.parts.tools import Tools


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """What a test needs of a running cluster."""

    tools: Tools
    folder: Path  #: of this run: logs, kubeconfigs, certificates
    api: Api  #: as cluster administrator
    kubeconfig: Path  #: of the administrator
    audit: Path | None  #: what the HPA asked, JSON lines; None in a given cluster

    @property
    def logs(self) -> Path:
        return self.folder / "logs"


def given_cluster() -> tuple[Path, str] | None:
    """KUBECONFIG and the host, if both are set: one alone is a developer's shell, not a wish."""
    kubeconfig, host = os.environ.get("KUBECONFIG"), os.environ.get("SLICEWISE_E2E_HOST")
    return (Path(kubeconfig), host) if kubeconfig and host else None


@contextmanager
def control_plane(tools: Tools, folder: Path) -> Iterator[ControlPlane]:
    """A ready cluster with KEDA and KWOK, for as long as the block runs."""
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    certificates = Certificates(folder / "certificates")
    given = given_cluster()
    with ExitStack() as stack:
        if given is None:
            host = LOOPBACK
            access, audit = _start_cluster(stack, tools, folder, certificates)
        else:
            access, host, audit = Access.read(given[0]), given[1], None
        kubeconfig = access.write(folder / "admin.kubeconfig")
        api = stack.enter_context(Api(access))
        if api.exists(EXTERNAL_METRICS):
            raise RuntimeError("this cluster serves external metrics already; the e2e tests bring their own KEDA")
        kwok = Kwok(tools, folder, kubeconfig)
        stack.callback(kwok.stop)
        kwok.up()
        keda = Keda(tools, folder, certificates, api, kubeconfig, host=host)
        stack.callback(api.delete, EXTERNAL_METRICS)
        stack.callback(keda.stop)
        keda.up()
        yield ControlPlane(tools, folder, api, kubeconfig, audit)


def _start_cluster(
    stack: ExitStack, tools: Tools, folder: Path, certificates: Certificates
) -> tuple[Access, Path | None]:
    """How the administrator reaches it, and the audit log."""
    etcd = Etcd(tools, folder)
    stack.callback(etcd.stop)
    etcd.up()
    server = ApiServer(tools, folder, certificates, etcd.url)
    stack.callback(server.stop)
    server.up()
    controllers = ControllerManager(tools, folder, certificates, server)
    stack.callback(controllers.stop)
    controllers.up()
    return server.access("admin", user="slicewise-e2e", group="system:masters"), server.audit
