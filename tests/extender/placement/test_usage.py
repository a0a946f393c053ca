from typing import Any

import pytest

from extender.placement.allocation import Grant, MigSlice, MpsShare, WholeGpu
from extender.placement.masks import tables
from extender.placement.usage import MPS_CLIENTS, Held, Usage, usage
from tests.extender.objects import one_gpu

G = "GPU-0"


def held(*grants: Grant, tenant: str = "blue") -> list[Held]:
    return [Held(f"u{i}", tenant, g) for i, g in enumerate(grants)]


def one(start: int, profile: str = "1g.10gb", size: int = 1) -> MigSlice:
    return MigSlice(G, profile, start, size)


def instance(profile: str, start: int, size: int, *, managed: bool = False) -> dict[str, Any]:
    return {"profile": profile, "start": start, "size": size, "managed": managed}


@pytest.mark.parametrize(
    ("instances", "holders", "mask", "conflicts"),
    [
        pytest.param([], [], 0b0, 0, id="nobody"),
        pytest.param([], held(one(0), one(3)), 0b1001, 0, id="two slices"),
        pytest.param([], held(one(0), one(0)), 0b1, 1, id="two pods on one slice: taken once, reported"),
        pytest.param([], held(one(0), one(0, "3g.40gb", 4)), 0b1111, 1, id="overlapping pods: all of it is taken"),
        pytest.param([], held(one(7)), 0b10000000, 1, id="a place that does not exist is taken all the same"),
        pytest.param([instance("1g.10gb", 6, 1)], [], 0b1000000, 0, id="an instance of somebody else is taken"),
        pytest.param([instance("1g.10gb", 6, 1, managed=True)], [], 0b0, 0, id="our own idle instance is free"),
        pytest.param([instance("1g.10gb", 6, 1)], held(one(6)), 0b1000000, 0, id="the instance that the pod holds"),
        pytest.param(
            [instance("2g.20gb", 4, 2)], held(one(4)), 0b110000, 1, id="an instance where the pod should have another"
        ),
    ],
)
def test_mig(instances: list[dict[str, Any]], holders: list[Held], mask: int, conflicts: int) -> None:
    left, whys = usage(one_gpu(instances=instances), holders)
    assert (left.state & 255, len(whys)) == (mask, conflicts)


def test_media_extensions_are_given_once() -> None:
    gpu = one_gpu()
    left, whys = usage(gpu, held(one(0, "1g.10gb+me"), one(1, "1g.10gb+me")))
    grid = tables(gpu.model)
    me = grid.model.profiles.index(next(p for p in grid.model.profiles if p.name == "1g.10gb+me"))
    assert len(whys) == 1
    assert grid.room[left.state, me] == 0


def test_a_share_on_a_mig_gpu_takes_all_of_it() -> None:
    left, whys = usage(one_gpu(), held(MpsShare(G, 10, 10)))
    assert left.state == tables(one_gpu().model).full
    assert "mode mig" in whys[0]


@pytest.mark.parametrize(
    ("holders", "want", "conflicts"),
    [
        pytest.param([], Usage(free_mib=81920, free_pct=100, clients_left=48, whole=True), 0, id="nobody"),
        pytest.param(
            held(MpsShare(G, 10240, 30), MpsShare(G, 20480, 20)),
            Usage(free_mib=51200, free_pct=50, clients_left=46, tenants=frozenset({"blue"})),
            0,
            id="two shares of one tenant",
        ),
        pytest.param(
            held(WholeGpu(G)),
            Usage(tenants=frozenset({"blue"})),
            0,
            id="given whole: nothing is left, no contradiction",
        ),
        pytest.param(
            held(WholeGpu(G), MpsShare(G, 1, 1)), Usage(tenants=frozenset({"blue"})), 1, id="whole and shared at once"
        ),
        pytest.param(
            held(MpsShare(G, 81920, 50), MpsShare(G, 10240, 60)),
            Usage(clients_left=46, tenants=frozenset({"blue"})),
            1,
            id="more than there is",
        ),
        pytest.param(
            [*held(MpsShare(G, 81920, 50)), Held("v", "red", MpsShare(G, 0, 50))],
            Usage(clients_left=46, tenants=frozenset({"blue", "red"})),
            1,
            id="two tenants",
        ),
        pytest.param(held(one(0)), Usage(tenants=frozenset({"blue"})), 1, id="a MIG slice of a GPU that is shared now"),
    ],
)
def test_mps(holders: list[Held], want: Usage, conflicts: int) -> None:
    left, whys = usage(one_gpu(mode="mps"), holders)
    assert (left, len(whys)) == (want, conflicts)


def test_clients_are_counted() -> None:
    left, _ = usage(one_gpu(mode="mps"), held(*(MpsShare(G, 1, 1, share=i) for i in range(MPS_CLIENTS))))
    assert left.clients_left == 0


@pytest.mark.parametrize(
    ("holders", "whole", "conflicts"),
    [
        pytest.param([], True, 0, id="nobody"),
        pytest.param(held(WholeGpu(G)), False, 0, id="one pod"),
        pytest.param(held(WholeGpu(G), WholeGpu(G)), False, 1, id="two pods"),
        pytest.param(held(MpsShare(G, 1, 1)), False, 1, id="a share of a GPU that is exclusive now"),
    ],
)
def test_exclusive(holders: list[Held], whole: bool, conflicts: int) -> None:
    left, whys = usage(one_gpu(mode="exclusive"), holders)
    assert (left.whole, len(whys)) == (whole, conflicts)
