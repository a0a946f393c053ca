from dataclasses import replace
from typing import Any

import pytest

from extender.placement.advice import Asking, Placed, Rules, Unplaced
from extender.placement.eligible import CORDONED
from extender.survey import MOST_WAITING, Survey
from tests.extender.advice_cases import OWNED, budget, placed, surveyed
from tests.extender.objects import Json, container, demand, gpu, node, pod
from tests.extender.placement.test_advice import BIG, SPLIT, TWO_NODES, at, three


def reasons(*pods: Json) -> dict[str, str | None]:
    return {s.holding.uid: s.stays for s in surveyed(TWO_NODES, pods).standing}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param({}, None, id="an ordinary pod"),
        pytest.param({"annotations": {"slicewise.dev/do-not-evict": "false"}}, None, id="a mark that says no"),
        pytest.param(
            {"annotations": {"slicewise.dev/do-not-evict": "true"}},
            "annotation slicewise.dev/do-not-evict is true",
            id="our mark",
        ),
        pytest.param(
            {"annotations": {"karpenter.sh/do-not-disrupt": "5m"}},
            "annotation karpenter.sh/do-not-disrupt is 5m",
            id="Karpenter's mark, for a time",
        ),
        pytest.param({"owners": [{"kind": "Job"}]}, "no controller would make it again", id="an owner, no controller"),
        pytest.param(
            {"owners": [{"kind": "DaemonSet", "controller": True}]},
            "its DaemonSet would make it again on the same node only",
            id="a DaemonSet's pod",
        ),
        pytest.param(
            {"annotations": {"slicewise.dev/sessions": "many"}},
            "annotation slicewise.dev/sessions: want a whole number >= 0, got 'many'",
            id="sessions that are not known",
        ),
        pytest.param(
            {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "1.5"}},
            "annotation controller.kubernetes.io/pod-deletion-cost: want a whole number, got '1.5'",
            id="a cost that is not known",
        ),
        pytest.param(
            {"spec": {"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule"}]}},
            "its topologySpreadConstraints are for kube-scheduler to judge",
            id="a pod whose next place other pods decide",
        ),
    ],
)
def test_who_stays(fields: dict[str, Any], why: str | None) -> None:
    assert reasons(placed("p", "n0", at(0), **fields)) == {"p": why}


@pytest.mark.parametrize(
    ("annotations", "sessions"),
    [
        pytest.param({}, 0, id="none"),
        pytest.param({"slicewise.dev/sessions": "3"}, 3, id="as the annotation says"),
        pytest.param({"controller.kubernetes.io/pod-deletion-cost": "7"}, 7, id="a positive cost"),
        pytest.param({"controller.kubernetes.io/pod-deletion-cost": "-7"}, 0, id="a negative cost"),
        pytest.param(
            {"slicewise.dev/sessions": "0", "controller.kubernetes.io/pod-deletion-cost": "7"},
            0,
            id="the annotation first",
        ),
    ],
)
def test_sessions(annotations: dict[str, str], sessions: int) -> None:
    (found,) = surveyed(TWO_NODES, [placed("p", "n0", at(0), annotations=annotations)]).standing
    assert found.sessions == sessions


def test_budgets_select_pods_of_their_namespace_and_say_what_is_allowed_now() -> None:
    budgets = [
        budget("now", 2, {"matchLabels": {"app": "a"}}),
        budget("behind", 2, {}, observedGeneration=0),
        budget("silent", None, None),
        budget("elsewhere", 1, {}) | {"metadata": {"name": "elsewhere"}},
    ]
    found = surveyed(TWO_NODES, [placed("p", "n0", at(0), labels={"app": "a"})], budgets)
    assert found.standing[0].budgets == ("team/behind", "team/now")
    assert found.budgets == {"team/now": 2, "team/behind": 0, "team/silent": 0, "default/elsewhere": 1}


def waiting(found: Survey) -> list[str]:
    return [a.demand.uid for a in found.waiting]


def test_pods_that_wait_are_those_that_kube_scheduler_will_look_at_the_most_important_first() -> None:
    gated = pod("gated")
    gated["spec"]["schedulingGates"] = [{"name": "later"}]
    spread = pod("spread")
    spread["spec"]["topologySpreadConstraints"] = [{}]
    found = surveyed(
        TWO_NODES,
        [
            pod("low"),
            pod("high", priority=5),
            gated,
            spread,
            pod("leaving", leaving=True),
            pod("done", phase="Failed"),
            pod("bad", ask={"profile": "huge"}),
            pod("none", containers=[container(count=0)]),
            {"metadata": {"uid": "other", "name": "other"}, "spec": {}},
        ],
    )
    assert waiting(found) == ["high", "low"]
    assert [n.split(":")[0] for n in found.notes] == [
        "pod team/pod-spread waits and is not looked at",
        "waits and is not looked at",
    ]


def test_of_many_pods_that_wait_the_first_are_looked_at_and_that_is_said() -> None:
    found = surveyed(TWO_NODES, [pod(f"p{i:02}") for i in range(MOST_WAITING + 1)])
    assert waiting(found) == [f"p{i:02}" for i in range(MOST_WAITING)]
    assert found.notes == ("21 pods wait; the first 20 by priority and name are looked at",)


def test_nodes_that_nobody_may_go_to_are_not_offered() -> None:
    nodes = [node("n0", gpu("GPU-0")), node("n1", gpu("GPU-1")), {"metadata": {"name": "n2"}}]
    nodes[1]["spec"] = {"taints": [CORDONED]}
    found = surveyed(nodes, [pod("w")])
    assert found.nodes == ("n0",)
    assert found.waiting[0].nodes == ("n0",)
    assert found.notes == ("n2: no inventory: the node agent has not reported its GPUs",)


def test_waiting_pods_are_helped_together_where_that_is_possible() -> None:
    (found,) = surveyed(TWO_NODES, [*SPLIT, pod("w", ask=BIG), pod("v")]).for_waiting(Rules())
    assert [p.cost.uids for p in found.proposals] == [("a",), ("b",)]
    assert found.why == "2 found among 3 tried"


def test_where_nothing_helps_all_each_is_looked_at_alone() -> None:
    here = surveyed(TWO_NODES, [*SPLIT, pod("w", ask=BIG), pod("x", ask={"profile": "7g.80gb"}), pod("v")])
    together, *alone = here.for_waiting(Rules())
    assert together.proposals == ()
    assert [[p.demand.uid for p in a.before.wanted] for a in alone] == [["v", "w"], ["v", "x"]]
    assert [len(a.proposals) for a in alone] == [2, 0]


def test_a_single_pod_that_cannot_be_helped_is_told_once() -> None:
    found = surveyed(TWO_NODES, [*SPLIT, pod("x", ask={"profile": "7g.80gb"})]).for_waiting(Rules())
    assert [(f.needed, f.proposals) for f in found] == [(True, ())]


def test_with_nobody_waiting_nothing_is_needed() -> None:
    (found,) = surveyed(TWO_NODES, SPLIT).for_waiting(Rules())
    assert not found.needed


def test_a_pod_that_matters_more_than_the_one_that_waits_stays() -> None:
    pods = [replaced | {"spec": replaced["spec"] | {"priority": 2}} for replaced in SPLIT]
    (found,) = surveyed(TWO_NODES, [*pods, pod("w", ask=BIG, priority=1)]).for_waiting(Rules(priority=9))
    assert found.proposals == ()
    assert "priority above 1" in found.stay
    fits = pod("v", priority=0)  # has room: whom it could not move does not matter
    (found,) = surveyed(TWO_NODES, [*pods, pod("w", ask=BIG, priority=2), fits]).for_waiting(Rules())
    assert len(found.proposals) == 2


def test_a_pod_goes_back_only_where_its_selector_lets_it() -> None:
    pinned = [placed("a", "n0", at(0), spec={"nodeSelector": {"here": "yes"}}), *SPLIT[1:]]
    nodes = [TWO_NODES[0] | {"metadata": TWO_NODES[0]["metadata"] | {"labels": {"here": "yes"}}}, TWO_NODES[1]]
    blocked = [pinned[0], placed("b", "n0", three(4), ask=BIG), *SPLIT[2:]]
    (found,) = surveyed(nodes, blocked).for_demands([demand("w", ask=BIG)], replace(Rules(), evictions=1))
    assert found.proposals == ()
    free = [placed("a", "n0", at(0)), *blocked[1:]]
    (found,) = surveyed(nodes, free).for_demands([demand("w", ask=BIG)], replace(Rules(), evictions=1))
    assert [p.cost.uids for p in found.proposals] == [("a",)]


def test_a_place_that_is_kept_for_a_nominated_pod_is_not_given_away() -> None:
    """The nominee waits for what is free on n0: of what is wanted there is none left, and moves do not change that."""
    nodes = [node("n0", gpu("GPU-0"))]
    here = surveyed(nodes, [pod("nominee", ask={"profile": "7g.80gb"}, priority=5, nominated="n0")])
    (found,) = here.for_demands([demand("w")], Rules())
    assert isinstance(found.before.wanted[0], Unplaced)
    (both,) = here.for_waiting(Rules())
    assert isinstance(both.before.wanted[0], Placed)


def test_a_node_that_is_not_used_opens_no_place() -> None:
    wanted = Asking(demand("w"), ("n0", "ghost"))
    board = surveyed(TWO_NODES, []).board
    assert board.opens(wanted, "n0", frozenset())
    assert not board.opens(wanted, "ghost", frozenset())


def test_a_bound_pod_whose_record_cannot_be_read_is_noted_and_left_alone() -> None:
    odd = pod("odd", on="n0", phase="Running")
    odd["metadata"] |= OWNED
    found = surveyed(TWO_NODES, [odd])
    assert found.standing == ()
    assert "what it holds is not known" in found.notes[0]
