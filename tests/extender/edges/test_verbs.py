import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from extender.placement.allocation import ALLOCATION
from tests.extender.edges.harness import NOW_S, PODS_PATH, Scheduler, World, breaches, until
from tests.fakes.kube_api import NODES, PODS, eventually, refuses, waits_for


async def test_a_pod_goes_through_filter_prioritize_and_bind(here: World) -> None:
    here.gpus("a", "a100-80:1")
    here.gpus("b", "l40s:1", mps="all")
    one = here.pod("one", profile="3g.40gb")
    async with here.extender() as scheduler:
        found = await scheduler.filter(one, "a", "b", "c")
        assert (found["NodeNames"], found["Nodes"], found["Error"]) == (["a"], None, "")
        assert found["FailedNodes"] == {}
        assert set(found["FailedAndUnresolvableNodes"]) == {"b", "c"}
        assert await scheduler.prioritize(one, "a") == {"a": 10}
        assert await scheduler.bind(one, "a") == ""
    seen = here.seen("one")
    assert seen["spec"]["nodeName"] == "a"
    (grants,) = here.allocation("one").containers
    assert (grants.name, [str(g.mode) for g in grants.gpus]) == ("main", ["mig"])
    assert breaches([seen]) == []
    assert here.there.faults.seen.count(f"POST {PODS_PATH}/one/binding") == 1
    assert not [s for s in here.there.faults.seen if s.startswith("PATCH")]  # one write, not patch and bind


async def test_a_full_node_fails_resolvably_and_frees_up_when_its_pod_is_gone(here: World) -> None:
    here.gpus("a", "l40s:1")
    one, two = here.pod("one", mode="exclusive"), here.pod("two", mode="exclusive")
    async with here.extender() as scheduler:
        assert await scheduler.bind(one, "a") == ""
        found = await scheduler.filter(two, "a")
        assert (found["NodeNames"], list(found["FailedNodes"])) == ([], ["a"])
        assert "0 of 1 free" in found["FailedNodes"]["a"]
        assert "no room" in await scheduler.bind(two, "a")
        here.there.store.delete(PODS, "one", grace_s=30)  # terminating: it still holds its GPU
        await scheduler.until_said('phase="terminating"')
        assert (await scheduler.filter(two, "a"))["NodeNames"] == []
        here.there.store.delete(PODS, "one")
        await scheduler.until_fits(two, "a")
        assert await scheduler.bind(two, "a") == ""


async def test_a_pod_that_ends_gives_its_place_back(here: World) -> None:
    here.gpus("a", "l40s:1")
    one, two = here.pod("one", mode="exclusive"), here.pod("two", mode="exclusive")
    async with here.extender() as scheduler:
        assert await scheduler.bind(one, "a") == ""
        here.there.store.merge_patch(PODS, "one", {"status": {"phase": "Succeeded"}})
        await scheduler.until_fits(two, "a")


async def test_stale_inventory_is_not_used_until_the_agent_beats_again(here: World) -> None:
    here.gpus("a", "a100-80:1")
    one = here.pod("one", profile="1g.10gb")
    async with here.extender() as scheduler:
        assert (await scheduler.filter(one, "a"))["NodeNames"] == ["a"]
        here.now_s += 61
        found = await scheduler.filter(one, "a")
        assert (found["NodeNames"], found["FailedNodes"]) == ([], {})
        assert "stale inventory" in found["FailedAndUnresolvableNodes"]["a"]
        assert "stale inventory" in await scheduler.bind(one, "a")
        here.beat("a")
        await scheduler.until_fits(one, "a")


async def test_the_clock_of_a_node_may_be_wrong(here: World) -> None:
    here.now_s = NOW_S - 3600
    here.gpus("a", "a100-80:1")
    here.now_s = NOW_S
    one = here.pod("one", profile="1g.10gb")
    async with here.extender() as scheduler:
        assert (await scheduler.filter(one, "a"))["NodeNames"] == []  # an hour old, and nobody saw it come
        here.now_s = NOW_S - 3590
        here.beat("a")
        here.now_s = NOW_S
        await scheduler.until_fits(one, "a")


async def test_a_node_that_leaves_is_not_used(here: World) -> None:
    here.gpus("a", "a100-80:1")
    one = here.pod("one", profile="1g.10gb")
    async with here.extender() as scheduler:
        assert (await scheduler.filter(one, "a"))["NodeNames"] == ["a"]
        here.there.store.delete(NODES, "a")

        async def gone() -> bool:
            return not (await scheduler.filter(one, "a"))["NodeNames"]

        await until(gone)


async def test_until_the_watches_are_synced_nothing_is_said(here: World) -> None:
    here.gpus("a", "a100-80:1")
    one = here.pod("one", profile="1g.10gb")
    release = asyncio.Event()
    here.there.faults.add("GET", "/pods", waits_for(release))
    async with here.extender(ready=False) as scheduler:
        assert (await scheduler.get("/healthz")).status == 200
        await eventually(lambda: "GET /api/v1/pods" in here.there.faults.seen)
        ready = await scheduler.send("GET", f"{scheduler.urls.verbs}/readyz")
        assert (ready.status, "pods" in ready.text) == (503, True)
        found = await scheduler.filter(one, "a")
        assert (found["NodeNames"], found["FailedNodes"]) == (None, None)
        assert "not ready: not synced yet" in found["Error"]
        assert "not ready" in await scheduler.bind(one, "a")
        for verb in ("prioritize", "preempt"):
            answer = await scheduler.post(verb, {"Pod": one, "NodeNames": ["a"]})
            assert (answer.status, answer.text.count("\n")) == (503, 1)
        release.set()
        await scheduler.until_ready()
        assert (await scheduler.filter(one, "a"))["NodeNames"] == ["a"]


async def test_watches_that_are_lost_for_long_end_readiness(here: World) -> None:
    here.settings["watch_lost_s"] = 0.05
    here.gpus("a", "a100-80:1")
    one = here.pod("one", profile="1g.10gb")
    async with here.extender() as scheduler:
        here.there.faults.add("GET", "", refuses(500), times=1_000_000, watches=True)
        here.there.faults.add("GET", "", refuses(500), times=1_000_000)
        here.there.faults.cut_watches()

        async def lost() -> bool:
            why = (await scheduler.filter(one, "a"))["Error"]
            return "no word from the API server" in str(why)

        await until(lost)
        here.there.faults.rules.clear()
        await scheduler.until_ready()


async def test_a_demand_that_cannot_be_understood_is_refused_for_every_node_with_its_faults(here: World) -> None:
    here.gpus("a", "a100-80:1")
    one = here.pod("one", profile="half", memory="lots")
    async with here.extender() as scheduler:
        found = await scheduler.filter(one, "a", "b")
        assert (found["NodeNames"], found["FailedNodes"], found["Error"]) == ([], {}, "")
        for why in found["FailedAndUnresolvableNodes"].values():
            assert "slicewise.dev/profile" in why
            assert "slicewise.dev/memory" in why
        assert await scheduler.prioritize(one, "a") == {"a": 0}
        assert "slicewise.dev/profile" in await scheduler.bind(one, "a")
    assert "nodeName" not in here.seen("one")["spec"]


async def test_a_pod_that_asks_for_nothing_of_ours_is_bound_without_a_place(here: World) -> None:
    here.gpus("a", "a100-80:1")
    plain = here.pod("plain", count=0)
    async with here.extender() as scheduler:
        assert (await scheduler.filter(plain, "a", "x"))["NodeNames"] == ["a", "x"]
        assert await scheduler.prioritize(plain, "a", "x") == {"a": 0, "x": 0}
        assert await scheduler.bind(plain, "x") == ""
    assert here.seen("plain")["spec"]["nodeName"] == "x"
    assert ALLOCATION not in here.seen("plain")["metadata"]["annotations"]


async def test_whole_nodes_are_answered_by_whole_nodes(here: World) -> None:
    here.gpus("a", "a100-80:1")
    one = here.pod("one", profile="1g.10gb")
    items = [here.there.store.get(NODES, "a"), {"metadata": {"name": "b", "labels": {"x": "y"}}}]
    async with here.extender() as scheduler:
        found = await scheduler.ask(
            "filter", {"Pod": one, "Nodes": {"metadata": {}, "items": items}, "NodeNames": None}
        )
        assert (found["NodeNames"], found["Nodes"]["items"]) == (None, items[:1])
        scores = await scheduler.ask("prioritize", {"Pod": one, "Nodes": {"metadata": {}, "items": items[:1]}})
        assert scores == [{"Host": "a", "Score": 10}]


async def test_preempt_names_who_has_to_go(here: World) -> None:
    here.gpus("a", "l40s:1")
    low = here.pod("low", mode="exclusive")
    high = here.pod("high", mode="exclusive")
    high = here.there.store.merge_patch(PODS, "high", {"spec": {"priority": 100}})
    async with here.extender() as scheduler:
        assert await scheduler.bind(low, "a") == ""
        victims = {"a": {"Pods": [], "NumPDBViolations": 0}, "zz": {"Pods": []}}
        found = await scheduler.ask("preempt", {"Pod": high, "NodeNameToMetaVictims": victims})
        want = {"Pods": [{"UID": low["metadata"]["uid"]}], "NumPDBViolations": 0}
        assert found == {"NodeNameToMetaVictims": {"a": want}}
        plain = here.pod("plain", count=0)
        echo = await scheduler.ask("preempt", {"Pod": plain, "NodeNameToMetaVictims": {"a": want}})
        assert echo == {"NodeNameToMetaVictims": {"a": want}}


@pytest.mark.parametrize(
    ("verb", "body", "status", "message"),
    [
        pytest.param("filter", b"{", 200, "the request is not what extender/v1 sends", id="filter: no JSON"),
        pytest.param("filter", b"{}", 200, "Pod is missing", id="filter: no pod"),
        pytest.param("bind", b"[]", 200, "the request is not what extender/v1 sends", id="bind: a list"),
        pytest.param(
            "bind",
            b'{"PodName":"a","PodNamespace":"default","PodUID":"","Node":"n"}',
            200,
            "PodUID: want a value",
            id="bind: without a UID a pod cannot be told from its namesakes",
        ),
        pytest.param("prioritize", b"no", 400, "the request is not what", id="prioritize: has no place for an error"),
        pytest.param("preempt", b'{"Pod":null}', 400, "Pod is missing", id="preempt: has no place for an error"),
        pytest.param("filter", b" " * (1 << 20) + b" ", 413, "more than 1 MiB", id="too large"),
    ],
)
async def test_what_is_no_question_gets_one_clear_line(
    here: World, verb: str, body: bytes, status: int, message: str
) -> None:
    here.settings["max_body_mib"] = 1
    async with here.extender() as scheduler:
        answer = await scheduler.send("POST", f"{scheduler.urls.verbs}/{verb}", body)
        assert answer.status == status
        line = answer.json()["Error"] if status == 200 else answer.text.rstrip("\n")
        assert message in line
        assert "\n" not in line


async def test_a_body_of_unknown_length_is_bounded_too(here: World) -> None:
    here.settings["max_body_mib"] = 1

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * (1 << 16)

    async with here.extender() as scheduler:
        answer = await scheduler.send("POST", f"{scheduler.urls.verbs}/filter", endless())
        assert answer.status == 413


async def test_a_client_that_sends_too_slowly_is_let_go(here: World) -> None:
    here.settings["read_deadline_s"] = 0.05
    async with here.extender() as scheduler:
        host, port = scheduler.urls.verbs.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
        assert answer.startswith(b"HTTP/1.1 408")
        writer.close()


async def test_unknown_paths_and_methods_are_refused(here: World) -> None:
    async with here.extender() as scheduler:
        assert (await scheduler.send("GET", f"{scheduler.urls.verbs}/filter")).status == 405
        assert (await scheduler.send("POST", f"{scheduler.urls.verbs}/nothing")).status == 404
        for path in ("filter", "bind", "debug/state"):  # the verbs are not for who may read metrics
            assert (await scheduler.send("POST", f"{scheduler.urls.metrics}/{path}")).status == 404


async def test_metrics_count_what_happened(here: World) -> None:
    here.gpus("a", "a100-80:1")
    one = here.pod("one", profile="3g.40gb")
    async with here.extender() as scheduler:
        before = await scheduler.metrics()
        assert 'slicewise_extender_free_slices{profile="1g.10gb"} 7.0' in before
        await scheduler.filter(one, "a", "b")
        await scheduler.bind(one, "a")
        text = await scheduler.metrics()
    for line in (
        'slicewise_extender_request_seconds_count{verb="filter"} 1.0',
        'slicewise_extender_answers_total{outcome="ok",verb="bind"} 1.0',
        'slicewise_extender_refused_nodes_total{kind="no inventory",resolvable="no"} 1.0',
        'slicewise_extender_bindings_total{outcome="bound"} 1.0',
        'slicewise_extender_free_slices{profile="3g.40gb"} 1.0',
        'slicewise_extender_watch_synced{resource="pods"} 1.0',
        "slicewise_extender_problems 0.0",
        "slicewise_extender_nodes 1.0",
        "slicewise_extender_stale_nodes 0.0",
    ):
        assert line in text.splitlines()
    assert 'slicewise_extender_allocations{mode="mig"' in text


async def test_state_shows_each_gpu_and_who_holds_what(here: World) -> None:
    here.gpus("a", "a100-80:1")
    here.gpus("b", "l40s:2", mps="0")
    mig, share, whole = (
        here.pod("mig", profile="2g.20gb"),
        here.pod("share", memory="8Gi", mode="mps"),
        here.pod("whole", mode="exclusive"),
    )
    async with here.extender() as scheduler:
        for of, where in ((mig, "a"), (share, "b"), (whole, "b")):
            assert await scheduler.bind(of, where) == ""
        found = await scheduler.state()
        (gpu,) = found["nodes"]["a"]["gpus"]
        assert (gpu["model"], gpu["mode"], gpu["usable"]) == ("a100-80", "mig", True)
        (holder,) = gpu["holders"]
        assert (holder["pod"], holder["profile"], holder["size"]) == ("default/mig", "2g.20gb", 2)
        by_index = {g["index"]: g["holders"] for g in found["nodes"]["b"]["gpus"]}
        assert (by_index[0][0]["memory_mib"], by_index[1][0]["whole"]) == (8192, True)
        assert list((await scheduler.state("?node=a"))["nodes"]) == ["a"]
        here.there.store.delete(NODES, "a")
        await until(lambda: _holders_without_inventory(scheduler))


async def _holders_without_inventory(scheduler: Scheduler) -> bool:
    found = (await scheduler.state("?node=a"))["nodes"].get("a", {})
    return [h["pod"] for h in found.get("holders", [])] == ["default/mig"]


@pytest.mark.parametrize(("allowed", "status"), [("always", 200), ("loopback", 200), ("never", 403)])
async def test_state_is_for_who_may_read_it(here: World, allowed: str, status: int) -> None:
    here.settings["debug_state"] = allowed
    async with here.extender() as scheduler:
        assert (await scheduler.send("GET", f"{scheduler.urls.verbs}/debug/state")).status == status


async def test_answers_are_json_without_line_ends(here: World) -> None:
    async with here.extender() as scheduler:
        one = here.pod("one", profile="1g.10gb")
        answer = await scheduler.post("filter", {"Pod": one, "NodeNames": ["a"]})
        assert json.loads(answer.content) == answer.json()
        assert b"\n" not in answer.content
