"""Answers are lost, requests come twice, processes die: nothing is placed twice, and nothing is lost."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from extender.__main__ import Urls
from extender.placement.allocation import ALLOCATION
from slicewise.demo.kube_objects import Json
from tests.extender.edges.harness import PODS_PATH, Scheduler, World, breaches, until
from tests.fakes.kube_api import (
    PODS,
    Fault,
    drops_the_answer,
    drops_the_request,
    eventually,
    refuses,
    waits_for,
)

BINDING = f"POST {PODS_PATH}/one/binding"


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        pytest.param(drops_the_answer, 1, id="it happened, the answer was lost"),
        pytest.param(drops_the_request, 1, id="it did not happen, the connection broke"),
        pytest.param(refuses(500), 2, id="the server fails twice"),
        pytest.param(refuses(504), 1, id="the server gives up"),
        pytest.param(refuses(429), 1, id="the server is busy"),
    ],
)
async def test_a_binding_without_an_answer_is_asked_again(here: World, fault: Fault, times: int) -> None:
    here.gpus("a", "l40s:1")
    one = here.pod("one", mode="exclusive")
    here.there.faults.add("POST", "binding", fault, times=times)
    async with here.extender() as scheduler:
        assert await scheduler.bind(one, "a") == ""
        assert await scheduler.bind(one, "a") == ""  # and the scheduler may ask again
    assert here.seen("one")["spec"]["nodeName"] == "a"
    assert here.there.faults.seen.count(BINDING) == times + 1


@pytest.mark.parametrize(
    ("status", "why"),
    [
        pytest.param(403, "403 Scripted: no", id="forbidden"),
        pytest.param(422, "422 Scripted: no", id="invalid"),
        pytest.param(404, "404 Scripted: no", id="the pod is gone"),
    ],
)
async def test_a_clear_no_gives_the_place_back(here: World, status: int, why: str) -> None:
    here.gpus("a", "l40s:1")
    one, two = here.pod("one", mode="exclusive"), here.pod("two", mode="exclusive")
    here.there.faults.add("POST", "one/binding", refuses(status, "no"))
    async with here.extender() as scheduler:
        assert why in await scheduler.bind(one, "a")
        assert await scheduler.bind(two, "a") == ""


async def test_an_answer_that_comes_late_keeps_the_place_until_it_is_known(here: World) -> None:
    here.settings["bind_deadline_s"] = 0.2
    here.gpus("a", "l40s:1")
    here.gpus("b", "l40s:1")
    one, two = here.pod("one", mode="exclusive"), here.pod("two", mode="exclusive")
    release = asyncio.Event()
    here.there.faults.add("POST", "one/binding", waits_for(release), times=9)
    here.there.faults.add("GET", "pods/one", waits_for(release), times=9)
    async with here.extender() as scheduler:
        assert "its place is kept" in await scheduler.bind(one, "a")
        assert "its place is kept" in await scheduler.bind(one, "a")  # joins the same attempt
        assert "may be bound to a" in await scheduler.bind(one, "b")
        assert (await scheduler.filter(two, "a"))["NodeNames"] == []
        release.set()
        await until(lambda: _is_bound(scheduler, one))
    assert here.seen("one")["spec"]["nodeName"] == "a"
    assert breaches(here.there.store.objects(PODS, lambda p: "nodeName" in p["spec"])) == []


async def _is_bound(scheduler: Scheduler, of: Json) -> bool:
    return await scheduler.bind(of, "a") == ""


async def test_duplicate_binds_at_once_are_one_binding(here: World) -> None:
    here.gpus("a", "a100-80:1")
    one = here.pod("one", profile="1g.10gb")
    async with here.extender() as scheduler:
        answers = await asyncio.gather(*(scheduler.bind(one, "a") for _ in range(10)))
        assert answers == [""] * 10
    assert here.there.faults.seen.count(BINDING) == 1


async def test_a_pod_bound_by_somebody_else_is_a_conflict_and_its_place_is_given_back(here: World) -> None:
    here.gpus("a", "l40s:1")
    one, two = here.pod("one", mode="exclusive"), here.pod("two", mode="exclusive")
    async with here.extender() as scheduler:
        here.there.faults.add("GET", "pods", refuses(500), times=1_000_000, watches=True)  # the watch sees nothing
        here.there.faults.cut_watches()
        here.there.store.bind(PODS, "one", {"metadata": {}, "target": {"name": "elsewhere"}})
        assert "is bound to elsewhere" in await scheduler.bind(one, "a")
        assert await scheduler.bind(two, "a") == ""
        here.pod("three", mode="exclusive")
        here.there.store.bind(PODS, "three", {"metadata": {}, "target": {"name": "a"}})
        assert "by someone else, without a place" in await scheduler.bind(here.seen("three"), "a")


async def test_a_namesake_is_not_bound(here: World) -> None:
    here.gpus("a", "l40s:1")
    one = here.pod("one", mode="exclusive")
    async with here.extender() as scheduler:
        here.there.faults.add("GET", "pods", refuses(500), times=1_000_000, watches=True)
        here.there.faults.cut_watches()
        here.there.store.delete(PODS, "one")
        again = here.pod("one", mode="exclusive")
        assert "is another one now" in await scheduler.bind(one, "a")
        assert "nodeName" not in here.seen("one")["spec"]
        assert await scheduler.bind(again, "a") == ""  # the first one's place is free


async def test_a_pod_that_is_being_deleted_is_not_bound(here: World) -> None:
    here.gpus("a", "l40s:1")
    one, two = here.pod("one", mode="exclusive"), here.pod("two", mode="exclusive")
    here.there.faults.add("POST", "one/binding", refuses(409, "pod one is being deleted"))
    async with here.extender() as scheduler:
        assert "is being deleted" in await scheduler.bind(one, "a")
        assert await scheduler.bind(two, "a") == ""


async def test_a_pod_that_the_watch_has_not_shown_yet_is_read(here: World) -> None:
    here.gpus("a", "l40s:1")
    async with here.extender() as scheduler:
        here.there.faults.add("GET", "pods", refuses(500), times=1_000_000, watches=True)
        here.there.faults.cut_watches()
        assert await scheduler.bind(here.pod("one", mode="exclusive"), "a") == ""
        nobody = {"metadata": {"name": "nobody", "uid": "u"}}
        assert 'pods "nobody" not found' in await scheduler.bind(nobody, "a")
    assert ALLOCATION in here.seen("one")["metadata"]["annotations"]


async def test_a_new_process_knows_from_the_api_alone_what_is_taken(here: World) -> None:
    here.gpus("a", "a100-80:1")
    first, second = here.pod("first", profile="4g.40gb"), here.pod("second", profile="3g.40gb")
    third = here.pod("third", profile="1g.10gb")
    async with here.extender() as scheduler:
        assert await scheduler.bind(first, "a") == ""
        before = here.allocation("first")
    async with here.extender() as scheduler:
        assert await scheduler.bind(first, "a") == ""  # whose answer the old process may have lost
        assert here.allocation("first") == before
        assert await scheduler.bind(second, "a") == ""
        assert (await scheduler.filter(third, "a"))["NodeNames"] == []
        assert (await scheduler.state())["problems"] == []
    assert breaches([here.seen("first"), here.seen("second")]) == []


async def test_200_pods_at_once_over_http_get_a_place_each_or_fit_nowhere(here: World) -> None:
    """More pods than places, all on their way at once; a quarter of the API server's answers are lost."""
    for i in range(4):
        here.gpus(f"mig-{i}", "a100-80:4")
        here.gpus(f"mps-{i}", "l40s:2", mps="all")
    nodes = [f"{kind}-{i}" for kind in ("mig", "mps") for i in range(4)]
    kinds = ({"profile": "1g.10gb"}, {"profile": "2g.20gb"}, {"memory": "8Gi"}, {"memory": "30Gi", "mode": "mig"})
    pods = [here.pod(f"p{i:03}", 1, **kinds[i % len(kinds)]) for i in range(200)]
    here.there.faults.add("POST", "[02468]/binding", drops_the_answer, times=50)
    async with here.extender() as scheduler:

        async def place(of: Json) -> bool:
            while True:
                fit = (await scheduler.filter(of, *nodes))["NodeNames"]
                if not fit:
                    return False
                scores = await scheduler.prioritize(of, *fit)
                if await scheduler.bind(of, max(fit, key=lambda n: (scores[n], n))) == "":
                    return True

        done = await asyncio.gather(*(place(p) for p in pods))
        assert (await scheduler.state())["problems"] == []
    bound = here.there.store.objects(PODS, lambda p: "nodeName" in p["spec"])
    names = {p["metadata"]["name"] for p, ok in zip(pods, done, strict=True) if ok}
    assert {p["metadata"]["name"] for p in bound} == names
    assert 80 < len(bound) < 200
    assert breaches(bound) == []


@asynccontextmanager
async def process(here: World) -> AsyncIterator[tuple[asyncio.subprocess.Process, Scheduler]]:
    """`slicewise extender serve`, as installed."""
    here_is = {"SLICEWISE_EXTENDER_KUBECONFIG": str(here.there.kubeconfig)}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "extender", "serve", "--port", "0", "--metrics-port", "0"),
        env={**os.environ, **here_is},
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stderr is not None
    listening = json.loads(await asyncio.wait_for(child.stderr.readline(), 20))
    assert listening["event"] == "extender.listening"
    drain = asyncio.create_task(child.stderr.read())
    try:
        async with Scheduler(Urls(listening["verbs"], listening["metrics"])) as scheduler:
            await scheduler.until_ready()
            yield child, scheduler
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()
        await drain


async def test_sigkill_between_reservation_and_binding_loses_nothing(here: World) -> None:
    """Killed while some Bindings wait inside the API server, of which some take effect after the death."""
    here.now_s = 4_000_000_000.0  # the process has the real clock, on which a heartbeat of the future is one of now
    here.gpus("a", "a100-80:2")
    pods = [here.pod(f"p{i}", profile="1g.10gb") for i in range(20)]
    release = asyncio.Event()
    here.there.faults.add("POST", "p1[0-4]/binding", waits_for(release), times=5)
    here.there.faults.add("POST", "p1[5-9]/binding", waits_for(asyncio.Event()), times=5)
    async with process(here) as (child, scheduler):
        binds = [asyncio.create_task(scheduler.bind(p, "a")) for p in pods]
        await eventually(lambda: len(here.there.store.objects(PODS, lambda p: "nodeName" in p["spec"])) >= 4, 15)
        child.send_signal(signal.SIGKILL)
        await child.wait()
        release.set()
        await asyncio.gather(*binds, return_exceptions=True)
    async with process(here) as (child, scheduler):
        answers = [await scheduler.bind(p, "a") for p in pods]
        child.terminate()
        assert await child.wait() == 0
    bound = here.there.store.objects(PODS, lambda p: "nodeName" in p["spec"])
    assert breaches(bound) == []
    assert len(bound) == answers.count("") == 14  # two GPUs with seven places each
