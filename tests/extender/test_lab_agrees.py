"""The extender places as the packing lab does by the same policy: same node, same GPU, arrival by arrival."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.allocation import Allocation
from extender.verbs import filter_nodes, score_nodes
from tests.extender.clusters import demand_of
from tests.extender.objects import NOW_S
from tests.extender.packing import KINDS, Lab, Pod, Room, experiment, gpus_of, name_of, node_object, pod_object

pytestmark = pytest.mark.timeout(300)  # where no machine code is kept, it is made
PODS = st.one_of(
    st.builds(
        Pod,
        st.sampled_from([0, 1_000, 4_000, 9_000, 30_000]),
        st.sampled_from([0, 1_024, 30_000, 100_000]),
        st.sampled_from([100, 250, 330, 460, 500, 810, 1000]),
        st.just(1),
        st.sampled_from([(), (), (), ("a10", "a40"), ("t4",)]),
    ),
    st.builds(
        Pod,
        st.sampled_from([4_000, 30_000, 120_000]),
        st.sampled_from([1_024, 100_000]),
        st.just(1000),
        st.sampled_from([2, 4, 8]),
        st.sampled_from([(), (), ("a10",)]),
    ),
    st.builds(Pod, st.sampled_from([1_000, 8_000, 30_000]), st.sampled_from([1_024, 16_384]), st.just(0), st.just(0)),
)


def follow(kinds: Sequence[int], pods: Sequence[Pod], scorer: str) -> int:
    """How many arrivals were compared."""
    of = experiment(kinds, pods)
    lab, room, ledger = Lab(of, scorer), Room(of.nodes), Ledger(scorer=scorer)
    for i, kind in enumerate(kinds):
        ledger.put_node_object(node_object(i, kind))
        ledger.heartbeat(name_of(i), NOW_S)
    for i, pod in enumerate(pods):
        node = lab.place(i)
        if not pod.gpus:
            if node < 0:
                return i  # kube-scheduler's own affair: the extender never hears of it
            ledger.put_pod(pod_object(f"p{i}", pod, on=name_of(node)))
        else:
            demand = demand_of(pod_object(f"p{i}", pod))
            fit = filter_nodes(ledger, demand, room.names(pod), NOW_S).fit
            assert bool(fit) == (node >= 0), (i, pod)
            if not fit:
                continue
            best = max(score_nodes(ledger, demand, fit, NOW_S), key=lambda scored: scored[1])[0]
            assert best == name_of(node), (i, pod)
            got = ledger.assume(demand.uid, demand.key, demand, best, NOW_S)
            assert isinstance(got, Allocation)
            if lab.gpu(i) >= 0:
                assert gpus_of(got) == [lab.gpu(i)], (i, pod)
            ledger.confirm(demand.uid)
        room.take(node, pod)
    return len(pods)


@pytest.mark.parametrize("scorer", ["spr", "dot-prod", "gpu-clustering", "gpu-packing"])
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    kinds=st.lists(st.integers(0, len(KINDS) - 1), min_size=1, max_size=8),
    different=st.lists(PODS, min_size=1, max_size=8),
    data=st.data(),
)
def test_node_and_gpu_are_those_of_the_lab(
    scorer: str, kinds: list[int], different: list[Pod], data: st.DataObject
) -> None:
    follow(kinds, data.draw(st.lists(st.sampled_from(different), min_size=1, max_size=90)), scorer)
