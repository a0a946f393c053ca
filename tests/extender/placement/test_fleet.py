"""The arrays say what the nodes say, whatever came and went before."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.demand import Demand
from extender.placement.fit import offered, profile_for, share_mib, share_pct
from extender.placement.fleet import Fleet, share_size
from extender.placement.fragment import share_room
from extender.placement.masks import tables
from extender.placement.model import Gpu, Part
from extender.placement.profile import Mode
from extender.placement.usage import Usage, usage
from tests.extender.clusters import ASKS, MODEL_ASKS, ledgers
from tests.extender.objects import demand, gpu, parsed


def everything(made: Ledger) -> list[tuple[str, int, Gpu, Usage]]:
    """Every usable GPU with its node, position and usage: the plain form of the arrays."""
    found = []
    for name in made.nodes():
        state = made.node(name)
        assert state is not None
        found += [(name, i, g, u) for i, (g, u) in enumerate(zip(state.gpus, state.usages, strict=True)) if g.usable]
    return found


def check_answers(made: Ledger, asked: Demand) -> None:
    fleet, shape = made.fleet, asked.shape
    assert shape is not None
    lookup = fleet.lookup(shape)
    mig, whole = fleet.mig_room(lookup), fleet.whole_fits(lookup)
    shared = Mode.MPS in shape.modes
    shares = fleet.share_room(lookup, asked.tenant) if shared else np.zeros(mig.shape, np.int64)
    fits = fleet.share_fits(lookup, asked.tenant) if shared else np.zeros(mig.shape, np.bool_)
    here = np.zeros(mig.shape, np.bool_)
    for name, i, g, u in everything(made):
        at = i, fleet.slots[name]
        here[at] = True
        k = profile_for(g.model, shape) if g.mode is Mode.MIG else None
        assert mig[at] == (0 if k is None else tables(g.model).room[u.state, k])
        assert whole[at] == (u.whole and g.memory_mib >= shape.memory_mib and offered(g.model.name, shape))
        room = 0
        if shared and g.mode is Mode.MPS and offered(g.model.name, shape) and u.tenants <= {asked.tenant}:
            mib, pct = share_mib(shape, g.memory_mib, g.part), share_pct(shape, g.memory_mib, g.part)
            room = min(u.free_mib // mib, u.free_pct // pct, u.clients_left)
        assert (shares[at], fits[at]) == (room, room > 0)
    for grid in (mig, whole, shares, fits):
        assert not grid[~here].any()


@given(made=ledgers(), ask=ASKS, model=MODEL_ASKS, tenant=st.sampled_from(["blue", "red", "nobody"]))
def test_arrays_answer_as_plain_loops_do(made: Ledger, ask: dict[str, str], model: dict[str, str], tenant: str) -> None:
    check_answers(made, demand("new", ask=ask | model, namespace=tenant))


@given(made=ledgers())
def test_the_census_and_the_supply_count_every_gpu_once(made: Ledger) -> None:
    fleet = made.fleet
    census = np.zeros_like(fleet.census)
    supply = np.zeros_like(fleet.supply)
    for _, _, g, u in everything(made):
        if g.mode is Mode.MIG:
            census[fleet.first_state_of(g.model) + u.state] += 1
        elif g.mode is Mode.MPS:
            free = (np.array(float(x)) for x in (g.memory_mib, u.free_mib, u.free_pct))
            supply += share_room(*free).astype(np.int64)
    assert fleet.census[1:].tolist() == census[1:].tolist()
    assert fleet.supply.tolist() == supply.tolist()
    assert fleet.shared_gpus == sum(g.mode is Mode.MPS for _, _, g, _ in everything(made))


@given(made=ledgers(max_nodes=4), gone=st.sets(st.sampled_from(["n0", "n1", "n2", "n3"])))
def test_nodes_that_left_leave_nothing_behind(made: Ledger, gone: set[str]) -> None:
    for name in gone:
        made.drop_node(name)
    check_answers(made, demand("new", ask={"memory": "4Gi"}))
    for name in made.nodes():
        made.drop_node(name)
    assert not made.fleet.slots
    assert not made.fleet.census[1:].any()
    assert not made.fleet.supply.any()


def empty(*gpus: dict[str, object]) -> list[tuple[Gpu, Usage, Usage]]:
    return [(g, usage(g, ())[0], usage(g, ())[0]) for g in parsed(*gpus).gpus]


def test_columns_are_used_again_and_both_axes_grow() -> None:
    fleet = Fleet()
    for i in range(100):
        fleet.put(f"n{i}", empty(gpu(mode="mps")))
    fleet.drop("n7")
    column = fleet.slots["n8"]
    fleet.put("big", empty(*(gpu(f"g{i}", index=i) for i in range(16))))
    assert fleet.slots["big"] == 8
    assert fleet.slots["n8"] == column
    shape = demand().shape
    assert shape is not None
    assert fleet.mig_room(fleet.lookup(shape)).sum(axis=0)[fleet.slots["big"]] == 16 * 7
    assert len(fleet.kind) == 16
    assert fleet.kind.shape[1] >= 101


def test_look_ups_are_kept_until_a_model_comes() -> None:
    fleet = Fleet()
    shape = demand().shape
    assert shape is not None
    fleet.put("a", empty(gpu()))
    before = fleet.lookup(shape)
    assert fleet.lookup(shape) is before
    fleet.put("b", empty(gpu(model="a30")))
    assert fleet.lookup(shape) is not before


def test_look_ups_do_not_pile_up() -> None:
    fleet = Fleet()
    for mib in range(1, 1200):
        shape = demand(ask={"memory": f"{mib}Mi"}).shape
        assert shape is not None
        fleet.lookup(shape)
    assert len(fleet._lookups) <= 1024


@given(ask=ASKS, total_mib=st.integers(1, 100_000), slices=st.integers(1, 7))
def test_share_sizes_of_arrays_are_those_of_one_gpu(ask: dict[str, str], total_mib: int, slices: int) -> None:
    shape = demand(ask=ask).shape
    assert shape is not None
    if shape.memory_mib or shape.compute_pct:
        part = Part("GPU-0", slices, 7)
        mib, pct = share_size(shape, *(np.array([x], np.int32) for x in (total_mib, slices, 7)))
        assert (mib.item(), pct.item()) == (share_mib(shape, total_mib, part), share_pct(shape, total_mib, part))
