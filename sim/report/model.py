"""The report as data. `SCHEMA` names its JSON: fields may be added; a change of meaning is a new number."""

from typing import Final

import msgspec

SCHEMA: Final = "slicewise.dev/sim-report/1"


class Base(msgspec.Struct, frozen=True):
    """Unknown numbers are null, never 0."""


class Quantiles(Base, frozen=True):
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None


class Requests(Base, frozen=True):
    """`arrived` is the sum of the others."""

    arrived: int
    done: int
    dropped: int
    refused: int
    running: int
    queued: int
    held: int


class Latency(Base, frozen=True):
    """Of requests that ended, from their arrival at the gateway."""

    first_token_s: Quantiles
    per_output_token_s: Quantiles
    end_to_end_s: Quantiles
    waiting_s: Quantiles


class Attainment(Base, frozen=True):
    """`kept` of `judged`: those that ended, were lost, or are late already. `worst` of whole bins of the time line."""

    limits: dict[str, float]
    judged: int
    kept: int
    share: float | None
    worst_bin: float | None


class Tokens(Base, frozen=True):
    prompt_computed: int
    prompt_cached: int
    prefix_computed_again: int
    generated: int
    preemptions: int


class Sessions(Base, frozen=True):
    """`broken`: lost a turn with the replica that had it."""

    begun: int
    finished: int
    broken: int


class Gpus(Base, frozen=True):
    """Hours of a whole GPU; a pod on a slice counts with the larger of its parts of memory and compute.

    `fragmented_h`: of what is not held, that which is too small for one more replica.
    """

    starting_h: float
    serving_h: float
    draining_h: float
    total_h: float
    busy_share: float | None
    provisioned_h: float
    fragmented_h: float


class Replicas(Base, frozen=True):
    most: int
    mean: float
    ups: int
    downs: int
    reversals: int
    never_placed: int
    unplaced_s: float


class Starts(Base, frozen=True):
    count: int
    to_ready_s: Quantiles
    stages_s: dict[str, float | None]


class Change(Base, frozen=True):
    at_s: float
    by: str
    before: int
    after: int
    why: str
    steps: list[str]


class TimeLine(Base, frozen=True):
    """Columns of equal length; a row stands for `step_s` up to its instant.

    `desired`: what the scaler answers, the highest of its triggers; `wanted`: the scale's spec. `dropped` requests and
    `prefix_computed_again` tokens are those of the step.
    """

    step_s: float
    at_s: list[float]
    arrived: list[int]
    queued: list[int]
    running: list[int]
    sessions: list[int]
    desired: list[int | None]
    wanted: list[int]
    ready: list[int]
    starting: list[int]
    pending: list[int]
    kv_used: list[float | None]
    gpus_used: list[float]
    dropped: list[int]
    prefix_computed_again: list[int]
    p95_first_token_s: list[float | None]
    p95_end_to_end_s: list[float | None]
    kept_share: list[float | None]


class Held(Base, frozen=True):
    """What a pod holds of one GPU of its node.

    `start`: where on it, as a part of the GPU; null where it has no place of its own (MPS). `part`: the larger of its
    parts of memory and of compute.
    """

    gpu: int
    start: float | None
    part: float
    profile: str | None


class PodLife(Base, frozen=True):
    """Instants; null where it did not come so far."""

    name: str
    node: str | None
    holds: list[Held]
    created_s: float
    bound_s: float | None
    ready_s: float | None
    deleted_s: float | None
    gone_s: float | None
    waits_for: str


class Node(Base, frozen=True):
    """`from_s`, `to_s`: while it was there; `to_s` is None at the end of the run."""

    name: str
    gpu: str
    gpus: int
    mode: str
    from_s: float
    to_s: float | None


class Eviction(Base, frozen=True):
    """A pod that kube-scheduler deleted so that another one gets its place."""

    at_s: float
    pod: str
    node: str
    by: str
    why: str


class Law(Base, frozen=True):
    """A balance that must come out even in every run."""

    name: str
    left: float
    right: float
    holds: bool


class Promise(Base, frozen=True):
    name: str
    wanted: float
    got: float | None
    kept: bool


class Honesty(Base, frozen=True):
    calibrated: list[str]
    interpolated: list[str]
    not_modelled: list[str]


class Report(Base, frozen=True, kw_only=True):
    schema: str = SCHEMA
    version: str
    scenario: str
    about: str
    seed: int
    engine: str
    inputs: dict[str, str]
    duration_s: float
    requests: Requests
    latency: Latency
    attainment: Attainment
    tokens: Tokens
    sessions: Sessions
    gpus: Gpus
    replicas: Replicas
    starts: Starts
    promises: list[Promise]
    changes: list[Change]
    evictions: list[Eviction] = []
    time_line: TimeLine
    nodes: list[Node]
    pods: list[PodLife]
    laws: list[Law]
    honesty: Honesty

    def to_json(self) -> str:
        """The same run gives the same bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"

    @property
    def kept_its_promises(self) -> bool:
        return all(p.kept for p in self.promises)
