"""Stand-ins for nodes: who is deleted first, how a pod starts, what the scheduler does with the extender's answers."""

import numpy as np
import pytest

from extender.ledger import Ledger
from extender.placement.model import Demand, Inventory
from sim.cluster.coldstart import STAGES, ColdStart, Starter
from sim.cluster.deployment import Pod, victims
from sim.cluster.kubescheduler import Bound, KubeScheduler, Unschedulable
from sim.workloads.shapes import Z90, lognormal
from sim.world import inventory_text


def demand(uid: str, profile: str = "3g.40gb") -> Demand:
    found = Demand.of(
        {
            "metadata": {"name": uid, "uid": uid, "annotations": {"slicewise.dev/profile": profile}},
            "spec": {"containers": [{"name": "main", "resources": {"limits": {"slicewise.dev/gpu-slice": 1}}}]},
        }
    )
    assert found is not None
    return found


def pod(number: int, node: str | None = "n0", ready_s: float | None = 100.0, created_s: float = 0.0) -> Pod:
    return Pod(number, f"p{number}", demand(f"p{number}"), created_s, node=node, ready_s=ready_s)


@pytest.mark.parametrize(
    ("pods", "first"),
    [
        pytest.param([pod(0), pod(1, node=None, ready_s=None)], 1, id="not bound before bound"),
        pytest.param([pod(0), pod(1, ready_s=None)], 1, id="not ready before ready"),
        pytest.param([pod(0, "a"), pod(1, "b"), pod(2, "b")], 1, id="from the node with more of them"),
        pytest.param([pod(0, "a", 100.0), pod(1, "b", 990.0)], 1, id="younger first"),
        pytest.param([pod(0, "a", 100.0), pod(1, "b", 110.0)], 0, id="ages of one power of two are alike"),
        pytest.param([pod(0, "a", 100.0), pod(1, "b", 1000.0)], 1, id="ready this very moment"),
    ],
)
def test_who_is_deleted_first(pods: list[Pod], first: int) -> None:
    assert victims(pods, 1, 1000.0)[0].number == first


def test_the_dying_are_not_deleted_again() -> None:
    dying = pod(0, node=None)
    dying.deleted_s = 5.0
    assert victims([dying, pod(1)], 2, 1000.0) == [pod(1)]


def starter(**config: str) -> Starter:
    return Starter(ColdStart.model_validate(config), seed=3)


def test_the_second_pod_of_a_node_finds_image_and_weights() -> None:
    start = starter()
    first, second = start.stages(0, "n0", 0.0), start.stages(1, "n0", 1000.0)
    assert tuple(first) == STAGES
    assert first["image"] > 0
    assert second["image"] == 0
    assert second["weights"] < first["weights"]
    assert start.stages(2, "n1", 1000.0)["image"] > 0, "another node has its own"


def test_pods_that_start_together_wait_for_one_copy() -> None:
    start = starter()
    first, second = start.stages(0, "n0", 0.0), start.stages(1, "n0", 0.0)
    assert second["slice"] + second["image"] == pytest.approx(first["slice"] + first["image"])


@pytest.mark.parametrize("period", ["1s", "10s", "30s"])
def test_ready_comes_with_a_probe(period: str) -> None:
    stages = starter(probePeriod=period).stages(0, "n0", 0.0)
    serving_s = stages["weights"] + stages["engine"] + stages["probe"]
    assert serving_s / float(period[:-1]) == pytest.approx(round(serving_s / float(period[:-1])))
    assert 0 <= stages["probe"] < float(period[:-1])


def test_a_pods_start_does_not_depend_on_the_others() -> None:
    alone, later = starter(), starter()
    for i in range(5):
        later.stages(i, f"other-{i}", 0.0)
    assert alone.stages(7, "n0", 50.0) == later.stages(7, "n0", 50.0)


def test_lognormal_keeps_its_quantiles() -> None:
    assert lognormal(30.0, 60.0, None, np.array([0.0, Z90, -Z90])) == pytest.approx([30.0, 60.0, 15.0])
    assert lognormal(30.0, 60.0, 40.0, np.array([9.0])) == pytest.approx([40.0])


def scheduler(nodes: int, gpus: int = 1) -> KubeScheduler:
    ledger = Ledger()
    for i in range(nodes):
        inventory, problems = Inventory.parse(inventory_text(f"n{i}", "a100-80", gpus, "mig"))
        assert not problems
        ledger.put_node(f"n{i}", inventory)
        ledger.heartbeat(f"n{i}", 0.0)
    return KubeScheduler(ledger, np.random.default_rng(0))


def test_slices_are_given_once() -> None:
    made = scheduler(nodes=2)
    answers = [made.schedule(demand(f"p{i}"), 1.0) for i in range(5)]
    grants = [a.allocation.grants()[0] for a in answers if isinstance(a, Bound)]
    assert len(set(grants)) == len(grants) == 4
    last = answers[-1]
    assert isinstance(last, Unschedulable)
    assert last.why.startswith("0/2 nodes are available: 2 ")


def test_back_off_doubles_up_to_ten_seconds_and_begins_anew() -> None:
    made = scheduler(nodes=1)
    for i in range(2):
        assert isinstance(made.schedule(demand(f"p{i}"), 0.0), Bound)
    waits = []
    for _ in range(6):
        answer = made.schedule(demand("late"), 0.0)
        assert isinstance(answer, Unschedulable)
        waits.append(answer.retry_s)
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    made.ledger.drop_pod("p0")
    assert isinstance(made.schedule(demand("late"), 1.0), Bound)
    again = made.schedule(demand("later"), 0.0)
    assert isinstance(again, Unschedulable)
    assert again.retry_s == 1.0


def test_equal_nodes_are_drawn_at_random_but_the_same_way() -> None:
    def nodes() -> list[str]:
        made = scheduler(nodes=6)
        answers = [made.schedule(demand(f"p{i}", "7g.80gb"), 1.0) for i in range(6)]
        return [a.node for a in answers if isinstance(a, Bound)]

    assert nodes() == nodes()
    assert sorted(nodes()) == [f"n{i}" for i in range(6)]
    assert nodes() != sorted(nodes())
