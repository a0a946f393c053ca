"""The judge of placements sees what it is there to see. Needs no server."""

import json

import pytest

from tests.e2e.parts.client import Json
from tests.e2e.placements import faults

MIG, MPS, WHOLE = "GPU-mig", "GPU-mps", "GPU-whole"


def node() -> Json:
    gpus = [
        {"uuid": uuid, "index": index, "mode": mode, "memory_mib": 81920}
        for index, (uuid, mode) in enumerate([(MIG, "mig"), (MPS, "mps"), (WHOLE, "exclusive")])
    ]
    inventory = json.dumps({"version": 1, "gpus": gpus})
    return {"metadata": {"name": "n", "annotations": {"slicewise.dev/inventory": inventory}}}


def pod(name: str, *gpus: Json, phase: str = "Running", **asked: str) -> Json:
    annotations = {f"slicewise.dev/{key}": value for key, value in asked.items()}
    if gpus:
        annotations["slicewise.dev/allocation"] = json.dumps({"containers": [{"name": "main", "gpus": gpus}]})
    limits = {"slicewise.dev/gpu-slice": "1"}
    spec = {"nodeName": "n", "containers": [{"name": "main", "resources": {"limits": limits}}]}
    return {"metadata": {"name": name, "annotations": annotations}, "spec": spec, "status": {"phase": phase}}


def slice_of(profile: str, start: int, size: int, uuid: str = MIG) -> Json:
    return {"uuid": uuid, "mode": "mig", "profile": profile, "start": start, "size": size}


def share(memory_mib: int, compute_pct: int, uuid: str = MPS) -> Json:
    return {"uuid": uuid, "mode": "mps", "memory_mib": memory_mib, "compute_pct": compute_pct}


def whole(uuid: str = WHOLE) -> Json:
    return {"uuid": uuid, "mode": "exclusive"}


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param([pod(f"p{i}", slice_of("1g.10gb", i, 1)) for i in range(7)], id="seven small slices"),
        pytest.param(
            [pod("a", slice_of("3g.40gb", 0, 4)), pod("b", slice_of("3g.40gb", 4, 4))], id="two halves side by side"
        ),
        pytest.param(
            [pod("a", slice_of("4g.40gb", 0, 4)), *(pod(f"p{i}", slice_of("1g.20gb", i, 2)) for i in (4, 6))],
            id="four compute slices and two",
        ),
        pytest.param([pod(f"p{i}", share(16384, 20)) for i in range(5)], id="five shares of a fifth"),
        pytest.param([pod("a", whole(MPS)), pod("b", whole())], id="whole GPUs, also one that MPS could share"),
        pytest.param(
            [pod("old", slice_of("7g.80gb", 0, 8), phase="Succeeded"), pod("new", slice_of("7g.80gb", 0, 8))],
            id="an ended pod holds nothing",
        ),
    ],
)
def test_a_legal_cluster_has_no_faults(pods: list[Json]) -> None:
    assert faults([node()], pods) == []


@pytest.mark.parametrize(
    ("pods", "says"),
    [
        pytest.param(
            [pod("a", slice_of("1g.10gb", 0, 1)), pod("b", slice_of("1g.10gb", 0, 1))],
            "a and b both hold memory slices [0]",
            id="the same slice twice",
        ),
        pytest.param(
            [pod("a", slice_of("3g.40gb", 0, 4)), pod("b", slice_of("1g.10gb", 3, 1))],
            "a and b both hold memory slices [3]",
            id="a small slice inside a large one",
        ),
        pytest.param([pod("a", slice_of("3g.40gb", 2, 4))], "3g.40gb cannot lie at 2", id="a start that is not legal"),
        pytest.param([pod("a", slice_of("2g.20gb", 0, 1))], "cannot lie at 0 with size 1", id="a size that is not its"),
        pytest.param(
            [pod("a", slice_of("1g.10gb+me", 0, 1)), pod("b", slice_of("1g.10gb+me", 1, 1))],
            "2 x 1g.10gb+me, at most 1",
            id="more than a GPU has of a profile",
        ),
        pytest.param(
            [pod("a", slice_of("1g.10gb", 0, 1), profile="2g.20gb")],
            "a asked for 2g.20gb and got 1g.10gb",
            id="another profile than asked for",
        ),
        pytest.param([pod("a", slice_of("1g.10gb", 0, 1, MPS))], "a MIG slice on a GPU in mode mps", id="MIG on MPS"),
        pytest.param([pod("a", share(1, 1, MIG))], "an MPS share on a GPU in mode mig", id="MPS on MIG"),
        pytest.param(
            [pod(f"p{i}", share(20000, 10)) for i in range(5)], "100000 MiB shared out of 81920", id="too much memory"
        ),
        pytest.param([pod(f"p{i}", share(1, 30)) for i in range(4)], "120 % of the compute", id="too much compute"),
        pytest.param([pod(f"p{i}", share(1, 1)) for i in range(49)], "49 MPS clients", id="too many clients"),
        pytest.param([pod("a", whole()), pod("b", whole())], "held whole by ['a', 'b']", id="one GPU whole, twice"),
        pytest.param(
            [pod("a", whole(MPS)), pod("b", share(1, 1))], "held in several modes at once", id="whole and shared"
        ),
        pytest.param([pod("a", whole("GPU-none"))], "which node n does not have", id="a GPU that is not there"),
        pytest.param([pod("a")], "a is bound without an allocation record", id="bound behind the extender's back"),
    ],
)
def test_a_fault_is_named(pods: list[Json], says: str) -> None:
    found = faults([node()], pods)
    assert found
    assert [fault for fault in found if says not in fault] == []
