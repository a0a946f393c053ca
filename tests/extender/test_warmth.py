"""What is warm where, and what that does to scores: never to what fits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.allocation import Allocation
from extender.placement.demand import Demand
from extender.placement.reuse import Reuse
from extender.placement.warmth import Savings
from extender.verbs import filter_nodes, score_nodes, why_scores
from tests.extender.clusters import demand_of, ledgers, pods
from tests.extender.objects import NOW_S, Json, container, demand, gpu, node, pod

GIB = 1 << 30
NAMES = ["n0", "n1", "n2"]
ASK = {"profile": "1g.10gb", "weights": "llama"}
EXACT = Savings(life_s=1000.0, image_mib_per_s=1024.0, weights_s=20.0, session_s=10.0, most_s=100.0, keep_s=60.0)


def with_images(of: Json, **images: int) -> Json:
    listed = [{"names": [f"{name}:latest"], "sizeBytes": size} for name, size in images.items()]
    return {**of, "status": {"images": listed}}


def cluster(savings: Savings = EXACT, scorer: str = "fragmentation", **images: Mapping[str, int]) -> Ledger:
    """Three equal, empty nodes of one GPU."""
    made = Ledger(scorer=scorer, savings=savings)
    for name in NAMES:
        made.put_node_object(with_images(node(name, gpu(f"GPU-{name}")), **images.get(name, {})))
        made.heartbeat(name, NOW_S)
    return made


def runs(made: Ledger, uid: str, on: str, **fields: Any) -> None:  # noqa: ANN401
    """A pod that is bound and runs, though it holds nothing: it does not change prices."""
    made.put_pod(pod(uid, on=on, phase="Running", containers=[{"name": "main"}], **{"ask": ASK, **fields}))


def scores(made: Ledger, asked: Demand, now_s: float = NOW_S) -> dict[str, int]:
    for name in NAMES:
        made.heartbeat(name, now_s)
    return dict(score_nodes(made, asked, NAMES, now_s))


def warm(made: Ledger, asked: Demand, now_s: float = NOW_S) -> dict[str, dict[str, float]]:
    return {name: found for name in NAMES if (found := made.warmth.on(asked, name, now_s))}


COLD = {"n0": 10, "n1": 10, "n2": 10}


def test_a_node_that_has_the_image_goes_before_others_by_its_size() -> None:
    made = cluster(n1={"vllm": 10 * GIB}, n2={"vllm": 10 * GIB, "side": 5 * GIB})
    asked = demand(containers=[container(image="vllm"), container("b", 0, image="side")])
    assert warm(made, asked) == {"n1": {"image": 10.0}, "n2": {"image": 15.0}}
    assert scores(made, asked) == {"n0": 8, "n1": 9, "n2": 10}


def test_the_worth_is_the_pods_gib_times_the_part_of_its_life_that_is_saved() -> None:
    made = cluster(n1={"vllm": 10 * GIB})
    best, *rest = why_scores(made, demand(containers=[container(image="vllm", count=2)]), NAMES, NOW_S)
    assert (best.node, best.score, best.saved_s) == ("n1", 10, {"image": 10.0})
    slice_gib = 9856 / 1024  # of a 1g.10gb on a100-80, as the catalog has it
    assert best.warm == pytest.approx(2 * slice_gib * 10 / 1000)
    assert [(r.node, r.warm, dict(r.saved_s)) for r in rest] == [("n0", 0.0, {}), ("n2", 0.0, {})]
    assert best.price == pytest.approx(rest[0].price - best.warm)


@pytest.mark.parametrize(
    ("savings", "saved"),
    [
        pytest.param(EXACT, {"image": 10.0, "weights": 20.0, "session": 10.0}, id="each counts"),
        pytest.param(replace(EXACT, image_mib_per_s=0), {"weights": 20.0, "session": 10.0}, id="images do not"),
        pytest.param(replace(EXACT, weights_s=0), {"image": 10.0, "session": 10.0}, id="weights do not"),
        pytest.param(replace(EXACT, session_s=0), {"image": 10.0, "weights": 20.0}, id="sessions do not"),
    ],
)
def test_each_kind_counts_as_the_settings_say(savings: Savings, saved: dict[str, float]) -> None:
    made = cluster(savings, n1={"vllm": 10 * GIB})
    ask = {**ASK, "session": "user-42"}
    runs(made, "u0", "n1", ask=ask)
    assert warm(made, demand(ask=ask, containers=[container(image="vllm")])) == {"n1": saved}


@pytest.mark.parametrize(
    "savings",
    [pytest.param(replace(EXACT, life_s=0), id="life 0"), pytest.param(replace(EXACT, most_s=0), id="most 0")],
)
def test_all_of_it_can_be_turned_off(savings: Savings) -> None:
    made = cluster(savings, n1={"vllm": 10 * GIB})
    runs(made, "u0", "n1")
    assert scores(made, demand(ask=ASK, containers=[container(image="vllm")])) == COLD


def test_what_counts_at_most_is_bounded_whatever_a_tenant_says() -> None:
    made = cluster()
    runs(made, "u0", "n1")
    boast = demand(ask={**ASK, "weights-seconds": "3600"})
    best = why_scores(made, boast, NAMES, NOW_S)[0]
    assert best.saved_s == {"weights": 3600.0}
    assert best.warm == pytest.approx(9856 / 1024 * 100 / 1000)


def test_a_pod_may_say_what_its_weights_save_unless_they_do_not_count() -> None:
    asked = demand(ask={**ASK, "weights-seconds": "7.5"})
    for savings, saved in ((EXACT, {"n1": {"weights": 7.5}}), (replace(EXACT, weights_s=0), {})):
        made = cluster(savings)
        runs(made, "u0", "n1")
        assert warm(made, asked) == saved


def test_of_several_weights_those_that_are_there_save_their_part() -> None:
    made = cluster()
    runs(made, "u0", "n1")
    assert warm(made, demand(ask={**ASK, "weights": "llama, lora-7"})) == {"n1": {"weights": 10.0}}


def test_another_tenant_has_nothing_of_it() -> None:
    made = cluster()
    runs(made, "u0", "n1", namespace="blue")
    assert warm(made, demand(ask=ASK, namespace="red")) == {}
    assert scores(made, demand(ask=ASK, namespace="red")) == COLD
    assert warm(made, demand(ask=ASK, namespace="blue")) == {"n1": {"weights": 20.0}}
    assert warm(made, demand(ask={**ASK, "tenant": "blue"}, namespace="red")) == {"n1": {"weights": 20.0}}


def test_weights_and_session_of_one_name_are_two_keys() -> None:
    made = cluster()
    runs(made, "u0", "n1")
    assert warm(made, demand(ask={"profile": "1g.10gb", "session": "llama"})) == {}


def test_a_place_stays_warm_for_a_while_after_its_last_pod() -> None:
    made, asked = cluster(), demand(ask=ASK)
    runs(made, "u0", "n1")
    runs(made, "u1", "n1")
    made.drop_pod("u0")
    made.expire(NOW_S)
    assert len(made.warmth) == 1
    assert warm(made, asked, NOW_S + 1000) == {"n1": {"weights": 20.0}}, "one runs on"
    made.drop_pod("u1")
    made.expire(NOW_S + 1000)
    assert warm(made, asked, NOW_S + 1060) == {"n1": {"weights": 20.0}}
    assert warm(made, asked, NOW_S + 1061) == {}
    assert len(made.warmth) == 0


def test_an_end_counts_from_the_next_instant_that_is_told() -> None:
    made, asked = cluster(), demand(ask=ASK)
    for i, on in enumerate(NAMES):
        runs(made, f"u{i}", on)
    made.drop_pod("u0")
    made.expire(NOW_S)
    made.drop_pod("u1")
    made.drop_pod("u2")
    made.expire(NOW_S + 50)
    assert list(warm(made, asked, NOW_S + 60)) == NAMES
    assert list(warm(made, asked, NOW_S + 61)) == ["n1", "n2"]
    assert list(warm(made, asked, NOW_S + 111)) == []


def test_a_pod_that_comes_back_is_warm_again_for_good() -> None:
    made, asked = cluster(), demand(ask=ASK)
    runs(made, "u0", "n1")
    made.drop_pod("u0")
    made.expire(NOW_S)
    runs(made, "u1", "n1")
    assert warm(made, asked, NOW_S + 1000) == {"n1": {"weights": 20.0}}


def test_a_pod_that_never_ran_leaves_nothing() -> None:
    made, asked = cluster(), demand(ask=ASK)
    for uid, phases in (("u0", ["Pending"]), ("u1", ["Pending", "Running", "Pending"])):
        for phase in phases:
            made.put_pod(pod(uid, on="n1", ask=ASK, phase=phase, containers=[{"name": "main"}]))
        assert warm(made, asked) == {"n1": {"weights": 20.0}}, "what comes for it is shared"
        made.drop_pod(uid)
    assert warm(made, asked) == {"n1": {"weights": 20.0}}, "of the second, which ran"
    made.expire(NOW_S)
    made.expire(NOW_S + 61)
    made.put_pod(pod("u2", on="n1", ask=ASK, phase="Pending", containers=[{"name": "main"}]))
    made.drop_pod("u2")
    assert warm(made, asked) == {}


def test_a_pod_on_another_node_leaves_the_first() -> None:
    made, asked = cluster(), demand(ask=ASK)
    runs(made, "u0", "n1")
    runs(made, "u0", "n2")
    made.expire(NOW_S)
    assert list(warm(made, asked, NOW_S + 61)) == ["n2"]


def test_a_node_that_comes_under_an_old_name_has_nothing() -> None:
    made, asked = cluster(n1={"vllm": GIB}), demand(ask=ASK, containers=[container(image="vllm")])
    runs(made, "u0", "n1")
    runs(made, "u1", "n1")
    runs(made, "u2", "n2")
    runs(made, "u3", "n1", ask={"session": "user-42"})
    made.drop_pod("u3")
    made.drop_pod("u1")
    made.drop_node("n1")
    made.put_node_object(node("n1", gpu("GPU-n1")))
    made.drop_pod("u0")
    assert warm(made, asked) == {"n2": {"weights": 20.0}}
    assert warm(made, demand(ask={"profile": "1g.10gb", "session": "user-42"})) == {}


def test_images_need_an_inventory_and_come_back_with_it() -> None:
    made, asked = cluster(n1={"vllm": GIB}), demand(containers=[container(image="vllm")])
    made.put_node_object({"metadata": {"name": "n1"}})
    assert warm(made, asked) == {}
    made.put_node_object(with_images({"metadata": {"name": "n1"}}, vllm=GIB))
    assert warm(made, asked) == {}
    made.put_node_object(with_images(node("n1", gpu("GPU-n1")), vllm=GIB))
    assert warm(made, asked) == {"n1": {"image": 1.0}}


def test_the_memory_of_pods_that_ended_is_bounded_and_the_oldest_go_first() -> None:
    made = cluster(replace(EXACT, most_keys=2))
    for i in range(3):
        runs(made, f"u{i}", "n1", ask={**ASK, "weights": f"w{i}"})
    for i in range(3):
        made.drop_pod(f"u{i}")
    assert [bool(warm(made, demand(ask={**ASK, "weights": f"w{i}"}))) for i in range(3)] == [False, True, True]


def test_a_restart_knows_what_still_runs() -> None:
    made, other = cluster(), cluster()
    runs(made, "u0", "n1")
    other.replace_pods([pod("u0", on="n1", ask=ASK, phase="Running", containers=[{"name": "main"}])], NOW_S)
    assert warm(other, demand(ask=ASK)) == warm(made, demand(ask=ASK)) == {"n1": {"weights": 20.0}}


@pytest.mark.parametrize(
    ("ask", "worth"),
    [
        pytest.param({"memory": "20Gi", "mode": "mps"}, 20 * 0.02, id="a share by its memory"),
        pytest.param({"compute": "25", "mode": "mps"}, 20 * 0.02, id="a share by its part of the GPU's memory"),
        pytest.param({"mode": "exclusive"}, 0.02, id="whole GPUs are priced in GPUs"),
        pytest.param({"profile": "1g.5gb"}, 0.0, id="a profile that the node does not have"),
    ],
)
def test_the_worth_is_in_the_unit_of_the_prices(ask: dict[str, str], worth: float) -> None:
    made = cluster()
    for name in NAMES:
        made.put_node_object(node(name, gpu(f"GPU-{name}", mode="mps")))
    runs(made, "u0", "n1")
    found = made.warmth.worth(demand(ask={**ask, "weights": "llama"}), NOW_S)
    assert found is not None
    assert found[made.fleet.slots["n1"]] == pytest.approx(worth)


def test_static_mig_has_no_price_in_gib_and_no_warmth() -> None:
    made = cluster()
    runs(made, "u0", "n1")
    static = [{"name": "main", "resources": {"limits": {"nvidia.com/mig-1g.10gb": "1"}}}]
    assert made.warmth.worth(demand(ask={"weights": "llama"}, containers=static), NOW_S) is None


def test_the_node_scorer_prices_whole_gpus_by_their_memory() -> None:
    made = cluster(scorer="spr")
    for name in NAMES:
        made.put_node_object(node(name, gpu(f"GPU-{name}", mode="exclusive")))
    runs(made, "u0", "n1")
    found = made.warmth.worth(demand(ask={"mode": "exclusive", "weights": "llama"}), NOW_S)
    assert found is not None
    assert found[made.fleet.slots["n1"]] == pytest.approx(80 * 0.02)


@st.composite
def heats(draw: st.DrawFn) -> list[tuple[str, str, Json]]:
    """Pods that ran on nodes, with keys."""
    keys = st.fixed_dictionaries({}, optional={"weights": st.sampled_from("ab"), "session": st.sampled_from("ab")})
    namespace = st.sampled_from(["blue", "red"])
    one = st.tuples(st.sampled_from(["n0", "n1", "n2", "n3"]), keys, namespace)
    return [
        (f"w{i}", on, pod(f"w{i}", on=on, ask=ask, namespace=space, containers=[{"name": "m"}], phase="Running"))
        for i, (on, ask, space) in enumerate(draw(st.lists(one, max_size=6)))
    ]


REUSE = st.builds(
    Reuse,
    weights=st.sampled_from([(), ("a",), ("a", "b")]),
    session=st.sampled_from([(), ("b",)]),
    weights_s=st.sampled_from([None, 0.0, 5.0, 3600.0]),
)
PLACES = ["n0", "n1", "n2", "n3", "ghost"]


@given(made=ledgers(), asked=pods("new"), ran=heats(), reuse=REUSE)
def test_warmth_never_changes_what_fits_or_what_is_given(
    made: Ledger, asked: Json, ran: list[tuple[str, str, Json]], reuse: Reuse
) -> None:
    plain = demand_of(asked)
    cold = filter_nodes(made, plain, PLACES, NOW_S)
    places = {name: made.assume("new", plain.key, plain, name, NOW_S) for name in cold.fit}
    made.forget("new")
    for _, _, one in ran:
        made.put_pod(one)
    sticky = replace(plain, reuse=reuse)
    assert filter_nodes(made, sticky, PLACES, NOW_S) == cold
    scored = dict(score_nodes(made, sticky, PLACES, NOW_S))
    assert all(0 <= score <= 10 for score in scored.values())
    assert all(scored[name] == 0 for name in PLACES if name not in cold.fit)
    for name in cold.fit:
        assert made.assume("new", sticky.key, sticky, name, NOW_S) == places[name]
        assert isinstance(places[name], Allocation)


@given(
    made=ledgers(),
    asked=pods("new"),
    on=st.sampled_from(PLACES[:4]),
    few=st.floats(0, 300),
    more=st.floats(0, 300),
)
def test_more_saved_never_puts_a_warm_node_behind_one_that_it_was_not_behind(
    made: Ledger, asked: Json, on: str, few: float, more: float
) -> None:
    plain = demand_of(asked)
    made.put_pod(
        pod("w", on=on, ask={"weights": "a"}, namespace=plain.tenant, containers=[{"name": "m"}], phase="Running")
    )
    fit = filter_nodes(made, plain, PLACES, NOW_S).fit
    found = [
        dict(score_nodes(made, replace(plain, reuse=Reuse(weights=("a",), weights_s=s)), PLACES, NOW_S))
        for s in sorted([few, more])
    ]
    if on in fit:
        ahead = [{name for name in fit if scored[name] > scored[on]} for scored in found]
        assert ahead[1] <= ahead[0]
        cold = [{n: s for n, s in scored.items() if n != on} for scored in found]
        for one in fit:
            for other in fit:
                if on not in {one, other} and cold[0][one] > cold[0][other]:
                    assert cold[1][one] >= cold[1][other], "the cold ones stand as they stood"


def test_scores_without_anything_warm_are_the_plain_ones() -> None:
    made, asked = cluster(), demand(ask=ASK)
    assert made.warmth.worth(asked, NOW_S) is None
    assert np.isfinite(why_scores(made, asked, NAMES, NOW_S)[0].price)
