"""The kinds of backends that the settings may name: where they are, how to log in, and who may use them."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from scaler.access import Access, Role, leak


class Backend(BaseModel):
    """What all kinds share. Secrets stand in files, which are read when they are needed and never logged."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    roles: ClassVar[frozenset[Role]]

    namespaces: tuple[str, ...] | None = Field(
        default=None, description="The namespaces whose triggers may use it; left out: all."
    )

    @property
    def access(self) -> Access:
        return Access(roles=self.roles, namespaces=self.namespaces)


class PrometheusBackend(Backend):
    """One Prometheus, or what speaks its HTTP API."""

    roles = frozenset({"metrics"})

    kind: Literal["prometheus"] = "prometheus"
    url: str = Field(pattern=r"^https?://[^\s/?#]+[^\s?#]*$", description="Where /api/v1/query lies.")
    token_file: Path | None = Field(default=None, description="File with a bearer token; read for each request.")
    username_file: Path | None = Field(default=None, description="File with the name for basic authentication.")
    password_file: Path | None = Field(default=None, description="File with the password that goes with it.")
    ca_file: Path | None = Field(default=None, description="Who signed its certificate; default: the system's.")
    certificate_file: Path | None = Field(default=None, description="Our own certificate, where it asks for one.")
    key_file: Path | None = Field(default=None, description="The key of that certificate.")
    largest_mib: int = Field(
        default=64, ge=1, le=1024, description="Of one answer, so that no answer can take all our memory."
    )

    @model_validator(mode="after")
    def _logs_in_one_way(self) -> Self:
        faults = []
        if (self.username_file is None) != (self.password_file is None):
            faults.append("username_file and password_file go together; set both or none")
        if (self.certificate_file is None) != (self.key_file is None):
            faults.append("certificate_file and key_file go together; set both or none")
        if self.token_file is not None and self.username_file is not None:
            faults.append("token_file and username_file are two ways to log in; set one")
        if faults:
            raise ValueError("; ".join(faults))
        return self


class GatewayPlace(BaseModel):
    """A workload whose pods' /metrics tell of other workloads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description="Where its pods are.")
    workload: str = Field(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", description="Its Deployment, StatefulSet, …")
    port: int = Field(ge=1, le=65535, description="Port of its /metrics.")
    path: str = Field(default="/metrics", pattern=r"^/[^\s?#]*$", description="Path of it.")


class ScrapeBackend(Backend):
    """The pods' own /metrics, asked directly: no Prometheus is needed. Pods are found through the Kubernetes API."""

    roles = frozenset({"metrics"})

    kind: Literal["scrape"]
    port: int | None = Field(default=None, ge=1, le=65535, description="Port of /metrics; default: the preset's.")
    path: str | None = Field(default=None, pattern=r"^/[^\s?#]*$", description="Path of it; default: the preset's.")
    token_file: Path | None = Field(
        default=None, description="File with a bearer token for /metrics; read for each round."
    )
    gateway: GatewayPlace | None = Field(
        default=None,
        description="What stands in front of the pods: asked for agent_requests_waiting and agent_sessions_active, and "
        "for everything where the preset is a gateway's (LiteLLM, Dynamo, endpoint picker).",
    )


def _keeps_apart(pattern: str) -> str:
    if (why := leak(pattern)) is not None:
        raise ValueError(why)
    return pattern


HostPort = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$")]
NatsUrl = Annotated[str, Field(pattern=r"^(nats|tls)://[^\s/?#@]+$")]
Names = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_keeps_apart)]


class MessageBroker(Backend):
    """What message queues share. No address takes `user:password@`: it would stand in errors about the address.

    All files are read whenever a connection is made, so that what they hold may be renewed.
    """

    roles = frozenset({"backlog"})

    names: tuple[Names, ...] = Field(
        min_length=1,
        description="Which topics, queues, streams or keys triggers may name: '*' is any text, {namespace} the "
        "trigger's own, such as '{namespace}.*'. Write ['*'] where tenants may see each other's.",
    )
    username_file: Path | None = Field(default=None, description="File with the user's name.")
    password_file: Path | None = Field(default=None, description="File with the user's password.")
    ca_file: Path | None = Field(default=None, description="Who signed its certificate; default: the system's.")
    certificate_file: Path | None = Field(default=None, description="Our own certificate, where one is wanted.")
    key_file: Path | None = Field(default=None, description="The key that belongs to certificate_file.")

    @property
    def access(self) -> Access:
        return Access(roles=self.roles, namespaces=self.namespaces, names=self.names)

    @property
    def encrypted(self) -> bool:
        """Whether its address says that it is reached by TLS."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        faults = []
        if (self.certificate_file is None) != (self.key_file is None):
            faults.append("certificate_file and key_file go together; set both or none")
        if self.username_file is not None and self.password_file is None:
            faults.append("username_file needs password_file")
        if not self.encrypted and (self.ca_file is not None or self.certificate_file is not None):
            faults.append("ca_file and certificate_file are for TLS, and the address is one without")
        faults += self._faults()
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _faults(self) -> list[str]:
        """What else does not go together."""
        return []


class KafkaBackend(MessageBroker):
    """A Kafka cluster: how far consumer groups are behind."""

    kind: Literal["kafka"]
    servers: tuple[HostPort, ...] = Field(min_length=1, description="HOST:PORT of some brokers; all others are found.")
    tls: bool = Field(default=False, description="Reach the brokers by TLS.")
    sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="How to log in with username_file and password_file; default: not at all."
    )
    offset_reset: Literal["earliest", "latest"] | None = Field(
        default=None,
        description="The consumers' auto.offset.reset, which brokers do not know: where a group begins in a partition "
        "in which it has committed nothing, or whose committed offset is gone. With earliest all of it waits, with "
        "latest nothing does; without this setting the group's lag is missing.",
    )
    max_partitions: int = Field(
        default=2000, ge=1, le=100_000, description="A topic of more partitions is refused: the work is bounded."
    )

    @property
    def encrypted(self) -> bool:
        return self.tls

    def _faults(self) -> list[str]:
        together = (self.sasl is None) == (self.username_file is None)
        return [] if together else ["sasl, username_file and password_file go together; set all or none"]


class RabbitmqBackend(MessageBroker):
    """A virtual host of RabbitMQ, through the HTTP API of its management plugin."""

    kind: Literal["rabbitmq"]
    url: str = Field(
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$",
        description="Where the management API lies, such as https://rabbitmq.messages:15671.",
    )
    vhost: str = Field(default="/", min_length=1, max_length=255, description="The virtual host of the queues.")

    @property
    def encrypted(self) -> bool:
        return self.url.startswith("https:")

    def _faults(self) -> list[str]:
        wanted = "username_file and password_file are missing: the management API answers nobody without a user"
        return [wanted] if self.username_file is None else []


class NatsBackend(MessageBroker):
    """An account of NATS with JetStream."""

    kind: Literal["nats"]
    servers: tuple[NatsUrl, ...] = Field(min_length=1, description="Such as tls://nats.messages:4222.")
    token_file: Path | None = Field(default=None, description="File with a token, in place of a user.")
    credentials_file: Path | None = Field(
        default=None, description="A .creds file (a JWT and its NKey), in place of a user."
    )
    domain: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_-]+$", description="JetStream's domain, if not the account's own."
    )

    @property
    def encrypted(self) -> bool:
        return any(server.startswith("tls:") for server in self.servers)

    def _faults(self) -> list[str]:
        ways = [name for name in ("username_file", "token_file", "credentials_file") if getattr(self, name) is not None]
        return [f"{' and '.join(ways)}: want one way to log in"] if len(ways) > 1 else []


class RedisBackend(MessageBroker):
    """A database of Redis: lists and streams as message queues, keys as live sessions."""

    roles = frozenset({"backlog", "sessions"})

    kind: Literal["redis"]
    url: str = Field(
        pattern=r"^rediss?://[^\s/?#@]+(/[0-9]{1,5})?$",
        description="redis://HOST:PORT/DATABASE, or rediss:// for TLS.",
    )
    in_work: str | None = Field(
        default=None,
        pattern=r"^[^{}]*\{name\}[^{}]*$",
        description="The list to which consumers move what they take of a list (LMOVE, BLMOVE), such as "
        "'{name}:processing'. Without it what is in work is not known, and the workload is never scaled down.",
    )
    popped_is_done: bool = Field(
        default=False, description="In place of in_work: what has been popped from a list needs no replica any more."
    )
    session_scores: Literal["none", "expires_s", "expires_ms", "seen_s", "seen_ms"] = Field(
        default="none",
        description="What the scores of a sorted set of sessions are: the Unix time at which each ends, or was seen "
        "last, in seconds or milliseconds. Those that are over are not counted; with none, all members are.",
    )
    session_idle_s: float = Field(
        default=1800.0, gt=0, description="A session that was seen longer ago is over (for seen_s and seen_ms)."
    )
    max_keys: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="A pattern of keys is counted by walking over the database, which is refused where it holds more.",
    )

    @property
    def encrypted(self) -> bool:
        return self.url.startswith("rediss:")

    def _faults(self) -> list[str]:
        both = self.in_work is not None and self.popped_is_done
        return ["in_work and popped_is_done say different things of what was popped; leave one out"] if both else []


class Dependency(BaseModel):
    """Something that agents call, such as a vector database or a model's endpoint: how slow, and how often it fails.

    Triggers name it in `dependsOn`; above either bound, workloads that depend on it do not grow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: str = Field(default="default", description="The Prometheus that has its metrics: a name of backends.")
    latency_query: str = Field(min_length=1, description="PromQL that yields one number: the latency [s].")
    latency_s: float = Field(gt=0, description="Up to this latency it is well.")
    error_query: str = Field(min_length=1, description="PromQL that yields one number: the share of calls that fail.")
    error_share: float = Field(gt=0, le=1, description="Up to this share it is well.")


def _in_full(backend: Any) -> Any:  # noqa: ANN401  # what stands in a settings file: anything at all
    """An address alone is a Prometheus, and so is what does not name its kind."""
    if isinstance(backend, str):
        return {"kind": "prometheus", "url": backend}
    return {"kind": "prometheus", **backend} if isinstance(backend, dict) else backend


AnyBackend = Annotated[
    PrometheusBackend | ScrapeBackend | KafkaBackend | RabbitmqBackend | NatsBackend | RedisBackend,
    Field(discriminator="kind"),
    BeforeValidator(_in_full),
]
"""One of the kinds, told apart by `kind`; without it, a Prometheus."""
