"""The one writing verb. Reserve in the ledger, create one Binding that carries the allocation, confirm or forget.

A Binding is refused by the API server when the pod has a node already or is another pod of the same name (UID). So one
whose answer was lost can be sent again: it either takes effect now or is refused because it did before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol, Self

from extender.interest import matters
from extender.ledger import Ledger, Phase, Refusal
from extender.placement.allocation import ALLOCATION, Allocation
from extender.placement.demand import Demand, DemandError
from extender.placement.reuse import NOTHING
from slicewise.process.kube import NOT_SENT, Json, KubeError

Clock = Callable[[], float]
#: kube-apiserver gives up on a request after this long; before that, a Binding without an answer may still take effect.
LATE_S: Final = 60.0
#: After a 5xx the request is over, but a write that etcd was late with may still come: 5 s and two elections of 1 s.
#: Source: etcd-io/etcd server/config ReqTimeout.
LATE_WRITE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 5.0
NEVER_S: Final = float("-inf")


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
    """`allocation`: what the pod holds, None for a pod that asks for nothing of ours. `again`: it was bound before.

    `warm_s`: seconds that its start is shorter by what was on the node; None: nothing was looked for.
    """

    allocation: Allocation | None
    again: bool = False
    warm_s: Mapping[str, float] | None = None


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

    `waiting`: what the pending pod of a uid asks for, None if the watch has not shown it. `tell` hears of every
    attempt's end once.
    """

    api: Api
    ledger: Ledger
    waiting: Callable[[str], Demand | DemandError | None]
    now_s: Clock
    mono_s: Clock
    deadline_s: float
    tell: Tell = lambda _, __: None
    pause_s: float = 0.2  #: the first pause before an unanswered Binding is looked after; pauses double
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _attempts: dict[str, "_Attempt"] = field(default_factory=dict)  # by uid

    async def bind(self, request: Request) -> Result:
        """Answers within the deadline. A Binding whose end is not known by then goes on being looked after.

        The same pod on the same node may be asked for at any time, and gets the same answer.
        """
        if not request.uid:
            why = f"pod {request.key}: want PodUID, without it the pod cannot be told from its namesakes"
            return self._told(request, Unbound(Outcome.REFUSED, why))
        attempt = self._attempts.get(request.uid) or self._start(request)
        if attempt.node != request.node:
            why = f"pod {request.key} may be bound to {attempt.node}: the API server has not answered about it yet"
            return self._told(request, Unbound(Outcome.REFUSED, why))
        attempt.until_s = self.mono_s() + self.deadline_s
        try:
            return await asyncio.wait_for(asyncio.shield(attempt.task), self.deadline_s)
        except TimeoutError:
            why = f"pod {request.key}: no answer from the API server within {self.deadline_s:g} s; its place is kept"
            return self._told(request, Unbound(Outcome.LOST, why))

    async def close(self) -> None:
        """Stop looking after Bindings without an answer: the next process finds out from the API."""
        tasks = [attempt.task for attempt in self._attempts.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _told(self, request: Request, result: Result) -> Result:
        self.tell(request, result)
        return result

    def _start(self, request: Request) -> "_Attempt":
        async def run() -> Result:
            try:
                return self._told(request, await self._bind(request))
            finally:
                del self._attempts[request.uid]

        attempt = _Attempt(request.node, self.mono_s(), asyncio.create_task(run(), name=f"bind {request.key}"))
        self._attempts[request.uid] = attempt
        return attempt

    async def _bind(self, request: Request) -> Result:
        held = self.ledger.holding(request.uid)
        if held is not None and held.node == request.node and held.phase is Phase.BOUND:
            return Bound(held.allocation, again=True)
        demand = await self._demand(request)
        if isinstance(demand, Bound | Unbound):
            return demand
        if demand is None:
            return await self._send(request, None, None)
        assumed = self.ledger.assume(request.uid, request.key, demand, request.node, self.now_s())
        if isinstance(assumed, Refusal):
            return Unbound(Outcome.REFUSED, assumed.why)
        warm_s = None if demand.reuse == NOTHING else self.ledger.warmth.on(demand, request.node, self.now_s())
        result = await self._send(request, demand, assumed)
        return replace(result, warm_s=warm_s) if isinstance(result, Bound) else result

    async def _demand(self, request: Request) -> Demand | Result | None:
        """What the pod asks for (None: nothing of ours), or how it ends already. The pod is read if need be."""
        known = self.waiting(request.uid)
        try:
            if known is None:
                pod = await self.api.get(request.path)
                return self._settled(request, pod) or Demand.of(pod)
        except KubeError as e:
            return Unbound(Outcome.REFUSED, f"pod {request.key} is not known here, and cannot be read: {e}")
        except DemandError as e:
            known = e
        return Unbound(Outcome.REFUSED, str(known)) if isinstance(known, DemandError) else known

    async def _send(self, request: Request, demand: Demand | None, allocation: Allocation | None) -> Result:
        """Until it is known how it ended. While somebody waits the Binding is sent again, else the pod is read."""
        attempt, pause_s, late_until_s = self._attempts[request.uid], self.pause_s, NEVER_S
        while True:
            if self.mono_s() < attempt.until_s:
                result = await self._post(request, allocation)
                if isinstance(result, _Unknown):
                    late_until_s = max(late_until_s, self.mono_s() + result.late_s)
                    result = None
            else:
                result = await self._read(request, late=self.mono_s() >= late_until_s)
            if result is not None:
                return result
            await self.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            if demand is not None:  # the reservation must not expire while nobody knows
                self.ledger.assume(request.uid, request.key, demand, request.node, self.now_s())

    async def _post(self, request: Request, allocation: Allocation | None) -> "Result | _Unknown | None":
        """One try, in half of the deadline so that there is time for two. None: refused, and why is not known yet."""
        try:
            async with asyncio.timeout(self.deadline_s / 2):
                await self.api.create(f"{request.path}/binding", binding(request, allocation))
        except KubeError as e:
            if e.status == 409:
                return await self._read(request, refused=e.message)
            if (unknown := _Unknown.after(e)) is not None:
                return unknown
            self.ledger.forget(request.uid)
            return Unbound(Outcome.FAILED, f"pod {request.key}: {e}")
        except TimeoutError:
            return _Unknown(LATE_S)
        if allocation is None or self.ledger.confirm(request.uid):
            return Bound(allocation)
        return await self._read(request)  # its reservation had expired: the ledger learns from the pod

    async def _read(self, request: Request, *, refused: str = "", late: bool = False) -> Result | None:
        """What the API server has. None: not known yet.

        A pod without a node is an answer when a Binding was `refused`, or when none can come any more (`late`).
        """
        try:
            pod = await self.api.get(request.path)
        except KubeError as e:
            if e.status != 404:
                return None
            self.ledger.forget(request.uid)
            return Unbound(Outcome.CONFLICT, f"pod {request.key} is gone")
        settled = self._settled(request, pod)
        if settled is not None or not (refused or late):
            return settled
        self.ledger.forget(request.uid)
        why = refused or "its Binding had no effect"
        return Unbound(Outcome.CONFLICT if refused else Outcome.LOST, f"pod {request.key}: {why}")

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


@dataclass(slots=True)
class _Attempt:
    """One pod on its way to one node. `until_s`: when the last one who waits for it will have gone."""

    node: str
    until_s: float
    task: asyncio.Task[Result]


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A Binding was sent that may have taken effect, or may within `late_s`."""

    late_s: float

    @classmethod
    def after(cls, error: KubeError) -> Self | None:
        """None: it certainly has not and will not, and asking again would not help."""
        if error.unanswered:
            return cls(0.0 if error.reason == NOT_SENT else LATE_S)
        if error.status == 429:  # turned away at the door
            return cls(0.0)
        return cls(LATE_WRITE_S) if error.status >= 500 else None
