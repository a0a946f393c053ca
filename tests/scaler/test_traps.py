"""Twenty traps in which autoscalers of others were caught, each a test that is named after it.

What happened to whom stands beside each. `tests/scaler/test_pitfalls.py` has those of metrics and of PromQL themselves.
"""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from prometheus_client import CollectorRegistry

from scaler.access import Access
from scaler.engine import Engine, Limits
from scaler.evaluate import NO_PAST, Decision, Past, evaluate
from scaler.obs import Observer
from scaler.policy.base import MAX_REPLICAS
from scaler.signals.compute import Window, reading
from scaler.signals.observed import Observation, Workload, living
from scaler.signals.reading import Missing, Reading, Sample, reading_of
from scaler.signals.recipes import Counter, Gauge, Own, ways
from scaler.signals.window import in_order, rate
from scaler.sources.exposition import NOBODY, Page
from scaler.sources.presets import load
from scaler.trigger import Trigger, TriggerError
from tests.fakes.clock import ManualClock
from tests.fakes.source import ScriptedSource

TICK_S = 15.0
VLLM = load()["vllm"]
KEYS = {"policy": "queue", "queuePerReplica": "4", "stabilizationDown": "60s"}
TRIGGER = Trigger.parse(KEYS)
Load = Mapping[str, Reading | float]
Seen = Mapping[str, Sequence[Observation]]


def readings(at_s: float, load: Load) -> dict[str, Reading]:
    usual: Load = {"running": 0.0, "replicas": 10.0, "ready": 10.0}
    return {
        name: found if isinstance(found, Sample | Missing) else Sample(found, at_s)
        for name, found in {**usual, **load}.items()
    }


def follow(
    loads: Sequence[Load], past: Past = NO_PAST, from_s: float = 0.0, trigger: Trigger = TRIGGER
) -> list[Decision]:
    decisions = []
    for n, tick in enumerate(loads):
        now_s = from_s + n * TICK_S
        decision, past = evaluate(trigger, readings(now_s, tick), now_s, past)
        decisions.append(decision)
    return decisions


def pod(gauges: Mapping[Gauge | Own, float], at_s: float = 60.0) -> list[Observation]:
    return [Observation(at_s=at_s, gauges={name: {(): value} for name, value in gauges.items()})]


def queue(pods: Seen, gateways: Seen | None = None) -> Reading:
    workload = Workload(pods=pods, gateways=gateways or {}, up=Gauge.RUNNING)
    return reading(VLLM.ways("queue"), workload, Window(60.0, 120.0, 60.0))


def test_trap_01_two_pods_and_a_query_that_adds_nothing_up() -> None:
    """vllm-project/production-stack: `vllm:num_requests_waiting` unaggregated; KEDA fails at the second pod."""
    assert queue({"a": pod({Gauge.WAITING: 3}), "b": pod({Gauge.WAITING: 4})}) == Sample(7.0, 60.0, pods=2)


def test_trap_02_a_wrong_label_finds_nothing_and_nothing_is_not_zero() -> None:
    """The same default asks for a label `model` that vLLM has not got, and reads 0 for ever."""
    assert isinstance(queue({}), Missing)
    assert follow([{"queue": 40.0}] * 9 + [{"queue": Missing("no series")}] * 9)[-1].replicas == 10


def test_trap_03_a_mean_of_pods_is_not_their_sum() -> None:
    """vllm-project/aibrix pkg/controller/podautoscaler: mean over pods / target, not times their number."""
    found = queue({f"chat-{n}": pod({Gauge.WAITING: 8}) for n in range(5)})
    assert isinstance(found, Sample)
    assert follow([{"queue": found.value, "replicas": 5.0, "ready": 5.0}])[0].replicas == 10


def test_trap_04_a_restart_does_not_forget_that_it_was_holding() -> None:
    """The same: panic's hold is not kept. A new process here lowers nothing before it has seen a whole window."""
    fallen = [{"queue": 4.0}] * 3
    assert [decision.replicas for decision in follow(fallen)] == [10, 10, 10]


@pytest.mark.parametrize("name", ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"])
def test_trap_05_a_metric_that_was_renamed(name: str) -> None:
    """kornsour/keda-inference-scaler asks for the name that vLLM removed in 0.13, and reads 0."""
    page = Page(VLLM, of_gateway=False)
    seen = page.observations(f'vllm:num_requests_running{{engine="0"}} 1\n{name}{{engine="0"}} 0.75\n', 60.0)[NOBODY]
    found = reading(VLLM.ways("kv_usage"), Workload(pods={"a": [seen]}, up=VLLM.up), Window(60.0, 120.0, 60.0))
    assert found == Sample(0.75, 60.0, pods=1)


def test_trap_06_one_more_at_ten_replicas_is_within_the_hpas_tolerance() -> None:
    """kedacore/keda issues 4167, 5263, 7900: the HPA ignores it, and nobody says so."""
    (decision,) = follow([{"queue": 44.0}])
    assert (decision.replicas, decision.hpa) == (11, 10)
    assert decision.steps[-1].rule == "hpa-tolerance"


async def test_trap_07_get_metrics_and_is_active_answer_from_one_decision() -> None:
    """KEDA calls one after the other; answers computed apart contradict each other."""
    limits = Limits(
        tick_s=TICK_S,
        delay_s=1.0,
        first_answer_s=5.0,
        forget_after_s=100.0,
        max_objects=1,
        backends={"default": Access(roles=frozenset({"metrics"}))},
        presets=frozenset({"vllm"}),
        dependencies=frozenset(),
        reads_cluster=True,
    )
    source = ScriptedSource({"queue": 8.0, "running": 0.0, "replicas": 1.0, "ready": 1.0})
    engine = Engine(None, [source], limits, Observer(CollectorRegistry()), clock=ManualClock(1000.0))
    first = await engine.decide("agents", "chat", KEYS)
    source.readings["queue"] = 0.0
    again = await asyncio.gather(*(engine.decide("agents", "chat", KEYS) for _ in range(3)))
    assert all(published is first for published in again)
    await engine.close()


def test_trap_08_pods_that_are_still_pending_are_not_taken_back() -> None:
    """ai-dynamo/dynamo issue 9294: 2, 1, 2, 1, since what starts does not work yet."""
    starting: Load = {"queue": 40.0, "replicas": 10.0, "ready": 4.0}
    assert {decision.replicas for decision in follow([starting] * 12)} == {10}


def test_trap_09_nothing_is_learnt_of_pods_that_load_their_model() -> None:
    """ai-dynamo/dynamo issue 12430: slow first samples spoil the regression. Capacity here is what the trigger says."""
    tokens = Trigger.parse({"policy": "tokens", "tokensPerSecondPerReplica": "100"})
    load = {"prompt_tokens_per_s": 500.0, "generation_tokens_per_s": 500.0, "queue": 0.0}
    cold, warm = (follow([{**load, "ready": ready}], trigger=tokens)[0].replicas for ready in (1.0, 10.0))
    assert cold == warm == 10


def test_trap_10_the_gauge_of_a_deleted_pod() -> None:
    """llm-d's `llm_d_epp_inflight_tokens` is never deleted: demand that only ever rises."""
    pods, ghosts = living({"a": pod({Gauge.WAITING: 3}), "gone": pod({Gauge.WAITING: 99})}, {"a"})
    assert (queue(pods), ghosts) == (Sample(3.0, 60.0, pods=1), ("gone",))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1.0, 1e300])
def test_trap_11_numbers_that_no_load_has(value: float) -> None:
    """kedacore/keda issues 7880, 8036: NaN and negative values as 0; +Inf as 0 too."""
    for decision in follow([{"queue": 40.0}] * 9 + [{"queue": reading_of(value, 135.0)}]):
        assert decision.replicas is not None
        assert 10 <= decision.replicas <= MAX_REPLICAS


def test_trap_12_clocks_that_differ_and_samples_out_of_order() -> None:
    points = [(30.0, 20.0), (15.0, 10.0), (60.0, 40.0), (45.0, 30.0), (45.0, 30.0)]
    assert rate(in_order(points), 0.0, 60.0) == pytest.approx(2 / 3)
    late = follow([{"queue": 40.0}] * 9 + [{"queue": Sample(0.0, -600.0)}, {"queue": Sample(0.0, 9000.0)}])
    assert [decision.replicas for decision in late[-2:]] == [10, 10]


def test_trap_13_prometheus_restarts_empty_at_the_peak() -> None:
    """kedacore/keda issue 3065: scaled to the minimum in an incident."""
    empty: Load = {"queue": Missing("no series"), "running": Missing("no series"), "ready": Missing("no series")}
    assert {decision.replicas for decision in follow([{"queue": 40.0}] * 9 + [empty] * 40)} == {10}


def test_trap_14_counters_begin_anew_at_a_scale_in() -> None:
    seen = [Observation(at_s=TICK_S * n, counters={Counter.ARRIVED: {(): v}}) for n, v in enumerate([0, 15, 30, 5])]
    arrivals = ways("arrivals_per_s", frozenset({Counter.ARRIVED}))
    found = reading(arrivals, Workload(pods={"a": seen}), Window(45.0, 60.0, 60.0))
    assert isinstance(found, Sample)
    assert found.value > 0
    assert found.pods == 0, "a pod whose counter was reset does not stand behind the rate, so that it lowers nothing"


def test_trap_15_nothing_runs_and_no_engine_exports_anything() -> None:
    """llm-d/llm-d issue 2492: with no ready endpoint the family is absent, and nothing wakes the workload."""
    found = queue({}, {"gateway": pod({Own.REQUESTS_WAITING: 5})})
    assert isinstance(found, Sample)
    (decision,) = follow(
        [{"queue": found, "running": Missing("no series"), "replicas": 0.0, "ready": 0.0}], from_s=60.0
    )
    assert (decision.replicas, decision.active) == (2, True)


def test_trap_16_a_ceiling_below_the_floor() -> None:
    """ai-dynamo/dynamo: a GPU budget below the minimum. Told when the trigger is read, and never guessed around."""
    with pytest.raises(TriggerError, match="'minReplicas': want at most maxReplicas, 2"):
        Trigger.parse({**KEYS, "minReplicas": "5", "maxReplicas": "2"})


def test_trap_17_a_day_of_history_is_no_season() -> None:
    """Forecasts need what they have not got yet. What decides here asks for no history, and holds while it has none."""
    first, *_ = follow([{"queue": 4.0}])
    assert first.replicas == 10
    assert any(step.rule == "warm-up" for step in first.steps)


@pytest.mark.parametrize("shift_s", [3600.0, -3600.0, 86_400.0])
def test_trap_18_an_hour_more_or_less_changes_nothing(shift_s: float) -> None:
    """Daylight saving: time here is seconds on one axis, and only differences count."""
    loads: list[Load] = [{"queue": 4.0 * n} for n in (10, 12, 3, 3, 3, 3, 3, 9)]
    plain, shifted = follow(loads), follow(loads, from_s=shift_s)
    assert [(d.replicas, d.steps) for d in plain] == [(d.replicas, d.steps) for d in shifted]


def test_trap_19_a_gap_is_not_a_quiet_time() -> None:
    """Ten minutes without a tick: what was seen before them says nothing of them, and a whole window is seen anew."""
    _, past = evaluate(TRIGGER, readings(0.0, {"queue": 40.0}), 0.0, NO_PAST)
    after = follow([{"queue": 4.0}] * 6, past, from_s=600.0)
    assert [decision.replicas for decision in after[:4]] == [10, 10, 10, 10]
    assert after[-1].replicas == 1


def test_trap_20_a_restart_in_the_middle_of_a_burst() -> None:
    """knative/serving starts in panic where pods run already; so here: up at once, down only after a whole window."""
    up, *_ = follow([{"queue": 80.0}])
    down, *_ = follow([{"queue": 8.0}])
    assert (up.replicas, down.replicas) == (20, 10)
