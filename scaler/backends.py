"""The kinds of backends that the settings may name: where they are, how to log in, and who may use them."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

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
    ca_file: Path | None = Field(default=None, description="Who signed its certificate; default: the system's.")


class ScrapeBackend(Backend):
    """The pods' own /metrics, asked directly: no Prometheus is needed. Pods are found through the Kubernetes API."""

    roles = frozenset({"metrics"})

    kind: Literal["scrape"]
    port: int | None = Field(default=None, ge=1, le=65535, description="Port of /metrics; default: the preset's.")
    path: str | None = Field(default=None, pattern=r"^/[^\s?#]*$", description="Path of it; default: the preset's.")


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
