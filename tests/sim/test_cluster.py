"""Stand-ins for nodes: who is deleted first, how a pod starts, what the scheduler does with the extender's answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

from extender.ledger import Ledger
from extender.placement.model import Demand, Inventory
from sim.cluster.bandwidth import Store
from sim.cluster.coldstart import STAGES, ColdStart, Starter
from sim.cluster.deployment import Pod, victims
from sim.cluster.kubescheduler import Bound, KubeScheduler, Unschedulable, nodes_to_find
from sim.cluster.nodes import Fleet, Kind, Loss, Provisioning, inventory_text
from sim.cluster.preemption import Resident
from sim.kernel import Kernel, Rank
from sim.workloads.shapes import Z90, lognormal


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


@dataclass
class Ticking:
    """A clock of its own for what runs beside no world."""

    kernel: Kernel[Callable[[], None]] = field(default_factory=Kernel)

    @property
    def now_s(self) -> float:
        return self.kernel.now_s

    def after(self, wait_s: float, rank: Rank, handler: Callable[[], None]) -> None:
        self.kernel.at(self.now_s + wait_s, rank, handler)

    def run(self) -> None:
        while self.kernel.next_s() is not None:
            self.kernel.pop()()


def starts(*pods: tuple[int, str, float], **config: object) -> dict[int, Mapping[str, float]]:
    """Stages of (number, node, bound at) pods."""
    clock, found = Ticking(), dict[int, Mapping[str, float]]()
    made = Starter(ColdStart.model_validate(config), 3, clock)
    for number, node, bound_s in pods:
        clock.after(bound_s, Rank.POD, partial(made.begin, number, node, partial(found.__setitem__, number)))
    clock.run()
    return found


def test_the_second_pod_of_a_node_finds_image_and_weights() -> None:
    found = starts((0, "n0", 0.0), (1, "n0", 1000.0), (2, "n1", 1000.0))
    first, second, elsewhere = found[0], found[1], found[2]
    assert tuple(first) == STAGES
    assert first["image"] > 0
    assert second["image"] == 0
    assert second["weights"] < first["weights"]
    assert elsewhere["image"] > 0, "another node has its own"


def test_pods_that_start_together_wait_for_one_copy() -> None:
    found = starts((0, "n0", 0.0), (1, "n0", 0.0))
    assert found[1]["slice"] + found[1]["image"] == pytest.approx(found[0]["slice"] + found[0]["image"])


def test_the_first_pod_of_a_node_compiles_for_all() -> None:
    compiling = {"compile": {"p50": "25s", "p90": "25s"}}
    pods = ((0, "n0", 0.0), (1, "n0", 1000.0), (2, "n1", 1000.0))
    found, warm = starts(*pods, **compiling), starts(*pods)
    assert [found[n]["engine"] - warm[n]["engine"] for n in range(3)] == pytest.approx([25.0, 0.0, 25.0])


@pytest.mark.parametrize(
    ("at_once", "slower"),
    [
        pytest.param(None, 1.0, id="a store without bounds"),
        pytest.param(4, 1.0, id="one that feeds all"),
        pytest.param(2, 2.0, id="half of them at a time"),
        pytest.param(1, 4.0, id="one: a quarter of it for each"),
    ],
)
def test_copies_share_the_store(at_once: int | None, slower: float) -> None:
    """Four nodes want the same image at the same moment."""
    same = {"p50": "60s", "p90": "60s"}
    config = {"slice": {"p50": "2s", "p90": "2s"}, "image": same, "copiesAtFullSpeed": at_once}
    found = starts(*((n, f"n{n}", 0.0) for n in range(4)), **config)
    assert [stages["image"] for stages in found.values()] == pytest.approx([60.0 * slower] * 4)


def test_a_copy_that_comes_later_slows_the_one_under_way() -> None:
    """Processor sharing by hand: 10 s alone, then both at half speed, then the later one alone."""
    clock, ends = Ticking(), dict[str, float]()
    store = Store(clock, 1.0)
    for at_s, name, alone_s in ((0.0, "a", 40.0), (10.0, "b", 50.0), (20.0, "c", 999.0)):
        done = partial(lambda name: ends.__setitem__(name, clock.now_s), name)
        clock.after(at_s, Rank.POD, partial(store.begin, name, alone_s, done))
    clock.after(30.0, Rank.POD, partial(store.stop, "c"))
    clock.after(31.0, Rank.POD, partial(store.stop, "never begun"))
    clock.run()
    # a: 10 + 5 + 10/3 of its 40 s are done after 30 s, and half speed from then on; the store is busy until b ends
    assert ends == pytest.approx({"a": 30 + 2 * (40 - 10 - 5 - 10 / 3), "b": 40 + 50 + 10 / 3})


def test_a_node_that_is_gone_has_nothing_any_more() -> None:
    clock, found = Ticking(), list[Mapping[str, float]]()
    made = Starter(ColdStart(), 3, clock)
    made.begin(0, "n0", found.append)
    clock.after(20.0, Rank.POD, lambda: made.forget("n0"))
    clock.run()
    assert found == []
    assert made.store.copies == {}
    assert made.caches == {}


def test_what_has_come_to_a_node_is_told_once() -> None:
    clock, came = Ticking(), list[tuple[str, str]]()
    made = Starter(ColdStart(), 3, clock, lambda node, what: came.append((node, what)))
    for number, node in enumerate(("n0", "n0", "n1")):
        made.begin(number, node, lambda _: None)
    clock.run()
    assert sorted(came) == [("n0", "image"), ("n0", "weights"), ("n1", "image"), ("n1", "weights")]


@pytest.mark.parametrize("period", ["1s", "10s", "30s"])
def test_ready_comes_with_a_probe(period: str) -> None:
    stages = starts((0, "n0", 0.0), probePeriod=period)[0]
    serving_s = stages["weights"] + stages["engine"] + stages["probe"]
    assert serving_s / float(period[:-1]) == pytest.approx(round(serving_s / float(period[:-1])))
    assert 0 <= stages["probe"] < float(period[:-1])


def test_a_pods_start_does_not_depend_on_the_others() -> None:
    crowd = starts(*((i, f"other-{i}", 0.0) for i in range(5)), (7, "n0", 50.0))
    assert crowd[7] == starts((7, "n0", 50.0))[7]


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


@pytest.mark.parametrize(
    ("nodes", "percentage", "found"),
    [
        pytest.param(99, 0, 99, id="a small cluster: all"),
        pytest.param(100, 30, 100, id="never fewer than 100"),
        pytest.param(500, 0, 230, id="500: 46 %"),
        pytest.param(1000, 0, 420, id="1000: 42 %"),
        pytest.param(6000, 0, 300, id="6000: 5 %, the least"),
        pytest.param(1000, 100, 1000, id="asked for all"),
        pytest.param(1000, 20, 200, id="asked for a fifth"),
    ],
)
def test_how_many_nodes_the_scheduler_looks_at(nodes: int, percentage: int, found: int) -> None:
    assert nodes_to_find(nodes, percentage) == found


def test_a_large_cluster_is_looked_at_part_by_part() -> None:
    """Each cycle goes on where the last one ended; cordoned nodes are passed over."""
    made = scheduler(nodes=120)
    made.cordoned.add("n1")
    pod = Resident(demand("p"))
    (first, _), (second, _) = made._sample(pod), made._sample(pod)
    assert len(first) == len(second) == 100
    assert "n1" not in first
    assert second[0] not in first
    assert set(first) | set(second) == set(made.ledger.nodes()) - {"n1"}


KIND = Kind("a100-80", gpus_per_node=2, mode="mig", count=1, most=4)


def fleet(kind: Kind = KIND, loss: Loss | None = None) -> Fleet:
    return Fleet([kind], Ledger(), seed=1, provisioning=Provisioning(), loss=loss)


@pytest.mark.parametrize(
    ("waiting", "coming", "launched"),
    [
        pytest.param(0, 0, 0, id="nobody waits"),
        pytest.param(1, 0, 1, id="one pod: one node, however much room it has"),
        pytest.param(4, 0, 1, id="four halves fill two GPUs"),
        pytest.param(5, 0, 2, id="the fifth takes another node"),
        pytest.param(5, 1, 1, id="one node is coming already"),
        pytest.param(99, 0, 3, id="not more than there may be"),
    ],
)
def test_as_many_nodes_as_waiting_pods_fill(waiting: int, coming: int, launched: int) -> None:
    made = fleet()
    made.put(0, 0.0)
    made.coming[0] = coming
    assert made.wanted(demand("p"), waiting) == [0] * launched


def test_a_pod_that_fits_no_node_launches_none() -> None:
    assert fleet(Kind("l4", 1, "mps", 0, 5)).wanted(demand("p"), 3) == []


def test_nodes_take_their_time_and_count_while_they_are_there() -> None:
    made = fleet(loss=Loss.model_validate({"meanLife": "1000s"}))
    name = made.put(0, 100.0)
    assert list(made.stages()) == ["launch", "registration", "gpu_ready"]
    assert made.stages() == made.stages(), "the same node takes the same time"
    assert made.life_s(name) > 0
    assert not made.spare(name)
    second = made.put(0, 200.0)
    assert made.spare(second)
    assert made.gpu_s(300.0) == 2 * 200 + 2 * 100
    made.drop(second, 250.0)
    assert not made.spare(second)
    assert made.gpu_s(300.0) == 2 * 200 + 2 * 50
    assert fleet().life_s(fleet().put(0, 0.0)) == float("inf")
