import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.demo.kube_objects import Json
from slicewise.process.kube import Kube
from slicewise.process.watch import Patience, Progress, watch
from tests.fakes.kube_api import (
    PODS,
    Cluster,
    Fault,
    cluster,
    drops_the_request,
    eventually,
    pod,
    refuses,
    says,
    waits_for,
)

HURRIED = Patience(first_pause_s=0.001, longest_pause_s=0.02)


class Mirror:
    """The objects as the watch tells of them, by name."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.replaced = 0

    def replace(self, items: Sequence[Json]) -> None:
        self.objects = {o["metadata"]["name"]: o for o in items}
        self.replaced += 1

    def upsert(self, obj: Json) -> None:
        self.objects[obj["metadata"]["name"]] = obj

    def delete(self, obj: Json) -> None:
        del self.objects[obj["metadata"]["name"]]

    def equals(self, there: Cluster) -> bool:
        return self.objects == {o["metadata"]["name"]: o for o in there.store.objects(PODS)}


class Watched:
    def __init__(self, there: Cluster) -> None:
        self.there = there
        self.mirror = Mirror()
        self.progress = Progress()

    @contextlib.asynccontextmanager
    async def running(self, patience: Patience = HURRIED, **selectors: str) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with Kube.connect(self.there.kubeconfig) as kube:
            task = asyncio.create_task(
                watch(
                    kube,
                    "/api/v1/pods",
                    self.mirror,
                    stop=stop,
                    progress=self.progress,
                    selectors=selectors,
                    patience=patience,
                )
            )
            try:
                yield
            finally:
                stop.set()
                await task


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as running:
        yield running


@pytest.fixture
def watched(there: Cluster) -> Watched:
    return Watched(there)


async def test_the_sink_follows_every_change(there: Cluster, watched: Watched) -> None:
    there.store.create(PODS, pod("before"))
    async with watched.running():
        await watched.progress.synced.wait()
        there.store.create(PODS, pod("after"))
        there.store.merge_patch(PODS, "before", {"metadata": {"labels": {"x": "y"}}})
        await eventually(lambda: len(watched.mirror.objects) == 2 and watched.mirror.equals(there))
        there.store.delete(PODS, "before")
        await eventually(lambda: watched.mirror.equals(there))
    assert watched.mirror.replaced == 1


async def test_a_long_list_comes_in_pages(there: Cluster, watched: Watched) -> None:
    for i in range(1201):
        there.store.create(PODS, pod(f"p{i:04}"))
    async with watched.running():
        await watched.progress.synced.wait()
        assert watched.mirror.equals(there)
    assert there.faults.seen.count("GET /api/v1/pods") == 4  # three pages, one watch


async def test_a_selector_turns_a_finished_pod_into_a_deleted_one(there: Cluster, watched: Watched) -> None:
    there.store.create(PODS, pod("a"))
    async with watched.running(fieldSelector="status.phase!=Succeeded,status.phase!=Failed"):
        await eventually(lambda: "a" in watched.mirror.objects)
        there.store.merge_patch(PODS, "a", {"status": {"phase": "Succeeded"}})
        await eventually(lambda: not watched.mirror.objects)


@pytest.mark.parametrize(
    ("fault", "watches"),
    [
        pytest.param(refuses(500), False, id="the list fails"),
        pytest.param(drops_the_request, False, id="the connection of the list breaks"),
        pytest.param(says("{"), False, id="the list is no JSON"),
        pytest.param(refuses(429), True, id="the watch is refused"),
        pytest.param(drops_the_request, True, id="the connection of the watch breaks at once"),
        pytest.param(says("{}\n"), True, id="the watch sends an event without a type"),
        pytest.param(says('{"type":"WHAT","object":{}}\n'), True, id="the watch sends an event of an unknown type"),
        pytest.param(says('{"type":"ERROR","object":{"code":500}}\n'), True, id="the watch sends an error"),
        pytest.param(says("\n"), True, id="the watch ends at once"),
    ],
)
async def test_after_a_fault_the_sink_is_right_again(
    there: Cluster, watched: Watched, fault: Fault, watches: bool
) -> None:
    there.store.create(PODS, pod("a"))
    there.faults.add("GET", "pods", fault, times=3, watches=watches)
    async with watched.running():
        await watched.progress.synced.wait()
        there.store.create(PODS, pod("b"))
        await eventually(lambda: "b" in watched.mirror.objects)
        assert watched.mirror.equals(there)
        assert watched.progress.lost_since_s is None
        assert watched.progress.current(0.0, 0.0)


async def test_a_watch_cut_in_the_middle_goes_on_without_a_new_list(there: Cluster, watched: Watched) -> None:
    async with watched.running():
        for i in range(5):
            await eventually(lambda: len(there.faults.watching) > 0)
            there.faults.cut_watches()
            there.store.create(PODS, pod(f"p{i}"))
            await eventually(lambda: watched.mirror.equals(there))
    assert watched.mirror.replaced == 1


async def test_an_expired_version_leads_to_a_new_list(there: Cluster, watched: Watched) -> None:
    there.store.create(PODS, pod("a"))
    async with watched.running():
        await eventually(lambda: len(there.faults.watching) > 0)
        there.faults.add("GET", "pods", drops_the_request, times=1, watches=True)
        there.faults.cut_watches()
        there.store.delete(PODS, "a")
        there.store.create(PODS, pod("b"))
        there.store.compact()
        await eventually(lambda: watched.mirror.replaced == 2)
        assert set(watched.mirror.objects) == {"b"}


async def test_a_half_open_watch_is_noticed(there: Cluster, watched: Watched) -> None:
    there.faults.add("GET", "pods", waits_for(asyncio.Event()), times=1, watches=True)
    async with watched.running(Patience(quiet_s=0.05, first_pause_s=0.001, longest_pause_s=0.01)):
        await watched.progress.synced.wait()
        there.store.create(PODS, pod("a"))
        await eventually(lambda: "a" in watched.mirror.objects)
    assert watched.progress.failures >= 1


async def test_a_watch_that_is_lost_says_since_when(there: Cluster, watched: Watched) -> None:
    async with watched.running():
        await watched.progress.synced.wait()
        there.faults.add("GET", "pods", refuses(500), times=1_000_000, watches=True)
        there.faults.cut_watches()
        await eventually(lambda: watched.progress.failures > 2)
        since_s = watched.progress.lost_since_s
        assert since_s is not None
        assert watched.progress.current(since_s + 1, tolerance_s=1)
        assert not watched.progress.current(since_s + 1.5, tolerance_s=1)
    assert not Progress().current(0.0, 1.0)


async def test_a_fault_of_the_sink_is_not_swallowed(there: Cluster, watched: Watched) -> None:
    there.store.create(PODS, pod("a"))
    async with Kube.connect(there.kubeconfig) as kube:
        task = asyncio.create_task(
            watch(kube, "/api/v1/pods", watched.mirror, stop=asyncio.Event(), progress=watched.progress)
        )
        await watched.progress.synced.wait()
        watched.mirror.objects.clear()
        there.store.delete(PODS, "a")
        with pytest.raises(KeyError, match="a"):
            await asyncio.wait_for(task, 5)


@given(last_s=st.floats(0, 1e6), fraction=st.floats(0, 1))
def test_pauses_stay_between_the_first_and_the_longest(last_s: float, fraction: float) -> None:
    patience = Patience(first_pause_s=0.5, longest_pause_s=8.0, uniform=lambda a, b: a + fraction * (b - a))
    assert 0.5 <= patience.next_pause_s(last_s) <= 8.0
