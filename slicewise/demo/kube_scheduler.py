"""A stand-in for kube-scheduler with one extender: filter, prioritize, bind, preempt over HTTP.

The wire is that of the real one: JSON with Go's field names.
Source: k8s.io/kube-scheduler/extender/v1 types.go, kubernetes/kubernetes pkg/scheduler/extender.go.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from slicewise.demo.controllers import GRACE_S, NAMESPACE, PODS, is_leaving
from slicewise.demo.kube_store import Collection, Store
from slicewise.demo.promises import Json
from slicewise.demo.scene import Line

NODES: Final = Collection("v1", "nodes")
#: An unschedulable pod is tried again after so long, in cluster time (podMaxBackoffSeconds).
BACKOFF_S: Final = 10.0
#: After an eviction: podInitialBackoffSeconds, and the victim's end.
RETRY_S: Final = 3.0
Tell = Callable[[Line], None]
T = TypeVar("T")


class FilterResult(msgspec.Struct):
    NodeNames: list[str] | None = None
    FailedNodes: dict[str, str] | None = None
    FailedAndUnresolvableNodes: dict[str, str] | None = None
    Error: str = ""

    @property
    def reasons(self) -> dict[str, str]:
        return {**(self.FailedNodes or {}), **(self.FailedAndUnresolvableNodes or {})}


class HostPriority(msgspec.Struct):
    Host: str
    Score: int


class MetaPod(msgspec.Struct):
    UID: str


class MetaVictims(msgspec.Struct):
    Pods: list[MetaPod]
    NumPDBViolations: int = 0


class PreemptionResult(msgspec.Struct):
    NodeNameToMetaVictims: dict[str, MetaVictims] | None = None


class BindingResult(msgspec.Struct):
    Error: str = ""


class KubeScheduler:
    def __init__(
        self, store: Store, extender_url: str, session: aiohttp.ClientSession, tell: Tell, said: Callable[[str], str]
    ) -> None:
        self._store = store
        self._url = extender_url
        self._session = session
        self._tell = tell
        self._said = said
        self._not_before_s: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self.calls: Counter[str] = Counter()
        self.bound = self.evicted = 0

    async def step(self, now_s: float) -> None:
        """Try every pod that waits and is due, the most important first, then the oldest."""
        waiting = self._store.objects(PODS, lambda pod: "nodeName" not in pod["spec"] and not is_leaving(pod))
        for pod in sorted(waiting, key=lambda p: (-p["spec"].get("priority", 0), p["metadata"]["uid"])):
            uid = pod["metadata"]["uid"]
            if self._not_before_s.get(uid, now_s) <= now_s:
                self._not_before_s[uid] = now_s + BACKOFF_S
                try:
                    await self._schedule(pod, now_s)
                except (aiohttp.ClientError, TimeoutError) as e:  # this attempt has failed, as in kube-scheduler
                    self._say_refused(pod, f"the extender does not answer: {e}", now_s)

    async def _schedule(self, pod: Json, now_s: float) -> None:
        names = [node["metadata"]["name"] for node in self._store.objects(NODES)]
        arguments = {"Pod": pod, "Nodes": None, "NodeNames": names}
        found = await self._ask("filter", arguments, FilterResult)
        if not found.NodeNames:
            self._say_refused(pod, counted(found.reasons) or found.Error, now_s)
            await self._preempt(pod, found, now_s)
            return
        scores = await self._ask("prioritize", {**arguments, "NodeNames": found.NodeNames}, list[HostPriority])
        best = max(scores, key=lambda scored: (scored.Score, scored.Host))
        await self._bind(pod, best.Host, now_s)

    async def _preempt(self, pod: Json, found: FilterResult, now_s: float) -> None:
        """Evict the fewest pods of lower priority that make room, as the extender proposes; the next try finds it."""
        if not pod["spec"].get("priority") or not found.FailedNodes:
            return
        nobody_yet = {node: {"Pods": [], "NumPDBViolations": 0} for node in found.FailedNodes}
        asked = {"Pod": pod, "NodeNameToVictims": None, "NodeNameToMetaVictims": nobody_yet}
        proposed = (await self._ask("preempt", asked, PreemptionResult)).NodeNameToMetaVictims
        if not proposed:
            return
        node = min(proposed, key=lambda name: (len(proposed[name].Pods), name))
        uids = {victim.UID for victim in proposed[node].Pods}
        for victim in self._store.objects(PODS, lambda other: other["metadata"]["uid"] in uids):
            name = victim["metadata"]["name"]
            self._store.delete(PODS, name, grace_s=GRACE_S)
            why = f"makes room on {node} for {self._said(_name(pod))}"
            self._tell(Line(now_s, "extender", f"{self._said(name)} is evicted", why, "yellow"))
            self.evicted += 1
        self._not_before_s[pod["metadata"]["uid"]] = now_s + RETRY_S

    async def _bind(self, pod: Json, node: str, now_s: float) -> None:
        metadata = pod["metadata"]
        named = {"PodName": metadata["name"], "PodNamespace": NAMESPACE, "PodUID": metadata["uid"], "Node": node}
        bound = await self._ask("bind", named, BindingResult)
        if bound.Error:
            self._tell(Line(now_s, "extender", f"{self._said(_name(pod))}: bind to {node} failed", bound.Error, "red"))
            return
        self.bound += 1
        self._refused.pop(metadata["uid"], None)

    def _say_refused(self, pod: Json, why: str, now_s: float) -> None:
        """Once for each new reason: a pod that waits is asked about many times and refused in the same words."""
        uid = pod["metadata"]["uid"]
        if self._refused.get(uid) != why:
            self._refused[uid] = why
            self._tell(Line(now_s, "extender", f"{self._said(_name(pod))} waits", why, "yellow"))

    async def _ask(self, verb: str, body: Mapping[str, Any], shape: type[T]) -> T:
        self.calls[verb] += 1
        async with self._session.post(f"{self._url}/{verb}", json=body) as response:
            response.raise_for_status()
            return msgspec.json.decode(await response.read(), type=shape)


def _name(pod: Json) -> str:
    return str(pod["metadata"]["name"])


def counted(reasons: Mapping[str, str]) -> str:
    """Equal reasons once, with how many nodes they hold for; what holds for most nodes first.

    >>> counted({"a": "full", "b": "full", "c": "no MIG"})
    '2 nodes: full; c: no MIG'
    """
    nodes: dict[str, list[str]] = {}
    for node, why in reasons.items():
        nodes.setdefault(why, []).append(node)
    ordered = sorted(nodes.items(), key=lambda found: -len(found[1]))
    return "; ".join(f"{len(held)} nodes: {why}" if len(held) > 1 else f"{held[0]}: {why}" for why, held in ordered)
