"""The set of GPUs that a pod gets is the one that brute force finds; filter, price and plan agree on what is joined."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.allocation import Allocation, WholeGpu
from extender.placement.demand import Demand, Shape
from extender.placement.joins import choose, joins_of, largest_joined
from extender.placement.link_price import LOSS, link_price
from extender.placement.links import NO_LINKS, End, Link, Links, Tier, strength
from extender.placement.profile import Mode
from extender.placement.room import most_joined
from extender.verbs import Eviction, filter_nodes, filter_objects, pick_victims, score_nodes
from tests.extender.clusters import ledgers
from tests.extender.objects import NOW_S, Json, container, demand, gpu, held, ledger, node, pod


def ends_of(*links: Links, numa: tuple[int | None, ...] = ()) -> list[End]:
    return [End(i, numa[i] if numa else None, one) for i, one in enumerate(links)]


def bridges(pairs: str) -> list[End]:
    """`00112-`: GPUs of one digit have a bridge of four links, a dash has none; four to a NUMA node."""
    peers = [[j for j, other in enumerate(pairs) if other == p != "-" and j != i] for i, p in enumerate(pairs)]
    return [End(i, i // 4, Links(nvlink=tuple((j, 4) for j in mine))) for i, mine in enumerate(peers)]


@st.composite
def ends(draw: st.DrawFn) -> list[End]:
    many = draw(st.integers(1, 6))
    return [
        End(
            i,
            draw(st.none() | st.integers(0, 1)),
            Links(
                tuple((j, draw(st.integers(1, 2))) for j in range(many) if j != i and draw(st.booleans())),
                draw(st.sampled_from([0, 0, 2])),
                draw(st.none() | st.integers(0, 1)),
            ),
        )
        for i in range(many)
    ]


def brute_force(gpus: list[End], count: int, link: Link) -> tuple[Tier, tuple[int, ...]] | None:
    def weakest(places: tuple[int, ...]) -> int:
        return min((strength(gpus[i], gpus[j]) for i, j in combinations(places, 2)), default=99)

    def worth(places: tuple[int, ...]) -> tuple[int, ...]:
        within = sum(strength(gpus[i], gpus[j]) for i, j in combinations(places, 2))
        outward = sum(strength(gpus[i], gpus[j]) for i in places for j in range(len(gpus)) if j not in places)
        return (-within - outward,) if link is Link.ANY else (weakest(places), within, -outward)

    if len(gpus) < count:
        return None
    best = max(combinations(range(len(gpus)), count), key=worth)  # the first of equals
    tier = Tier(min(weakest(best), Tier.NVLINK))
    return None if link is Link.REQUIRE and tier < Tier.NVLINK else (tier, best)


@given(gpus=ends(), count=st.integers(1, 7), link=st.sampled_from(list(Link)))
def test_the_chosen_set_is_that_of_brute_force(gpus: list[End], count: int, link: Link) -> None:
    assert choose(gpus, count, link) == brute_force(gpus, count, link)


@given(ends())
def test_the_largest_joined_set_of_any_free_gpus(gpus: list[End]) -> None:
    joins = joins_of(gpus)
    if not joins:
        assert all(g.numa is None and g.links == NO_LINKS for g in gpus)
        return
    table = largest_joined(joins)
    for number in range(1 << len(gpus)):
        free = [i for i in range(len(gpus)) if number >> i & 1]
        sets = [s for n in range(len(free) + 1) for s in combinations(free, n)]
        for tier in Tier:
            joined = [s for s in sets if all(strength(gpus[i], gpus[j]) >= tier for i, j in combinations(s, 2))]
            assert table[tier, number] == max(map(len, joined))


@pytest.mark.parametrize(
    ("gpus", "free", "count", "want"),
    [
        pytest.param(bridges("00112233"), "01234567", 2, "01", id="a bridged pair"),
        pytest.param(bridges("00112233"), "0345", 2, "45", id="the pair that is whole"),
        pytest.param(bridges("00112233"), "02345", 1, "0", id="one GPU is taken where a pair is broken already"),
        pytest.param(bridges("0011223-"), "01237", 1, "7", id="one GPU is taken where there is no bridge"),
        pytest.param(bridges("00112233"), "014567", 4, "4567", id="four: two pairs of one NUMA node"),
        pytest.param(bridges("--------"), "0124567", 2, "01", id="the NUMA node with fewer free ones is used up"),
        pytest.param(bridges("--------"), "034567", 2, "03", id="and that of two with as many as are wanted"),
        pytest.param(ends_of(*[Links(nvswitch=18)] * 8), "13456", 2, "13", id="an NVSwitch joins all: the first"),
        pytest.param(ends_of(*[Links(nvswitch=18)] * 16), "0123456789abcdef", 8, "01234567", id="sixteen at a switch"),
        pytest.param(ends_of(*[NO_LINKS] * 20), "0123456789abcdefghij", 3, "012", id="nothing known: the first"),
    ],
)
def test_which_gpus_are_taken(gpus: list[End], free: str, count: int, want: str) -> None:
    places = [int(c, 36) for c in free]
    chosen = choose([gpus[i] for i in places], count, Link.PREFER)
    assert chosen is not None
    assert [places[i] for i in chosen[1]] == [int(c, 36) for c in want]


def test_a_pod_that_wants_no_link_leaves_the_joined_ones_alone() -> None:
    gpus = [*bridges("00-----1"), End(8, 1, Links(nvlink=((7, 4),)))]
    gpus[7] = End(7, 1, Links(nvlink=((8, 4),)))
    chosen = choose(gpus, 3, Link.ANY)
    assert chosen is not None
    assert not {0, 1, 7, 8} & set(chosen[1])


@given(made=ledgers(), count=st.integers(1, 3))
def test_arrays_count_what_brute_force_counts(made: Ledger, count: int) -> None:
    fleet = made.fleet
    fits = fleet.whole_fits(fleet.lookup(demand(ask={"mode": "exclusive"}).shape))  # type: ignore[arg-type]
    most = most_joined(fleet, fits)
    price = link_price(fleet, fits, count, in_gib=True)
    tiers = {}
    for name, slot in fleet.slots.items():
        state = made.node(name)
        assert state is not None
        free = [g for i, g in enumerate(state.gpus) if fits[i, slot]]
        sets = [s for n in range(len(free) + 1) for s in combinations([g.end for g in free], n)]
        for tier in Tier:
            joined = [s for s in sets if all(strength(a, b) >= tier for a, b in combinations(s, 2))]
            assert most[tier, slot] == max(map(len, joined))
        reached = [tier for tier in Tier if most[tier, slot] >= count]
        if reached:
            tiers[slot] = max(reached)
    ranked = sorted(tiers, key=lambda slot: price[slot])
    assert [LOSS[tiers[s]] for s in ranked] == sorted(LOSS[t] for t in tiers.values())
    assert (price >= 0).all()
    assert not tiers or price[list(tiers)].min() == 0


REQUIRE = {"mode": "exclusive", "link": "require"}


@given(made=ledgers(max_nodes=2), count=st.integers(1, 3))
def test_filter_plan_and_eviction_agree_on_what_must_be_joined(made: Ledger, count: int) -> None:
    asked = demand("new", ask=REQUIRE, containers=[container(count=count)], priority=9)
    names = list(made.nodes())
    found = filter_nodes(made, asked, names, NOW_S)
    for name in names:
        got = made.assume("new", "p", asked, name, NOW_S)
        assert isinstance(got, Allocation) == (name in found.fit)
        if isinstance(got, Allocation):
            state = made.node(name)
            assert state is not None
            mine = [g.end for g in state.gpus if g.uuid in {x.uuid for x in got.grants()}]
            assert all(strength(a, b) > Tier.PCIE for a, b in combinations(mine, 2))
            made.forget("new")
    victims = pick_victims(made, asked, {name: Eviction() for name in names}, NOW_S)
    assert set(victims) == set(found.failed)


def board(name: str, pairs: str, **more: Any) -> Json:  # noqa: ANN401  # fields of the inventory
    return node(name, *(whole(end, **more) for end in bridges(pairs)))


def whole(end: End, **more: Any) -> Json:  # noqa: ANN401  # fields of the inventory
    links: Json = {"links": end.links.wire()} if end.links != NO_LINKS else {}
    return gpu(f"GPU-{end.index}", index=end.index, mode="exclusive", numa=end.numa, **links, **more)


def two(link: str, uid: str = "new", count: int = 2, **fields: int) -> Demand:
    return demand(uid, ask={"mode": "exclusive", "link": link}, containers=[container(count=count)], **fields)


@pytest.mark.parametrize(
    ("pairs", "busy", "count", "failed", "unresolvable"),
    [
        pytest.param("0-0-", 1, 2, "4 GPUs: 1 of 2 free as a whole and joined by NVLink", "", id="half of the pair"),
        pytest.param(
            "00--", 0, 3, "", "even empty, room for 2 of 3 x whole GPU joined by NVLink", id="a pair for three"
        ),
        pytest.param(
            "----", 0, 2, "", "even empty, room for 1 of 2 x whole GPU joined by NVLink", id="no bridge at all"
        ),
    ],
)
def test_refusals_of_what_must_be_joined(pairs: str, busy: int, count: int, failed: str, unresolvable: str) -> None:
    made = ledger([board("n0", pairs)])
    for i in range(busy):
        made.put_pod(
            pod(f"p{i}", on="n0", allocation=Allocation.of({"m": [WholeGpu(f"GPU-{i}")]}), ask={"mode": "exclusive"})
        )
    found = filter_nodes(made, two("require", count=count), ["n0"], NOW_S)
    assert (found.failed.get("n0", ""), found.unresolvable.get("n0", "")) == (failed, unresolvable)
    assert filter_nodes(made, two("prefer", count=count), ["n0"], NOW_S).fit == ["n0"]


def test_a_node_that_does_not_exist_yet_is_judged_by_its_links_too() -> None:
    objects = {
        "bridged": board("bridged", "00"),
        "bare": board("bare", "--"),
        "silent": node("silent", gpu(mode="exclusive")),
    }
    found = filter_objects(ledger([]), two("require"), objects, NOW_S)
    assert (found.fit, sorted(found.unresolvable)) == (["bridged"], ["bare", "silent"])


def test_eviction_frees_a_joined_pair_and_not_any_two() -> None:
    made = ledger([board("n0", "0011")])
    for i, priority in enumerate((1, 3, 2, 2)):
        one = Allocation.of({"m": [WholeGpu(f"GPU-{i}")]})
        made.put_pod(pod(f"p{i}", on="n0", allocation=one, ask={"mode": "exclusive"}, priority=priority))
    found = pick_victims(made, two("require", priority=5), {"n0": Eviction()}, NOW_S)
    assert set(found["n0"].uids) in ({"p0", "p1"}, {"p2", "p3"})


@pytest.mark.parametrize("scorer", ["best-fit", "fgd", "first-fit", "fragmentation", "slice-value", "spr"])
def test_the_better_joined_node_goes_first(scorer: str) -> None:
    made = ledger([board("far", "--------"), board("near", "00112233"), board("bare", "")], scorer=scorer)
    made.put_node_object(node("silent", *(gpu(f"GPU-{i}", index=i, mode="exclusive") for i in range(8))))
    made.heartbeat("silent", NOW_S)
    made.assume("other", "p", two("prefer", "other", 4), "near", NOW_S)
    scores = dict(score_nodes(made, two("prefer"), ["far", "near", "silent"], NOW_S))
    assert scores["near"] > scores["far"] > scores["silent"]
    indifferent = dict(score_nodes(made, two("any"), ["far", "silent"], NOW_S))
    assert indifferent["far"] == indifferent["silent"]


def test_equally_joined_nodes_have_the_price_that_they_had() -> None:
    fleet = ledger([board("a", "--------"), board("b", "--------", memory_mib=40960)]).fleet
    fits = fleet.whole_fits(fleet.lookup(Shape(frozenset({Mode.EXCLUSIVE}))))
    assert not link_price(fleet, fits, 2, in_gib=True).any()
    assert not link_price(fleet, np.zeros_like(fits), 2, in_gib=True).any()


def test_a_worse_join_costs_its_part_of_the_gpus_or_of_their_memory() -> None:
    fleet = ledger([board("joined", "00------"), board("apart", "--------")]).fleet
    fits = fleet.whole_fits(fleet.lookup(Shape(frozenset({Mode.EXCLUSIVE}))))
    gpus, gib = (link_price(fleet, fits, 2, in_gib=in_gib) for in_gib in (False, True))
    assert gpus[fleet.slots["joined"]] == 0
    assert 0.8 <= gpus[fleet.slots["apart"]] <= 1.0, "two GPUs that lose 0.4 to 0.5 of their work"
    assert gib == pytest.approx(gpus * fleet.total_mib[fits].mean() / 1024)


def test_links_that_come_and_go_do_not_pile_up() -> None:
    made = ledger([board("kept", "00"), board("other", "--")])
    for i in range(300):
        made.put_node_object(
            node(
                "flaps",
                *(
                    gpu(
                        f"G{k}",
                        index=k,
                        mode="exclusive",
                        links={"nvlink": {str(1 - k): 1 + i % 255}, "pcie": i // 255},
                    )
                    for k in range(2)
                ),
            )
        )
        made.heartbeat("flaps", NOW_S)
        assert filter_nodes(made, two("require"), ["kept", "other", "flaps"], NOW_S).fit == ["kept", "flaps"]
    assert len(made.fleet.ways_joined) < 80


def test_several_containers_get_one_joined_set() -> None:
    made = ledger([board("n0", "0-0-1-1-")])
    asked = demand("u1", ask={"mode": "exclusive"}, containers=[container("a"), container("b")])
    made.assume("u1", "p", asked, "n0", NOW_S)
    assert [g.uuid for g in held(made, "u1").grants()] == ["GPU-0", "GPU-2"]
