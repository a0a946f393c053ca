"""A plan exists exactly where brute force finds one, and never takes what is taken."""

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.allocation import Allocation, MigSlice, MpsShare, WholeGpu
from extender.placement.demand import Demand, Shape
from extender.placement.fit import offered, profile_for, share_mib, share_pct
from extender.placement.links import Link, Tier, strength
from extender.placement.masks import tables
from extender.placement.model import Gpu
from extender.placement.plan import Misfit, NodeView, Prices, plan
from extender.placement.profile import GpuModel, Mode, Profile
from extender.placement.scorers import SCORERS
from extender.placement.usage import MPS_CLIENTS, Held, Usage, usage
from tests.extender.clusters import demand_of, ledgers, pods
from tests.extender.objects import container, demand, gpu, held, ledger, node


def mig_room(gpus: Sequence[tuple[Gpu, Usage]], shape: Shape) -> int:
    """Most slices by trying every order of placements: the oracle."""
    most = 0
    for one, left in gpus:
        k = profile_for(one.model, shape) if one.mode is Mode.MIG else None
        if k is not None:
            grid = tables(one.model)
            depth, frontier = 0, {left.state}
            while frontier := {int(grid.next_state[s, p]) for s in frontier for p in grid.of_profile[k]} - {-1}:
                depth += 1
            most += depth
    return most


def share_room(gpus: Sequence[tuple[Gpu, Usage]], shape: Shape, demand: Demand) -> int:
    most = 0
    for one, left in gpus:
        if one.mode is Mode.MPS and offered(one.model.name, shape) and left.tenants <= {demand.tenant}:
            mib, pct, count = share_mib(shape, one.memory_mib, one.part), share_pct(shape, one.memory_mib, one.part), 0
            while (
                (count + 1) * mib <= left.free_mib and (count + 1) * pct <= left.free_pct and count < left.clients_left
            ):
                count += 1
            most += min(count, 1) if demand.apart else count
    return most


def whole_room(gpus: Sequence[tuple[Gpu, Usage]], shape: Shape) -> int:
    free = [g for g, u in gpus if u.whole and g.memory_mib >= shape.memory_mib and offered(g.model.name, shape)]
    if shape.link is not Link.REQUIRE:
        return len(free)
    sets = [s for n in range(len(free) + 1) for s in combinations(free, n)]
    return max(len(s) for s in sets if all(strength(a.end, b.end) > Tier.PCIE for a, b in combinations(s, 2)))


def brute_force(demand: Demand, view: NodeView) -> bool:
    shape = demand.shape
    assert shape is not None
    room = {
        Mode.MIG: mig_room(view.gpus, shape),
        Mode.MPS: share_room(view.gpus, shape, demand),
        Mode.EXCLUSIVE: whole_room(view.gpus, shape),
    }
    return any(room[mode] >= demand.count for mode in shape.modes)


@pytest.mark.parametrize("scorer", SCORERS)
@given(made=ledgers(max_nodes=1), asked=pods("new"))
def test_a_plan_exists_exactly_where_brute_force_finds_room(
    scorer: str, made: Ledger, asked: dict[str, object]
) -> None:
    wanted = demand_of(asked)
    view = made.view_for("n0", wanted)
    found = plan(wanted, view, Prices(made.fleet, SCORERS[scorer]))
    assert isinstance(found, Allocation) == brute_force(wanted, view)
    if isinstance(found, Misfit):
        assert str(wanted.shape) in found.why
        return
    grants = found.grants()
    assert len(grants) == wanted.count
    for one, before in view.gpus:
        mine = [Held("new", wanted.tenant, g) for g in grants if g.uuid == one.uuid]
        if mine:
            others = [h for holding in made.holdings() for h in holding.held(one.uuid)]
            assert usage(one, others)[0] == before
            assert usage(one, [*others, *mine])[1] == ()
    for c, got in zip(wanted.containers, found.containers, strict=True):
        assert (c.name, c.count) == (got.name, len(got.gpus))
        assert len(set(got.gpus)) == c.count
        shares = [g.uuid for g in got.gpus if isinstance(g, MpsShare)]
        assert len(set(shares)) == len(shares)


def test_an_init_container_uses_what_the_others_will_hold() -> None:
    made = ledger([node("n0", gpu())])
    sidecar = container("s", 1, restartPolicy="Always")
    wanted = demand(init=[sidecar, container("i", 2)], containers=[container("a"), container("b")])
    found = made.assume("u1", "team/p", wanted, "n0", 1000.0)
    assert isinstance(found, Allocation)
    by_name = {c.name: c.gpus for c in found.containers}
    assert len(found.grants()) == 3
    assert by_name["i"] == by_name["a"] + by_name["b"]
    assert not set(by_name["s"]) & set(by_name["i"])


def test_exclusive_gpus_go_before_shared_ones() -> None:
    made = ledger([node("n0", gpu("shared", mode="mps"), gpu("own", index=1, mode="exclusive"))])
    for uid, want in (("u1", "own"), ("u2", "shared")):
        made.assume(uid, uid, demand(uid, ask={"mode": "exclusive"}), "n0", 1000.0)
        assert held(made, uid).grants() == (WholeGpu(want),)


def test_shared_gpus_are_given_whole_where_that_joins_them_better() -> None:
    bridged = [
        gpu("a", mode="mps", links={"nvlink": {"1": 4}}),
        gpu("b", index=1, mode="mps", links={"nvlink": {"0": 4}}),
    ]
    made = ledger([node("n0", *bridged, *(gpu(f"x{i}", index=i, mode="exclusive") for i in (2, 3)))])
    for uid, link, want in (("u1", "prefer", {"a", "b"}), ("u2", "prefer", {"x2", "x3"})):
        made.assume(
            uid, uid, demand(uid, ask={"mode": "exclusive", "link": link}, containers=[container(count=2)]), "n0", 1.0
        )
        assert {g.uuid for g in held(made, uid).grants()} == want


def test_equal_gpus_are_filled_one_after_the_other() -> None:
    made = ledger([node("n0", gpu("a"), gpu("b", index=1))])
    for i in range(7):
        made.assume(f"u{i}", "p", demand(f"u{i}"), "n0", 1000.0)
    assert {g.uuid for i in range(7) for g in held(made, f"u{i}").grants()} == {"a"}


def test_places_are_chosen_so_that_all_slices_have_room() -> None:
    """Where the cheapest place is in the middle, one slice takes it, and two leave it alone."""
    profiles = [
        {"name": "2g.2gb", "size": 2, "slices": 2, "memory_mib": 2000, "starts": [0, 1, 2], "max_count": 2},
        {"name": "1g.1gb", "size": 1, "slices": 1, "memory_mib": 1000, "starts": [0, 3], "max_count": 2},
        {"name": "1g.2gb", "size": 1, "slices": 1, "memory_mib": 1500, "starts": [0, 3], "max_count": 2},
    ]
    starts = {}
    for count in (1, 2):
        made = ledger([node("n0", gpu(model="odd", profiles=profiles))])
        made.assume("u1", "p", demand(containers=[container(count=count)], ask={"profile": "2g.2gb"}), "n0", 1000.0)
        starts[count] = {g.start for g in held(made, "u1").grants() if isinstance(g, MigSlice)}
    assert starts == {1: {1}, 2: {0, 2}}


def test_prices_of_a_model_that_the_fleet_does_not_have() -> None:
    odd = GpuModel("odd", 1024, (Profile("1g.1gb", 1, 1, 1024, (0,), 1),))
    assert Prices(Ledger().fleet, SCORERS["fragmentation"]).mig(odd, 0).shape == (2, 1)


def test_clients_of_one_gpu_run_out() -> None:
    made = ledger([node("n0", gpu(mode="mps"))])
    tiny = {"memory": "1Mi", "compute": "1", "mode": "mps"}
    for i in range(MPS_CLIENTS):
        assert isinstance(made.assume(f"u{i}", "p", demand(f"u{i}", ask=tiny), "n0", 1000.0), Allocation)
    assert not isinstance(made.assume("over", "p", demand("over", ask=tiny), "n0", 1000.0), Allocation)


@given(st.integers(1, 8))
def test_static_demands_are_counted_not_placed(count: int) -> None:
    instances = [{"profile": "1g.10gb", "start": s, "size": 1} for s in range(4)]
    made = ledger([node("n0", gpu(instances=instances))])
    asked = demand(ask={}, containers=[{"name": "m", "resources": {"limits": {"nvidia.com/mig-1g.10gb": count}}}])
    found = plan(asked, made.view_for("n0", asked), made.prices())
    assert found == (Allocation(()) if count <= 4 else Misfit("no free instance of 1g.10gb"))
