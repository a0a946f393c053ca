"""Slicewise as it is installed: the programs of manifests/base as processes, with their accounts and configuration.

Only what must differ on loopback is overlaid: addresses, kubeconfigs, periods, the GPUs of fake nodes.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.parts.accounts import account_access
from tests.e2e.parts.client import Json
from tests.e2e.parts.controlplane import ControlPlane
from tests.e2e.parts.kustomize import MANIFESTS, build, container, find, overlaid
from tests.e2e.parts.nodes import add_nodes, remove_nodes
from tests.e2e.parts.process import LOOPBACK, Process, answers, free_port
from tests.e2e.parts.waiting import wait_for
from tests.e2e.placements import INVENTORY
from tests.e2e.record import Listener, Shelf, recording_grpc, recording_http
from tests.e2e.tape import Tape

SLICEWISE: Final = Path(sys.executable).parent / "slicewise"
BASE: Final = build(MANIFESTS / "base")
SCALER_CONFIG: Final = "--config=/etc/slicewise/config.yaml"
TICK_S: Final = 2  # the scaler evaluates every 15 s as shipped


def shipped_config(name: str) -> Json:
    """The configuration file in a ConfigMap of the base."""
    config: Json = yaml.safe_load(find(BASE, "ConfigMap", name)["data"]["config.yaml"])
    return config


def shipped_command(kind: str, name: str, part: str) -> tuple[list[str | Path], dict[str, str]]:
    """The command and the literal environment of a container of the base."""
    described = container(find(BASE, kind, name), part)
    env = {entry["name"]: entry["value"] for entry in described.get("env", []) if "value" in entry}
    return [SLICEWISE, *described["args"]], env


def scheduler_config(*, extender: str, kubeconfig: Path, names_only: bool) -> Json:
    """The shipped KubeSchedulerConfiguration, asking the extender at this URL."""
    shipped = shipped_config("slicewise-scheduler")
    (described,) = shipped["extenders"]
    asked = {**described, "urlPrefix": extender, "nodeCacheCapable": names_only}
    return overlaid(shipped, {"clientConnection": {"kubeconfig": str(kubeconfig)}, "extenders": [asked]})


def mig(count: int = 1) -> list[str]:
    """An agent's arguments for a node with A100 GPUs to be cut into MIG slices."""
    return [f"--fake=a100-80:{count}"]


def mps(count: int = 1) -> list[str]:
    """…shared through MPS."""
    return [f"--fake=a100-80:{count}:mig-off", "--mps-gpus=all"]


def whole(count: int = 1) -> list[str]:
    """…given away whole."""
    return [f"--fake=a100-80:{count}:mig-off"]


@dataclass(slots=True)
class Installation:
    """The running programs; a test may kill and start each of them again."""

    extender: Process
    scheduler: Process
    scaler: Process
    agents: Mapping[str, Process]  # by node
    scaler_address: str  # what triggers name
    extender_ready: Callable[[], bool]
    scaler_ready: Callable[[], bool]

    def start_extender(self) -> None:
        self.extender.start().wait_ready(self.extender_ready)

    def start_scaler(self) -> None:
        self.scaler.start().wait_ready(self.scaler_ready)


@contextmanager
def installation(
    plane: ControlPlane,
    *,
    prometheus_url: str,
    gpus: Mapping[str, Sequence[str]],
    cpus: int = 64,
    names_only: bool = True,
    tape: Tape | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Installation]:
    """Nodes with an agent each, extender, kube-scheduler and scaler, for as long as the block runs.

    `gpus`: by node name, the arguments that tell its agent which GPUs there are. `cpus`: of each node. `names_only`:
    kube-scheduler sends the names of nodes, as shipped, or (False) whole nodes. `tape`: hears what both send.
    `settings`: of the extender, as an overlay of the base would set them.
    """
    folder = plane.folder / f"installation-{free_port()}"
    folder.mkdir()
    with ExitStack() as stack:
        add_nodes(plane.api, *gpus, cpus=cpus)
        stack.callback(remove_nodes, plane.api, *gpus)
        parts = _Parts(plane, folder)
        extender, extender_url, extender_ready = parts.extender(settings)
        scaler, scaler_address, scaler_ready = parts.scaler(prometheus_url)
        scheduler_asks, keda_asks = extender_url, scaler_address
        of_scheduler, of_keda = _listeners(tape)
        if of_scheduler and of_keda:
            scheduler_asks = stack.enter_context(recording_http(extender_url, of_scheduler))
            keda_asks = stack.enter_context(recording_grpc(scaler_address, of_keda))
        running = Installation(
            extender=extender,
            scaler=scaler,
            scheduler=parts.scheduler(scheduler_asks, names_only=names_only),
            agents={node: parts.agent(node, fake) for node, fake in gpus.items()},
            scaler_address=keda_asks,
            extender_ready=extender_ready,
            scaler_ready=scaler_ready,
        )
        for process in (*running.agents.values(), running.scheduler, running.extender, running.scaler):
            stack.callback(process.stop)
        for agent in running.agents.values():
            agent.start()
        running.start_extender()
        running.start_scaler()
        running.scheduler.start()
        for node in gpus:
            wait_for(f"inventory of {node} published", partial(_published, plane, node), within_s=60)
        yield running


def _listeners(tape: Tape | None) -> tuple[list[Listener], list[Listener]]:
    """Who hears what kube-scheduler sends, and what KEDA sends."""
    of_scheduler, of_keda = list[Listener](), list[Listener]()
    if tape is not None:
        of_scheduler.append(tape.scheduler_asked)
        of_keda.append(tape.keda_asked)
    if (record := os.environ.get("SLICEWISE_RECORD")) is not None:
        of_scheduler.append(Shelf(Path(record) / "scheduler", "json"))
        of_keda.append(Shelf(Path(record) / "keda", "hex"))
    return of_scheduler, of_keda


def _published(plane: ControlPlane, node: str) -> bool:
    return INVENTORY in plane.api.get(f"/api/v1/nodes/{node}")["metadata"].get("annotations", {})


@dataclass(frozen=True, slots=True)
class _Parts:
    """Makes each program's process, with a kubeconfig of its own account."""

    plane: ControlPlane
    folder: Path

    def kubeconfig(self, name: str, account: str, *, node: str | None = None) -> Path:
        return account_access(self.plane.api, account, node=node).write(self.folder / f"{name}.kubeconfig")

    def process(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str]) -> Process:
        return Process(name=f"{self.folder.name}-{name}", argv=argv, env=env, logs=self.plane.logs)

    def extender(self, settings: Mapping[str, str]) -> tuple[Process, str, Callable[[], bool]]:
        argv, env = shipped_command("Deployment", "slicewise-scheduler", "extender")
        port, metrics_port = free_port(), free_port()
        overlay = {
            "SLICEWISE_EXTENDER_PORT": str(port),
            "SLICEWISE_EXTENDER_METRICS_HOST": LOOPBACK,
            "SLICEWISE_EXTENDER_METRICS_PORT": str(metrics_port),
            "SLICEWISE_EXTENDER_KUBECONFIG": str(self.kubeconfig("extender", "slicewise-scheduler")),
        }
        ready = answers(f"http://{LOOPBACK}:{metrics_port}/readyz")
        env |= {f"SLICEWISE_EXTENDER_{name}": value for name, value in settings.items()}
        return self.process("extender", argv, env | overlay), f"http://{LOOPBACK}:{port}", ready

    def scheduler(self, extender_url: str, *, names_only: bool) -> Process:
        kubeconfig = self.kubeconfig("scheduler", "slicewise-scheduler")
        config = self.folder / "scheduler.yaml"
        described = scheduler_config(extender=extender_url, kubeconfig=kubeconfig, names_only=names_only)
        config.write_text(yaml.safe_dump(described))
        argv: list[str | Path] = [
            self.plane.tools.binary("kube-scheduler"),
            f"--config={config}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={free_port()}",
            f"--cert-dir={self.folder}",
        ]
        return self.process("scheduler", argv, {})

    def scaler(self, prometheus_url: str) -> tuple[Process, str, Callable[[], bool]]:
        address, metrics_address = f"{LOOPBACK}:{free_port()}", f"{LOOPBACK}:{free_port()}"
        overlay = {
            "listen": address,
            "metrics_listen": metrics_address,
            "kubeconfig": str(self.kubeconfig("scaler", "slicewise-scaler")),
            "backends": {"default": prometheus_url},
            "tick_s": TICK_S,
        }
        config = self.folder / "scaler.yaml"
        config.write_text(yaml.safe_dump(overlaid(shipped_config("slicewise-scaler"), overlay)))
        argv, env = shipped_command("Deployment", "slicewise-scaler", "scaler")
        argv[argv.index(SCALER_CONFIG)] = f"--config={config}"
        return self.process("scaler", argv, env), address, partial(_serves, address)

    def agent(self, node: str, fake: Sequence[str]) -> Process:
        argv, env = shipped_command("DaemonSet", "slicewise-agent", "agent")
        kubeconfig = self.kubeconfig(f"agent-{node}", "slicewise-agent", node=node)
        argv.extend([f"--node={node}", f"--kubeconfig={kubeconfig}", *fake])
        return self.process(f"agent-{node}", argv, env)


def _serves(address: str) -> bool:
    """A kubelet's gRPC probe."""
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
    serving: bool = answer.status == health_pb2.HealthCheckResponse.SERVING
    return serving
