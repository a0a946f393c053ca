"""Every fault of measuring times every signal: the answer is never lower than before the fault.

A workload of four pods under steady load is scraped every 15 s; readings are made by the recipes, decisions by the
production code. After a while a fault begins, while the load stays what it is; whatever is decided from then on has to
be at least what was decided before. That the harness would notice is shown by the same story with a load that falls.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, nan
from typing import Final

import pytest

from scaler.evaluate import NO_PAST, Decision, evaluate
from scaler.signals.compute import Window, reading
from scaler.signals.histogram import Buckets
from scaler.signals.observed import Cumulative, Labels, Observation, Workload, living, once
from scaler.signals.reading import Missing, Reading, ReadingName, Sample, reading_of
from scaler.signals.recipes import Counter, Gauge, Histogram, Own, Quantity, ways
from scaler.trigger import Trigger

TICK_S: Final = 15.0
BEGINS_S: Final = 300.0
ENDS_S: Final = 660.0
PODS: Final = tuple(f"chat-7d9f8b6c4d-aaaa{n}" for n in range(4))
GHOST: Final = "chat-7d9f8b6c4d-zzzzz"
SELF: Final[Labels] = ("0",)
BOUNDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, inf)
EVERYTHING: Final[frozenset[Quantity]] = frozenset((*Gauge, *Counter, *Histogram))

TRIGGERS: Final = {
    "queue depth": {"queuePerReplica": "3"},
    "queue in seconds of work": {"queuePerReplica": "20s", "slotsPerReplica": "2"},
    "sessions": {"sessionsPerReplica": "5"},
    "tokens": {"tokensPerSecondPerReplica": "30"},
    "latency": {"p95Target": "6s", "slotsPerReplica": "4"},
    "KV cache": {"kvUsagePerReplica": "0.5"},
    "message queue": {"queuePerReplica": "3", "backlogBackend": "k", "backlogName": "t"},
    "all together": {
        "queuePerReplica": "3",
        "sessionsPerReplica": "5",
        "tokensPerSecondPerReplica": "60",
        "p95Target": "6s",
        "slotsPerReplica": "4",
        "kvUsagePerReplica": "0.5",
    },
}


@dataclass(frozen=True, slots=True)
class Load:
    """Of one pod. `ended_per_s`: requests; each takes 3 s, 1 s of it waiting, 10 prompt and 15 generated tokens."""

    waiting: float = 1.0
    running: float = 3.0
    sessions: float = 6.0
    kv_usage: float = 0.6
    ended_per_s: float = 2.5


BUSY, IDLE = Load(), Load(waiting=0, running=1, sessions=1, kv_usage=0.1, ended_per_s=0.1)


def scrape(load: Load, at_s: float, since_s: float = 0.0) -> Observation:
    """What a pod exports at `at_s` that has counted since `since_s`."""
    n = load.ended_per_s * (at_s - since_s)
    counters = {
        Counter.PROMPT_TOKENS: 10 * n,
        Counter.CACHED_TOKENS: 2 * n,
        Counter.GENERATION_TOKENS: 15 * n,
        Counter.ENDED: n,
        Counter.PREEMPTIONS: 0.0,
    }
    late = Cumulative(Buckets(BOUNDS, (0, 0.1 * n, 0.3 * n, 0.8 * n, n, n)), 3 * n, n)
    waits = Cumulative(Buckets(BOUNDS, (0.5 * n, 0.8 * n, n, n, n, n)), 1 * n, n)
    gauges: dict[Gauge | Own, float] = {
        Gauge.WAITING: load.waiting,
        Gauge.RUNNING: load.running,
        Gauge.KV_USAGE: load.kv_usage,
        Own.SESSIONS_ACTIVE: load.sessions,
    }
    return Observation(
        at_s=at_s,
        gauges={name: {SELF: value} for name, value in gauges.items()},
        counters={name: {SELF: value} for name, value in counters.items()},
        histograms={Histogram.E2E_S: {SELF: late}, Histogram.QUEUE_S: {SELF: waits}},
    )


Seen = Mapping[str, Sequence[Observation]]
Fault = Callable[[Seen, float], Seen]
"""What of the scrapes until `now_s` is seen instead; called from BEGINS_S on."""


Change = Callable[[str, Observation], Observation | None]


def since_fault(seen: Seen, change: Change, pods: Sequence[str] = PODS) -> Seen:
    """Scrapes of `pods` since the fault as `change` makes them; None: never happened."""
    return {
        pod: [
            changed
            for one in observations
            if (changed := change(pod, one) if one.at_s >= BEGINS_S and pod in pods else one) is not None
        ]
        for pod, observations in seen.items()
    }


def with_values(value: float) -> Fault:
    """Every number is `value`, as a source passes it on: `once` is what every source reads series through."""

    def change(_: str, one: Observation) -> Observation:
        return replace(
            one,
            gauges={name: once((labels, value) for labels in series) for name, series in one.gauges.items()},
            counters={name: once((labels, value) for labels in series) for name, series in one.counters.items()},
            histograms={},
        )

    return lambda seen, _: since_fault(seen, change)


def twice(_: str, one: Observation) -> Observation:
    """Another job scrapes the same pods, a little earlier: lower counters, other gauges."""
    gauges = {n: once([*s.items(), *((k, v / 2) for k, v in s.items())]) for n, s in one.gauges.items()}
    counters = {n: once([*s.items(), *((k, v * 0.99) for k, v in s.items())]) for n, s in one.counters.items()}
    return replace(one, gauges=gauges, counters=counters)


def restarted(pod: str, one: Observation) -> Observation:
    """The engine of this pod began to count anew; its gauges are of the same load."""
    del pod
    return scrape(BUSY, one.at_s, since_s=BEGINS_S - 5.0)


def skewed(by_s: float) -> Fault:
    """The far side's clock is off."""
    return lambda seen, _: since_fault(seen, lambda _, one: replace(one, at_s=one.at_s + by_s))


FAULTS: Final[Mapping[str, Fault]] = {
    "all series are missing": lambda *_: {},
    "the pods answer without metrics": lambda seen, _: since_fault(seen, lambda _, one: Observation(at_s=one.at_s)),
    "NaN": with_values(nan),
    "+Inf": with_values(inf),
    "-Inf": with_values(-inf),
    "negative": with_values(-1.0),
    "stale: the last scrape stays": lambda seen, _: since_fault(seen, lambda *_: None),
    "partial: one pod is not scraped": lambda seen, _: since_fault(seen, lambda *_: None, PODS[:1]),
    "partial: one pod is scraped": lambda seen, _: since_fault(seen, lambda *_: None, PODS[1:]),
    "ghost: a pod that is gone lingers idle": lambda seen, now_s: {
        **seen,
        GHOST: [scrape(IDLE, at_s) for at_s in (now_s - 60.0, now_s - 45.0, now_s - 30.0)],
    },
    "duplicated: scraped by two jobs": lambda seen, _: since_fault(seen, twice),
    "reset: every engine restarts": lambda seen, _: since_fault(seen, restarted),
    "reset: one engine restarts": lambda seen, _: since_fault(seen, restarted, PODS[:1]),
    "skew: the scrapes are 20 s behind": skewed(-20.0),
    "skew: the scrapes are 20 s ahead": skewed(20.0),
    "skew: the scrapes are 10 min behind": skewed(-600.0),
    "skew: the scrapes are 10 min ahead": skewed(600.0),
}

READING_FAULTS: Final[Mapping[str, Callable[[float], Reading]]] = {
    "missing": lambda _: Missing("down"),
    "NaN": lambda at_s: reading_of(nan, at_s),
    "+Inf": lambda at_s: reading_of(inf, at_s),
    "-Inf": lambda at_s: reading_of(-inf, at_s),
    "negative": lambda at_s: reading_of(-1.0, at_s),
    "stale": lambda _: Sample(0.0, BEGINS_S - 120.0),
    "from none of its pods": lambda at_s: Sample(0.0, at_s, pods=0),
    "from the future": lambda at_s: Sample(0.0, at_s + 600.0),
}


def of_source(load: Load, at_s: float) -> dict[str, Reading]:
    """What the cluster and the message queue say."""
    return {
        ReadingName.REPLICAS: Sample(4.0, at_s),
        ReadingName.READY: Sample(4.0, at_s),
        ReadingName.BACKLOG: Sample(8 * load.waiting, at_s),
        ReadingName.TAKEN: Sample(4 * load.running, at_s),
    }


def read(seen: Seen, trigger: Trigger, now_s: float) -> dict[str, Reading]:
    pods, _ = living(seen, frozenset(PODS))
    window = Window(now_s, trigger.window_s, trigger.max_age_s, trigger.p95_target_s)
    workload = Workload(pods=pods, up=Gauge.RUNNING)
    names = [name for name in trigger.wanted() if ways(name, EVERYTHING)]
    return {name: reading(ways(name, EVERYTHING), workload, window) for name in names}


def parse(signal: str) -> Trigger:
    return Trigger.parse({"stabilizationDown": "60s", "maxReplicas": "50", **TRIGGERS[signal]})


def decisions(
    signal: str,
    fault: Fault = lambda seen, _: seen,
    *,
    then: Load = BUSY,
    told: Callable[[dict[str, Reading], float], dict[str, Reading]] = lambda readings, _: readings,
) -> Sequence[tuple[float, Decision]]:
    """Ticks from the start to the end. `fault`: of the scrapes; `told`: of the readings; both from BEGINS_S on."""
    trigger, past, made = parse(signal), NO_PAST, []
    scrapes: dict[str, list[Observation]] = {pod: [] for pod in PODS}
    counted_s = dict.fromkeys(PODS, 0.0)
    for n in range(1, int(ENDS_S / TICK_S) + 1):
        now_s = n * TICK_S
        load = BUSY if now_s < BEGINS_S else then
        for pod in PODS:
            counted_s[pod] += TICK_S * load.ended_per_s / BUSY.ended_per_s
            one = scrape(replace(load, ended_per_s=BUSY.ended_per_s), counted_s[pod])
            scrapes[pod] = [*scrapes[pod][-20:], replace(one, at_s=now_s)]
        seen = fault(scrapes, now_s) if now_s >= BEGINS_S else scrapes
        readings = of_source(load, now_s) | read(seen, trigger, now_s)
        if now_s >= BEGINS_S:
            readings = told(readings, now_s)
        decision, past = evaluate(trigger, readings, now_s, past)
        made.append((now_s, decision))
    return made


def never_lower(made: Sequence[tuple[float, Decision]]) -> None:
    before = next(d.replicas for at_s, d in reversed(made) if at_s < BEGINS_S)
    assert before is not None
    assert before > 4, "the story has to begin above the replicas that run, or holding these would be enough"
    lower = [(at_s, d) for at_s, d in made if at_s >= BEGINS_S and (d.replicas is None or d.replicas < before)]
    assert not lower, f"{before} before; at {lower[0][0]:g} s: {[str(step) for step in lower[0][1].steps]}"


@pytest.mark.parametrize("signal", TRIGGERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_scrapes_never_lowers(fault: str, signal: str) -> None:
    never_lower(decisions(signal, FAULTS[fault]))


@pytest.mark.parametrize("signal", TRIGGERS)
@pytest.mark.parametrize("fault", READING_FAULTS)
def test_a_fault_of_one_source_of_several_never_lowers(fault: str, signal: str) -> None:
    for name in sorted(parse(signal).wanted()):

        def told(readings: dict[str, Reading], now_s: float, name: str = name) -> dict[str, Reading]:
            return readings | {name: READING_FAULTS[fault](now_s)}

        never_lower(decisions(signal, told=told))


@pytest.mark.parametrize("signal", TRIGGERS)
def test_a_load_that_really_falls_lowers(signal: str) -> None:
    made = decisions(signal, then=IDLE)
    before = next(d.replicas for at_s, d in reversed(made) if at_s < BEGINS_S)
    assert before is not None
    assert made[-1][1].replicas is not None
    assert made[-1][1].replicas < before
