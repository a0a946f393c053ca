"""Whose question was it? KEDA's own poll and what it asks for the HPA look alike."""

import json

import pytest

from tests.e2e.parts.apiserver import HPA_ACCOUNT
from tests.e2e.parts.client import Json
from tests.e2e.tape import Answered, Question, Written, questions_of, turns_of

CHAT, CODE = ("agents", "chat"), ("agents", "code")


def answered(at_s: float, replicas: float, of: tuple[str, str] = CHAT, trigger: str = "t") -> Answered:
    return Answered(at_s, of, trigger, {"replicas": replicas, "active": True})


def scale(at_s: float, of: tuple[str, str] = CHAT) -> Question:
    return Question(at_s, at_s, of, metric=False)


def metric(at_s: float, end_s: float, of: tuple[str, str] = CHAT) -> Question:
    return Question(at_s, end_s, of, metric=True)


def told(turns: list[Json]) -> list[tuple[str, float, str, dict[str, float]]]:
    return [
        (
            turn["event"].removeprefix("recorded."),
            turn["at_s"],
            turn["scaled_object"],
            {trigger: answer["replicas"] for trigger, answer in turn["answers"].items()},
        )
        for turn in turns
    ]


@pytest.mark.parametrize(
    ("answers", "questions", "turns"),
    [
        pytest.param([answered(5.0, 2)], [], [("poll", 5.0, "chat", {"t": 2})], id="nobody else asks: KEDA's poll"),
        pytest.param(
            [answered(5.02, 2)],
            [scale(5.0), metric(5.01, 5.03)],
            [("sync", 5.0, "chat", {"t": 2})],
            id="while the HPA asks for the metric: the HPA's",
        ),
        pytest.param(
            [answered(5.02, 2), answered(5.025, 3)],
            [scale(5.0), metric(5.01, 5.03)],
            [("sync", 5.0, "chat", {"t": 2}), ("poll", 5.025, "chat", {"t": 3})],
            id="two at once: the first is the HPA's, the other KEDA's",
        ),
        pytest.param(
            [answered(5.02, 7, CODE)],
            [scale(5.0), metric(5.01, 5.03)],
            [("sync", 5.0, "chat", {}), ("poll", 5.02, "code", {"t": 7})],
            id="another object's poll meanwhile",
        ),
        pytest.param([], [scale(5.0)], [("sync", 5.0, "chat", {})], id="at zero the HPA asks for no metric"),
        pytest.param(
            [answered(5.02, 2), answered(5.06, 4, trigger="u")],
            [scale(5.0), metric(5.01, 5.03), scale(5.04, CODE), metric(5.05, 5.07)],
            [("sync", 5.0, "chat", {"t": 2, "u": 4}), ("sync", 5.04, "code", {})],
            id="two metrics of one sync, another object's between them",
        ),
        pytest.param(
            [answered(5.02, 2), answered(10.02, 3)],
            [scale(5.0), metric(5.01, 5.03), scale(10.0), metric(10.01, 10.03)],
            [("sync", 5.0, "chat", {"t": 2}), ("sync", 10.0, "chat", {"t": 3})],
            id="one sync after the other",
        ),
    ],
)
def test_who_asked(
    answers: list[Answered], questions: list[Question], turns: list[tuple[str, float, str, dict[str, float]]]
) -> None:
    assert told(turns_of(answers, questions, [])) == turns


def test_what_was_written_belongs_to_the_turn_before_it() -> None:
    """Between KEDA's question and its write the HPA read the scale: it saw what was before."""
    questions = [scale(5.1), scale(10.1), metric(10.11, 10.2)]
    answers = [answered(0.0, 2), answered(5.0, 2), answered(10.15, 2), answered(10.3, 2, CODE)]
    written = [Written(5.2, CHAT, "recorded.poll"), Written(10.4, CHAT, "recorded.sync"), Written(3.0, CODE, "none")]
    turns = turns_of(answers, questions, written)
    assert [(t["at_s"], t["wrote_s"]) for t in turns if "wrote_s" in t] == [(5.0, 5.2), (10.1, 10.4)]


def test_the_audit_log_tells_what_the_hpa_asked() -> None:
    def event(uri: str, second: int, verb: str = "get", user: str = HPA_ACCOUNT) -> str:
        stamps = {
            "requestReceivedTimestamp": f"1970-01-01T00:00:{second:02}.250000Z",
            "stageTimestamp": f"1970-01-01T00:00:{second:02}.500000Z",
        }
        return json.dumps({"requestURI": uri, "verb": verb, "user": {"username": user}, **stamps})

    of_chat = "labelSelector=scaledobject.keda.sh%2Fname%3Dchat"
    log = [
        event(f"/apis/external.metrics.k8s.io/v1beta1/namespaces/agents/s0-desired_replicas?{of_chat}", 6),
        event("/apis/apps/v1/namespaces/agents/deployments/chat/scale", 5),
        event("/apis/apps/v1/namespaces/others/deployments/chat/scale", 7),
        event("/api/v1/namespaces/agents/pods?labelSelector=app%3Dchat", 8),
        event("/apis/apps/v1/namespaces/agents/deployments/chat/scale", 9, "update"),
        event("/apis/apps/v1/namespaces/agents/deployments/chat/scale", 4, "update", "keda"),
    ]
    questions, written = questions_of("\n".join(log), "agents")
    assert questions == [Question(5.25, 5.5, CHAT, metric=False), Question(6.25, 6.5, CHAT, metric=True)]
    assert written == [Written(4.5, CHAT, "recorded.poll"), Written(9.5, CHAT, "recorded.sync")]
