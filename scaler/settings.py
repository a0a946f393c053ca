"""Settings of the scaler's process: command line over environment over file over defaults."""

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from scaler.backends import AnyBackend, Dependency, PrometheusBackend

PREFIX: Final = "SLICEWISE_SCALER_"


class SettingsError(ValueError):
    """The settings break their rules; one line a fault."""


class Address(BaseModel):
    """HOST:PORT; port 0 takes any free one."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int = Field(ge=0, le=65535)

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, text: object) -> object:
        if not isinstance(text, str):
            return text
        host, colon, port = text.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit()):
            raise ValueError("want HOST:PORT, such as 127.0.0.1:9090 or [::]:9090")
        return {"host": host.removeprefix("[").removesuffix("]"), "port": int(port)}

    @property
    def is_loopback(self) -> bool:
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Settings(BaseSettings):
    """Unit in the name, reason in the description. All can be set as SLICEWISE_SCALER_NAME; tables as JSON."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    listen: Annotated[Address, NoDecode] = Field(
        default=Address(host="127.0.0.1", port=9090),
        validate_default=True,
        description="Where KEDA asks. Loopback unless told otherwise: what is served decides about replicas.",
    )
    metrics_listen: Annotated[Address, NoDecode] = Field(
        default=Address(host="127.0.0.1", port=9091), description="Where Prometheus scrapes our own /metrics."
    )
    plaintext: bool = Field(
        default=False,
        description="Serve KEDA without TLS on an address other than loopback. Only where the network is trusted.",
    )
    tls_certificate: Path | None = Field(
        default=None, description="PEM file; renewed files are picked up by themselves."
    )
    tls_key: Path | None = Field(default=None, description="PEM file that belongs to tls_certificate.")
    tls_client_ca: Path | None = Field(
        default=None, description="PEM file: who signs clients' certificates. With it, clients without one are refused."
    )
    backends: Mapping[str, AnyBackend] = Field(
        default={},
        description="What triggers may ask, by name: Prometheus servers, direct scrapes, message queues. Triggers "
        "never name addresses: a tenant's metadata would then choose whom we connect to.",
    )
    dependencies: Mapping[str, Dependency] = Field(
        default={},
        description="What agents depend on, by the name that triggers put into dependsOn: where it is slow or failing, "
        "more agents would only wait with the others.",
    )
    kubernetes: bool = Field(
        default=True,
        description="Read replicas and scale targets from the Kubernetes API. Without it triggers must name their "
        "workload, and replicas are asked of kube-state-metrics.",
    )
    kubeconfig: Path | None = Field(
        default=None,
        description="How to reach the API; default: the pod's ServiceAccount, $KUBECONFIG, ~/.kube/config.",
    )
    tick_s: float = Field(
        default=15.0,
        ge=0.1,
        le=300,
        description="Time between evaluations: the HPA's period, and no more than scrapes bring.",
    )
    delay_s: float = Field(
        default=1.0,
        ge=0,
        le=30,
        description="How long after its instant an evaluation reads it, so that the scrapes of that instant are in for "
        "every replica of the scaler.",
    )
    query_timeout_s: float = Field(default=5.0, gt=0, le=60, description="For one question to a backend.")
    queries_at_once: int = Field(
        default=8, ge=1, le=64, description="Questions to a backend at once; Prometheus runs 20 queries by default."
    )
    source_timeout_s: float = Field(
        default=10.0, gt=0, le=120, description="For all that a tick asks of a backend; then it is missing."
    )
    first_answer_s: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="How long the first call about a trigger waits for its first evaluation: KEDA sets no deadline.",
    )
    forget_after_s: float = Field(
        default=900.0,
        ge=30,
        description="A trigger that nobody asks for this long is no longer evaluated: KEDA does not say when one is "
        "gone, and a paused one keeps its memory for a while.",
    )
    max_objects: int = Field(
        default=5000, ge=1, description="Triggers at most, so that memory and queries are bounded."
    )
    repeat_s: float = Field(
        default=15.0, gt=0, description="An activation is pushed again after this time, as long as nothing runs."
    )
    max_connection_age_s: float = Field(
        default=300.0,
        gt=1,
        description="KEDA looks our addresses up again when a connection ends; only then new pods get calls.",
    )
    drain_s: float = Field(
        default=2.0, ge=0, le=60, description="After SIGTERM, answer for so long while the endpoints forget us."
    )
    log_format: Literal["json", "text"] = Field(default="json", description="json for machines, text for people.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least to be told.")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        faults = []
        if (self.tls_certificate is None) != (self.tls_key is None):
            faults.append("tls_certificate and tls_key go together; set both or none")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            faults.append("tls_client_ca needs tls_certificate and tls_key")
        if self.tls_certificate is None and not self.listen.is_loopback and not self.plaintext:
            faults.append(
                f"listen is {self.listen}, not loopback: set tls_certificate and tls_key, or say plaintext where the "
                "network is trusted"
            )
        if not self.backends:
            faults.append("backends is empty; name at least one, such as --prometheus http://127.0.0.1:9090")
        scrapes = [name for name, backend in self.backends.items() if backend.kind == "scrape"]
        if scrapes and not self.kubernetes:
            faults.append(
                f"backends {', '.join(scrapes)}: kind scrape finds pods by the Kubernetes API; set kubernetes"
            )
        faults += [
            f"dependencies.{name}.backend: want a backend of kind prometheus (got {dependency.backend!r})"
            for name, dependency in self.dependencies.items()
            if not isinstance(self.backends.get(dependency.backend), PrometheusBackend)
        ]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)

    @classmethod
    def load(cls, config: Path | None = None, **given: object) -> "Settings":
        """The settings of a process. `given`: from the command line, None where not given. Raises SettingsError."""
        faults = [
            f"{name}: there is no such setting"
            for name in sorted(os.environ)
            if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in cls.model_fields
        ]
        overrides: Mapping[str, Any] = {name: value for name, value in given.items() if value is not None}
        from_file = type("SettingsOfFile", (cls,), {"model_config": SettingsConfigDict(yaml_file=_readable(config))})
        settings: Settings | None = None
        try:
            settings = from_file(**overrides)
        except ValidationError as e:
            faults += [_told(error["loc"], error["msg"], error["input"]) for error in e.errors()]
        except SourceError as e:
            faults.append(f"environment: {e}; tables are written as JSON")
        except yaml.YAMLError as e:
            faults.append(f"{config}: not YAML: {e}")
        if faults or settings is None:
            raise SettingsError("\n".join(faults))
        return settings


def _readable(config: Path | None) -> Path | None:
    if config is not None and not config.is_file():
        raise SettingsError(f"{config}: no such file")
    return config


def _told(where: tuple[int | str, ...], message: str, value: object) -> str:
    message = message.removeprefix("Value error, ")
    if not where:
        return message
    if where[0] == "backends":  # pydantic puts the kind that it took for the backend into the path
        where = (*where[:2], *where[3:])
    return f"{'.'.join(map(str, where))}: {message} (got {str(value)[:80]!r})"
