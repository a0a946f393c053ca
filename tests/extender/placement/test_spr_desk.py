"""What a desk answers, whatever happens in its fleet."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.spr import desk as desks
from extender.placement.spr import prices as prices_of_pods
from extender.placement.spr import states
from extender.placement.spr.desk import Desk
from extender.verbs import score_nodes, what_if
from tests.extender.clusters import demand_of
from tests.extender.interpreted import interpreted, wrapping
from tests.extender.objects import NOW_S, Json, container, gpu, node, pod

pytestmark = pytest.mark.timeout(300)  # where no machine code is kept, it is made
MODES = (("mps",) * 2, ("exclusive",) * 2, ("mps", "exclusive"), ("mig",), ("mps",) * 9, ())
ASKS = (
    {"mode": "mps", "compute": "30"},
    {"mode": "mps", "memory": "30Gi"},
    {"memory": "30Gi", "compute": "20"},
    {"mode": "mps", "compute": "60", "gpu-model": "a40"},
    {"mode": "exclusive"},
    {"mode": "exclusive", "memory": "60Gi"},
    {"mode": "exclusive", "gpu-model": "h200"},
)


def a_node(name: str, modes: Sequence[str], *, model: str = "a100-80", cpu: str | None = "16") -> Json:
    """As in a cluster where not every node says what it has."""
    memory = 49_152 if model == "a40" else 81_920
    gpus = [gpu(f"GPU-{name}-{i}", index=i, model=model, mode=m, memory_mib=memory) for i, m in enumerate(modes)]
    made = node(name, *gpus)
    if cpu is not None:
        made["status"] = {"allocatable": {"cpu": cpu, "memory": "64Gi"}}
    return made


def a_pod(
    uid: str, ask: Mapping[str, str], *, counts: Sequence[int] = (1,), cpu: str = "1", namespace: str = "team"
) -> Json:
    made = pod(uid, ask=ask, containers=[container(f"c{i}", n) for i, n in enumerate(counts)], namespace=namespace)
    made["spec"]["containers"][0]["resources"]["requests"] = {"cpu": cpu, "memory": "2Gi"}
    return made


def without_gpu(uid: str, on: str, cpu: str, *, memory: str = "0", owner: str = "ReplicaSet") -> Json:
    requests = {"cpu": cpu, "memory": memory}
    made = pod(uid, ask={}, containers=[{"name": "main", "resources": {"requests": requests}}], on=on)
    made["metadata"]["ownerReferences"] = [{"kind": owner, "controller": True}]
    return made


def ledger_of(*nodes: Json) -> Ledger:
    made = Ledger(scorer="spr")
    for one in nodes:
        made.put_node_object(one)
        made.heartbeat(one["metadata"]["name"], NOW_S)
    return made


def prices(ledger: Ledger, one: Json) -> list[tuple[str, int]]:
    ledger.ask(demand_of(one))
    return score_nodes(ledger, demand_of(one), ledger.nodes(), NOW_S)


EVENTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("place"),
            st.sampled_from(ASKS),
            st.sampled_from([(1,), (1,), (2,), (1, 1)]),
            st.sampled_from(["0", "500m", "4", "12"]),
            st.sampled_from(["blue", "red"]),
        ),
        st.tuples(st.just("leave"), st.integers(0, 30)),
        st.tuples(st.just("other"), st.integers(0, 3), st.sampled_from(["1", "8"])),
        st.tuples(st.just("node"), st.integers(0, 3), st.sampled_from(MODES), st.sampled_from(["a40", "a100-80"])),
        st.tuples(st.just("gone"), st.integers(0, 3)),
    ),
    max_size=25,
)


def happen(ledger: Ledger, number: int, event: Any) -> list[tuple[str, int]]:  # noqa: ANN401  # drawn
    """What is answered while it happens."""
    match event:
        case ("place", ask, counts, cpu, tenant):
            one = a_pod(f"p{number}", ask, counts=counts, cpu=cpu, namespace=tenant)
            scores = prices(ledger, one)
            for name, _ in sorted(scores, key=lambda scored: (-scored[1], scored[0])):
                demand = demand_of(one)
                ledger.assume(demand.uid, demand.key, demand, name, NOW_S)
                break
            return scores
        case ("put", where, ask, tenant):
            demand = demand_of(a_pod(f"p{number}", ask, namespace=tenant))
            ledger.assume(demand.uid, demand.key, demand, where, NOW_S)
        case ("leave", which):
            ledger.drop_pod(f"p{which}")
        case ("other", where, cpu):
            ledger.put_pod(without_gpu(f"o{number}", f"n{where}", cpu))
        case ("node", where, modes, model):
            ledger.put_node_object(a_node(f"n{where}", modes, model=model))
            ledger.heartbeat(f"n{where}", NOW_S)
        case ("gone", where):
            ledger.drop_node(f"n{where}")
        case ("list", pods):
            ledger.replace_pods(pods, NOW_S)
        case ("again", one):
            ledger.put_node(one["metadata"]["name"], ledger.node(one["metadata"]["name"]).inventory)  # type: ignore[union-attr]
    return []


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(modes=st.lists(st.sampled_from(MODES), min_size=1, max_size=4), events=EVENTS)
def test_machine_code_answers_what_the_text_says(modes: list[Sequence[str]], events: list[Any]) -> None:
    agree([a_node(f"n{i}", m, cpu="16" if i else None) for i, m in enumerate(modes)], events)


@pytest.mark.parametrize("states_kept", [pytest.param(None, id="all states"), pytest.param(32, id="a few states")])
def test_machine_code_and_text_agree_for_long(states_kept: int | None) -> None:
    """Until the mix is learnt, prices are renewed, states are forgotten, and nodes are short of everything."""
    modes = (("mps",) * 8, ("mps", "mps"), ("mps", "mps"))
    nodes = [a_node(f"n{i}", m) for i, m in enumerate(modes)] + [a_node("n3", modes[1], model="a40")]
    short = [("0", "15"), ("63Gi", "1"), ("63Gi", "15")]
    listed = [without_gpu(f"l{i}", f"n{i}", cpu, memory=memory) for i, (memory, cpu) in enumerate(short)]
    alike: list[Any] = [("put", "n1", ASKS[0], "blue"), ("put", "n2", ASKS[0], "red")]
    shares: list[Any] = [("place", ASKS[0], (1,), "1", tenant) for tenant in ("blue", "red", "blue", "red", "blue")]
    pairs: list[Any] = [("place", ASKS[4], (2,), "4", "blue"), ("other", 3, "1"), ("leave", 2)] * 4
    again: list[Any] = [("again", nodes[0]), *(("other", i % 4, "500m") for i in range(12))]
    sizes: list[Any] = [
        ("place", {"mode": "mps", "compute": str(pct)}, (1,), "500m", "blue") for pct in (60, 50, 40, 20, 10, 70, 30)
    ]
    events = [*alike, *shares, ("list", listed), *shares, ("list", []), *pairs, *again, *shares * 5, ("list", listed)]
    agree(nodes, [*events, *pairs, ("list", []), *sizes * 2], states_kept)


@given(st.lists(st.integers(0, 1000), min_size=8, max_size=8))
def test_gpus_are_sorted_by_what_is_free(free: list[int]) -> None:
    for sort in (states.sort_descending, interpreted("states").sort_descending):
        gpus = np.array(free)
        sort(gpus)
        assert gpus.tolist() == sorted(free, reverse=True)


@pytest.mark.parametrize("mean", [20.0, 1_000.0, 5_000.0])
def test_a_chance_is_summed_up_however_small_its_first_term(mean: float) -> None:
    """With 5,000 pods expected none come with a chance of e^-5000, which is no number any more."""
    found = [module.chance_of_at_least(mean, mean, 1e9) for module in (prices_of_pods, interpreted("prices"))]
    assert found[0] == found[1]
    assert found[0] == pytest.approx(0.5, abs=0.05), "about half of the time more come than are expected"


def agree(nodes: Sequence[Json], events: Sequence[Any], states_kept: int | None = None) -> None:
    twins = ledger_of(*nodes), ledger_of(*nodes)
    plain = interpreted("desk")
    twins[1].node_scorer = plain.Desk(twins[1].fleet)
    if states_kept is not None:
        plain.new_states.__globals__.update(LEAST_CAPACITY=states_kept, STATES_PER_NODE=0)
    for number, event in enumerate(events):
        compiled = happen(twins[0], number, event)
        with wrapping():
            assert happen(twins[1], number, event) == compiled
    assert {h.uid: h.allocation for h in twins[0].holdings()} == {h.uid: h.allocation for h in twins[1].holdings()}


def test_without_a_gpu_to_look_at_every_price_is_infinite() -> None:
    ledger = ledger_of(a_node("n0", ("mig",)))
    assert prices(ledger, a_pod("p", ASKS[0])) == [("n0", 0)]
    desk = ledger.node_scorer
    assert isinstance(desk, Desk)
    assert np.isinf(desk.share_on("n0", demand_of(a_pod("p", ASKS[0])), np.zeros(1, np.int64), np.zeros(1, np.int64)))


def filled() -> Ledger:
    ledger = ledger_of(*(a_node(f"n{i}", ("mps", "mps")) for i in range(4)))
    for i in range(6):
        happen(ledger, i, ("place", ASKS[i % 2], (1,), "1", "team"))
    return ledger


PROBES = tuple(a_pod(f"probe-{i}", ask) for i, ask in enumerate(ASKS))


def answers(ledger: Ledger) -> list[list[tuple[str, int]]]:
    return [score_nodes(ledger, demand_of(one), ledger.nodes(), NOW_S) for one in PROBES]


@pytest.mark.parametrize("forgets", ["states", "scores", "changes", "all"])
def test_what_is_forgotten_is_computed_again(forgets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = answers(filled())
    if forgets == "states":
        monkeypatch.setattr(states, "LEAST_CAPACITY", 32)
        monkeypatch.setattr(states, "STATES_PER_NODE", 0)
    if forgets == "scores":
        monkeypatch.setattr(desks, "MAX_SCORED", 1)
    ledger = filled()
    if forgets == "changes":
        ledger.fleet.clock += 1 << 13
    if forgets == "all":
        assert isinstance(ledger.node_scorer, Desk)
        ledger.node_scorer.forget()
    assert answers(ledger) == answers(ledger) == expected


def test_a_table_of_states_has_room_for_one_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "LEAST_CAPACITY", 64)
    assert len(states.new_states(10).words) >= 10 * 9 * 3


def test_a_node_without_an_open_gpu_has_an_infinite_price() -> None:
    desk = filled().node_scorer
    assert isinstance(desk, Desk)
    free, closed = np.array([500, 1000]), np.array([-1, -1])
    assert np.isinf(desk.share_on("n0", demand_of(PROBES[0]), free, closed)).all()


def test_what_is_only_tried_changes_no_price() -> None:
    ledger, other = filled(), filled()
    for one in (ledger, other):
        assert one.node_scorer is not None
        one.node_scorer.freeze()
    for i in range(50):
        ledger.ask(demand_of(a_pod(f"tried-{i}", ASKS[4])))
        ledger.put_pod(without_gpu(f"other-{i}", "n0", "0"))
    assert answers(ledger) == answers(other)


def test_what_if_nodes_are_priced_by_the_mix_that_was_learnt() -> None:
    ledger = filled()
    new = what_if(ledger, {"m0": a_node("m0", ("mps",))}, NOW_S)
    assert isinstance(ledger.node_scorer, Desk)
    assert isinstance(new.node_scorer, Desk)
    assert new.node_scorer.wishes.arrived == ledger.node_scorer.wishes.arrived
    assert new.node_scorer.wishes is not ledger.node_scorer.wishes
    assert len(prices(new, PROBES[0])) == 1


@pytest.mark.parametrize(
    ("owner", "arrived"),
    [
        pytest.param("ReplicaSet", 1, id="a pod that was scheduled"),
        pytest.param("DaemonSet", 0, id="a pod of its node"),
    ],
)
def test_pods_without_a_gpu_are_part_of_the_mix_if_they_looked_for_a_place(owner: str, arrived: int) -> None:
    ledger = ledger_of(a_node("n0", ("mps",)))
    for _ in range(2):
        ledger.put_pod(without_gpu("o", "n0", "1", owner=owner))
    assert isinstance(ledger.node_scorer, Desk)
    assert ledger.node_scorer.wishes.arrived == arrived


def test_after_a_restart_the_mix_is_what_is_bound() -> None:
    ledger, new = filled(), ledger_of(*(a_node(f"n{i}", ("mps", "mps")) for i in range(4)))
    pods = []
    for i, holding in enumerate(sorted(ledger.holdings(), key=lambda h: h.uid)):
        one = a_pod(holding.uid, ASKS[i % 2])
        one["spec"]["nodeName"] = holding.node
        one["metadata"]["annotations"]["slicewise.dev/allocation"] = holding.allocation.encode()
        pods.append(one)
    new.replace_pods(pods, NOW_S)
    assert isinstance(new.node_scorer, Desk)
    assert new.node_scorer.wishes.arrived == 6
    assert max(score for _, score in prices(new, PROBES[0])) == 10


def test_of_equally_good_gpus_the_one_with_most_free_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = interpreted("choice")
    monkeypatch.setattr(plain, "potential", lambda *_: 7.0)
    table, one = states.new_states(1), np.array([1])
    scratch = plain.new_scratch(table, 2)
    scratch.keys[:] = plain.key_of(np.array([900, 600]), np.array([400, 100]))
    sight = plain.Sight(table, None, plain.Offers(one, one, one, one), plain.Wanted(0, 0, 1, apart=True), scratch)
    with wrapping():
        assert plain._best(sight, 0, 5.0) == (2.0, 0)


def test_a_desk_that_knows_nothing_has_nothing_to_forget() -> None:
    desk = ledger_of(a_node("n0", ("mps",))).node_scorer
    assert isinstance(desk, Desk)
    desk.forget()
    assert desk.wishes.arrived == 0
