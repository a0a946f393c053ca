"""The one writing verb. Reserve in the ledger, create one Binding that carries the allocation, confirm or forget.

A Binding is refused by the API server when the pod has a node already or is another pod of the same name (UID). So one
whose answer was lost can be sent again: it either takes effect now or is refused because it did before.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from extender.interest import matters
from extender.ledger import Ledger, Phase, Refusal
from extender.placement.allocation import ALLOCATION, Allocation
from extender.placement.demand import Demand, DemandError
from slicewise.process.kube import Json, KubeError

Clock = Callable[[], float]
#: kube-apiserver gives up on a request after this long; before that, a Binding without an answer may still take effect.
LATE_S: Final = 60.0


class Api(Protocol):
    async def get(self, path: str) -> Json: ...

    async def create(self, path: str, body: Json) -> Json: ...


@dataclass(frozen=True, slots=True)
class Request:
    """What kube-scheduler asks: this pod on this node."""

    namespace: str
    name: str
    uid: str
    node: str

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"


@dataclass(frozen=True, slots=True)
class Bound:
    """`allocation`: what the pod holds, None for a pod that asks for nothing of ours. `again`: it was bound before."""

    allocation: Allocation | None
    again: bool = False


class Outcome(StrEnum):
    REFUSED = "refused"  # by the ledger or by its own faults; nothing was sent
    CONFLICT = "conflict"  # the API server has the pod elsewhere, or another pod of its name
    FAILED = "failed"  # the API server said no
    LOST = "lost"  # it did not answer in time


@dataclass(frozen=True, slots=True)
class Unbound:
    outcome: Outcome
    why: str


Result = Bound | Unbound
Tell = Callable[[Request, Result], None]


@dataclass(slots=True)
class Binder:
    """`now_s`: seconds since the epoch, the ledger's time. `mono_s`: monotone seconds, for deadlines.

    `waiting`: the pending pod of a uid, None if the watch has not shown it. `tell` hears of every attempt's end once.
    """

    api: Api
    ledger: Ledger
    waiting: Callable[[str], Json | None]
    now_s: Clock
    mono_s: Clock
    deadline_s: float
    tell: Tell = lambda _, __: None
    pause_s: float = 0.2  #: the first pause before an unanswered Binding is looked after; pauses double
    late_s: float = LATE_S
    _running: dict[str, tuple[str, asyncio.Task[Result]]] = field(default_factory=dict)

    async def bind(self, request: Request) -> Result:
        """Answers within the deadline. A Binding whose end is not known by then goes on being looked after.

        The same pod on the same node may be asked for at any time, and gets the same answer.
        """
        if not request.uid:
            why = f"pod {request.key}: want PodUID, without it the pod cannot be told from its namesakes"
            return self._told(request, Unbound(Outcome.REFUSED, why))
        node, task = self._running.get(request.uid) or (request.node, self._start(request))
        if node != request.node:
            why = f"pod {request.key} may be bound to {node}: the API server has not answered about it yet"
            return self._told(request, Unbound(Outcome.REFUSED, why))
        try:
            return await asyncio.wait_for(asyncio.shield(task), self.deadline_s)
        except TimeoutError:
            why = f"pod {request.key}: no answer from the API server within {self.deadline_s:g} s; its place is kept"
            return self._told(request, Unbound(Outcome.LOST, why))

    async def close(self) -> None:
        """Stop looking after Bindings without an answer: the next process finds out from the API."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _told(self, request: Request, result: Result) -> Result:
        self.tell(request, result)
        return result

    def _start(self, request: Request) -> asyncio.Task[Result]:
        async def run() -> Result:
            try:
                return self._told(request, await self._bind(request))
            finally:
                del self._running[request.uid]

        task = asyncio.create_task(run(), name=f"bind {request.key}")
        self._running[request.uid] = (request.node, task)
        return task

    async def _bind(self, request: Request) -> Result:
        held = self.ledger.holding(request.uid)
        if held is not None and held.node == request.node and held.phase is Phase.BOUND:
            return Bound(held.allocation, again=True)
        pod = self.waiting(request.uid)
        if pod is None:
            try:
                pod = await self.api.get(request.path)
            except KubeError as e:
                return Unbound(Outcome.REFUSED, f"pod {request.key} is not known here, and cannot be read: {e}")
            settled = self._settled(request, pod)
            if settled is not None:
                return settled
        return await self._place(request, pod)

    async def _place(self, request: Request, pod: Json) -> Result:
        try:
            demand = Demand.of(pod)
        except DemandError as e:
            return Unbound(Outcome.REFUSED, str(e))
        if demand is None:
            return await self._send(request, None, None)
        assumed = self.ledger.assume(request.uid, request.key, demand, request.node, self.now_s())
        if isinstance(assumed, Refusal):
            return Unbound(Outcome.REFUSED, assumed.why)
        return await self._send(request, demand, assumed)

    async def _send(self, request: Request, demand: Demand | None, allocation: Allocation | None) -> Result:
        """Until there is an answer or the deadline is over. Each attempt has half the time, so that there are two."""
        body = binding(request, allocation)
        until_s, pause_s = self.mono_s() + self.deadline_s, self.pause_s
        while True:
            try:
                async with asyncio.timeout(self.deadline_s / 2):
                    await self.api.create(f"{request.path}/binding", body)
            except KubeError as e:
                error = e
            except TimeoutError:
                error = KubeError(0, "Timeout", f"POST {request.path}/binding")
            else:
                if allocation is None or self.ledger.confirm(request.uid):
                    return Bound(allocation)
                return await self._look_after(request, demand, "its reservation had expired")
            if error.status == 409:
                return await self._look_after(request, demand, error.message, refused=True)
            if not _is_unknown(error):
                self.ledger.forget(request.uid)
                return Unbound(Outcome.FAILED, f"pod {request.key}: {error}")
            if self.mono_s() >= until_s:
                return await self._look_after(request, demand, str(error))
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def _look_after(self, request: Request, demand: Demand | None, why: str, *, refused: bool = False) -> Result:
        """What the API server has. `refused`: no Binding of ours is on its way any more, so "no node" is an answer.

        Otherwise "no node" is one only when no Binding can come late, and until then the place is kept.
        """
        late_s, pause_s = self.mono_s() + self.late_s, self.pause_s
        while True:
            try:
                pod = await self.api.get(request.path)
            except KubeError as e:
                if e.status == 404:
                    self.ledger.forget(request.uid)
                    return Unbound(Outcome.CONFLICT, f"pod {request.key} is gone")
                pod = None
            settled = self._settled(request, pod) if pod is not None else None
            if settled is not None:
                return settled
            if pod is not None and (refused or self.mono_s() >= late_s):
                self.ledger.forget(request.uid)
                return Unbound(Outcome.CONFLICT if refused else Outcome.LOST, f"pod {request.key}: {why}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 10.0)
            if demand is not None:  # the reservation must not expire while nobody knows
                self.ledger.assume(request.uid, request.key, demand, request.node, self.now_s())

    def _settled(self, request: Request, pod: Json) -> Result | None:
        """What an object from the API says about a request; None if the pod has no node."""
        metadata, node = pod["metadata"], (pod.get("spec") or {}).get("nodeName")
        if metadata.get("uid") != request.uid:
            self.ledger.forget(request.uid)
            why = f"pod {request.key} is another one now: its uid is {metadata.get('uid')}, not {request.uid}"
            return Unbound(Outcome.CONFLICT, why)
        if not node:
            return None
        self.ledger.forget(request.uid)  # what the API has is the truth, also where it differs from what was assumed
        self.ledger.put_pod(pod)
        held = self.ledger.holding(request.uid)
        if node != request.node:
            return Unbound(Outcome.CONFLICT, f"pod {request.key} is bound to {node}")
        if held is None and matters(pod):
            return Unbound(Outcome.CONFLICT, f"pod {request.key} is bound to {node} by someone else, without a place")
        return Bound(held.allocation if held else None, again=True)


def binding(request: Request, allocation: Allocation | None) -> Json:
    """The Binding: kube-apiserver merges its annotations into the pod in the write that sets the node.

    Source: kubernetes/kubernetes pkg/registry/core/pod/storage/storage.go, setPodNodeAndMetadata.
    """
    metadata: Json = {"name": request.name, "namespace": request.namespace, "uid": request.uid}
    if allocation is not None and allocation.containers:
        metadata["annotations"] = {ALLOCATION: allocation.encode()}
    target = {"apiVersion": "v1", "kind": "Node", "name": request.node}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}


def _is_unknown(error: KubeError) -> bool:
    """Whether what was asked may have happened, or may happen when it is asked again."""
    return error.unanswered or error.status == 429 or error.status >= 500
