"""What the API server tells: nodes, pods and heartbeats, fed into the ledger. Nothing is written here."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from extender.interest import matters
from extender.ledger import Ledger
from extender.placement.demand import Demand, DemandError
from slicewise.process.kube import Json, Kube
from slicewise.process.lease import epoch_s, lease_path
from slicewise.process.watch import Patience, Progress, watch

Clock = Callable[[], float]  #: seconds since the epoch
NEVER_S: Final = float("-inf")

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Nodes:
    """Node objects into the ledger, which reads an inventory only when its text has changed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def replace(self, items: Sequence[Json]) -> None:
        self._ledger.replace_nodes(items)

    def upsert(self, obj: Json) -> None:
        self._ledger.put_node_object(obj)

    def delete(self, obj: Json) -> None:
        self._ledger.drop_node(obj["metadata"]["name"])


class Pods:
    """Pods that matter or have a node into the ledger: all take CPU and memory. Those that wait are kept for bind.

    Bind is told no more than a uid.
    """

    def __init__(self, ledger: Ledger, now_s: Clock) -> None:
        self._ledger = ledger
        self._now_s = now_s
        self._waiting: dict[str, Demand | DemandError] = {}  # by uid; demands, since pods are a hundred times larger

    def waiting(self, uid: str) -> Demand | DemandError | None:
        """What a pod without a node asks for; None if the watch has not shown such a pod."""
        return self._waiting.get(uid)

    def replace(self, items: Sequence[Json]) -> None:
        seen = [pod for pod in items if _is_placed(pod) or matters(pod)]
        self._ledger.replace_pods(seen, self._now_s())
        self._waiting.clear()
        for pod in seen:
            self._note(pod)

    def upsert(self, obj: Json) -> None:
        if not _is_placed(obj) and not matters(obj):
            return
        self._ledger.put_pod(obj)
        self._note(obj)

    def delete(self, obj: Json) -> None:
        uid = obj["metadata"]["uid"]
        self._waiting.pop(uid, None)
        self._ledger.drop_pod(uid)

    def _note(self, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        self._waiting.pop(uid, None)
        if _is_placed(pod):
            return
        try:
            demand = Demand.of(pod)
        except DemandError as e:
            self._waiting[uid] = e
        else:
            if demand is not None:
                self._waiting[uid] = demand


def _is_placed(pod: Json) -> bool:
    return bool((pod.get("spec") or {}).get("nodeName"))


class Heartbeats:
    """Leases of the node agents into the ledger.

    A renewal counts from when it was seen here: the clocks of nodes may be wrong. Only what is found at the start is
    believed by its own time, since nobody saw it come; the next renewal, ten seconds later, mends a wrong clock.
    """

    def __init__(self, ledger: Ledger, now_s: Clock) -> None:
        self._ledger = ledger
        self._now_s = now_s
        self._renewals: dict[str, str] = {}

    def replace(self, items: Sequence[Json]) -> None:
        names = {lease["metadata"]["name"] for lease in items}
        for name in self._renewals.keys() - names:
            self._forget(name)
        for lease in items:
            self.upsert(lease)

    def upsert(self, obj: Json) -> None:
        name, text = obj["metadata"]["name"], (obj.get("spec") or {}).get("renewTime")
        before = self._renewals.get(name)
        if not isinstance(text, str) or text == before:
            return
        now_s = self._now_s()
        try:
            renewed_s = min(epoch_s(text), now_s) if before is None else now_s
        except ValueError as e:
            log.warning("extender.heartbeat_ignored", node=name, why=str(e))
            return
        self._renewals[name] = text
        self._ledger.heartbeat(name, renewed_s)

    def delete(self, obj: Json) -> None:
        self._forget(obj["metadata"]["name"])

    def _forget(self, name: str) -> None:
        self._renewals.pop(name, None)
        self._ledger.heartbeat(name, NEVER_S)


@dataclass(slots=True)
class Watches:
    """The three watches that the ledger lives from."""

    ledger: Ledger
    now_s: Clock
    pods: Pods = field(init=False)
    progress: dict[str, Progress] = field(default_factory=lambda: {n: Progress() for n in ("nodes", "pods", "leases")})

    def __post_init__(self) -> None:
        self.pods = Pods(self.ledger, self.now_s)

    async def run(
        self, kube: Kube, lease_namespace: str, stop: asyncio.Event, patience: Patience | None = None
    ) -> None:
        """Until `stop` is set."""

        async def one(name: str, path: str, sink: Nodes | Pods | Heartbeats, selectors: Mapping[str, str]) -> None:
            await watch(
                kube,
                path,
                sink,
                stop=stop,
                progress=self.progress[name],
                selectors=selectors,
                patience=patience,
            )

        # Pods that have ended hold nothing; by this selector the server says "deleted" when one ends.
        running = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one("nodes", "/api/v1/nodes", Nodes(self.ledger), {}))
            tasks.create_task(one("pods", "/api/v1/pods", self.pods, running))
            tasks.create_task(one("leases", lease_path(lease_namespace), Heartbeats(self.ledger, self.now_s), {}))

    def why_not_ready(self, mono_s: float, tolerance_s: float) -> str | None:
        """What the ledger does not know yet, or not any more; None if it can be relied on."""
        waiting = [name for name, p in self.progress.items() if not p.synced.is_set()]
        if waiting:
            return f"not synced yet: {', '.join(waiting)}"
        lost = [name for name, p in self.progress.items() if not p.current(mono_s, tolerance_s)]
        return f"no word from the API server for {tolerance_s:g} s about: {', '.join(lost)}" if lost else None
