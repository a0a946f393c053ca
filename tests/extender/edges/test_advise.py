"""`slicewise extender advise` as a person runs it: on the stand-in API server and on a saved state."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from extender import advise
from extender.__main__ import app
from extender.placement.allocation import Allocation, MigSlice, MpsShare
from slicewise.demo.kube_store import Collection
from slicewise.process.lease import micro_time
from tests.extender.advice_cases import OWNED, budget, placed
from tests.extender.edges.harness import Scheduler, breaches, until, world
from tests.extender.objects import Json, gpu, node, pod
from tests.extender.placement.test_advice import BIG, KEPT, SPLIT, TWO_NODES, at
from tests.fakes.kube_api import LEASES, NODES, PODS, Cluster, cluster, refuses

TEAM = Collection("v1", "pods", "team")
BUDGETS = Collection("policy/v1", "poddisruptionbudgets", "team")
NOW_S = 1_800_000_000.0


@pytest.fixture
async def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """Two nodes of one A100 each, a small pod in each half of the first."""
    monkeypatch.setattr("extender.__main__.WALL", lambda: NOW_S)
    async with cluster(tmp_path) as made:
        for one in TWO_NODES:
            made.store.create(NODES, one)
            name = one["metadata"]["name"]
            made.store.create(LEASES, {"metadata": {"name": name}, "spec": {"renewTime": micro_time(NOW_S - 5)}})
        for one in SPLIT:
            made.store.create(TEAM, one)
        yield made


async def run(there: Cluster | None, *args: str) -> Result:
    where = [] if there is None else ["--kubeconfig", str(there.kubeconfig)]
    return await asyncio.to_thread(CliRunner().invoke, app, ["advise", *where, *args], env={"COLUMNS": "160"})


async def told(there: Cluster, *args: str, code: int = 0) -> dict[str, Any]:
    result = await run(there, "--json", *args)
    assert result.exit_code == code, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


async def test_the_json_is_a_contract(there: Cluster) -> None:
    found = await told(there, "--want", "3g.40gb", "--proposals", "1")
    (one,) = found["advice"]
    assert found["version"] == 1
    assert found["notes"] == []
    assert (one["wanted"], one["needed"], one["tried"], one["exhaustive"]) == (["default/want-1"], True, 1, True)
    assert one["stay"] == {"annotation slicewise.dev/do-not-evict is true": ["team/pod-d"]}
    (proposal,) = one["proposals"]
    assert proposal["why"] == "evict team/pod-a: then default/want-1 fits, and each evicted pod has a place again"
    assert proposal["cost"] == {"sessions": 0, "restarts": 1, "highest_priority": 0}
    assert proposal["gain"]["memory_slices"] == 4
    assert proposal["order_matters"] is False
    assert [(s["do"], s["pod"], s["node"]) for s in proposal["steps"]] == [
        ("evict", "team/pod-a", "n0"),
        ("place", "default/want-1", "n0"),
        ("return", "team/pod-a", proposal["steps"][2]["node"]),
    ]
    assert proposal["steps"][0]["what"] == ["1g.10gb at 0 of GPU-0"]


async def test_by_default_it_is_about_the_pods_that_wait(there: Cluster) -> None:
    assert (await told(there))["advice"][0]["needed"] is False
    there.store.create(TEAM, pod("w", ask=BIG))
    (one,) = (await told(there))["advice"]
    assert one["wanted"] == ["team/pod-w"]
    assert [p["cost"]["restarts"] for p in one["proposals"]] == [1, 1]


async def test_a_budget_that_allows_nothing_leaves_no_proposal_and_the_exit_code_says_so(there: Cluster) -> None:
    there.store.create(BUDGETS, budget("all", 0, {}))
    (one,) = (await told(there, "--want", "3g.40gb", code=1))["advice"]
    assert one["proposals"] == []
    assert one["stay"]["PodDisruptionBudget team/all allows no eviction now"] == [f"team/pod-{x}" for x in "abc"]


async def test_nothing_is_written(there: Cluster) -> None:
    version = there.store.version
    await told(there, "--want", "3g.40gb")
    assert there.store.version == version
    assert {line.split()[0] for line in there.faults.seen} == {"GET"}


async def test_the_table_has_steps_cost_gain_and_who_stays(there: Cluster) -> None:
    there.store.create(TEAM, pod("bad", ask={"profile": "huge"}))
    result = await run(there, "--want", "3g.40gb", "--tries", "1", "--proposals", "2")
    assert result.exit_code == 0
    for text in (
        "1. evict team/pod-a: then default/want-1 fits",
        "3g.40gb at 0 of GPU-0",
        "cost: sessions 0, restarts 1, highest priority 0",
        "gain: 4 memory slices",
        "stays: team/pod-d (annotation slicewise.dev/do-not-evict is true)",
        "The search was cut short",
        "note: waits and is not looked at: pod team/pod-bad",
    ):
        assert text in result.stdout


async def test_the_table_warns_where_the_order_matters(there: Cluster) -> None:
    there.store.create(NODES, node("n2", gpu("GPU-2", model="h100-80")))
    there.store.create(LEASES, {"metadata": {"name": "n2"}, "spec": {"renewTime": micro_time(NOW_S)}})
    there.store.delete(NODES, "n1")
    for name in ("pod-b", "pod-c", "pod-d"):
        there.store.delete(TEAM, name)
    for i in (4, 5, 6):
        there.store.create(TEAM, placed(f"b{i}", "n0", at(i), annotations=KEPT))
    result = await run(there, "--want", "4g.40gb", "--gpu-model", "a100-80")
    assert result.exit_code == 0
    assert "Only in this order: what is wanted must be bound before the evicted pods come back." in result.stdout


async def test_shares_and_whole_gpus_are_told_as_what_they_are(there: Cluster) -> None:
    gpus = [gpu(f"GPU-{i}", index=i, model="l4", mode="mps", memory_mib=24576) for i in (8, 9)]
    gpus.append(gpu("GPU-7", index=7, model="l4", mode="exclusive", memory_mib=24576))
    there.store.create(NODES, node("n2", *(g | {"memory_mib": 24576} for g in gpus)))
    there.store.create(LEASES, {"metadata": {"name": "n2"}, "spec": {"renewTime": micro_time(NOW_S)}})
    for uid, uuid in (("s", "GPU-8"), ("t", "GPU-9")):
        held = Allocation.of({"main": [MpsShare(uuid, 4096, 17)]})
        there.store.create(TEAM, placed(uid, "n2", held, ask={"memory": "4Gi", "mode": "mps"}))
    one = (await told(there, "--want", "whole=2"))["advice"][0]["proposals"][0]
    assert one["gain"]["memory_slices"] == 0
    assert one["steps"][0]["what"] == ["4096 MiB, 17 % of GPU-8"]
    assert {what for step in one["steps"][1:3] for what in step["what"]} == {"all of GPU-7", "all of GPU-8"}


async def test_fragmentation(there: Cluster) -> None:
    (one,) = (await told(there, "--defragment", "0.1"))["advice"]
    assert one["proposals"][0]["gain"]["fragmentation_falls_slices"] >= 0.1
    assert one["proposals"][0]["why"].startswith("evict team/pod-")
    result = await run(there, "--defragment", "0.1")
    assert "less fragmentation" in result.stdout


async def test_lists_are_read_page_by_page(there: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advise, "PAGE", 1)
    assert (await told(there, "--want", "3g.40gb"))["advice"][0]["proposals"]


async def test_a_saved_state_gives_the_same_advice_without_an_api(there: Cluster, tmp_path: Path) -> None:
    store = there.store
    items = [*store.objects(NODES), *store.objects(TEAM), *store.objects(BUDGETS), *store.objects(LEASES)]
    silent = {"kind": "Lease", "metadata": {"name": "n9"}, "spec": {}}
    state = tmp_path / "state.json"
    state.write_text(
        json.dumps({"kind": "List", "items": [*items, {"kind": "Secret", "metadata": {"name": "s"}}, silent]})
    )
    result = await run(None, "--state", str(state), "--json", "--want", "3g.40gb")
    assert json.loads(result.stdout) == await told(there, "--want", "3g.40gb")


async def test_a_refusal_of_the_api_is_told(there: Cluster) -> None:
    there.faults.add("GET", "poddisruptionbudgets", refuses(403, "may not list poddisruptionbudgets"))
    result = await run(there)
    assert result.exit_code == 2
    assert "may not list poddisruptionbudgets" in result.stderr


def listed(*items: object) -> str:
    return json.dumps({"kind": "List", "items": items})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("{", "Expecting property name", id="no JSON"),
        pytest.param("[]", "want a List with items", id="no List"),
        pytest.param(listed({"kind": "Node"}), "items[0]: want an object with metadata.name", id="no name"),
        pytest.param(listed({"kind": "Pod", "metadata": {"name": "p"}}), "want a pod with metadata.uid", id="no uid"),
        pytest.param(listed([]), "items[0]: want an object with metadata.name", id="an item that is a list"),
        pytest.param(
            listed({"kind": "Node", "metadata": {"name": "n", "labels": []}, "spec": "none"}),
            "items[0]: want objects in spec, metadata.labels",
            id="parts that are no objects",
        ),
        pytest.param(
            listed({"kind": "Pod", "metadata": {"name": "p", "uid": "p"}, "spec": {"containers": ["a"]}}),
            "want objects in spec.containers[0]",
            id="a container that is a text",
        ),
        pytest.param(
            listed(
                {
                    "kind": "Pod",
                    "metadata": {"name": "p", "uid": "p"},
                    "spec": {
                        "containers": [{"resources": {"limits": ["a"]}}],
                        "initContainers": {"resources": "many"},
                    },
                }
            ),
            "want objects in spec.containers[0].resources.limits, spec.initContainers[0].resources",
            id="resources that are no objects",
        ),
        pytest.param(listed(), "no heartbeat: want the Leases of namespace slicewise", id="no Lease"),
    ],
)
async def test_a_state_that_cannot_be_used(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "state.json").write_text(text)
    result = await run(None, "--state", str(tmp_path / "state.json"))
    assert result.exit_code == 2
    assert why in result.stderr


@pytest.mark.parametrize(
    ("want", "why"),
    [
        pytest.param("3g.40gb=0", "want a profile, a memory or `whole`, with =COUNT for several", id="none of it"),
        pytest.param("much", "annotation slicewise.dev/memory: want a positive quantity", id="no size"),
    ],
)
def test_a_want_that_cannot_be_understood(want: str, why: str) -> None:
    with pytest.raises(advise.AdviseError, match=r"--want") as e:
        advise.demands([want], advise.Hypothetical())
    assert why in str(e.value)


def test_wants_are_demands() -> None:
    who = advise.Hypothetical(priority=3, tenant="blue", gpu_model="a100-80")
    found = advise.demands(["2g.20gb=2", "20Gi", "whole"], who)
    assert [str(d.shape) for d in found] == [
        "2g.20gb on a100-80",
        "2g.20gb on a100-80",
        "20480 MiB on a100-80",
        "whole GPU on a100-80",
    ]
    assert {(d.priority, d.tenant, d.count) for d in found} == {(3, "blue", 1)}
    assert len({d.uid for d in found}) == 4


async def test_a_running_extender_does_what_was_advised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four pods bound by it leave no room for a large one; the advice is done step by step, and every pod is bound."""
    async with world(tmp_path) as here:
        here.gpus("n0", "a100-80:1")
        here.gpus("n1", "a100-80:1")
        monkeypatch.setattr("extender.__main__.WALL", lambda: here.now_s)
        async with here.extender() as scheduler:

            async def scheduled(one: Json) -> str:
                fit = (await scheduler.filter(one, "n0", "n1"))["NodeNames"]
                scores = await scheduler.prioritize(one, *sorted(fit))
                node = max(scores, key=lambda name: scores[name])
                assert await scheduler.bind(one, node) == ""
                return node

            for i in range(14):
                await scheduled(here.pod(f"small-{i}", profile="1g.10gb"))
            for i in range(14):
                place = here.allocation(f"small-{i}").grants()[0]
                assert isinstance(place, MigSlice)
                if place.start in {0, 4}:
                    here.there.store.merge_patch(PODS, f"small-{i}", {"metadata": OWNED})
                else:
                    here.there.store.delete(PODS, f"small-{i}")
            writer = here.pod("writer", profile="7g.80gb")
            await until(lambda: _holders(scheduler, 4))
            assert (await scheduler.filter(writer, "n0", "n1"))["NodeNames"] == []
            (one,) = (await told(here.there))["advice"]
            steps = one["proposals"][0]["steps"]
            evicted = [s["pod"].removeprefix("default/") for s in steps if s["do"] == "evict"]
            assert len(evicted) == 2
            for name in evicted:
                here.there.store.delete(PODS, name)
            await until(lambda: _holders(scheduler, 2))
            returned = [s for s in steps if s["do"] == "return"]
            (place,) = (s for s in steps if s["do"] == "place")
            assert await scheduled(writer) == place["node"]
            again = [await scheduled(here.pod(f"again-{i}", profile="1g.10gb")) for i in range(2)]
            assert again == [s["node"] for s in returned]
            assert breaches(here.there.store.objects(PODS)) == []


async def _holders(scheduler: Scheduler, count: int) -> bool:
    nodes = (await scheduler.state())["nodes"].values()
    return sum(len(gpu["holders"]) for node in nodes for gpu in node["gpus"]) == count
