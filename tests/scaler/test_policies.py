"""Each policy by examples: demand in, replicas and their reason out."""

from collections.abc import Mapping

import pytest

from scaler.policy import POLICIES
from scaler.policy.base import MAX_REPLICAS, Policy, Recommendation, Step, View, replicas_for
from scaler.policy.composite import Composite
from scaler.policy.kv import KvCache
from scaler.policy.latency import Latency
from scaler.policy.queue import MESSAGES, QueueItems, QueueSeconds
from scaler.policy.sessions import Sessions
from scaler.policy.tokens import Tokens
from scaler.signals.reading import Missing, Reading, ReadingName, Sample

ITEMS = QueueItems(per_replica=4)
MESSAGE_ITEMS = QueueItems(per_replica=4, of=MESSAGES)
KV = KvCache(share=0.8)
WORK = QueueSeconds(work_s=30, slots=8)
SESSIONS = Sessions(per_replica=16)
TOKENS = Tokens(per_s_per_replica=100)
LATENCY = Latency(p95_target_s=8, slots=4)
GONE = "gone"


def view(known: Mapping[str, float | str], current: float | None = 3) -> View:
    """Numbers are samples, texts the reasons of missing ones; what is not named is missing."""
    readings: dict[str, Reading] = dict.fromkeys(ReadingName, Missing("down"))
    readings[ReadingName.REPLICAS] = Missing("no API") if current is None else Sample(current, 0)
    readings[ReadingName.READY] = Sample(3, 0)
    for name, value in known.items():
        readings[name] = Missing(value) if isinstance(value, str) else Sample(value, 0)
    return View(readings=readings)


def rules(recommendation: Recommendation) -> list[str]:
    return [step.rule for step in recommendation.steps]


def test_full_caches_keep_as_many_as_are_seen() -> None:
    usage = {ReadingName.KV_USAGE: Sample(1.2, 0, pods=4), ReadingName.READY: Sample(4, 0)}
    calm = KV.recommend(View(readings=dict(view({"preemptions_per_s": 0}).readings) | usage))
    full = KV.recommend(View(readings=dict(view({"preemptions_per_s": 0.1}).readings) | usage))
    assert (calm.replicas, full.replicas) == (2, 4)
    assert "put back for want of it on 4 pods" in full.steps[0].why


@pytest.mark.parametrize(
    ("policy", "known", "want", "doubts"),
    [
        pytest.param(ITEMS, {"queue": 0, "running": 12}, 3, 0, id="items: perfectly loaded, nothing waits: stay"),
        pytest.param(ITEMS, {"queue": 28, "running": 12}, 10, 0, id="items: what waits and what runs are both demand"),
        pytest.param(ITEMS, {"queue": 0, "running": 0}, 0, 0, id="items: nothing at all: zero"),
        pytest.param(ITEMS, {"queue": 0, "running": 0.01}, 1, 0, id="items: a little is not nothing"),
        pytest.param(
            ITEMS, {"queue": 28, "running": GONE}, 7, 1, id="items: what runs is not known: at least the queue"
        ),
        pytest.param(ITEMS, {}, None, 2, id="items: nothing known: no recommendation"),
        pytest.param(
            WORK, {"queue": 0, "running": 24}, 3, 0, id="work: perfectly loaded: stay, whatever the service time"
        ),
        pytest.param(
            WORK, {"queue": 60, "running": 24, "service_s": 20}, 8, 0, id="work: 1200 s of it in 30 s: 40 slots"
        ),
        pytest.param(
            WORK, {"queue": 60, "running": 24}, 4, 1, id="work: how long requests take is not known: one more"
        ),
        pytest.param(WORK, {"queue": 0, "running": 0}, 0, 0, id="work: nothing at all: zero"),
        pytest.param(WORK, {"running": 9}, 2, 1, id="work: the queue is not known: at least what runs"),
        pytest.param(WORK, {}, None, 2, id="work: nothing known: no recommendation"),
        pytest.param(MESSAGE_ITEMS, {"backlog": 28, "taken": 12, "queue": 900}, 10, 0, id="items: of a message queue"),
        pytest.param(KV, {"kv_usage": 2.4}, 3, 0, id="kv: 2.4 caches in use, 0.8 of one a replica"),
        pytest.param(KV, {"kv_usage": 0}, 0, 0, id="kv: nothing held: zero"),
        pytest.param(KV, {}, None, 1, id="kv: nothing known: no recommendation"),
        pytest.param(SESSIONS, {"sessions": 33}, 3, 0, id="sessions: the last one opens a replica"),
        pytest.param(SESSIONS, {"sessions": 0}, 0, 0, id="sessions: none: zero"),
        pytest.param(SESSIONS, {}, None, 1, id="sessions: not known: no recommendation"),
        pytest.param(
            TOKENS, {"prompt_tokens_per_s": 150, "generation_tokens_per_s": 60}, 3, 0, id="tokens: prompt and generated"
        ),
        pytest.param(
            TOKENS, {"prompt_tokens_per_s": 150}, 2, 1, id="tokens: one kind is not known: at least the other"
        ),
        pytest.param(TOKENS, {}, None, 2, id="tokens: not known: no recommendation"),
        pytest.param(
            TOKENS,
            {"prompt_tokens_per_s": 0, "generation_tokens_per_s": 0, "queue": 0, "running": 1},
            1,
            0,
            id="tokens: none flow, but a request is in flight: one",
        ),
        pytest.param(
            TOKENS,
            {"prompt_tokens_per_s": 0, "generation_tokens_per_s": 0, "queue": 0, "running": 0},
            0,
            0,
            id="tokens: none flow and nothing is in flight: zero",
        ),
        pytest.param(
            TOKENS,
            {"prompt_tokens_per_s": 0, "generation_tokens_per_s": 0},
            0,
            2,
            id="tokens: none flow, and whether any request is in flight is not known: zero, in doubt",
        ),
    ],
)
def test_recommendation(policy: Policy, known: dict[str, float | str], want: int | None, doubts: int) -> None:
    got = policy.recommend(view(known))
    assert (got.replicas, len(got.doubts)) == (want, doubts)
    assert rules(got) == [policy.rule]
    assert (got.steps[0].before, got.steps[0].after) == (3, want)


REST = {"queue": 0, "running": 0}


@pytest.mark.parametrize(
    ("known", "want", "told"),
    [
        pytest.param(
            {"arrivals_per_s": 0, **REST}, 0, ["latency"], id="at rest: zero, and no service time is asked for"
        ),
        pytest.param({**REST}, 0, ["latency"], id="arrivals not known, nothing in flight: zero, in doubt"),
        pytest.param({"service_s": 1.5}, None, ["latency"], id="neither arrivals nor what is in flight: none"),
        pytest.param(
            {"arrivals_per_s": 3, "service_s": 1.5, **REST}, 2, ["latency"], id="4.5 erlangs: 8 slots meet the target"
        ),
        pytest.param(
            {"arrivals_per_s": 5.2, "service_s": 1.5, **REST}, 3, ["latency"], id="7.8 erlangs: 8 slots would queue up"
        ),
        pytest.param(
            {"arrivals_per_s": 0.001, "service_s": 0, **REST}, 1, ["latency"], id="a service time of 0 divides nothing"
        ),
        pytest.param(
            {"arrivals_per_s": 3, "service_s": 1.5, "queue": 60, "running": 8},
            4,
            ["latency", "backlog"],
            id="60 wait: slots to work them off within 8 s",
        ),
        pytest.param(
            {"arrivals_per_s": 0.1, "service_s": 1.5, "queue": 0, "running": 12},
            3,
            ["latency", "in-flight"],
            id="12 run: they keep their slots",
        ),
        pytest.param(
            {"arrivals_per_s": 3, "queue": 60, "running": 12}, 3, ["latency"], id="service time not known: what runs"
        ),
        pytest.param(
            {"service_s": 1.5, "queue": 6, "running": 0}, 1, ["latency"], id="arrivals not known: one to begin"
        ),
        pytest.param(
            {"arrivals_per_s": 4, "service_s": 5, **REST},
            7,
            ["latency", "utilisation"],
            id="5 s of service, 8 s at P95: out of reach, sized by use and not by error",
        ),
        pytest.param(
            {"arrivals_per_s": 4, "service_s": 60, **REST},
            75,
            ["latency", "utilisation"],
            id="far out of reach: by use",
        ),
        pytest.param({"arrivals_per_s": 1e9, "service_s": 1e9, **REST}, MAX_REPLICAS, None, id="absurd load: bounded"),
        pytest.param(
            {"arrivals_per_s": 3, "service_s": 1.5, "p95_s": 5, **REST}, 2, ["latency"], id="P95 as expected: no word"
        ),
        pytest.param(
            {"arrivals_per_s": 3, "service_s": 1.5, "p95_s": 5, "oldest_wait_s": 20, **REST},
            3,
            ["latency", "p95-check"],
            id="P95 of those that ended as expected, and one has waited for longer",
        ),
        pytest.param(
            {"arrivals_per_s": 3, "service_s": 1.5, "p95_s": 9, **REST},
            3,
            ["latency", "p95-check"],
            id="late although the model is content: not lowered",
        ),
        pytest.param(
            {"arrivals_per_s": 8, "service_s": 1.5, "p95_s": 2, **REST},
            4,
            ["latency", "p95-check"],
            id="in time although the model expects late: said, and sized by the model",
        ),
    ],
)
def test_latency(known: dict[str, float], want: int | None, told: list[str] | None) -> None:
    got = LATENCY.recommend(view(known))
    assert got.replicas == want
    assert told is None or rules(got) == told
    assert [step.before for step in got.steps] == [3, *(step.after for step in got.steps[:-1])]


def test_latency_is_in_doubt_while_anything_it_needs_is_missing() -> None:
    known = {"arrivals_per_s": 3.0, "service_s": 1.5, "queue": 0.0, "running": 4.0}
    assert LATENCY.recommend(view(known)).doubts == ()
    for name in known:
        left = {key: value for key, value in known.items() if key != name}
        assert LATENCY.recommend(view(left)).doubts == (f"{name}: down",)


@pytest.mark.parametrize("current", [None, 0])
def test_the_model_is_not_checked_against_no_replicas(current: float | None) -> None:
    got = LATENCY.recommend(view({"arrivals_per_s": 3, "service_s": 1.5, "p95_s": 9, **REST}, current))
    assert rules(got) == ["latency"]


def test_a_measured_p95_never_scales_in_proportion() -> None:
    known = {"arrivals_per_s": 3.0, "service_s": 1.5, **REST}
    answers = {LATENCY.recommend(view({**known, "p95_s": p95_s})).replicas for p95_s in (9.0, 90.0, 9000.0)}
    assert answers == {3}


def test_composite_goes_up_if_any_says_so() -> None:
    both = Composite(parts=(ITEMS, SESSIONS))
    got = both.recommend(view({"queue": 0, "running": 4, "sessions": 70}))
    assert (got.replicas, got.doubts) == (5, ())
    assert got.steps[-1] == Step("composite", 3, 5, "any up, all down: queue 1, sessions 5")


def test_composite_is_in_doubt_as_long_as_one_is() -> None:
    both = Composite(parts=(ITEMS, SESSIONS))
    got = both.recommend(view({"queue": 0, "running": 4}))
    assert (got.replicas, got.doubts) == (1, ("sessions: down",))
    assert got.steps[-1].why == "any up, all down: queue 1, sessions not known"
    assert both.recommend(view({})).replicas is None


@pytest.mark.parametrize(
    ("demand", "per_replica", "want"),
    [
        pytest.param(1.1, 0.1, 11, id="floating-point dust asks for no more"),
        pytest.param(1e-12, 4, 0, id="dust alone is nothing"),
        pytest.param(1e-6, 4, 1, id="a little is one"),
        pytest.param(1e300, 1e-300, MAX_REPLICAS, id="more than any cluster: bounded"),
        pytest.param(float("inf"), 4, MAX_REPLICAS, id="a sum that overflowed: bounded"),
    ],
)
def test_replicas_for(demand: float, per_replica: float, want: int) -> None:
    assert replicas_for(demand, per_replica) == want


def test_every_policy_says_what_it_reads() -> None:
    for classes in POLICIES.values():
        for cls in classes:
            assert isinstance(cls.rule, str)
    assert Composite(parts=(ITEMS, SESSIONS)).reads == {"queue", "running", "sessions"}
    assert WORK.reads == {"queue", "running", "service_s"}


def test_a_step_reads_as_a_sentence() -> None:
    assert str(Step("queue", None, 2, "8 wait")) == "queue: ? -> 2 (8 wait)"
