"""HorizontalPodAutoscaler v2 for External, Object and Pods metrics, as kube-controller-manager computes it.

Source: kubernetes/kubernetes v1.36.3 `pkg/controller/podautoscaler/{horizontal,replica_calculator}.go` and
`pkg/apis/autoscaling/v2/defaults.go`. Readiness delays and CPU initialisation apply to none of these metrics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, isnan
from typing import Final, Literal

DEFAULT_TOLERANCE: Final = 0.1  # --horizontal-pod-autoscaler-tolerance
DEFAULT_DOWN_WINDOW_S: Final = 300.0  # --horizontal-pod-autoscaler-downscale-stabilization
SYNC_PERIOD_S: Final = 15.0  # --horizontal-pod-autoscaler-sync-period
_INT32_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `value` pods, or `value` percent, within `period_s`."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One direction of `behavior`. `tolerance` None: the cluster's default."""

    policies: tuple[Policy, ...]
    window_s: float
    select: Literal["Max", "Min", "Disabled"] = "Max"
    tolerance: float | None = None


UP_DEFAULT: Final = Rules(policies=(Policy("Pods", 4, 15), Policy("Percent", 100, 15)), window_s=0.0)
DOWN_DEFAULT: Final = Rules(policies=(Policy("Percent", 100, 15),), window_s=DEFAULT_DOWN_WINDOW_S)


@dataclass(frozen=True, slots=True)
class Behavior:
    up: Rules = UP_DEFAULT
    down: Rules = DOWN_DEFAULT


@dataclass(frozen=True, slots=True)
class Target:
    """What a metric is held against; `target_milli` in thousandths, as the API keeps quantities."""

    name: str
    kind: Literal["AverageValue", "Value"]
    target_milli: int
    source: str = "external"  #: or `pods`, or the kind of the object that is described: how the controller calls it

    @property
    def key(self) -> str:
        """Of its usage. Metrics of one name and different sources are different metrics."""
        return self.name if self.source == "external" else f"{self.source}/{self.name}"

    def __str__(self) -> str:
        return f"{self.source} metric {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    min_replicas: int
    max_replicas: int
    targets: tuple[Target, ...]
    behavior: Behavior | None = None  #: None: the built-in limits, max(2 x current, 4) a sync and 300 s before down


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The scale subresource: what was asked (`spec`), what exists (`status`), and how many pods are Ready."""

    spec: int
    status: int
    ready: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A metric that could not be read, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class PerPod:
    """A metric of type Pods: thousandths by pod. Pods that are being deleted are in neither set.

    `running`: pods of the phase Running, ready or not; `pending`: of the phase Pending.
    """

    values_milli: Mapping[int, int]
    running: frozenset[int]
    pending: frozenset[int] = frozenset()


Usage = int | PerPod | Failed


@dataclass(frozen=True, slots=True)
class _At:
    time_s: float
    count: int


@dataclass(frozen=True, slots=True)
class Past:
    """What the controller keeps in memory per HPA: pre-limit recommendations and scale events of its windows."""

    recommendations: tuple[_At, ...] = ()
    ups: tuple[_At, ...] = ()
    downs: tuple[_At, ...] = ()


NO_PAST: Final = Past()


@dataclass(frozen=True, slots=True)
class Step:
    rule: str
    before: int
    after: int
    why: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.before} -> {self.after} ({self.why})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the HPA writes to the scale's spec, and how it came to it."""

    replicas: int
    reason: str
    steps: tuple[Step, ...] = ()


def sync(spec: Spec, scale: Scale, usage_milli: Mapping[str, Usage], past: Past, now_s: float) -> tuple[Verdict, Past]:
    """One reconcile. `usage_milli`: by target, the sum of all returned values in thousandths, or of each pod."""
    if not past.recommendations:  # recordInitialRecommendation: a restarted controller does not scale down at once
        past = replace(past, recommendations=(_At(now_s, scale.spec),))
    current = scale.spec
    if current == 0:
        return Verdict(0, "ScalingDisabled: the replica count of the target is zero"), past
    outside = _outside_bounds(spec, current)
    if outside is None:
        proposal = _propose(spec, scale, usage_milli)
        if isinstance(proposal, Failed):
            return Verdict(current, proposal.why), past
        wanted, reason = proposal
        if spec.behavior is None:
            verdict, past = _limit_without_behavior(spec, current, wanted, past, now_s)
        else:
            verdict, past = _limit_with_behavior(
                spec, spec.behavior, current=current, wanted=wanted, past=past, now_s=now_s
            )
        verdict = replace(verdict, reason=reason)
    else:
        verdict = outside
    if verdict.replicas != current and spec.behavior is not None:
        past = _remember_scaling(spec.behavior, current, verdict.replicas, past, now_s)
    return verdict, past


def _outside_bounds(spec: Spec, current: int) -> Verdict | None:
    """Bounds act before any metric and past every tolerance, window and policy."""
    if current > spec.max_replicas:
        return Verdict(spec.max_replicas, "Current number of replicas above Spec.MaxReplicas")
    if current < spec.min_replicas:
        return Verdict(spec.min_replicas, "Current number of replicas below Spec.MinReplicas")
    return None


def _propose(spec: Spec, scale: Scale, usage_milli: Mapping[str, Usage]) -> tuple[int, str] | Failed:
    """The largest proposal of the readable metrics; one unreadable metric forbids to scale down."""
    best, name, failures = 0, "", list[str]()
    for target in spec.targets:
        usage = usage_milli[target.key]
        proposal = usage if isinstance(usage, Failed) else _of_metric(spec, scale, target, usage)
        if isinstance(proposal, Failed):
            failures.append(f"unable to get {target}: {proposal.why}")
        elif best == 0 or proposal > best:
            best, name = proposal, str(target)
    if failures and (len(failures) == len(spec.targets) or best < scale.spec):
        return Failed(f"invalid metrics ({len(failures)} of {len(spec.targets)}), first: {failures[0]}")
    if best > scale.spec:
        return best, f"{name} above target"
    return best, "All metrics below target" if best < scale.spec else "desired count equals the current one"


def _of_metric(spec: Spec, scale: Scale, target: Target, usage_milli: int | PerPod) -> int | Failed:
    """In tolerance AverageValue proposes the status, Value the spec: that is how the controller is written."""
    if isinstance(usage_milli, PerPod):
        return _of_pods(spec, scale, target, usage_milli)
    per_pod = target.kind == "AverageValue"
    held_against = float(target.target_milli) * scale.status if per_pod else float(target.target_milli)
    ratio = _divide(float(usage_milli), held_against)
    if _within(spec.behavior, ratio):
        return scale.status if per_pod else scale.spec
    wanted = usage_milli / target.target_milli if per_pod else ratio * scale.ready
    return min(ceil(wanted), _INT32_MAX)


def _of_pods(spec: Spec, scale: Scale, target: Target, pods: PerPod) -> int | Failed:
    """calcPlainMetricReplicas: who has no value yet must not tip the scale, whichever way it goes."""
    if not pods.running | pods.pending:
        return Failed("no pods returned by selector while calculating replica count")
    values = {pod: value for pod, value in pods.values_milli.items() if pod in pods.running}
    if not values:
        return Failed("did not receive metrics for targeted pods (pods might be unready)")
    ratio, missing = _pods_ratio(values, target), pods.running - values.keys()
    up_with_pending = bool(pods.pending) and ratio > 1.0
    if not up_with_pending and not missing:
        return scale.spec if _within(spec.behavior, ratio) else ceil(ratio * len(values))
    if ratio != 1.0:
        values |= dict.fromkeys(missing, target.target_milli if ratio < 1.0 else 0)
    if up_with_pending:
        values |= dict.fromkeys(pods.pending, 0)
    again = _pods_ratio(values, target)
    turned = (ratio < 1.0 < again) or (again < 1.0 < ratio)
    wanted = ceil(again * len(values))
    contrary = (again < 1.0 and wanted > scale.spec) or (again > 1.0 and wanted < scale.spec)
    return scale.spec if _within(spec.behavior, again) or turned or contrary else wanted


def _pods_ratio(values: Mapping[int, int], target: Target) -> float:
    """The mean is a whole number of thousandths, cut off towards zero."""
    return float(sum(values.values()) // len(values)) / float(target.target_milli)


def _divide(a: float, b: float) -> float:
    """IEEE division, as Go does it."""
    if b != 0.0:
        return a / b
    return inf if a > 0.0 else float("nan")


def _within(behavior: Behavior | None, ratio: float) -> bool:
    up = behavior.up.tolerance if behavior else None
    down = behavior.down.tolerance if behavior else None
    low = 1.0 - (DEFAULT_TOLERANCE if down is None else down)
    high = 1.0 + (DEFAULT_TOLERANCE if up is None else up)
    return not isnan(ratio) and low <= ratio <= high


def _limit_without_behavior(spec: Spec, current: int, wanted: int, past: Past, now_s: float) -> tuple[Verdict, Past]:
    kept = tuple(r for r in past.recommendations if r.time_s >= now_s - DEFAULT_DOWN_WINDOW_S)
    stable = max(wanted, *(r.count for r in kept)) if kept else wanted
    steps = _note("stabilization", wanted, stable, f"highest of the last {DEFAULT_DOWN_WINDOW_S:g} s")
    growth = max(2 * current, 4)
    ceiling = min(spec.max_replicas, growth)
    replicas = min(max(stable, spec.min_replicas), ceiling) if stable >= spec.min_replicas else spec.min_replicas
    why = f"at most {growth} from {current} in one sync" if growth < spec.max_replicas else "min and max"
    steps += _note("limit", stable, replicas, why)
    return Verdict(replicas, "", steps), replace(past, recommendations=(*kept, _At(now_s, wanted)))


def _limit_with_behavior(
    spec: Spec, behavior: Behavior, *, current: int, wanted: int, past: Past, now_s: float
) -> tuple[Verdict, Past]:
    up, down = behavior.up, behavior.down
    lowest = min([wanted, *(r.count for r in past.recommendations if r.time_s > now_s - up.window_s)])
    highest = max([wanted, *(r.count for r in past.recommendations if r.time_s > now_s - down.window_s)])
    stable = min(max(current, lowest), highest)
    window_s = up.window_s if wanted >= current else down.window_s
    steps = _note("stabilization", wanted, stable, f"recommendations of the last {window_s:g} s")
    replicas = stable
    if stable > current:
        limit = max(_up_limit(up, current, past, now_s), current)
        replicas = min(stable, spec.max_replicas, limit)
        steps += _note("limit", stable, replicas, f"policies allow {limit}, max is {spec.max_replicas}")
    elif stable < current:
        limit = min(_down_limit(down, current, past, now_s), current)
        replicas = max(stable, spec.min_replicas, limit)
        steps += _note("limit", stable, replicas, f"policies allow {limit}, min is {spec.min_replicas}")
    longest_s = max(up.window_s, down.window_s)
    kept = tuple(r for r in past.recommendations if r.time_s >= now_s - longest_s)
    return Verdict(replicas, "", steps), replace(past, recommendations=(*kept, _At(now_s, wanted)))


def _note(rule: str, before: int, after: int, why: str) -> tuple[Step, ...]:
    return () if before == after else (Step(rule, before, after, why),)


def _changed(events: Sequence[_At], period_s: int, now_s: float) -> int:
    return sum(e.count for e in events if e.time_s > now_s - period_s)


def _period_start(current: int, policy: Policy, past: Past, now_s: float) -> int:
    return current - _changed(past.ups, policy.period_s, now_s) + _changed(past.downs, policy.period_s, now_s)


def _up_limit(rules: Rules, current: int, past: Past, now_s: float) -> int:
    if rules.select == "Disabled":
        return current
    proposals = list[int]()
    for policy in rules.policies:
        start = _period_start(current, policy, past, now_s)
        # rounded up, or 1 pod could never grow by 10 %; the float product is the controller's own
        percent = ceil(float(start) * (1 + float(policy.value) / 100))
        proposals.append(start + policy.value if policy.kind == "Pods" else percent)
    return max(proposals) if rules.select == "Max" else min(proposals)


def _down_limit(rules: Rules, current: int, past: Past, now_s: float) -> int:
    if rules.select == "Disabled":
        return current
    proposals = list[int]()
    for policy in rules.policies:
        start = _period_start(current, policy, past, now_s)
        percent = int(float(start) * (1 - float(policy.value) / 100))
        proposals.append(start - policy.value if policy.kind == "Pods" else percent)
    return min(proposals) if rules.select == "Max" else max(proposals)


def _remember_scaling(behavior: Behavior, before: int, after: int, past: Past, now_s: float) -> Past:
    if after > before:
        longest_s = max((p.period_s for p in behavior.up.policies), default=0)
        kept = tuple(e for e in past.ups if e.time_s >= now_s - longest_s)
        return replace(past, ups=(*kept, _At(now_s, after - before)))
    longest_s = max((p.period_s for p in behavior.down.policies), default=0)
    kept = tuple(e for e in past.downs if e.time_s >= now_s - longest_s)
    return replace(past, downs=(*kept, _At(now_s, before - after)))
