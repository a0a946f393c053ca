"""The stand-in for kube-scheduler against an extender that answers what the test says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from slicewise.demo.cluster import GPU_NODES, pod_spec
from slicewise.demo.controllers import PODS, is_leaving
from slicewise.demo.kube_scheduler import BACKOFF_S, NODES, RETRY_S, KubeScheduler
from slicewise.demo.kube_store import Store
from slicewise.demo.scene import Line

Json = dict[str, Any]
ROOM = {"Nodes": None, "NodeNames": ["gpu-a", "gpu-b"], "FailedNodes": {"gpu-c": "full"}, "Error": ""}
NO_ROOM = {
    "NodeNames": [],
    "FailedNodes": {"gpu-a": "full", "gpu-b": "full"},
    "FailedAndUnresolvableNodes": {"gpu-c": "no MIG"},
}
SCORES = [{"Host": "gpu-a", "Score": 3}, {"Host": "gpu-b", "Score": 9}]


class Extender:
    """Answers each verb with what `answers` holds, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, object] = {"filter": ROOM, "prioritize": SCORES, "bind": {"Error": ""}}
        self.asked: list[tuple[str, Json]] = []

    async def answer(self, request: web.Request) -> web.Response:
        verb = request.match_info["verb"]
        self.asked.append((verb, await request.json()))
        answer = self.answers[verb]
        return web.Response(status=503) if answer is None else web.json_response(answer)

    @property
    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.asked]


@asynccontextmanager
async def scheduling(store: Store, extender: Extender) -> AsyncIterator[tuple[KubeScheduler, list[Line]]]:
    app = web.Application()
    app.router.add_post("/{verb}", extender.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    lines: list[Line] = []
    async with aiohttp.ClientSession() as session:
        yield (
            KubeScheduler(store, f"http://127.0.0.1:{runner.addresses[0][1]}", session, lines.append, str.upper),
            lines,
        )
    await runner.cleanup()


@pytest.fixture
def waiting(store: Store) -> Store:
    """Three nodes, one important pod that waits, one guest on a node."""
    for node in GPU_NODES:
        store.create(NODES, {"metadata": {"name": node.name}})
    store.create(PODS, {"metadata": {"name": "coder-x-y", "uid": "u1"}, "spec": pod_spec(100)})
    store.create(PODS, {"metadata": {"name": "eval-a", "uid": "u2"}, "spec": {**pod_spec(0), "nodeName": "gpu-a"}})
    return store


async def test_a_pod_that_fits_is_bound_to_the_best_node(waiting: Store) -> None:
    extender = Extender()
    async with scheduling(waiting, extender) as (scheduler, _):
        await scheduler.step(0.0)
    assert extender.verbs == ["filter", "prioritize", "bind"]
    (_, filtered), (_, scored), (_, bound) = extender.asked
    assert filtered["NodeNames"] == ["gpu-a", "gpu-b", "gpu-c"]
    assert scored["NodeNames"] == ["gpu-a", "gpu-b"]
    assert bound == {"PodName": "coder-x-y", "PodNamespace": "agents", "PodUID": "u1", "Node": "gpu-b"}
    assert scheduler.bound == 1


async def test_a_refused_bind_is_told_and_tried_again_later(waiting: Store) -> None:
    extender = Extender()
    extender.answers["bind"] = {"Error": "the slice has just gone"}
    async with scheduling(waiting, extender) as (scheduler, lines):
        await scheduler.step(0.0)
        await scheduler.step(BACKOFF_S - 1)
        await scheduler.step(BACKOFF_S)
    assert extender.verbs.count("bind") == 2
    assert {line.why for line in lines} == {"the slice has just gone"}
    assert scheduler.bound == 0


async def test_where_nothing_fits_the_pods_that_the_extender_names_are_evicted(waiting: Store) -> None:
    extender = Extender()
    extender.answers |= {
        "filter": NO_ROOM,
        "preempt": {"NodeNameToMetaVictims": {"gpu-a": {"Pods": [{"UID": "u2"}], "NumPDBViolations": 0}}},
    }
    async with scheduling(waiting, extender) as (scheduler, lines):
        await scheduler.step(0.0)
        extender.answers["filter"] = ROOM
        await scheduler.step(RETRY_S)
    candidates = extender.asked[1][1]["NodeNameToMetaVictims"]
    assert list(candidates) == ["gpu-a", "gpu-b"], "eviction can't help where the reason is unresolvable"
    assert is_leaving(waiting.get(PODS, "eval-a"))
    assert (scheduler.evicted, scheduler.bound) == (1, 1)
    assert [line.what for line in lines] == ["CODER-X-Y waits", "EVAL-A is evicted"]
    assert lines[0].why == "2 nodes: full; gpu-c: no MIG"


async def test_nobody_is_evicted_where_the_extender_sees_no_use_in_it(waiting: Store) -> None:
    extender = Extender()
    extender.answers |= {"filter": NO_ROOM, "preempt": {"NodeNameToMetaVictims": {}}}
    async with scheduling(waiting, extender) as (scheduler, _):
        await scheduler.step(0.0)
    assert scheduler.evicted == 0
    assert not is_leaving(waiting.get(PODS, "eval-a"))


async def test_an_unimportant_pod_evicts_nobody_and_says_why_it_waits_once(store: Store) -> None:
    store.create(NODES, {"metadata": {"name": "gpu-a"}})
    store.create(PODS, {"metadata": {"name": "eval-b"}, "spec": pod_spec(0)})
    extender = Extender()
    extender.answers["filter"] = NO_ROOM
    async with scheduling(store, extender) as (scheduler, lines):
        for i in range(3):
            await scheduler.step(BACKOFF_S * i)
    assert extender.verbs == ["filter"] * 3
    assert [line.what for line in lines] == ["EVAL-B waits"]


async def test_an_extender_that_fails_fails_the_attempt_and_not_the_scheduler(waiting: Store) -> None:
    extender = Extender()
    extender.answers["filter"] = None
    async with scheduling(waiting, extender) as (scheduler, lines):
        await scheduler.step(0.0)
        extender.answers["filter"] = ROOM
        await scheduler.step(BACKOFF_S)
    assert "does not answer" in lines[0].why
    assert scheduler.bound == 1
