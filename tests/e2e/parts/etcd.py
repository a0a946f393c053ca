"""etcd, alone and without fsync: the data live as long as the test run."""

from pathlib import Path
from typing import Self

from tests.e2e.parts.process import LOOPBACK, Process, answers, free_port
from tests.e2e.parts.tools import Tools


class Etcd(Process):
    url: str

    def __init__(self, tools: Tools, folder: Path) -> None:
        self.url = f"http://{LOOPBACK}:{free_port()}"
        peer = f"http://{LOOPBACK}:{free_port()}"
        super().__init__(
            name="etcd",
            logs=folder / "logs",
            argv=[
                tools.binary("etcd"),
                "--name=e2e",
                f"--data-dir={folder / 'etcd'}",
                f"--listen-client-urls={self.url}",
                f"--advertise-client-urls={self.url}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=e2e={peer}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
        )

    def up(self) -> Self:
        self.start().wait_ready(answers(f"{self.url}/readyz"))
        return self
