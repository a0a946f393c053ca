"""KWOK: fake kubelets. Nodes become ready, pods bound to them run, deleted pods end."""

from pathlib import Path
from typing import Final, Self

from tests.e2e.parts.process import LOOPBACK, Process, answers, free_port
from tests.e2e.parts.tools import Tools, module_folder

STAGES: Final = ("node/fast", "node/heartbeat-with-lease", "pod/fast")
#: Only nodes that carry this label are KWOK's: in a given cluster the others are real.
FAKE_NODE: Final = {"slicewise.dev/e2e": "fake"}


def _stages() -> str:
    folder = module_folder("kwok", "sigs.k8s.io/kwok") / "kustomize" / "stage"
    files = [path for stage in STAGES for path in sorted((folder / stage).glob("*.yaml"))]
    return "\n---\n".join(path.read_text() for path in files if path.name != "kustomization.yaml")


class Kwok(Process):
    def __init__(self, tools: Tools, folder: Path, kubeconfig: Path) -> None:
        config = folder / "kwok.yaml"
        config.write_text(_stages())
        address = f"{LOOPBACK}:{free_port()}"
        self._health = f"http://{address}/healthz"
        ((label, value),) = FAKE_NODE.items()
        super().__init__(
            name="kwok",
            logs=folder / "logs",
            argv=[
                tools.binary("kwok"),
                f"--kubeconfig={kubeconfig}",
                f"--config={config}",
                f"--manage-nodes-with-label-selector={label}={value}",
                "--manage-all-nodes=false",
                "--node-lease-duration-seconds=40",
                f"--server-address={address}",
            ],
        )

    def up(self) -> Self:
        self.start().wait_ready(answers(self._health))
        return self
