"""The metadata contract: what is accepted, and what is said about the rest."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.policy.composite import Composite
from scaler.policy.latency import Latency
from scaler.policy.queue import QueueItems, QueueSeconds
from scaler.policy.sessions import Sessions
from scaler.policy.stabilization import Windows
from scaler.policy.tokens import Tokens
from scaler.policy.tokens_ahead import TokensAhead
from scaler.signals.work import Pace
from scaler.trigger import Trigger, TriggerError

SMALL = {"queuePerReplica": "4"}
AHEAD = {
    "policy": "ahead",
    "coldStart": "3m",
    "promptTokensPerSecondPerReplica": "15000",
    "generationTokensPerSecondPerReplica": "5000",
    "slotsPerReplica": "128",
}
FORESIGHT = TokensAhead(
    pace=Pace(prefill_per_s=15_000, decode_per_s=5_000), cold_start_s=180, slots=128, late_share=0.01
)


def faults(metadata: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(TriggerError) as caught:
        Trigger.parse(metadata)
    assert str(caught.value) == "; ".join(caught.value.faults)
    return caught.value.faults


def test_the_documented_defaults() -> None:
    trigger = Trigger.parse(SMALL)
    assert trigger.windows == Windows(up_s=0, down_s=300, gap_s=60)
    assert (trigger.policy, trigger.preset, trigger.backend, trigger.workload) == ("composite", "vllm", "default", None)
    assert (trigger.window_s, trigger.on_missing, trigger.hpa_tolerance) == (120, "hold", 0.1)
    assert (trigger.min_replicas, trigger.max_replicas) == (None, None)


def test_every_key() -> None:
    trigger = Trigger.parse(
        {
            "policy": "composite",
            "workload": "chat-70b",
            "preset": "vllm",
            "backend": "eu",
            "queuePerReplica": "30s",
            "sessionsPerReplica": "16",
            "tokensPerSecondPerReplica": "2400.5",
            "p95Target": "8s",
            "slotsPerReplica": "256",
            "minReplicas": "1",
            "maxReplicas": "40",
            "stabilizationUp": "500ms",
            "stabilizationDown": "1h",
            "window": "1.5m",
            "maxAge": "90s",
            "onMissing": "fail",
            "hpaTolerance": "0",
        }
    )
    assert trigger.sizing == Composite(
        parts=(
            QueueSeconds(work_s=30, slots=256),
            Sessions(per_replica=16),
            Tokens(per_s_per_replica=2400.5),
            Latency(p95_target_s=8, slots=256),
        )
    )
    assert trigger.windows == Windows(up_s=0.5, down_s=3600, gap_s=90)
    assert trigger.wanted() == {
        "replicas",
        "ready",
        "queue",
        "running",
        "sessions",
        "prompt_tokens_per_s",
        "generation_tokens_per_s",
        "arrivals_per_s",
        "service_s",
        "p95_s",
        "oldest_wait_s",
    }


@pytest.mark.parametrize(
    ("metadata", "want"),
    [
        pytest.param(SMALL, QueueItems(per_replica=4), id="composite of one is that one"),
        pytest.param({"policy": "queue", **SMALL}, QueueItems(per_replica=4), id="queue"),
        pytest.param({"policy": "sessions", "sessionsPerReplica": "2"}, Sessions(per_replica=2), id="sessions"),
        pytest.param(
            {"policy": "latency", "p95Target": "2s", "slotsPerReplica": "4"},
            Latency(p95_target_s=2, slots=4),
            id="latency",
        ),
        pytest.param(AHEAD, FORESIGHT, id="ahead"),
        pytest.param(
            AHEAD | {"lateShare": "0.05", "firstTokenTarget": "2s"},
            replace(FORESIGHT, late_share=0.05, first_token_s=2.0),
            id="ahead, and when a request is late",
        ),
        pytest.param(
            AHEAD | {"policy": "composite", "sessionsPerReplica": "2"},
            Composite(parts=(Sessions(per_replica=2), FORESIGHT)),
            id="ahead, and never fewer than live sessions need",
        ),
    ],
)
def test_policy(metadata: dict[str, str], want: object) -> None:
    trigger = Trigger.parse(metadata)
    assert trigger.sizing == want
    assert trigger.sizing is trigger.sizing


def test_ahead_looks_at_a_minute_unless_told_otherwise() -> None:
    alone = Trigger.parse(AHEAD)
    assert (alone.windows, alone.window_s, alone.learns) == (Windows(up_s=0, down_s=300, gap_s=60), 60, True)
    told = Trigger.parse(AHEAD | {"stabilizationDown": "10m", "window": "2m"})
    assert (told.windows.down_s, told.window_s) == (600, 120)
    among_others = Trigger.parse(AHEAD | {"policy": "composite"})
    assert (among_others.windows.down_s, among_others.window_s) == (300, 120)
    assert not Trigger.parse(SMALL).learns


@pytest.mark.parametrize(
    ("metadata", "slo_s"),
    [
        pytest.param(SMALL, None, id="nothing is promised"),
        pytest.param(SMALL | {"p95Target": "8s", "slotsPerReplica": "4"}, 8, id="the end of a request"),
        pytest.param(AHEAD | {"firstTokenTarget": "2s"}, 2, id="its first token"),
    ],
)
def test_what_a_request_that_was_on_time_has_kept(metadata: dict[str, str], slo_s: float | None) -> None:
    assert Trigger.parse(metadata).slo_s == slo_s


@pytest.mark.parametrize(
    ("metadata", "want"),
    [
        pytest.param({"policy": "ahead"}, ["policy 'ahead' needs coldStart"], id="ahead alone"),
        pytest.param(
            {"policy": "ahead", "coldStart": "3m"},
            [
                "'coldStart': needs promptTokensPerSecondPerReplica",
                "'coldStart': needs generationTokensPerSecondPerReplica",
                "'coldStart': needs slotsPerReplica",
            ],
            id="a cold start and nothing that says what a replica can do",
        ),
        pytest.param(
            SMALL | {"lateShare": "0.02", "firstTokenTarget": "2s", "generationTokensPerSecondPerReplica": "1"},
            [
                "'generationTokensPerSecondPerReplica': nothing uses it; it goes with coldStart",
                "'lateShare': nothing uses it; it goes with coldStart",
                "'firstTokenTarget': nothing uses it; it goes with coldStart",
            ],
            id="its keys without it",
        ),
        pytest.param(
            AHEAD | {"tokensPerSecondPerReplica": "9"},
            ["'tokensPerSecondPerReplica': policy 'ahead' does not use it"],
            id="another policy's key",
        ),
        pytest.param(AHEAD | {"coldStart": "3"}, ["'coldStart': want a number with its unit"], id="no unit"),
        pytest.param(AHEAD | {"lateShare": "0"}, ["'lateShare': want a plain number"], id="nobody may ever be late"),
    ],
)
def test_what_ahead_needs_and_what_needs_it(metadata: dict[str, str], want: list[str]) -> None:
    found = faults(metadata)
    assert len(found) == len(want)
    assert all(part in fault for part, fault in zip(want, found, strict=True)), found


def test_kedas_own_keys_pass() -> None:
    own = {
        "scalerAddress": "s:9090",
        "enableTLS": "true",
        "unsafeSsl": "false",
        "caCert": "",
        "tlsClientKeyFromEnv": "x",
    }
    assert Trigger.parse(SMALL | own) == Trigger.parse(SMALL)


def test_a_value_from_the_environment_counts() -> None:
    assert Trigger.parse({"queuePerReplicaFromEnv": "4"}) == Trigger.parse(SMALL)


def test_a_wrong_value_from_the_environment_is_not_told_on() -> None:
    (fault,) = faults(SMALL | {"maxReplicasFromEnv": "s3cret"})
    assert "'maxReplicasFromEnv'" in fault
    assert "s3cret" not in fault


@pytest.mark.parametrize(
    ("key", "text", "rule"),
    [
        pytest.param("stabilizationDown", "300", "want a number with its unit, such as 500ms, 30s or 5m", id="no unit"),
        pytest.param("stabilizationDown", "5 m", "want a number with its unit", id="a space"),
        pytest.param("stabilizationDown", "-5m", "at least 0 s and at most 3600 s", id="negative"),
        pytest.param("stabilizationDown", "2h", "at most 3600 s", id="too long"),
        pytest.param("window", "1s", "at least 30 s", id="too short a window"),
        pytest.param("maxAge", "", "want a number with its unit", id="empty"),
        pytest.param("minReplicas", "1.5", "want a whole number", id="half a replica"),
        pytest.param("minReplicas", "\u0661", "want a whole number", id="a digit that is not ours"),
        pytest.param("maxReplicas", "0", "at least 1", id="none at most"),
        pytest.param("maxReplicas", "9999999999", "want a whole number", id="too long a number"),
        pytest.param("hpaTolerance", "1", "at least 0 and below 1", id="a tolerance of everything"),
        pytest.param("sessionsPerReplica", "0", "above 0", id="no sessions a replica"),
        pytest.param("sessionsPerReplica", "NaN", "want a plain number", id="not a number"),
        pytest.param("sessionsPerReplica", "1e3", "want a plain number", id="an exponent"),
        pytest.param("sessionsPerReplica", "1_000", "want a plain number", id="an underscore"),
        pytest.param("queuePerReplica", "0", "want requests such as 4, above 0", id="no requests a replica"),
        pytest.param("queuePerReplica", "2h", "above 0 s and at most 3600 s", id="too much work"),
        pytest.param("queuePerReplica", "many", "or seconds of work with their unit", id="neither number nor time"),
        pytest.param("queuePerReplica", "1.2.3", "want requests such as 4", id="a version"),
        pytest.param("onMissing", "panic", "want one of hold, fail", id="no such choice"),
        pytest.param("policy", "slo", "want one of queue, sessions, tokens, latency, kv", id="no such policy"),
        pytest.param("workload", 'x"} or up{a="', "want a name of lower-case letters", id="PromQL"),
        pytest.param("workload", "Chat", "want a name of lower-case letters", id="capitals"),
        pytest.param("dependsOn", "a,b,a", "want up to 8 different names", id="one dependency twice"),
        pytest.param("dependsOn", "a,", "want up to 8 different names", id="a dependency without a name"),
        pytest.param("workload", "a\n", "want a name of lower-case letters", id="a line break"),
        pytest.param("workload", "a" * 254, "want a name of lower-case letters", id="too long a name"),
    ],
)
def test_bad_value(key: str, text: str, rule: str) -> None:
    (fault,) = [f for f in faults(SMALL | {key: text}) if f"'{key}'" in f]
    assert fault.startswith(f"trigger metadata '{key}': want ")
    assert rule in fault
    assert fault.endswith(f"(got {text[:80]!r})")


@pytest.mark.parametrize(
    ("metadata", "want"),
    [
        pytest.param(
            {}, "policy 'composite' needs at least one of queuePerReplica, sessionsPerReplica", id="nothing given"
        ),
        pytest.param(
            {"policy": "tokens"}, "policy 'tokens' needs tokensPerSecondPerReplica", id="its own key is missing"
        ),
        pytest.param(
            {"policy": "queue", "sessionsPerReplica": "3", **SMALL},
            "'sessionsPerReplica': policy 'queue' does not use it; leave it out, or set policy: composite",
            id="a key of another policy",
        ),
        pytest.param({"p95Target": "8s"}, "'p95Target': needs slotsPerReplica", id="a latency without slots"),
        pytest.param({"queuePerReplica": "8s"}, "'queuePerReplica': needs slotsPerReplica", id="work without slots"),
        pytest.param({**SMALL, "slotsPerReplica": "8"}, "'slotsPerReplica': nothing uses it", id="slots for nobody"),
        pytest.param(
            {**SMALL, "minReplicas": "5", "maxReplicas": "2"},
            "'minReplicas': want at most maxReplicas, 2 (got '5')",
            id="the least is more than the most",
        ),
        pytest.param(
            {**SMALL, "sessionPerReplica": "2"},
            "'sessionPerReplica': unknown key; did you mean 'sessionsPerReplica'?",
            id="a slip of the pen",
        ),
        pytest.param({**SMALL, "backlogBackend": "k"}, "'backlogBackend': needs backlogName", id="half a backlog"),
        pytest.param({**SMALL, "backlogName": "t"}, "'backlogName': needs backlogBackend", id="a topic of nobody"),
        pytest.param({**SMALL, "backlogGroup": "g"}, "'backlogGroup': needs backlogBackend", id="a group of nobody"),
        pytest.param({**SMALL, "sessionsKey": "s:*"}, "'sessionsKey': needs sessionsBackend", id="a key of nobody"),
        pytest.param(
            {"sessionsPerReplica": "4", "backlogBackend": "k", "backlogName": "t"},
            "'backlogBackend': nothing uses it; it goes with queuePerReplica",
            id="a backlog for nobody",
        ),
        pytest.param(
            {**SMALL, "sessionsBackend": "r", "sessionsKey": "s:*"},
            "'sessionsBackend': nothing uses it; it goes with sessionsPerReplica",
            id="sessions for nobody",
        ),
        pytest.param(
            {**SMALL, "backlogBackend": "k", "backlogName": "a b"},
            "'backlogName': want 1 to 255 printable ASCII characters without blanks",
            id="a topic with a blank",
        ),
        pytest.param({**SMALL, "serverAddress": "http://x"}, "'serverAddress': unknown key", id="an address"),
        pytest.param(
            {**SMALL, "zzz": "1"}, "'zzz': unknown key; known are backend, backlogBackend", id="nothing like it"
        ),
        pytest.param(
            {**SMALL, "queuePerReplicaFromEnv": "4"},
            "'queuePerReplicaFromEnv': 'queuePerReplica' is given as well; leave one of them out",
            id="given twice",
        ),
    ],
)
def test_contradiction(metadata: dict[str, str], want: str) -> None:
    (fault,) = faults(metadata)
    assert want in fault


def test_all_faults_at_once() -> None:
    found = faults(
        {"policy": "queue", "queuePerReplica": "x", "maxAge": "1s", "minReplicas": "3", "maxReplicas": "1", "b": "c"}
    )
    keys = [fault.split("'")[1] for fault in found]
    assert keys == ["b", "maxAge", "queuePerReplica", "minReplicas"]


def test_a_long_value_is_not_repeated_whole() -> None:
    (fault,) = faults(SMALL | {"maxAge": "9" * 10_000})
    assert len(fault) < 300


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_whatever_is_written_is_read_or_refused(metadata: dict[str, str]) -> None:
    try:
        Trigger.parse(SMALL | metadata)
    except TriggerError as e:
        assert e.faults  # noqa: PT017  # either outcome is right; what must not happen is any other exception


def test_a_message_queue_takes_the_place_of_the_engines_requests() -> None:
    trigger = Trigger.parse({"queuePerReplica": "4", "backlogBackend": "k", "backlogName": "orders"})
    assert trigger.wanted() == {"replicas", "ready", "backlog", "taken"}
    assert not trigger.asks_engine()
    in_seconds = {"queuePerReplica": "30s", "slotsPerReplica": "2", "backlogBackend": "k", "backlogName": "orders"}
    assert Trigger.parse(in_seconds).wanted() == {"replicas", "ready", "backlog", "taken", "service_s"}
    assert Trigger.parse(in_seconds).asks_engine()


def test_sessions_of_a_backend_ask_no_engine() -> None:
    keys = {"policy": "sessions", "sessionsPerReplica": "4"}
    assert Trigger.parse(keys).asks_engine()
    assert not Trigger.parse(keys | {"sessionsBackend": "r", "sessionsKey": "s:*"}).asks_engine()
