"""The kinds of backends that the settings may name: where they are, how to log in, and who may use them."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from scaler.access import Access, Role


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
    PrometheusBackend | ScrapeBackend,
    Field(discriminator="kind"),
    BeforeValidator(_in_full),
]
"""One of the kinds, told apart by `kind`; without it, a Prometheus."""
