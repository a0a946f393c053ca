"""Faults of pages, from the text to the decision: nothing is scaled below what was wanted before the fault.

test_fault_matrix.py does so for observations; here pages of two pods go through the reader first. One family (or one
pod) suffers a fault, and goes on suffering it. Stabilization is off: nothing but the doubt holds the replicas.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import pytest

from scaler.evaluate import NO_PAST, Decision, evaluate
from scaler.signals.compute import Window, reading
from scaler.signals.observed import Observation, Workload, living
from scaler.signals.reading import Reading, ReadingName, Sample
from scaler.signals.recipes import RECIPES
from scaler.sources.exposition import NOBODY, Page
from scaler.sources.presets import load
from scaler.trigger import Trigger

TICK_S: Final = 15.0
BEFORE: Final = 12
AFTER: Final = 5
VLLM: Final = load()["vllm"]
PODS: Final = ("chat-0", "chat-1")

POLICIES: Final[Mapping[str, Mapping[str, str]]] = {
    "queue in seconds": {"policy": "queue", "queuePerReplica": "10s", "slotsPerReplica": "8"},
    "tokens": {"policy": "tokens", "tokensPerSecondPerReplica": "100"},
    "composite": {
        "queuePerReplica": "4",
        "sessionsPerReplica": "4",
        "tokensPerSecondPerReplica": "100",
        "kvUsagePerReplica": "0.5",
        "p95Target": "30s",
        "slotsPerReplica": "8",
    },
}
FAMILIES: Final = (
    "agent_sessions_active",
    "vllm:num_requests_waiting",
    "vllm:num_requests_running",
    "vllm:kv_cache_usage_perc",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:e2e_request_latency_seconds_bucket",
    "vllm:e2e_request_latency_seconds_sum",
    "vllm:e2e_request_latency_seconds_count",
    "vllm:request_queue_time_seconds_sum",
    "vllm:request_queue_time_seconds_count",
)


def page(tick: int) -> str:
    """A busy pod that has ended 2 requests a second, 6 s each, 2 s of it waiting, since tick 0."""
    n = 2 * TICK_S * tick
    values = {
        "agent_sessions_active{}": 20,
        "vllm:num_requests_waiting{engine='0'}": 8,
        "vllm:num_requests_running{engine='0'}": 12,
        "vllm:kv_cache_usage_perc{engine='0'}": 0.75,
        "vllm:prompt_tokens_total{engine='0'}": 1000 + 200 * n,
        "vllm:generation_tokens_total{engine='0'}": 1000 + 100 * n,
        "vllm:num_preemptions_total{engine='0'}": 3,
        "vllm:request_success_total{engine='0',finished_reason='stop'}": 10 + n,
        "vllm:e2e_request_latency_seconds_bucket{engine='0',le='5.0'}": 5 + n / 2,
        "vllm:e2e_request_latency_seconds_bucket{engine='0',le='10.0'}": 10 + n,
        "vllm:e2e_request_latency_seconds_bucket{engine='0',le='+Inf'}": 10 + n,
        "vllm:e2e_request_latency_seconds_sum{engine='0'}": 60 + 6 * n,
        "vllm:e2e_request_latency_seconds_count{engine='0'}": 10 + n,
        "vllm:request_queue_time_seconds_sum{engine='0'}": 20 + 2 * n,
        "vllm:request_queue_time_seconds_count{engine='0'}": 10 + n,
    }
    return "".join(f"{series} {value:g}\n" for series, value in values.items()).replace("'", '"')


def lines(text: str, family: str, change: Callable[[str, str], str]) -> str:
    """`text` with each line of `family` as `change` makes it of its series and its value."""
    return re.sub(rf"(?m)^({re.escape(family)}(?:\{{.*\}})?) (\S+)\n", lambda found: change(found[1], found[2]), text)


@dataclass(frozen=True, slots=True)
class Fault:
    """`text`: what a pod's page becomes, None where it does not answer. `both`: on all pods, or the first alone."""

    text: Callable[[str, str], str | None]
    both: bool = True


def told(value: str) -> Fault:
    return Fault(lambda page, family: lines(page, family, lambda series, _: f"{series} {value}\n"))


FAULTS: Final[Mapping[str, Fault]] = {
    "a family is missing": Fault(lambda page, family: lines(page, family, lambda *_: "")),
    "a family is missing on one pod": Fault(lambda page, family: lines(page, family, lambda *_: ""), both=False),
    "a family is NaN": told("NaN"),
    "a family is +Inf": told("+Inf"),
    "a family is -Inf": told("-Inf"),
    "a family is negative": told("-7"),
    "a family is no number": told("many"),
    "a family is told twice": Fault(lambda page, family: lines(page, family, lambda s, v: 2 * f"{s} {v}\n")),
    "a family is scraped twice": Fault(
        lambda page, family: lines(
            page, family, lambda s, v: f"{s} {v}\n" + s.replace("{", '{job="again",') + f" {v}\n"
        )
    ),
    "the page is empty": Fault(lambda *_: ""),
    "the page is another engine's": Fault(lambda *_: "tgi_queue_size 0\n"),
    "one pod is silent": Fault(lambda *_: None, both=False),
    "all pods are silent": Fault(lambda *_: None),
}


def follow(trigger: Trigger, fault: Fault | None, family: str) -> list[Decision]:
    """Decisions of the last ticks; `fault` from tick BEFORE on."""
    reader = Page(VLLM, of_gateway=False)
    seen: dict[str, list[Observation]] = {pod: [] for pod in (*PODS, "ghost-0")}
    past, decisions = NO_PAST, []
    for tick in range(BEFORE + AFTER):
        now_s = tick * TICK_S
        for n, pod in enumerate(PODS):
            hit = fault if fault is not None and tick >= BEFORE and (n == 0 or fault.both) else None
            text = page(tick) if hit is None else hit.text(page(tick), family)
            if text is not None:
                told = reader.observations(text, now_s)
                seen[pod].extend(told[NOBODY] for _ in (0,) if NOBODY in told)
        if tick == 0:  # a pod that went before all this; its answer lingers
            seen["ghost-0"] = [reader.observations(page(99), now_s)[NOBODY]]
        if tick < BEFORE - 3:
            continue
        decision, past = evaluate(trigger, read(trigger, seen, now_s), now_s, past)
        decisions.append(decision)
    return decisions


def read(trigger: Trigger, seen: Mapping[str, list[Observation]], now_s: float) -> Mapping[str, Reading]:
    pods, _ = living(seen, set(PODS))
    workload = Workload(pods=pods, lazy=VLLM.lazy, up=VLLM.up)
    window = Window(now_s, trigger.window_s, trigger.max_age_s, trigger.p95_target_s)
    wanted = sorted(trigger.wanted() & RECIPES.keys())
    readings: dict[str, Reading] = {name: reading(VLLM.ways(name), workload, window) for name in wanted}
    return {**readings, ReadingName.REPLICAS: Sample(2.0, now_s), ReadingName.READY: Sample(2.0, now_s)}


@pytest.fixture(scope="module", params=list(POLICIES))
def trigger(request: pytest.FixtureRequest) -> Trigger:
    return Trigger.parse({**POLICIES[request.param], "stabilizationDown": "0s"})


def test_without_a_fault_the_demand_is_known_and_more_than_what_runs(trigger: Trigger) -> None:
    steady = follow(trigger, None, "")
    assert len({decision.replicas for decision in steady}) == 1
    assert (steady[0].replicas or 0) > 2
    assert not [step for step in steady[0].steps if step.rule == "partial"]


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_never_lowers(trigger: Trigger, fault: str) -> None:
    for family in FAMILIES if "family" in fault else FAMILIES[:1]:
        decisions = follow(trigger, FAULTS[fault], family)
        before = decisions[-AFTER - 1].replicas
        assert before is not None
        for decision in decisions[-AFTER:]:
            assert decision.replicas is None or decision.replicas >= before, (family, decision.steps)
