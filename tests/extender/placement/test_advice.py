from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.placement import advice
from extender.placement.advice import Advice, Asking, Placed, Rules, cost, stays, within_budgets
from extender.placement.allocation import Allocation, MigSlice
from extender.placement.demand import Demand
from extender.placement.traffic import NO_TRAFFIC
from extender.survey import Survey
from tests.extender.advice_cases import budget, fits, fleets, ledger_of, placed, surveyed
from tests.extender.objects import NOW_S, Json, demand, gpu, node, pod

Fleet = tuple[list[Json], list[Json], list[Json]]


def at(start: int, profile: str = "1g.10gb", size: int = 1, uuid: str = "GPU-0") -> Allocation:
    return Allocation.of({"main": [MigSlice(uuid, profile, start, size)]})


def three(start: int, uuid: str = "GPU-0") -> Allocation:
    return at(start, "3g.40gb", 4, uuid)


BIG = {"profile": "3g.40gb"}
KEPT = {"slicewise.dev/do-not-evict": "true"}
TWO_NODES = [node("n0", gpu("GPU-0")), node("n1", gpu("GPU-1"))]
#: One small pod in each half of GPU-0, GPU-1 full but for one place: nothing large fits anywhere.
SPLIT = [
    placed("a", "n0", at(0)),
    placed("b", "n0", at(4)),
    placed("c", "n1", three(0, "GPU-1"), ask=BIG),
    placed("d", "n1", at(4, "2g.20gb", 2, "GPU-1"), ask={"profile": "2g.20gb"}, annotations=KEPT),
]


def asked(found: Survey, *wanted: Demand, **rules: object) -> Advice:
    (one,) = found.for_demands(wanted, replace(Rules(), **rules))  # type: ignore[arg-type]
    return one


def evicted(found: Advice) -> list[list[str]]:
    return [[s.holding.uid for s in p.evicted] for p in found.proposals]


def test_one_small_pod_moves_beside_another_and_a_large_one_fits() -> None:
    found = asked(surveyed(TWO_NODES, SPLIT), demand("w", ask=BIG))
    assert evicted(found) == [["a"], ["b"]]
    first = found.proposals[0]
    (wanted,), (back,) = first.outcome.wanted, first.outcome.returned
    assert isinstance(wanted, Placed)
    assert isinstance(back, Placed)
    assert (wanted.node, back.demand.uid) == ("n0", "a")
    assert first.memory_slices == 4
    assert "3g.40gb" not in first.placements
    assert first.fragmentation_falls > 0


def test_no_more_proposals_are_looked_for_than_asked() -> None:
    found = asked(surveyed(TWO_NODES, SPLIT), demand("w", ask=BIG), proposals=1)
    assert (evicted(found), found.tried, found.exhaustive) == ([["a"]], 1, True)


def test_nothing_is_needed_where_it_fits_already() -> None:
    found = asked(surveyed(TWO_NODES, SPLIT), demand("w"))
    assert not found.needed
    assert found.proposals == ()
    assert found.why == "everything that is wanted has room already"


def test_without_a_place_for_the_evicted_pod_nothing_is_proposed_and_the_answer_says_so() -> None:
    full = [node("n0", gpu("GPU-0"))]
    pods = [placed("a", "n0", three(0), ask=BIG), placed("b", "n0", three(4), ask=BIG)]
    found = asked(surveyed(full, pods), demand("w", ask=BIG), evictions=1)
    assert found.needed
    assert found.proposals == ()
    assert found.why == ("no set of 1 eviction among 2 pods that may go makes room and has places for those that went")


def test_pods_that_only_have_no_room_together_are_helped_together() -> None:
    nodes = [node("n0", gpu("GPU-0")), node("n1", gpu("GPU-1"))]
    pods = [placed("a", "n0", at(0)), placed("b", "n1", at(0, uuid="GPU-1"))]
    wanted = [demand(f"w{i}", ask=BIG) for i in range(3)]
    found = asked(surveyed(nodes, pods), *wanted)
    assert evicted(found) == [["a"], ["b"]]
    assert found.proposals[0].memory_slices == 4


def test_a_chain_of_two_is_found_where_no_single_move_helps() -> None:
    """The large pod needs the half that `a` and `b` share; each of them alone leaves the other in it."""
    nodes = [node("n0", gpu("GPU-0")), node("n1", gpu("GPU-1"))]
    pods = [
        placed("x", "n0", three(4), ask=BIG, annotations=KEPT),
        placed("a", "n0", at(0)),
        placed("b", "n0", at(2)),
        placed("y", "n1", three(0, "GPU-1"), ask=BIG, annotations={"karpenter.sh/do-not-disrupt": "30m"}),
        placed("z", "n1", at(6, uuid="GPU-1"), annotations=KEPT),
    ]
    found = asked(surveyed(nodes, pods), demand("w", ask=BIG))
    assert evicted(found) == [["a", "b"]]
    assert found.proposals[0].cost.restarts == 2
    assert not found.proposals[0].order_matters


def test_it_says_when_the_order_matters() -> None:
    """Coming back first, `a` leaves the empty GPU alone and takes the half that was made for the one that waits."""
    nodes = [node("n0", gpu("GPU-0")), node("n1", gpu("GPU-1", model="h100-80"))]
    pods = [placed("a", "n0", at(0)), *(placed(f"b{i}", "n0", at(i), annotations=KEPT) for i in (4, 5, 6))]
    found = asked(surveyed(nodes, pods), demand("w", ask={"profile": "4g.40gb", "gpu-model": "a100-80"}))
    assert [(p.cost.uids, p.order_matters) for p in found.proposals] == [(("a",), True)]


def test_fragmentation_falls_by_what_was_asked_for_or_the_answer_says_why_not() -> None:
    here = surveyed(TWO_NODES, SPLIT)
    found = asked(here, less=0.1)
    assert found.proposals
    assert all(p.fragmentation_falls >= 0.1 for p in found.proposals)
    much = asked(here, less=100)
    assert much.proposals == ()
    assert "it cannot fall by 100" in much.why
    rest = asked(here, less=found.before.fragmentation)
    assert rest.proposals == ()
    assert "lowers fragmentation by" in rest.why


def test_pods_with_sessions_stay_unless_allowed_and_then_cost_most() -> None:
    pods = [*SPLIT[1:], placed("a", "n0", at(0), annotations={"slicewise.dev/sessions": "3"})]
    here = surveyed(TWO_NODES, pods)
    assert evicted(asked(here, demand("w", ask=BIG))) == [["b"]]
    assert asked(here, demand("w", ask=BIG)).stay["has live sessions"] == ("team/pod-a",)
    allowed = asked(here, demand("w", ask=BIG), allow_sessions=True)
    assert evicted(allowed)[-1] == ["a"]
    assert [p.cost.sessions for p in allowed.proposals] == [0, 3]


def test_a_search_that_is_cut_short_says_so() -> None:
    found = asked(surveyed(TWO_NODES, SPLIT), demand("w", ask=BIG), tries=1)
    assert (found.tried, found.exhaustive) == (1, False)
    pods = [placed("a", "n0", three(0), ask=BIG), placed("b", "n0", three(4), ask=BIG)]
    none = asked(surveyed(TWO_NODES[:1], pods), demand("w", ask=BIG), tries=1)
    assert none.why == (
        "no set of up to 3 evictions among 2 pods that may go of the 1 that were tried makes room "
        "and has places for those that went"
    )


def test_what_no_node_could_hold_is_said_without_a_search() -> None:
    found = asked(surveyed(TWO_NODES, SPLIT), demand("w", ask={"profile": "1g.5gb"}))
    assert found.why == "no node has room for team/pod-w even if all 3 pods that may go went"
    assert (found.tried, found.exhaustive) == (0, True)


def test_a_large_fleet_combines_only_the_pods_of_nodes_that_could_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "MOST_IN_SETS", 3)
    nodes = [node("n0", gpu("GPU-0")), node("n1", gpu("GPU-1")), node("n2", gpu("GPU-2"))]
    pods = [
        placed("x", "n0", three(4), ask=BIG, annotations=KEPT),
        placed("a", "n0", at(0)),
        placed("b", "n0", at(2)),
        placed("y", "n1", three(0, "GPU-1"), ask=BIG, priority=1),
        *(
            placed(f"s{i}", "n1", at(4 + i, uuid="GPU-1"), ask={"profile": "1g.10gb+me"} if i == 9 else None)
            for i in (0, 2)
        ),
        placed("q", "n2", three(0, "GPU-2"), ask=BIG, priority=1),
        placed("r", "n2", at(4, uuid="GPU-2"), priority=1),
        placed("t", "n2", at(6, uuid="GPU-2"), priority=1),
    ]
    found = asked(surveyed(nodes, pods), demand("w", ask=BIG))
    assert not found.exhaustive
    assert found.proposals


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param({"priority": 1}, "priority above 0", id="a pod that matters more than what is wanted"),
        pytest.param({"leaving": True}, "is terminating", id="a pod that is leaving"),
        pytest.param({"owners": []}, "no controller would make it again", id="a pod without a controller"),
        pytest.param(
            {"labels": {"app": "none"}}, "PodDisruptionBudget team/none allows no eviction now", id="a spent budget"
        ),
        pytest.param(
            {"labels": {"app": "two"}},
            "several PodDisruptionBudgets select it: the API refuses to evict it",
            id="two budgets",
        ),
        pytest.param({"ask": {}}, "what it would ask for again is not known", id="a demand that cannot be read"),
    ],
)
def test_stays(fields: dict[str, object], why: str) -> None:
    budgets = [
        budget("none", 0, {"matchLabels": {"app": "none"}}),
        budget("two", 5, {"matchLabels": {"app": "two"}}),
        budget("more", 5, {"matchExpressions": [{"key": "app", "operator": "In", "values": ["two"]}]}),
    ]
    found = surveyed(TWO_NODES, [placed("p", "n0", at(0), **fields)], budgets)
    assert stays(found.standing[0], Rules(budgets=found.budgets)) == why


@settings(max_examples=60)
@given(fleet=fleets(), profile=st.sampled_from(["2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"]), count=st.integers(1, 2))
def test_every_proposal_is_allowed_and_fits_when_it_is_done(fleet: Fleet, profile: str, count: int) -> None:
    nodes, pods, budgets = fleet
    names = [n["metadata"]["name"] for n in nodes]
    here = surveyed(nodes, pods, budgets)
    wanted = [demand(f"w{i}", ask={"profile": profile}, priority=1) for i in range(count)]
    found = asked(here, *wanted, priority=1, proposals=5)
    again = asked(surveyed(nodes, pods, budgets), *wanted, priority=1, proposals=5)
    assert (evicted(found), found.why) == (evicted(again), again.why)
    allowed = {b["metadata"]["name"]: b["status"]["disruptionsAllowed"] for b in budgets}
    assert [p.cost for p in found.proposals] == sorted(p.cost for p in found.proposals)
    for proposal in found.proposals:
        gone = [p for p in pods if p["metadata"]["uid"] in proposal.cost.uids]
        assert 1 <= len(gone) <= 3
        assert all(p["spec"]["priority"] <= 1 for p in gone)
        assert all(p["metadata"]["annotations"]["slicewise.dev/sessions"] == "0" for p in gone)
        used = Counter(p["metadata"]["labels"]["app"] for p in gone)
        assert all(used[app] <= most for app, most in allowed.items())
        made = ledger_of(nodes, [p for p in pods if p not in gone])
        for place in (*proposal.outcome.wanted, *proposal.outcome.returned):
            assert isinstance(place, Placed)
            _take(made, place)
        assert names


def _take(made: object, place: Placed) -> None:
    """The pod with the record that the proposal says, into a ledger that must find nothing wrong with it."""
    one = pod(place.demand.uid, on=place.node, allocation=place.allocation, phase="Running")
    made.put_pod(one)  # type: ignore[attr-defined]
    assert made.problems() == ()  # type: ignore[attr-defined]


@settings(max_examples=60)
@given(fleet=fleets(), profile=st.sampled_from(["2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"]))
def test_no_single_eviction_that_helps_is_cheaper_or_missed(fleet: Fleet, profile: str) -> None:
    """Brute force: each pod alone, on a ledger of its own, by reserving."""
    nodes, pods, budgets = fleet
    names = [n["metadata"]["name"] for n in nodes]
    here = surveyed(nodes, pods, budgets)
    wanted = demand("w", ask={"profile": profile}, priority=1)
    found = asked(here, wanted, priority=1, evictions=1, proposals=1)
    rules = Rules(budgets=here.budgets, priority=1)
    if fits(ledger_of(nodes, pods), wanted, names):
        assert not found.needed
        return
    helpful = []
    for s in here.standing:
        if stays(s, rules) is None and s.asking is not None:
            made = ledger_of(nodes, pods)
            made.ask(wanted)
            made.drop_pod(s.holding.uid)
            # wherever the wanted pod fits it is on the node that was left: nothing fitted before
            spots = fits(made, wanted, names)
            if spots:
                made.assume("w", wanted.key, wanted, spots[0], NOW_S)
                if fits(made, s.asking.demand, names):
                    helpful.append(s)
    if not helpful:
        assert found.proposals == ()
        return
    assert [p.cost for p in found.proposals] == [min(cost([s]) for s in helpful)]


@settings(max_examples=25)
@given(fleet=fleets(), profile=st.sampled_from(["2g.20gb", "3g.40gb", "7g.80gb"]), sessions=st.booleans())
def test_the_cheapest_of_all_sets_is_found(fleet: Fleet, profile: str, sessions: bool) -> None:
    """Against every allowed set of up to two pods, rehearsed one after the other: what is skipped could not help."""
    here = surveyed(*fleet)
    wanted = [demand(f"w{i}", ask={"profile": profile}) for i in range(2)]
    found = asked(here, *wanted, priority=2, evictions=2, proposals=1, allow_sessions=sessions)
    rules = Rules(budgets=here.budgets, priority=2, allow_sessions=sessions)
    movable = [s for s in here.standing if stays(s, rules) is None]
    asking = [Asking(d, here.nodes) for d in wanted]
    sets = [c for n in (1, 2) for c in combinations(movable, n) if within_budgets(c, here.budgets)]
    helpful = [cost(c) for c in sets if here.board.rehearse(c, asking).complete]
    if found.needed:
        assert found.exhaustive
        assert [p.cost for p in found.proposals] == ([min(helpful)] if helpful else [])


@settings(max_examples=40)
@given(fleet=fleets())
def test_trying_leaves_everything_as_it_was(fleet: Fleet) -> None:
    nodes, pods, budgets = fleet
    here = surveyed(nodes, pods, budgets)
    made = here.board._ledger
    before = (made.fleet.census.copy(), made.fleet.state.copy(), {h.uid: h for h in made.holdings()})
    wanted = demand("w", ask=BIG)
    made.ask(wanted)
    traffic = made.traffic
    asked(here, wanted, allow_sessions=True)
    assert (made.fleet.census == before[0]).all()
    assert (made.fleet.state == before[1]).all()
    assert {h.uid: h for h in made.holdings()} == before[2]
    assert made.traffic == traffic


def test_a_budget_for_one_is_not_spent_twice() -> None:
    found = surveyed(TWO_NODES, [placed("a", "n0", at(0)), placed("b", "n0", at(1))], [budget("all", 1, {})])
    assert within_budgets(found.standing[:1], found.budgets)
    assert not within_budgets(found.standing, found.budgets)


def test_a_fleet_without_mig_has_no_fragmentation_and_no_room() -> None:
    made = ledger_of([node("n0", gpu(model="t4", mode="mps", memory_mib=15360) | {"memory_mib": 15360})], [])
    assert advice.fragmentation(made.fleet, NO_TRAFFIC) == 0
    assert advice.plain_room(made.fleet) == {}
