"""Settings of the extender's process: command line over environment (SLICEWISE_EXTENDER_…) over defaults."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from extender.binding import LONGEST_PAUSE_S
from extender.placement.reserve import Reserve, parse
from extender.placement.scorers import DEFAULT, SCORERS
from extender.placement.warmth import Savings
from slicewise.process.tls import CertificateFiles

PREFIX: Final = "SLICEWISE_EXTENDER_"
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """Each field says its unit, its default and why it is so."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field(
        default="127.0.0.1",
        description="Address of the verbs. Loopback: whoever reaches them can bind pods; kube-scheduler is beside us.",
    )
    port: Port = Field(default=8888, description="Port of the verbs; 0 takes a free one and logs it.")
    metrics_host: str = Field(
        default="127.0.0.1",
        description="Address of /healthz, /readyz and /metrics. Kubelet and Prometheus need more than that: 0.0.0.0.",
    )
    metrics_port: Port = Field(default=8081, description="Port of /healthz, /readyz and /metrics; 0 takes a free one.")
    tls_certificate: Path | None = Field(
        default=None,
        description="PEM file that the verbs are served with; read again when it changes. None: plain HTTP.",
    )
    tls_key: Path | None = Field(default=None, description="PEM file of its key.")
    tls_client_ca: Path | None = Field(
        default=None, description="PEM file: who signs kube-scheduler's certificate. None: clients need no certificate."
    )
    insecure: bool = Field(
        default=False,
        description="Serve the verbs beyond loopback without mutual TLS. Off: anyone in the network could bind pods.",
    )
    kubeconfig: Path | None = Field(
        default=None, description="How to reach the API server. None: the pod's ServiceAccount, else $KUBECONFIG."
    )
    lease_namespace: str = Field(
        default="slicewise", description="Where the node agents keep their Leases, one named like each node."
    )
    stale_after_s: PositiveFloat = Field(
        default=60.0,
        description="Seconds without a heartbeat after which a node is not used: six missed ones at the agent's 10 s.",
    )
    assume_ttl_s: PositiveFloat = Field(
        default=120.0,
        description="Seconds that a reservation outlives its Binding's unknown end; kube-apiserver gives up after 60.",
    )
    bind_deadline_s: PositiveFloat = Field(
        default=4.0, description="Seconds that bind waits for the API server; below kube-scheduler's httpTimeout, 5 s."
    )
    read_deadline_s: PositiveFloat = Field(
        default=2.0, description="Seconds in which a request's body must be here; it comes from the same node."
    )
    api_timeout_s: PositiveFloat = Field(default=10.0, description="Seconds for one request to the API server.")
    watch_lost_s: PositiveFloat = Field(
        default=120.0,
        description="Seconds without a working watch after which the extender is not ready and refuses pods.",
    )
    max_body_mib: PositiveInt = Field(
        default=64,
        description="Largest request, MiB. 5,000 names take 0.2, as Node objects (without nodeCacheCapable) 50.",
    )
    scorer: str = Field(default=DEFAULT, description=f"How nodes and places are compared: {', '.join(SCORERS)}.")
    warm_life_s: NonNegativeFloat = Field(
        default=3600.0,
        description="Seconds that a pod is taken to live: a place warm by t seconds is worth the pod's GiB x t / this, "
        "as scorers price places. An hour: agents come and go with their rushes. 0: warmth does not count.",
    )
    warm_image_mib_per_s: NonNegativeFloat = Field(
        default=40.0,
        description="MiB of an image that a node pulls and unpacks in a second: 20 GB took some 500 seconds. "
        "More with image streaming; 0: images do not count.",
    )
    warm_weights_s: NonNegativeFloat = Field(
        default=20.0,
        description="Seconds saved where a pod with the same slicewise.dev/weights runs or ran: 15 GB take 30 from "
        "a disk, 8 from the page cache. A pod may say its own (weights-seconds). 0: does not count, whatever pods say.",
    )
    warm_session_s: NonNegativeFloat = Field(
        default=20.0,
        description="Seconds saved where a pod with the same slicewise.dev/session runs or ran, if its cache is there: "
        "100,000 tokens of an 8B model take an A100 20. A pod may say its own (session-seconds). 0: does not count.",
    )
    warm_most_s: NonNegativeFloat = Field(
        default=300.0,
        description="Seconds that count at most, all together: what a tenant says of its pods costs the fleet so much.",
    )
    warm_keep_s: NonNegativeFloat = Field(
        default=1800.0,
        description="Seconds that weights and sessions stay warm after their last pod on a node: page caches fill up.",
    )
    warm_most_keys: PositiveInt = Field(
        default=1 << 14,
        description="Pairs of key and node that are remembered without a pod; the oldest go first. 16,384 take 8 MiB.",
    )
    reserve: str = Field(
        default="",
        description="Room kept for important pods: `priority>=P: N x SIZE on MODEL`, several with semicolons. SIZE: a "
        "MIG profile, a memory such as 20Gi, or whole; `on MODEL` may be left out. Pods below P take no place by which "
        "fewer than N more of SIZE would fit. None: only evictions make way for priorities.",
    )
    debug_state: Literal["loopback", "always", "never"] = Field(
        default="loopback", description="Who may read /debug/state, which names pods: by default only this machine."
    )
    log_format: Literal["json", "text"] = Field(default="json", description="json for machines, text for people.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug adds an event a filter call, and one a prioritize call."
    )

    @field_validator("scorer")
    @classmethod
    def _known_scorer(cls, name: str) -> str:
        if name not in SCORERS:
            raise ValueError(f"want one of {', '.join(SCORERS)}")
        return name

    @field_validator("reserve")
    @classmethod
    def _readable_reserve(cls, text: str) -> str:
        parse(text)
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key: want both or neither")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca: clients are only asked for certificates over TLS; set tls_certificate too")
        if not is_loopback(self.host) and self.tls_client_ca is None and not self.insecure:
            raise ValueError(
                f"host {self.host}: beyond loopback the verbs want mutual TLS (tls_certificate, tls_key, "
                "tls_client_ca), because whoever reaches them can bind pods; insecure=true serves them to anyone"
            )
        least_s = self.bind_deadline_s + self.api_timeout_s + LONGEST_PAUSE_S
        if self.assume_ttl_s <= least_s:
            raise ValueError(
                f"assume_ttl_s {self.assume_ttl_s:g}: want more than {least_s:g}, bind_deadline_s + api_timeout_s + "
                "the longest pause: a reservation must not end before its Binding does"
            )
        return self

    @classmethod
    def of(cls, **given: Any) -> Self:  # noqa: ANN401  # values of the command line, checked by the fields
        """The settings with what the command line gave (None: not given). Raises pydantic's ValidationError."""
        return cls(**{name: value for name, value in given.items() if value is not None})

    @property
    def savings(self) -> Savings:
        return Savings(
            life_s=self.warm_life_s,
            image_mib_per_s=self.warm_image_mib_per_s,
            weights_s=self.warm_weights_s,
            session_s=self.warm_session_s,
            most_s=self.warm_most_s,
            keep_s=self.warm_keep_s,
            most_keys=self.warm_most_keys,
        )

    @property
    def reserves(self) -> tuple[Reserve, ...]:
        return parse(self.reserve)

    @property
    def certificates(self) -> CertificateFiles | None:
        if self.tls_certificate is None or self.tls_key is None:
            return None
        return CertificateFiles(certificate=self.tls_certificate, key=self.tls_key, client_ca=self.tls_client_ca)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
