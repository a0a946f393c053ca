"""Kafka as one KRaft broker, from the jars that install-brokers brings: plain, by SASL, and by SASL over TLS."""

import subprocess
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives import serialization

from tests.e2e.parts.certificates import KeyPair
from tests.e2e.parts.process import LOOPBACK, Process, free_port
from tests.e2e.parts.tools import Tools

USER, PASSWORD = "slicewise", "opensesame"
CLUSTER_ID: Final = "c2xpY2V3aXNlLWthZmthMQ"  # any 16 bytes in base64


class Kafka(Process):
    """`servers`: without a login; `sasl`: PLAIN; `sasl_tls`: SCRAM-SHA-256 and SCRAM-SHA-512 over TLS."""

    def __init__(self, tools: Tools, folder: Path, tls: KeyPair) -> None:
        ports = [free_port() for _ in range(4)]
        self.servers, self.sasl, self.sasl_tls, controller = (f"{LOOPBACK}:{port}" for port in ports)
        self._java = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", f"{tools.folder / 'kafka'}/*"]
        self._own = folder / f"kafka-{ports[0]}"
        self._own.mkdir(parents=True)
        (folder / "logs").mkdir(exist_ok=True)
        pem = self._own / "server.pem"
        pem.write_bytes(_pkcs8(tls.key) + tls.certificate.read_bytes())
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
        self._config = self._own / "server.properties"
        self._config.write_text(
            f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
controller.listener.names=CONTROLLER
listeners=PLAIN://{self.servers},SASL://{self.sasl},SASLTLS://{self.sasl_tls},CONTROLLER://{controller}
listener.security.protocol.map=PLAIN:PLAINTEXT,SASL:SASL_PLAINTEXT,SASLTLS:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAIN
listener.name.sasl.sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config={plain} required user_{USER}="{PASSWORD}";
listener.name.sasltls.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasltls.scram-sha-256.sasl.jaas.config={scram} required;
listener.name.sasltls.scram-sha-512.sasl.jaas.config={scram} required;
listener.name.sasltls.ssl.keystore.type=PEM
listener.name.sasltls.ssl.keystore.location={pem}
log.dirs={self._own / "data"}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""
        )
        super().__init__(
            name=f"kafka-{ports[0]}",
            logs=folder / "logs",
            argv=[*self._java, "kafka.Kafka", self._config],
        )

    def up(self) -> Self:
        if not (self._own / "data").exists():
            scram = [f"SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]" for bits in (256, 512)]
            added = [part for one in scram for part in ("--add-scram", one)]
            self.tool("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self._config), *added)
        before = self.log.stat().st_size if self.log.exists() else 0
        self.start().wait_ready(lambda: b"Kafka Server started" in self.log.read_bytes()[before:], within_s=90)
        return self

    def tool(self, main: str, *arguments: str) -> str:
        """What one of Kafka's own command-line tools prints."""
        answer = subprocess.run(
            [*self._java, main, *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def lag(self, group: str, topic: str) -> int:
        """The group's lag by kafka-consumer-groups."""
        main = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
        table = self.tool(main, "--bootstrap-server", self.servers, "--describe", "--group", group).splitlines()
        rows = [line.split() for line in table if line.split()[:2] == [group, topic]]
        return sum(int(row[5]) for row in rows if row[5] != "-")


def _pkcs8(key: Path) -> bytes:
    """The only form in which Kafka reads keys."""
    parsed = serialization.load_pem_private_key(key.read_bytes(), password=None)
    return parsed.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
