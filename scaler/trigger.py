"""A trigger's metadata: the public contract with whoever writes a ScaledObject.

Strings with units in, numbers out. Every fault is reported at once, with its key, its value and the rule it breaks.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scaler.keys import Count, Duration, Name, Names, Number, RequestsOrWork, Resource, rule_of
from scaler.policy.base import MAX_REPLICAS, Policy
from scaler.policy.composite import Composite
from scaler.policy.kv import KvCache
from scaler.policy.latency import Latency
from scaler.policy.queue import IN_FLIGHT, MESSAGES, QueueItems, QueueSeconds
from scaler.policy.sessions import Sessions
from scaler.policy.stabilization import Windows
from scaler.policy.tokens import Tokens
from scaler.policy.tokens_ahead import TokensAhead
from scaler.signals.dependency import name_of
from scaler.signals.reading import ReadingName
from scaler.signals.work import Pace

KEDA_OWN: Final = frozenset({"scalerAddress", "enableTLS", "unsafeSsl", "caCert", "tlsClientCert", "tlsClientKey"})
"""KEDA sends its own keys along (kedacore/keda pkg/scalers/external_scaler.go)."""

FROM_ENV: Final = "FromEnv"
"""A key with this suffix: KEDA puts in the value of that environment variable of the workload, and keeps the suffix."""

TARGETS: Final = {
    "queue": "queuePerReplica",
    "sessions": "sessionsPerReplica",
    "tokens": "tokensPerSecondPerReplica",
    "latency": "p95Target",
    "kv": "kvUsagePerReplica",
    "ahead": "coldStart",
}
"""Each policy's own key: what one replica is to carry, what is promised, or how long it takes to have one more."""

WITH_COLD_START: Final = ("promptTokensPerSecondPerReplica", "generationTokensPerSecondPerReplica", "slotsPerReplica")
"""What `coldStart` needs beside it."""

ONLY_WITH_COLD_START: Final = (*WITH_COLD_START[:2], "lateShare", "firstTokenTarget")

AHEAD_DEFAULTS: Final = {"window": "1m"}
"""Of `policy: ahead`: a minute is what it looks at as one."""


class TriggerError(ValueError):
    """The metadata break the contract; `faults`: all the ways in which they do."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class Trigger(BaseModel):
    """The keys; the description of each is its documentation (docs/triggers.md)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Literal["queue", "sessions", "tokens", "latency", "kv", "ahead", "composite"] = Field(
        default="composite",
        description="What sizes the workload. `composite` uses every policy whose key is given: up if any says so, "
        "down only if all agree.",
    )
    workload: Name | None = Field(
        default=None,
        description="Name of the Deployment (or StatefulSet) whose pods are measured. Without it the scaler reads the "
        "ScaledObject's scaleTargetRef from the Kubernetes API.",
    )
    preset: Name = Field(
        default="vllm", description="Which engine's metrics to ask for; `slicewise scaler presets` lists them."
    )
    backend: Name = Field(
        default="default",
        description="Where the engine's metrics come from: the name of a Prometheus, or of direct scrapes, in the "
        "server's settings; never an address.",
    )
    backlog_backend: Name | None = Field(
        default=None,
        alias="backlogBackend",
        description="The message queue that the workload's pods consume: the name of a Kafka, RabbitMQ, NATS or Redis "
        "in the server's settings. Then `queuePerReplica` counts its messages, waiting and taken, in place of the "
        "engine's requests.",
    )
    backlog_name: Resource | None = Field(
        default=None,
        alias="backlogName",
        description="What holds the messages there: a topic, a queue, a stream or a list (needs `backlogBackend`).",
    )
    backlog_group: Resource | None = Field(
        default=None,
        alias="backlogGroup",
        description="Who consumes them: a Kafka consumer group, a NATS consumer, a group of a Redis stream (needs "
        "`backlogBackend`).",
    )
    sessions_backend: Name | None = Field(
        default=None,
        alias="sessionsBackend",
        description="Where live sessions are counted, if not by gauges of pods or of a gateway: the name of a Redis "
        "in the server's settings.",
    )
    sessions_key: Resource | None = Field(
        default=None,
        alias="sessionsKey",
        description="The key that holds the sessions there, or a pattern of keys with one a session, such as "
        "`session:chat:*` (needs `sessionsBackend`).",
    )
    depends_on: Names = Field(
        default=(),
        alias="dependsOn",
        description="What the pods call and cannot do without, by names of the server's settings: while one of them is "
        "slow or failing, the workload does not grow, for more pods would only wait with the others.",
    )
    queue_per_replica: RequestsOrWork | None = Field(
        default=None,
        alias="queuePerReplica",
        description="Either how many requests, waiting and in service together, one replica carries, such as `4`; or "
        "within which time the waiting requests are to be worked off, such as `30s` (needs `slotsPerReplica`).",
    )
    sessions_per_replica: Number | None = Field(
        default=None, alias="sessionsPerReplica", gt=0, description="How many live agent sessions one replica carries."
    )
    tokens_per_s_per_replica: Number | None = Field(
        default=None,
        alias="tokensPerSecondPerReplica",
        gt=0,
        description="How many tokens a second one replica sustains, prompt (not found in its prefix cache) and "
        "generated together. Measure it under full load: where it is set higher than the truth, tokens alone never "
        "scale up.",
    )
    kv_usage_per_replica: Number | None = Field(
        default=None,
        alias="kvUsagePerReplica",
        gt=0,
        le=1,
        description="Which share of its KV cache one replica may fill, such as `0.8`.",
    )
    p95_target_s: Duration | None = Field(
        default=None,
        alias="p95Target",
        ge=0.01,
        le=3600,
        description="95 % of requests shall end within this time of their arrival (needs `slotsPerReplica`). Sized by "
        "a queueing model; the measured P95 only checks the model.",
    )
    cold_start_s: Duration | None = Field(
        default=None,
        alias="coldStart",
        ge=1,
        le=3600,
        description="How long a replica takes from the decision until it serves, image and weights included: what is "
        "asked for is the demand at that time, by what the last two days have taught (policy `ahead`; needs "
        "`promptTokensPerSecondPerReplica`, `generationTokensPerSecondPerReplica` and `slotsPerReplica`).",
    )
    prompt_tokens_per_s_per_replica: Number | None = Field(
        default=None,
        alias="promptTokensPerSecondPerReplica",
        gt=0,
        description="How many prompt tokens a second one replica computes while it generates nothing (goes with "
        "`coldStart`).",
    )
    generation_tokens_per_s_per_replica: Number | None = Field(
        default=None,
        alias="generationTokensPerSecondPerReplica",
        gt=0,
        description="How many tokens a second one replica generates with all its slots taken, while it computes no "
        "prompts (goes with `coldStart`).",
    )
    late_share: Number = Field(
        default=0.01,
        alias="lateShare",
        gt=0,
        le=0.5,
        description="Which share of the demand may find too few replicas ready (goes with `coldStart`).",
    )
    first_token_target_s: Duration | None = Field(
        default=None,
        alias="firstTokenTarget",
        ge=0.001,
        le=3600,
        description="A request is late whose first token takes longer: where more than `lateShare` are, more is asked "
        "for. Best a bound of the engine's histogram. Without it lateness is not measured (goes with `coldStart`).",
    )
    slots_per_replica: Count | None = Field(
        default=None,
        alias="slotsPerReplica",
        ge=1,
        le=10_000,
        description="How many requests one replica serves at once, such as vLLM's `--max-num-seqs`.",
    )
    min_replicas: Count | None = Field(
        default=None,
        alias="minReplicas",
        ge=0,
        le=MAX_REPLICAS,
        description="Never answer less. The ScaledObject's own minReplicaCount holds as well.",
    )
    max_replicas: Count | None = Field(
        default=None,
        alias="maxReplicas",
        ge=1,
        le=MAX_REPLICAS,
        description="Never answer more. The ScaledObject's own maxReplicaCount holds as well.",
    )
    stabilization_up_s: Duration = Field(
        default=0.0,
        alias="stabilizationUp",
        ge=0,
        le=3600,
        description="Scale up to the lowest recommendation of this window: longer forgives peaks.",
    )
    stabilization_down_s: Duration = Field(
        default=300.0,
        alias="stabilizationDown",
        ge=0,
        le=3600,
        description="Scale down to the highest recommendation of this window: longer forgives lulls. A scaler that has "
        "just started does not scale down before it has seen one whole window.",
    )
    window_s: Duration = Field(
        default=120.0,
        alias="window",
        ge=30,
        le=3600,
        description="Over which time rates and quantiles are taken; at least four scrape intervals. With policy "
        "`ahead` `60s` unless given.",
    )
    max_age_s: Duration = Field(
        default=60.0,
        alias="maxAge",
        ge=5,
        le=600,
        description="Measurements older than this are not used: they count as missing.",
    )
    on_missing: Literal["hold", "fail"] = Field(
        default="hold",
        alias="onMissing",
        description="Where nothing is known of the demand: `hold` keeps the replicas, `fail` answers UNAVAILABLE so "
        "that KEDA's own `fallback` acts.",
    )
    hpa_tolerance: Number = Field(
        default=0.1,
        alias="hpaTolerance",
        ge=0,
        lt=1,
        description="The HPA's tolerance for this workload, so that a decision which it will ignore says so. `0` where "
        "the ScaledObject sets `behavior.*.tolerance: 0`. Changes no answer.",
    )

    @classmethod
    def parse(cls, metadata: Mapping[str, str]) -> Self:
        """The trigger that `metadata` describe. Raises TriggerError with all faults."""
        given, hidden, faults = _own_keys(metadata)
        if given.get("policy") == "ahead":
            given = AHEAD_DEFAULTS | given
        try:
            trigger = cls.model_validate(given)
        except ValidationError as e:
            wrong = {str(error["loc"][0]) for error in e.errors()}
            faults += [_fault(cls, key, given[key], hidden) for key in given if key in wrong]
            trigger = cls.model_validate({key: text for key, text in given.items() if key not in wrong})
        else:
            wrong = set()
        faults += _contradictions(trigger, frozenset(given), frozenset(wrong))
        if faults:
            raise TriggerError(tuple(faults))
        return trigger

    @cached_property
    def sizing(self) -> Policy:
        """The policy with its numbers."""
        parts = tuple(_parts(self))
        return parts[0] if len(parts) == 1 else Composite(parts=parts)

    @property
    def windows(self) -> Windows:
        return Windows(up_s=self.stabilization_up_s, down_s=self.stabilization_down_s, gap_s=self.max_age_s)

    @property
    def learns(self) -> bool:
        """Whether its answers depend on more than its windows."""
        return self.cold_start_s is not None

    @property
    def slo_s(self) -> float | None:
        """What the share of requests that were on time is taken of."""
        return self.p95_target_s if self.first_token_target_s is None else self.first_token_target_s

    def asks_engine(self) -> bool:
        """Whether anything it needs comes from the engine's metrics."""
        elsewhere = {*MESSAGES}
        if self.sessions_backend is not None:
            elsewhere.add(ReadingName.SESSIONS)
        return not self.sizing.reads <= elsewhere

    def wanted(self) -> frozenset[str]:
        """Names of the readings that an evaluation needs."""
        dependencies = frozenset(map(name_of, self.depends_on))
        return frozenset({ReadingName.REPLICAS, ReadingName.READY}) | self.sizing.reads | dependencies


def _parts(trigger: Trigger) -> Iterator[Policy]:
    slots = trigger.slots_per_replica or 1
    if (queue := trigger.queue_per_replica) is not None:
        of = IN_FLIGHT if trigger.backlog_backend is None else MESSAGES
        if queue.unit == "requests":
            yield QueueItems(per_replica=queue.amount, of=of)
        else:
            yield QueueSeconds(work_s=queue.amount, slots=slots, of=of)
    if trigger.sessions_per_replica is not None:
        yield Sessions(per_replica=trigger.sessions_per_replica)
    if trigger.tokens_per_s_per_replica is not None:
        yield Tokens(per_s_per_replica=trigger.tokens_per_s_per_replica)
    if trigger.p95_target_s is not None:
        yield Latency(p95_target_s=trigger.p95_target_s, slots=slots)
    if trigger.kv_usage_per_replica is not None:
        yield KvCache(share=trigger.kv_usage_per_replica)
    prefill, decode = trigger.prompt_tokens_per_s_per_replica, trigger.generation_tokens_per_s_per_replica
    if trigger.cold_start_s is not None and prefill is not None and decode is not None:
        yield TokensAhead(
            pace=Pace(prefill_per_s=prefill, decode_per_s=decode),
            cold_start_s=trigger.cold_start_s,
            slots=slots,
            late_share=trigger.late_share,
            first_token_s=trigger.first_token_target_s,
        )


def _own_keys(metadata: Mapping[str, str]) -> tuple[dict[str, str], frozenset[str], list[str]]:
    """Our keys without the suffix of the environment, those whose value came from there, and what is given twice."""
    given: dict[str, str] = {}
    hidden: set[str] = set()
    faults: list[str] = []
    for key in sorted(metadata):
        plain = key.removesuffix(FROM_ENV)
        if plain in KEDA_OWN:
            continue
        if plain in given:
            faults.append(f"trigger metadata {key!r}: {plain!r} is given as well; leave one of them out")
            continue
        given[plain] = metadata[key]
        if plain != key:
            hidden.add(plain)
    return given, frozenset(hidden), faults


def _fault(model: type[BaseModel], key: str, text: str, hidden: frozenset[str]) -> str:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    name, shown = (f"{key}{FROM_ENV}", "a value from the environment") if key in hidden else (key, repr(text[:80]))
    if key in fields:
        return f"trigger metadata {name!r}: want {rule_of(fields[key])} (got {shown})"
    near = get_close_matches(key, fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(fields))}"
    return f"trigger metadata {name!r}: unknown key; {hint}"


def _contradictions(trigger: Trigger, given: frozenset[str], wrong: frozenset[str]) -> list[str]:
    """What does not go together; keys in `wrong` are given but could not be read: nothing is said of their values."""
    faults = [] if "policy" in wrong else _target_faults(trigger.policy, given)
    queue = trigger.queue_per_replica
    in_work = "queuePerReplica" in wrong or (queue is not None and queue.unit == "s")
    if "slotsPerReplica" in given:
        if given.isdisjoint({"p95Target", "coldStart"}) and not in_work:
            faults.append(
                "trigger metadata 'slotsPerReplica': nothing uses it; it goes with p95Target, with coldStart, or with "
                "queuePerReplica in seconds"
            )
    elif "p95Target" in given or (in_work and "queuePerReplica" not in wrong):
        key = "p95Target" if "p95Target" in given else "queuePerReplica"
        faults.append(f"trigger metadata {key!r}: needs slotsPerReplica, the requests that one replica serves at once")
    faults += _half_given(given, "policy" in wrong)
    if "coldStart" in given:
        faults += [f"trigger metadata 'coldStart': needs {key}" for key in WITH_COLD_START if key not in given]
    else:
        faults += [
            f"trigger metadata {key!r}: nothing uses it; it goes with coldStart"
            for key in ONLY_WITH_COLD_START
            if key in given
        ]
    low, high = trigger.min_replicas, trigger.max_replicas
    if low is not None and high is not None and low > high:
        faults.append(f"trigger metadata 'minReplicas': want at most maxReplicas, {high} (got '{low}')")
    return faults


def _half_given(given: frozenset[str], policy_unknown: bool) -> list[str]:
    """A backend without what to ask it for, what to ask for without a backend, and either without a use."""
    faults = []
    for backend, name, use in (
        ("backlogBackend", "backlogName", "queuePerReplica"),
        ("sessionsBackend", "sessionsKey", "sessionsPerReplica"),
    ):
        if backend in given and name not in given:
            faults.append(f"trigger metadata {backend!r}: needs {name}")
        if backend in given and use not in given and not policy_unknown:
            faults.append(f"trigger metadata {backend!r}: nothing uses it; it goes with {use}")
        if backend not in given:
            dependents = {name, "backlogGroup"} if backend == "backlogBackend" else {name}
            faults += [f"trigger metadata {key!r}: needs {backend}" for key in sorted(given & dependents)]
    return faults


def _target_faults(policy: str, given: frozenset[str]) -> list[str]:
    if policy == "composite":
        if given.isdisjoint(TARGETS.values()):
            return [f"trigger metadata: policy 'composite' needs at least one of {', '.join(TARGETS.values())}"]
        return []
    faults = [
        f"trigger metadata {key!r}: policy {policy!r} does not use it; leave it out, or set policy: composite"
        for name, key in TARGETS.items()
        if name != policy and key in given
    ]
    if TARGETS[policy] not in given:
        faults.append(f"trigger metadata: policy {policy!r} needs {TARGETS[policy]}")
    return faults
