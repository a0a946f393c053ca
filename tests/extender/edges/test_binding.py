"""The Binding's ends that need a clock which a test turns, and an API server that answers by script."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from extender.agent.fake import FakeNvml
from extender.agent.inventory import document, encoded
from extender.binding import Binder, Bound, Outcome, Request, Result, Unbound, binding
from extender.kube import Pods, Watches
from extender.ledger import Ledger, Phase
from extender.placement.allocation import ALLOCATION, Allocation
from extender.placement.demand import SLICE, Demand, DemandError
from extender.placement.model import Inventory
from slicewise.demo.kube_objects import Json
from slicewise.process.kube import NOT_SENT, KubeError
from tests.fakes.kube_api import eventually

REQUEST = Request("default", "one", "u-1", "a")
SILENCE = KubeError(0, "Timeout", "nothing heard")


def waiting_pod(node: str = "", annotations: dict[str, str] | None = None) -> Json:
    main = {"name": "main", "resources": {"limits": {SLICE: "1"}}}
    given = {"slicewise.dev/mode": "exclusive", **(annotations or {})}
    metadata = {"name": "one", "namespace": "default", "uid": "u-1", "annotations": given}
    return {"metadata": metadata, "spec": {"containers": [main], **({"nodeName": node} if node else {})}}


@dataclass
class ScriptedApi:
    """Answers by what the test says; each Binding that is sent is kept."""

    pod: Json | KubeError
    create_says: Callable[[], None]
    sent: list[Json] = field(default_factory=list)

    async def get(self, path: str) -> Json:
        assert path == "/api/v1/namespaces/default/pods/one"
        if isinstance(self.pod, KubeError):
            raise self.pod
        return self.pod

    async def create(self, path: str, body: Json) -> Json:
        self.sent.append(body)
        self.create_says()
        return {}


class Story:
    def __init__(self, pod: Json | KubeError, create_says: Callable[[], None], deadline_s: float = 4.0) -> None:
        self.api = ScriptedApi(pod, create_says)
        self.ledger = Ledger()
        self.ledger.put_node("a", *Inventory.parse(encoded(document(FakeNvml.parse("l40s:1", "a").gpus()))))
        self.ledger.heartbeat("a", 0.0)
        self.clock_s = 0.0
        self.told: list[Result] = []
        self.naps = 0
        self.binder = Binder(
            api=self.api,
            ledger=self.ledger,
            waiting=lambda _: Demand.of(waiting_pod()),
            now_s=lambda: self.clock_s,
            mono_s=lambda: self.clock_s,
            deadline_s=deadline_s,
            tell=lambda _, result: self.told.append(result),
            sleep=self._nap,
        )

    async def bind(self) -> Result:
        return await self.binder.bind(REQUEST)

    async def _nap(self, _: float) -> None:
        self.naps += 1
        await asyncio.sleep(0.001)

    async def several_naps(self) -> None:
        after = self.naps + 3
        await eventually(lambda: self.naps >= after)

    def phase(self) -> Phase | None:
        held = self.ledger.holding("u-1")
        return None if held is None else held.phase


def says(*errors: KubeError) -> Callable[[], None]:
    """These in turn, then success."""
    left = list(errors)

    def say() -> None:
        if left:
            raise left.pop(0)

    return say


def always(error: KubeError) -> Callable[[], None]:
    def say() -> None:
        raise error

    return say


async def test_one_binding_carries_uid_node_and_allocation() -> None:
    story = Story(waiting_pod(), says())
    result = await story.bind()
    assert isinstance(result, Bound)
    assert (result.again, story.phase()) == (False, Phase.CONFIRMED)
    (sent,) = story.api.sent
    assert sent["metadata"]["uid"] == "u-1"
    assert sent["target"] == {"apiVersion": "v1", "kind": "Node", "name": "a"}
    assert Allocation.decode(sent["metadata"]["annotations"][ALLOCATION]) == result.allocation
    assert story.told == [result]


def test_a_pod_without_slices_of_ours_gets_no_annotation() -> None:
    assert "annotations" not in binding(REQUEST, None)["metadata"]
    assert "annotations" not in binding(REQUEST, Allocation(()))["metadata"]  # MIG instances of NVIDIA's plugin


async def test_without_a_uid_nothing_is_done() -> None:
    story = Story(waiting_pod(), says())
    result = await story.binder.bind(Request("default", "one", "", "a"))
    assert result == Unbound(
        Outcome.REFUSED, "pod default/one: want PodUID, without it the pod cannot be told from its namesakes"
    )
    assert story.api.sent == []


async def test_nobody_waits_any_more_and_it_had_taken_effect() -> None:
    story = Story(SILENCE, always(SILENCE), deadline_s=0.02)
    first = await story.bind()
    assert isinstance(first, Unbound)
    assert (first.outcome, story.phase()) == (Outcome.LOST, Phase.ASSUMED)
    story.clock_s = 1.0
    record = story.api.sent[0]["metadata"]["annotations"][ALLOCATION]
    story.api.pod = waiting_pod("a", {ALLOCATION: record})
    result = await _ended(story)
    assert isinstance(result, Bound)
    assert (result.again, story.phase()) == (True, Phase.BOUND)


async def test_nobody_waits_any_more_and_it_never_took_effect() -> None:
    story = Story(waiting_pod(), always(SILENCE), deadline_s=0.02)
    assert isinstance(await story.bind(), Unbound)
    story.clock_s = 59.0
    await story.several_naps()
    assert story.phase() is Phase.ASSUMED  # a Binding may still come late
    story.clock_s = 61.0
    result = await _ended(story)
    assert isinstance(result, Unbound)
    assert (result.outcome, story.phase()) == (Outcome.LOST, None)


@pytest.mark.parametrize(
    ("error", "kept_s"),
    [
        pytest.param(KubeError(500, "InternalError", "x"), 10.0, id="answered: only etcd may be late"),
        pytest.param(KubeError(429, "TooManyRequests", "x"), 0.0, id="turned away: nothing can come"),
        pytest.param(KubeError(0, NOT_SENT, "x"), 0.0, id="never sent: nothing can come"),
    ],
)
async def test_a_place_is_kept_as_long_as_a_binding_may_come_late(error: KubeError, kept_s: float) -> None:
    story = Story(waiting_pod(), always(error), deadline_s=0.02)
    assert isinstance(await story.bind(), Unbound)
    if kept_s:
        story.clock_s = kept_s - 0.1
        await story.several_naps()
        assert story.phase() is Phase.ASSUMED
    story.clock_s = kept_s + 0.1
    result = await _ended(story)
    assert isinstance(result, Unbound)
    assert (result.outcome, story.phase()) == (Outcome.LOST, None)


async def test_the_place_is_kept_longer_than_a_reservation_lives_while_the_api_is_silent() -> None:
    story = Story(SILENCE, always(SILENCE), deadline_s=0.02)
    await story.bind()
    for _ in range(5):
        story.clock_s += 100.0
        await story.several_naps()
        assert story.ledger.expire(story.clock_s) == ()
    story.api.pod = KubeError(404, "NotFound", "gone")
    result = await _ended(story)
    assert isinstance(result, Unbound)
    assert (result.outcome, story.phase()) == (Outcome.CONFLICT, None)


async def test_a_scheduler_that_asks_again_has_the_binding_sent_again() -> None:
    story = Story(waiting_pod(), always(SILENCE), deadline_s=0.02)
    await story.bind()
    story.clock_s = 1.0
    sent = len(story.api.sent)
    story.api.create_says = says()
    result = await story.bind()
    assert isinstance(result, Bound)
    assert len(story.api.sent) == sent + 1


async def test_an_api_server_that_hangs_is_asked_again_in_half_the_time() -> None:
    story = Story(waiting_pod(), says(), deadline_s=0.2)
    hang = asyncio.Event()
    create = story.api.create

    async def slow(path: str, body: Json) -> Json:
        if not story.api.sent:
            story.api.sent.append(body)
            await hang.wait()
        return await create(path, body)

    story.api.create = slow  # type: ignore[method-assign]  # one answer of the script takes for ever
    assert isinstance(await story.bind(), Bound)
    assert len(story.api.sent) == 2


async def test_a_reservation_that_expired_meanwhile_is_read_back_from_the_pod() -> None:
    story = Story(waiting_pod(), says())

    def expires() -> None:
        record = story.api.sent[0]["metadata"]["annotations"][ALLOCATION]
        story.ledger.forget("u-1")
        story.api.pod = waiting_pod("a", {ALLOCATION: record})

    story.api.create_says = expires
    assert isinstance(await story.bind(), Bound)
    assert story.phase() is Phase.BOUND


async def test_a_conflict_whose_pod_cannot_be_read_is_not_an_end() -> None:
    conflict = KubeError(409, "Conflict", "already assigned")
    story = Story(SILENCE, always(conflict), deadline_s=0.02)
    first = await story.bind()
    assert isinstance(first, Unbound)
    assert (first.outcome, story.phase()) == (Outcome.LOST, Phase.ASSUMED)
    story.api.pod = waiting_pod()
    result = await story.bind()
    assert isinstance(result, Unbound)
    assert (result.outcome, story.phase()) == (Outcome.CONFLICT, None)


async def test_closing_stops_what_is_still_looked_after() -> None:
    story = Story(SILENCE, always(SILENCE), deadline_s=0.02)
    await story.bind()
    await story.binder.close()
    assert story.binder._attempts == {}
    assert [t for t in asyncio.all_tasks() if t.get_name().startswith("bind ")] == []


async def _ended(story: Story) -> Result:
    await eventually(lambda: not story.binder._attempts)
    return story.told[-1]


def test_pods_that_do_not_matter_are_not_kept() -> None:
    ledger = Ledger()
    pods = Pods(ledger, lambda: 0.0)
    plain = {"metadata": {"name": "p", "uid": "u-9"}, "spec": {"containers": [{"name": "main"}], "nodeName": "a"}}
    pods.upsert(plain)
    pods.replace([plain, waiting_pod()])
    assert pods.waiting("u-1") == Demand.of(waiting_pod())
    assert pods.waiting("u-9") is None
    assert ledger.holdings() == ()
    pods.delete(plain)
    pods.upsert(waiting_pod(annotations={"slicewise.dev/mode": "odd"}))
    assert isinstance(pods.waiting("u-1"), DemandError)
    pods.upsert(waiting_pod("b"))
    assert pods.waiting("u-1") is None
    assert [str(p) for p in ledger.problems()] != []  # bound by somebody else, without a place


@pytest.mark.parametrize("text", [pytest.param("yesterday", id="not a time"), pytest.param(None, id="no time")])
def test_a_heartbeat_that_cannot_be_read_is_none(text: str | None) -> None:
    from extender.kube import Heartbeats  # noqa: PLC0415  # only here

    ledger = Ledger()
    ledger.put_node("a", *Inventory.parse(encoded(document(FakeNvml.parse("l40s:1", "a").gpus()))))
    beats = Heartbeats(ledger, lambda: 100.0)
    beats.replace([{"metadata": {"name": "a"}, "spec": {"renewTime": text}}])
    assert ledger.unusable("a", 100.0) is not None
    beats.upsert({"metadata": {"name": "a"}, "spec": {"renewTime": "1970-01-01T00:01:40.000000Z"}})
    assert ledger.unusable("a", 100.0) is None
    beats.replace([])
    assert ledger.unusable("a", 100.0) is not None
    beats.upsert({"metadata": {"name": "a"}, "spec": {"renewTime": "1970-01-01T00:01:40.000000Z"}})
    beats.delete({"metadata": {"name": "a"}})
    assert ledger.unusable("a", 100.0) is not None


def test_watches_that_have_not_begun_are_not_ready() -> None:
    why = Watches(Ledger(), lambda: 0.0).why_not_ready(0.0, 1.0)
    assert why == "not synced yet: nodes, pods, leases"
