"""Presets as text: what reaches Prometheus, and that nothing else can."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from scaler.signals.reading import ReadingName
from scaler.sources.base import Subject
from scaler.sources.presets import Preset, Question, escaped, load, newest_query, quoted, seen_query

VLLM = load()["vllm"]


def subject(namespace: str = "agents", workload: str = "chat", window_s: float = 120.0) -> Subject:
    return Subject(
        namespace=namespace,
        scaled_object="chat",
        workload=workload,
        backend="default",
        preset="vllm",
        window_s=window_s,
        max_age_s=60.0,
    )


def text(name: ReadingName) -> str:
    return VLLM.questions(name)[0].text(subject())


def test_the_queue_counts_a_pod_that_is_scraped_twice_once_and_is_zero_only_while_a_target_answers() -> None:
    names = '"chat-([a-z0-9]{1,10}-[a-z0-9]{5}|[0-9]+)"'
    pods, gateway = f'namespace="agents",pod=~{names}', f'namespace="agents",workload="chat",pod!~{names}'
    assert text(ReadingName.QUEUE) == (
        f"sum(max by (namespace, pod, engine) (vllm:num_requests_waiting{{{pods}}}) or max by (namespace, pod) "
        f"(agent_requests_waiting{{{gateway}}})) or 0 * (count(up{{{pods}}} == 1) > 0)"
    )


@pytest.mark.parametrize("name", list(VLLM.readings))
def test_every_series_is_of_the_namespace(name: ReadingName) -> None:
    for question in VLLM.questions(name):
        selectors = re.findall(r"[a-z_:]+\{([^}]*\}?[^}]*\}?[^}]*)\}", question.text(subject()))
        assert selectors
        assert all(selector.startswith('namespace="agents",') for selector in selectors)


def test_rates_come_before_sums() -> None:
    assert not [name for name in VLLM.readings if re.search(r"(rate|increase)\(\s*(sum|max)", text(name))]


def test_nothing_is_zero_for_want_of_series() -> None:
    assert not [name for name in VLLM.readings if "vector(" in text(name)]


@pytest.mark.parametrize(
    ("pod", "matches"),
    [
        pytest.param("chat-7d9f8b6c4d-x2x9q", True, id="a Deployment's"),
        pytest.param("chat-0", True, id="a StatefulSet's"),
        pytest.param("chat-b-7d9f8b6c4d-x2x9q", False, id="of a workload whose name begins alike"),
        pytest.param("chat", False, id="no pod of a workload"),
        pytest.param("a-chat-7d9f8b6c4d-x2x9q", False, id="of a workload whose name ends alike"),
    ],
)
def test_pods_of_the_workload(pod: str, matches: bool) -> None:
    (pattern,) = re.findall(r'pod=~"([^"]*)"', seen_query("up", subject()))
    assert (re.fullmatch(pattern, pod) is not None) == matches


@pytest.mark.parametrize(
    ("window_s", "want"), [pytest.param(120.0, "[120s]", id="whole"), pytest.param(90.5, "[90500ms]", id="half")]
)
def test_window(window_s: float, want: str) -> None:
    (question,) = VLLM.questions(ReadingName.GENERATION_TOKENS_PER_S)
    assert want in question.text(subject(window_s=window_s))


def test_coverage_counts_fresh_pods_only() -> None:
    pods = 'namespace="agents",pod=~"chat-([a-z0-9]{1,10}-[a-z0-9]{5}|[0-9]+)"'
    assert seen_query("up", subject()) == f"count(max by (pod) (timestamp(up{{{pods}}})) >= time() - 60)"
    assert newest_query("up", subject()) == f"max(timestamp(up{{{pods}}}))"


@settings(deadline=None)
@given(st.text(max_size=30))
def test_no_text_leaves_its_string(word: str) -> None:
    for inside in (quoted(word), escaped(word)):
        # What is left when each escaped character is taken away has neither a quote nor a line's end.
        assert re.search(r'["\n\\]', re.sub(r"\\.", "", inside)) is None


@settings(deadline=None)
@given(st.text(alphabet="ab.-+*?()[]{}^$|", min_size=1, max_size=8))
def test_an_escaped_name_matches_itself_alone(word: str) -> None:
    pattern = escaped(word).replace("\\\\", "\\")  # as Prometheus reads the string
    assert re.fullmatch(pattern, word)
    assert not re.fullmatch(pattern, word + "a")


@pytest.mark.parametrize(
    "query", [pytest.param("up{${pod}}", id="no such variable"), pytest.param("up{$1}", id="no variable at all")]
)
def test_a_preset_with_a_wrong_variable_is_refused(query: str) -> None:
    with pytest.raises(ValidationError, match="unknown variables"):
        Question(unit="s", query=query)


def test_a_preset_with_an_unknown_reading_is_refused() -> None:
    with pytest.raises(ValidationError, match="readings"):
        Preset.model_validate({"engine": "e", "versions": "1", "readings": {"cpu": [{"unit": "s", "query": "up"}]}})
