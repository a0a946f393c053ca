import json
from typing import Any

import pytest

from slicewise.demo.controllers import PODS
from slicewise.demo.kube_store import Store
from slicewise.demo.promises import ALLOCATION
from slicewise.demo.scene import Line
from slicewise.demo.tags import GUEST_STYLE, Tags, style
from slicewise.demo.told import Told, why

Json = dict[str, Any]
MIG = {"uuid": "GPU-gpu-a-2", "mode": "mig", "profile": "2g.20gb", "start": 4, "size": 2}
MPS = {"uuid": "GPU-gpu-c-0", "mode": "mps", "memory_mib": 18432, "compute_pct": 25}
WHOLE = {"uuid": "GPU-gpu-c-2", "mode": "exclusive"}


def told(store: Store) -> tuple[Told, list[Line]]:
    lines: list[Line] = []
    return Told(store, lines.append, Tags(), lambda: 60.0), lines


def decided(replicas: int | None, *steps: str) -> Json:
    return {"event": "scaler.decided", "level": "info", "replicas": replicas, "current": 2, "steps": list(steps)}


def place(store: Store, name: str, gpu: Json) -> None:
    store.create(PODS, {"metadata": {"name": name}, "spec": {}})
    allocation = json.dumps({"version": 1, "containers": [{"name": "main", "gpus": [gpu]}]})
    store.bind(PODS, name, {"metadata": {"annotations": {ALLOCATION: allocation}}, "target": {"name": "gpu-a"}})


def test_a_decision_is_told_when_it_differs_from_the_one_before(store: Store) -> None:
    tell, lines = told(store)
    for replicas in (2, 2, 3, None, None):
        tell.scaler(decided(replicas, "sessions: 2 -> 3 (31 sessions, 10 a replica)"))
    assert [line.what for line in lines] == ["wants 2, 2 run", "wants 3, 2 run", "does not know, 2 run"]
    assert lines[0].why == "sessions: 31 sessions, 10 a replica"
    assert tell.decisions == 5


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        pytest.param(MIG, "c1 -> gpu-a GPU 2, 2g.20gb at 4", id="a MIG instance"),
        pytest.param(MPS, "c1 -> gpu-a GPU 0, MPS 25% and 18 GiB", id="an MPS share"),
        pytest.param(WHOLE, "c1 -> gpu-a GPU 2, all of it", id="a whole GPU"),
    ],
)
def test_a_binding_and_its_end_are_told_from_the_api_alone(store: Store, gpu: Json, said: str) -> None:
    tell, lines = told(store)
    place(store, "coder-x-y", gpu)
    store.delete(PODS, "coder-x-y")
    tell.changes()
    tell.changes()
    assert [line.what for line in lines] == [said, "c1 is gone"]


def test_warnings_of_the_servers_are_shown(store: Store) -> None:
    tell, lines = told(store)
    tell.extender({"event": "extender.not_bound", "level": "warning", "why": "conflict", "timestamp": "now"})
    tell.extender({"event": "extender.bound", "level": "info"})
    assert [(line.who, line.what, line.why) for line in lines] == [
        ("extender", "extender.not_bound", "extender.not_bound why=conflict")
    ]


def test_a_step_in_words_that_are_not_known_is_shown_as_it_is() -> None:
    assert why(["something else entirely"]) == "something else entirely"


def test_tags_are_short_and_stay(store: Store) -> None:
    tags = Tags()
    assert [tags.of(pod) for pod in ("coder-a-b", "coder-a-c", "coder-a-b", "eval-k", "eval-k-1", "train-2")] == [
        *("c1", "c2", "c1", "ek", "ek", "t2")
    ]
    assert [tags.said(pod) for pod in ("coder-a-c", "eval-k")] == ["c2", "eval-k"]
    assert style("c1") != style("c2")
    assert style("ek") == GUEST_STYLE
