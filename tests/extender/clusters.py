"""Small random clusters with pods on them, for laws that compare arrays with plain loops."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.demand import Demand
from tests.extender.objects import NOW_S, Json, container, gpu, node, pod

MIG_MODELS = ("a100-40", "a100-80", "a30", "rtx-pro-6000")
MEMORY_MIB = {"a100-40": 40960, "a100-80": 81920, "a30": 24576, "rtx-pro-6000": 97887, "t4": 15360}
PROFILES = ("1g.10gb", "1g.10gb+me", "3g.40gb", "7g.80gb", "1g.6gb", "2g.12gb", "1g.24gb", "1g.24gb+me.all", "2g.48gb")

ASKS = st.one_of(
    st.sampled_from(PROFILES).map(lambda p: {"profile": p}),
    st.builds(
        lambda gi, mode: {"memory": f"{gi}Gi", "mode": mode},
        st.sampled_from([4, 9, 20, 60]),
        st.sampled_from(["any", "mps"]),
    ),
    st.builds(
        lambda gi, pct: {"memory": f"{gi}Gi", "compute": str(pct), "mode": "mps"},
        st.sampled_from([4, 9, 20]),
        st.sampled_from([10, 40, 100]),
    ),
    st.sampled_from([15, 30, 60]).map(lambda pct: {"compute": str(pct)}),
    st.sampled_from([{"mode": "exclusive"}, {"mode": "exclusive", "memory": "30Gi"}]),
    st.sampled_from(["any", "prefer", "require"]).map(lambda link: {"mode": "exclusive", "link": link}),
)
MODEL_ASKS = st.sampled_from([{}, {}, {}, {"gpu-model": "a100-80"}, {"gpu-model": "t4,a30"}])


def links(index: int) -> st.SearchStrategy[Json]:
    """An NVSwitch, bridges to the others of the first three GPUs, PCIe switches and NUMA nodes, or nothing known."""
    others = [str(i) for i in range(3) if i != index]
    return st.one_of(
        st.just({}),
        st.just({"links": {"nvswitch": 12}}),
        st.builds(
            lambda peers, pcie, numa: {"links": {"nvlink": peers, "pcie": pcie}, "numa": numa},
            st.dictionaries(st.sampled_from(others), st.integers(1, 4), max_size=2),
            st.none() | st.integers(0, 1),
            st.none() | st.integers(0, 1),
        ),
    )


@st.composite
def gpus(draw: st.DrawFn, name: str, index: int) -> Json:
    mode = draw(st.sampled_from(["mig", "mig", "mps", "exclusive"]))
    model = draw(st.sampled_from(MIG_MODELS if mode == "mig" else tuple(MEMORY_MIB)))
    more: Json = {}
    if draw(st.integers(0, 9)) == 0:
        more = draw(st.sampled_from([{"healthy": False}, {"owner": "mig-manager"}]))
    if mode != "mig":
        more |= draw(links(index))
    if mode == "mig" and model == "a100-80" and draw(st.booleans()):
        managed = draw(st.booleans())
        more["instances"] = [{"profile": "1g.10gb", "start": s, "size": 1, "managed": managed} for s in (0, 5)]
        if not managed and draw(st.booleans()):
            more["instances"][0] |= {"uuid": f"MIG-{name}-{index}", "mps": True}
    return gpu(f"GPU-{name}-{index}", index=index, model=model, mode=mode, memory_mib=MEMORY_MIB[model], **more)


@st.composite
def nodes(draw: st.DrawFn, name: str) -> Json:
    count = draw(st.integers(0, 3))
    return node(name, *(draw(gpus(name, i)) for i in range(count)))


@st.composite
def pods(draw: st.DrawFn, /, uid: str, *, counts: st.SearchStrategy[int] | None = None, **fields: Any) -> Json:  # noqa: ANN401
    """A pod that wants slices: one container, or two, or an init container beside one."""
    many = st.sampled_from([1, 1, 1, 2, 3]) if counts is None else counts
    containers = [container("a", draw(many))]
    if draw(st.integers(0, 4)) == 0:
        containers.append(container("b", 1))
    init = [container("i", draw(many))] if draw(st.integers(0, 6)) == 0 else []
    ask = draw(ASKS) | draw(MODEL_ASKS)
    namespace = draw(st.sampled_from(["blue", "red"]))
    return pod(uid, ask=ask, containers=containers, init=init, namespace=namespace, **fields)


def demand_of(one: Mapping[str, object]) -> Demand:
    found = Demand.of(one)
    assert found is not None
    return found


@st.composite
def ledgers(draw: st.DrawFn, *, max_nodes: int = 4, max_pods: int = 12) -> Ledger:
    """Some nodes, some of them silent for long, with some pods on them."""
    made = Ledger()
    names = [f"n{i}" for i in range(draw(st.integers(1, max_nodes)))]
    for name in names:
        made.put_node_object(draw(nodes(name)))
        made.heartbeat(name, NOW_S - draw(st.sampled_from([0.0, 0.0, 0.0, 60.0, 61.0])))
    for i in range(draw(st.integers(0, max_pods))):
        one = draw(pods(f"p{i}", priority=draw(st.integers(0, 3))))
        wanted = demand_of(one)
        made.assume(wanted.uid, wanted.key, wanted, draw(st.sampled_from(names)), NOW_S - 30)
    return made
