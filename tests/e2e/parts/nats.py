"""NATS with JetStream as Debian packages it, with a user and a password."""

from pathlib import Path
from typing import Any, Final, Self

import httpx

from tests.e2e.parts.certificates import KeyPair
from tests.e2e.parts.process import LOOPBACK, Process, answers, free_port

USER, PASSWORD = "slicewise", "opensesame"
ADMIN, ADMIN_PASSWORD = "admin", "letmein"


PASSWORDS: Final = f"""
authorization {{
  users = [
    {{ user: "{ADMIN}", password: "{ADMIN_PASSWORD}" }}
    {{ user: "{USER}", password: "{PASSWORD}", permissions: {{
        publish: ["$JS.API.CONSUMER.INFO.tasks.>", "$JS.API.CONSUMER.INFO.gone.>"], subscribe: ["_INBOX.>"] }} }}
  ]
}}
"""


class Nats(Process):
    """`login`: who may do what; by PASSWORDS, USER may only look at consumers, ADMIN may do everything."""

    def __init__(self, folder: Path, *, login: str = PASSWORDS, tls: KeyPair | None = None) -> None:
        port, monitoring = free_port(), free_port()
        self.url = f"{'tls' if tls else 'nats'}://{LOOPBACK}:{port}"
        self.monitoring = f"http://{LOOPBACK}:{monitoring}"
        own = folder / f"nats-{port}"
        own.mkdir(parents=True)
        (folder / "logs").mkdir(exist_ok=True)
        secured = f'tls {{ cert_file: "{tls.certificate}", key_file: "{tls.key}" }}' if tls else ""
        config = own / "nats.conf"
        config.write_text(
            f"""
listen: "{LOOPBACK}:{port}"
http: "{LOOPBACK}:{monitoring}"
jetstream {{ store_dir: "{own}" }}
{secured}
{login}
"""
        )
        super().__init__(name=f"nats-{port}", logs=folder / "logs", argv=["nats-server", "-c", config])

    def up(self) -> Self:
        self.start().wait_ready(answers(f"{self.monitoring}/healthz"), within_s=20)
        return self

    def consumer(self, stream: str, consumer: str) -> dict[str, Any]:
        """What the monitoring endpoint says of a consumer."""
        answer = httpx.get(f"{self.monitoring}/jsz", params={"consumers": "true"}, timeout=5.0).raise_for_status()
        for account in answer.json()["account_details"]:
            for told in account["stream_detail"]:
                for one in told.get("consumer_detail") or []:
                    if (one["stream_name"], one["name"]) == (stream, consumer):
                        return dict(one)
        raise AssertionError(f"no consumer {consumer} of {stream} in {answer.text}")
