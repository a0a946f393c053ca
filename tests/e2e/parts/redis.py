"""Redis as Debian packages it, with a user and a password, on plain TCP or by TLS."""

import subprocess
from pathlib import Path
from typing import Self

from tests.e2e.parts.certificates import KeyPair
from tests.e2e.parts.process import LOOPBACK, Process, free_port

USER, PASSWORD = "slicewise", "opensesame"


class Redis(Process):
    """`user`: may only look; the default user, for tests, may do everything and needs no password."""

    def __init__(self, folder: Path, *, tls: KeyPair | None = None, ca: Path | None = None) -> None:
        self.port = free_port()
        own = folder / f"redis-{self.port}"
        own.mkdir(parents=True)
        (folder / "logs").mkdir(exist_ok=True)
        looks = "+type +llen +zcard +zcount +scard +hlen +scan +dbsize +xinfo +xpending +xrange +ping +client +hello"
        lines = [
            f"bind {LOOPBACK}",
            f"dir {own}",
            "save ''",
            "enable-debug-command local",
            "appendonly yes",  # what was written is there after a kill
            "appendfsync always",
            f"user {USER} on >{PASSWORD} ~* resetchannels -@all {looks}",
        ]
        if tls is None:
            lines.append(f"port {self.port}")
        else:
            lines += ["port 0", f"tls-port {self.port}", f"tls-cert-file {tls.certificate}", f"tls-key-file {tls.key}"]
            lines += [f"tls-ca-cert-file {ca}", "tls-auth-clients no"]
        self._tls = [] if tls is None else ["--tls", "--cacert", str(ca)]
        config = own / "redis.conf"
        config.write_text("\n".join(lines) + "\n")
        super().__init__(name=f"redis-{self.port}", logs=folder / "logs", argv=["redis-server", config])

    @property
    def url(self) -> str:
        return f"{'rediss' if self._tls else 'redis'}://{LOOPBACK}:{self.port}/0"

    def up(self) -> Self:
        self.start().wait_ready(lambda: self.cli("PING") == "PONG", within_s=20)
        return self

    def cli(self, *command: str | float) -> str:
        """What redis-cli prints."""
        argv = ["redis-cli", "-h", LOOPBACK, "-p", str(self.port), *self._tls, *map(str, command)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
