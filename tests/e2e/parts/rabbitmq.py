"""RabbitMQ with its management plugin as Debian packages it: a node of its own, apart from a system's service."""

import json
import subprocess
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

import httpx

from tests.e2e.parts.process import LOOPBACK, Process, free_port

USER, PASSWORD = "slicewise", "opensesame"
PROGRAMS: Final = Path("/usr/lib/rabbitmq/bin")  # those in the path change to a system user first


class Rabbitmq(Process):
    """The node and its epmd (Erlang's port mapper), which a node would otherwise leave behind as a daemon."""

    def __init__(self, folder: Path) -> None:
        epmd, self.port, api, distribution = free_port(), free_port(), free_port(), free_port()
        self.api = f"http://{LOOPBACK}:{api}"
        own = folder / f"rabbitmq-{self.port}"
        own.mkdir(parents=True)
        (folder / "logs").mkdir(exist_ok=True)
        (own / "plugins").write_text("[rabbitmq_management].\n")
        (own / "rabbitmq.conf").write_text(
            f"""
listeners.tcp.1 = {LOOPBACK}:{self.port}
management.tcp.ip = {LOOPBACK}
management.tcp.port = {api}
default_user = {USER}
default_pass = {PASSWORD}
# By default 5000: the tests need not wait for it.
collect_statistics_interval = 200
"""
        )
        env = {
            "HOME": str(own),  # of the cookie
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(own),
            "RABBITMQ_MNESIA_BASE": str(own / "mnesia"),
            "RABBITMQ_NODENAME": f"slicewise-{self.port}@localhost",
            "RABBITMQ_PID_FILE": str(own / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the node, which then hears our signals
        }
        logs = folder / "logs"
        self._epmd = Process(
            name=f"epmd-{epmd}", logs=logs, argv=["epmd", "-address", LOOPBACK, "-port", str(epmd)], env=env
        )
        super().__init__(name=f"rabbitmq-{self.port}", logs=logs, argv=[PROGRAMS / "rabbitmq-server"], env=env)

    def up(self) -> Self:
        if not self._epmd.running:
            self._epmd.start()
        self.start().wait_ready(lambda: self.get("/api/health/checks/local-alarms")["status"] == "ok", within_s=150)
        return self

    def down(self) -> None:
        self.kill()
        self._epmd.kill()

    def get(self, path: str) -> dict[str, str]:
        answer = httpx.get(f"{self.api}{path}", auth=(USER, PASSWORD), timeout=5.0)
        return dict(answer.json()) if answer.is_success else {"status": str(answer.status_code)}

    def declare(self, *queues: str, **arguments: str) -> None:
        body = {"durable": True, "arguments": {f"x-{name}": value for name, value in arguments.items()}}
        with httpx.Client(base_url=self.api, auth=(USER, PASSWORD), timeout=5.0) as client:
            for queue in queues:
                client.put(f"/api/queues/%2F/{quote(queue, safe='')}", json=body).raise_for_status()

    def add_onlooker(self, user: str, password: str) -> None:
        """A user who may see a virtual host's queues, and neither read nor write nor configure any."""
        with httpx.Client(base_url=self.api, auth=(USER, PASSWORD), timeout=5.0) as client:
            client.put(f"/api/users/{user}", json={"password": password, "tags": "management"}).raise_for_status()
            nothing = {"configure": "^$", "write": "^$", "read": "^$"}
            client.put(f"/api/permissions/%2F/{user}", json=nothing).raise_for_status()

    def listed(self) -> dict[str, tuple[int, int]]:
        """Ready and unacknowledged messages by queue, as rabbitmqctl lists them."""
        columns = ("name", "messages_ready", "messages_unacknowledged")
        answer = subprocess.run(
            [PROGRAMS / "rabbitmqctl", "--quiet", "list_queues", *columns, "--formatter", "json"],
            env={"PATH": "/usr/bin:/bin", **self.env},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return {q["name"]: (q["messages_ready"], q["messages_unacknowledged"]) for q in json.loads(answer.stdout)}
