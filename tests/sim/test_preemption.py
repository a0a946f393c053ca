"""Pods that evict others, as kube-scheduler 1.36 does it: its own dry run on CPUs, then the extender's verb.

Cases with a name of upstream's are of `pkg/scheduler/framework/plugins/defaultpreemption/default_preemption_test.go`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from extender.ledger import Ledger
from extender.placement.model import Demand, Inventory
from extender.verbs import Filtered
from sim.cluster.kubescheduler import Bound, KubeScheduler, Unschedulable
from sim.cluster.nodes import inventory_text
from sim.cluster.preemption import Cores, Preemption, Resident, preempt
from sim.report.model import Report
from sim.run import load, simulate
from sim.scenario import bundled
from sim.strict import ConfigError
from tests.sim.commands.scenes import sim

LOW, HIGH = 1000, 10_000


def demand(uid: str, priority: int = 0, profile: str = "3g.40gb") -> Demand:
    found = Demand.of(
        {
            "metadata": {"name": uid, "uid": uid, "annotations": {"slicewise.dev/profile": profile}},
            "spec": {
                "priority": priority,
                "containers": [{"name": "main", "resources": {"limits": {"slicewise.dev/gpu-slice": 1}}}],
            },
        }
    )
    assert found is not None
    return found


def resident(uid: str, priority: int, cpu: int = 1000, **also: Any) -> Resident:  # noqa: ANN401
    return Resident(demand(uid, priority), cpu, **also)


def cores(cpus: int, *pods: Resident, node: str = "n0") -> Cores:
    made = Cores({node: cpus * 1000})
    for pod in pods:
        made.put(node, pod)
    return made


@pytest.mark.parametrize(
    ("cpus", "there", "victims"),
    [
        pytest.param(2, [("a", LOW), ("b", LOW)], ["b"], id="as few as possible: the one that began last"),
        pytest.param(2, [("a", LOW), ("b", 0)], ["b"], id="the less important"),
        pytest.param(3, [("a", LOW), ("b", LOW)], [], id="CPUs for all: nobody is named, whatever the slices say"),
        pytest.param(2, [("a", HIGH), ("b", HIGH)], [], id="nobody of its own priority"),
        pytest.param(1, [("a", HIGH), ("b", LOW)], [], id="not where even that would not help"),
        pytest.param(2, [("a", HIGH), ("b", LOW)], ["b"], id="the important one stays"),
    ],
)
def test_the_dry_run(cpus: int, there: Sequence[tuple[str, int]], victims: list[str]) -> None:
    made = cores(cpus, *(resident(uid, priority, since_s=float(i)) for i, (uid, priority) in enumerate(there)))
    assert [v.uid for v in made.victims("n0", resident("p", HIGH))] == victims


def test_where_nobody_says_how_many_cpus_there_are_there_are_enough() -> None:
    assert Cores().has_room("n0", resident("p", 0, cpu=10**9))
    assert Cores().victims("n0", resident("p", HIGH)) == []


def test_nominated_pods_keep_their_cpus() -> None:
    made = cores(2, resident("a", LOW))
    made.nominated["first"] = "n0", resident("first", HIGH)
    assert not made.has_room("n0", resident("p", LOW))
    assert made.has_room("n0", resident("p", HIGH + 1)), "not before a more important one"
    assert made.has_room("n0", resident("first", HIGH)), "nor before itself"
    made.drop("first")
    assert made.has_room("n0", resident("p", LOW))


def scheduler(nodes: int = 1, cpus: int = 2) -> KubeScheduler:
    ledger = Ledger(stale_after_s=float("inf"))
    made = KubeScheduler(ledger, np.random.default_rng(0))
    for i in range(nodes):
        inventory, problems = Inventory.parse(inventory_text(f"n{i}", "a100-80", 1, "mig"))
        assert not problems
        ledger.put_node(f"n{i}", inventory)
        ledger.heartbeat(f"n{i}", 0.0)
        made.cores.of_node[f"n{i}"] = cpus * 1000
    return made


def place(made: KubeScheduler, uid: str, priority: int, now_s: float, **also: Any) -> Bound | Unschedulable:  # noqa: ANN401
    return made.schedule(demand(uid, priority), now_s, cpu_milli=1000, **also)


def test_a_full_node_makes_place() -> None:
    made = scheduler()
    for i in range(2):
        assert isinstance(place(made, f"low-{i}", LOW, float(i)), Bound)
    answer = place(made, "high", HIGH, 5.0)
    assert isinstance(answer, Unschedulable)
    assert answer.preempts is not None
    assert (answer.preempts.node, [v.uid for v in answer.preempts.victims]) == ("n0", ["low-1"])
    assert answer.why.endswith("Insufficient cpu. preemption: nominated to n0")
    made.cores.leaves("low-1")
    again = place(made, "high", HIGH, 6.0)
    assert isinstance(again, Unschedulable)
    assert again.preempts is None
    assert again.why.endswith("preemption: waits for pods that leave n0")
    made.cores.drop("low-1")
    made.ledger.drop_pod("low-1")
    assert isinstance(place(made, "low-2", LOW, 7.0), Unschedulable), "its place is kept"
    assert isinstance(place(made, "high", HIGH, 7.0), Bound)


@pytest.mark.parametrize(
    ("cpus", "priority", "never", "why"),
    [
        pytest.param(2, LOW, False, "preemption: no victims found", id="of equal priority"),
        pytest.param(2, HIGH, True, "preemption: preemptionPolicy is Never", id="that never preempts"),
        pytest.param(9, HIGH, False, "kube-scheduler counts CPUs, and no slices", id="where only slices lack"),
    ],
)
def test_who_evicts_nobody(cpus: int, priority: int, *, never: bool, why: str) -> None:
    made = scheduler(cpus=cpus)
    for i in range(2):
        place(made, f"low-{i}", LOW, float(i))
    answer = place(made, "p", priority, 5.0, never=never)
    assert isinstance(answer, Unschedulable)
    assert answer.preempts is None
    assert why in answer.why


def test_the_extender_names_whom_the_slices_need_gone() -> None:
    """One CPU would be enough of any of them; a whole GPU needs all of its slices."""
    made = scheduler(cpus=2)
    for i in range(2):
        place(made, f"low-{i}", LOW, float(i))
    whole = demand("high", HIGH, profile="7g.80gb")
    answer = made.schedule(whole, 5.0, cpu_milli=1000)
    assert isinstance(answer, Unschedulable)
    assert answer.preempts is not None
    assert {v.uid for v in answer.preempts.victims} == {"low-0", "low-1"}


def test_the_extender_may_know_nobody() -> None:
    """Whose pods are of lower priority for kube-scheduler, and hold nothing that the extender could free."""
    made = scheduler(cpus=1)
    made.cores.put("n0", resident("other", LOW))
    for i in range(2):
        reserved = demand(f"important-{i}", HIGH)
        made.ledger.assume(reserved.uid, reserved.key, reserved, "n0", 0.0)
    answer = place(made, "p", HIGH, 5.0)
    assert isinstance(answer, Unschedulable)
    assert answer.why.endswith("preemption: the extender knows nobody whose eviction would help")


@pytest.mark.parametrize(
    ("nodes", "chosen"),
    [
        pytest.param({"a": [(500, 0.0)], "b": [(400, 0.0)]}, "b", id="the lowest highest priority"),
        pytest.param({"a": [(500, 0.0), (400, 0.0)], "b": [(500, 0.0), (300, 0.0)]}, "b", id="the lowest sum"),
        pytest.param({"a": [(500, 0.0), (500, 0.0)], "b": [(500, 0.0)]}, "b", id="the fewest"),
        pytest.param({"a": [(500, 1.0)], "b": [(500, 9.0)]}, "b", id="that began last"),
        pytest.param({"a": [(500, 1.0)], "b": [(500, 1.0)]}, "a", id="the first"),
    ],
)
def test_which_node_is_chosen(nodes: dict[str, list[tuple[int, float]]], chosen: str) -> None:
    ledger, made = Ledger(stale_after_s=float("inf")), Cores()
    for name, pods in nodes.items():
        inventory, _ = Inventory.parse(inventory_text(name, "a100-80", 1, "mig"))
        ledger.put_node(name, inventory)
        ledger.heartbeat(name, 0.0)
        made.of_node[name] = 2000
        for i, (priority, since_s) in enumerate(pods):
            there = resident(f"{name}-{i}", priority, cpu=2000 // len(pods), since_s=since_s)
            ledger.assume(there.uid, there.demand.key, there.demand, name, 0.0)
            made.put(name, there)
    wanted = Resident(demand("p", HIGH), cpu_milli=2000)
    found = preempt(ledger, made, wanted, Filtered(failed=dict.fromkeys(nodes, "full")), 10.0)
    assert isinstance(found, Preemption)
    assert found.node == chosen


def test_a_nomination_moves_lesser_ones_away() -> None:
    made = scheduler()
    made.cores.nominated["lesser"] = "n0", resident("lesser", LOW + 1)
    for i in range(2):
        made.cores.put("n0", resident(f"low-{i}", LOW))
        reserved = demand(f"low-{i}", LOW)
        made.ledger.assume(reserved.uid, reserved.key, reserved, "n0", 0.0)
    assert isinstance(place(made, "high", HIGH, 5.0), Unschedulable)
    assert set(made.cores.nominated) == {"high"}


# -- in a run ----------------------------------------------------------------------------------------------------------


def template(priority_class: str, profile: str = "3g.40gb") -> dict[str, Any]:
    resources = {"limits": {"slicewise.dev/gpu-slice": 1}, "requests": {"cpu": "2"}}
    return {
        "metadata": {"namespace": "agents", "annotations": {"slicewise.dev/profile": profile}},
        "spec": {"priorityClassName": priority_class, "containers": [{"name": "main", "resources": resources}]},
    }


def scenario(tmp_path: Path, mine: str, theirs: str, **neighbour: object) -> Path:
    """Four slices of two GPUs with CPUs for four pods, all of them taken by neighbours at first."""
    value = yaml.safe_load(bundled()["agents"].read_text()) | {"duration": "20m", "pod": template(mine)}
    value["workload"]["sessions"] = [{"at": "0m", "perMinute": 4}]
    value["cluster"]["nodes"] = [{"count": 1, "gpu": "a100-80", "gpusPerNode": 2, "mode": "mig", "cpus": 8}]
    value["cluster"]["neighbours"] = [{"name": "batch", "count": 3, "pod": template(theirs), **neighbour}]
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def run(path: Path) -> Report:
    return simulate(load(path), 1)


def test_agents_evict_batch_pods_and_serve(tmp_path: Path) -> None:
    report = run(scenario(tmp_path, "slicewise-interactive", "slicewise-batch"))
    assert report.evictions
    for eviction in report.evictions:
        assert eviction.pod.startswith("batch-")
        assert eviction.by.startswith("engine-")
        assert "priority 1000 makes place for 10000: 0/1 nodes are available: 1 Insufficient cpu" in eviction.why
    assert report.starts.count > 1
    assert max(report.time_line.ready) > 1
    shown = sim("run", scenario(tmp_path, "slicewise-interactive", "slicewise-batch"), "--seed", "1", "--changes", "99")
    assert "evicted from a100-80-0-000 by engine-" in " ".join(shown.stdout.split())


def test_batch_agents_wait(tmp_path: Path) -> None:
    report = run(scenario(tmp_path, "slicewise-batch", "slicewise-batch"))
    assert report.evictions == []
    assert max(report.time_line.ready) <= 1
    assert any("preemptionPolicy is Never" in pod.waits_for for pod in report.pods)


def test_they_are_evicted_by_more_important_neighbours_and_come_again(tmp_path: Path) -> None:
    """A neighbour that comes at five minutes and leaves at ten; replicas are replaced, and wait meanwhile."""
    path = scenario(tmp_path, "slicewise-batch", "slicewise-interactive", at="5m", lasts="5m")
    value = yaml.safe_load(path.read_text())
    value["scaledObject"]["spec"] |= {"minReplicaCount": 4, "maxReplicaCount": 4}
    value["startReplicas"] = 4
    path.write_text(yaml.safe_dump(value))
    report = run(path)
    assert {e.by.split("-")[0] for e in report.evictions} == {"batch"}
    assert len(report.evictions) == 3
    waiting = dict(zip(report.time_line.at_s, report.time_line.pending, strict=True))
    assert max(n for at_s, n in waiting.items() if 330 < at_s < 600) == 3
    assert report.time_line.ready[-1] == 4


def test_only_slices_lacking_nobody_is_evicted(tmp_path: Path) -> None:
    path = scenario(tmp_path, "slicewise-interactive", "slicewise-batch")
    path.write_text(path.read_text().replace("cpus: 8", "cpus: 64"))
    report = run(path)
    assert report.evictions == []
    assert any("kube-scheduler counts CPUs, and no slices" in pod.waits_for for pod in report.pods)


def test_a_lost_node_takes_neighbours_too(tmp_path: Path) -> None:
    path = scenario(tmp_path, "slicewise-interactive", "slicewise-batch", terminationGracePeriod="5m")
    value = yaml.safe_load(path.read_text())
    quick = {"p50": "40s", "p90": "40s"}
    value["cluster"] |= {
        "loss": {"meanLife": "6m", "notice": "1m"},
        "provisioning": {"launch": quick, "registration": quick, "gpuReady": quick},
    }
    path.write_text(yaml.safe_dump(value))
    assert run(path).starts.count > 0


def test_a_recorded_run_with_evictions_replays(tmp_path: Path) -> None:
    path, log = scenario(tmp_path, "slicewise-interactive", "slicewise-batch"), tmp_path / "run.jsonl"
    assert sim("run", path, "--record", log).exit_code == 0
    result = sim("replay", log, "--scaled-object", path)
    assert result.exit_code == 0, result.output
    assert "the same places for all " in result.stdout


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param(
            "slicewise-batch", "urgent", "cluster.neighbours[0].pod.spec.priorityClassName: no such", id="class"
        ),
        pytest.param("slicewise.dev/gpu-slice: 1", "cpu: 1", "cluster.neighbours[0].pod: asks for no GPU", id="no GPU"),
        pytest.param("3g.40gb", "large", "cluster.neighbours[0].pod: pod agents/probe: annotation", id="no profile"),
        pytest.param("cpu: '2'", "cpu: many", "cluster.neighbours[0].pod: want a Kubernetes quantity", id="no number"),
    ],
)
def test_neighbours_that_cannot_be(tmp_path: Path, old: str, new: str, fault: str) -> None:
    path = scenario(tmp_path, "slicewise-interactive", "slicewise-batch")
    neighbours, rest = path.read_text().split("  nodes:", 1)
    assert old in neighbours
    path.write_text(neighbours.replace(old, new) + "  nodes:" + rest)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert fault in str(caught.value)


def test_classes_of_ones_own(tmp_path: Path) -> None:
    path = scenario(tmp_path, "urgent", "slicewise-batch")
    value = yaml.safe_load(path.read_text())
    value["cluster"]["priorityClasses"] = {"urgent": {"value": 500, "preemptionPolicy": "Never"}}
    path.write_text(yaml.safe_dump(value))
    assert run(path).evictions == []
