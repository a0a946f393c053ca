"""What is warm where, and what that is worth: images, weights and sessions that a pod need not bring to a node again.

A start that is t seconds shorter gives t seconds of the pod's GPU memory back to the fleet. A scorer's price is paid as
long as the pod lives. So in the scorers' unit a warm node is worth (GiB of the pod) * (seconds saved) / (seconds that
it lives), which is taken off the node's price. What does not fit has an infinite price and keeps it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement.demand import PREFIX, Demand, Shape
from extender.placement.fit import profile_for
from extender.placement.fleet import NO_NODE, Fleet, Kind
from extender.placement.images import Images
from extender.placement.profile import GpuModel, Mode
from extender.placement.reuse import NOTHING, SESSION, WEIGHTS, Key, Reuse

Floats = NDArray[np.float64]
Seconds = dict[str, Floats]

IMAGE: Final = "image"
NAMES: Final = {WEIGHTS: "weights", SESSION: "session"}


@dataclass(frozen=True, slots=True)
class Savings:
    """What a warm place saves, and how long it stays warm; 0: does not count. extender/settings.py says why so much."""

    life_s: float = 3600.0
    image_mib_per_s: float = 40.0
    weights_s: float = 20.0
    session_s: float = 20.0
    most_s: float = 300.0
    keep_s: float = 1800.0
    most_keys: int = 1 << 14


class Warmth:
    """Mutable; owned by the ledger. Knows pods by what the API shows: rebuilt with it, as far as pods are there.

    Pods that ended are remembered in the order in which they did, `keep_s` long and `most_keys` of them.
    `whole_in_gib`: whether the scorer prices whole GPUs by their memory too; most count GPUs.
    """

    def __init__(self, fleet: Fleet, savings: Savings, *, whole_in_gib: bool) -> None:
        self._fleet, self.savings, self._whole_in_gib = fleet, savings, whole_in_gib
        self._images = Images()
        self._pods: dict[str, _Resident] = {}  # of those that have keys, by uid
        self._on: dict[Key, Counter[str]] = {}  # running pods by node; 0: one that ran there has ended
        self._ended: dict[tuple[Key, str], float | None] = {}  # when; None: not known yet, the next instant tells

    def __len__(self) -> int:
        """Keys with their nodes."""
        return sum(map(len, self._on.values()))

    # ---- what the API shows ------------------------------------------------------------------------------------

    def put_node(self, name: str, node: Mapping[str, object]) -> None:
        """Its images; a node without an inventory has no column, and nothing is placed there."""
        column = self._fleet.slots.get(name, NO_NODE)
        if column != NO_NODE and self.savings.image_mib_per_s:
            self._images.put(column, node)

    def drop_column(self, name: str) -> None:
        """The fleet gives its column away."""
        self._images.drop(self._fleet.slots[name])

    def drop_node(self, name: str) -> None:
        """It is gone: one that comes under its name has nothing of it."""
        for key, node in [entry for entry in self._ended if entry[1] == name]:
            self._forget(key, node)
        for pod in self._pods.values():
            if pod.node == name:
                self._leave(pod, stays=False)
                pod.keys = ()

    def put_pod(self, uid: str, node: str, pod: Mapping[str, object]) -> None:
        """A bound pod. What it brings to the node is warm from now on: it need not be brought twice."""
        meta = _mapping(pod.get("metadata"))
        annotations = _mapping(meta.get("annotations"))
        if WEIGHTS not in annotations and SESSION not in annotations:
            return
        ran = _mapping(pod.get("status")).get("phase") != "Pending"
        known = self._pods.get(uid)
        if known is not None and known.node == node:
            known.ran |= ran
            return
        self.drop_pod(uid)
        tenant = str(annotations.get(f"{PREFIX}tenant") or meta.get("namespace") or "default")
        keys = Reuse.of(pod, []).keys(tenant)
        self._pods[uid] = _Resident(node, keys, ran)
        for key in keys:
            self._on.setdefault(key, Counter())[node] += 1
            self._ended.pop((key, node), None)

    def drop_pod(self, uid: str) -> None:
        """It has ended. What it brought stays for a while, unless it never ran."""
        pod = self._pods.pop(uid, None)
        if pod is not None:
            self._leave(pod, stays=pod.ran)
        while len(self._ended) > self.savings.most_keys:
            self._forget(*next(iter(self._ended)))

    def passes(self, now_s: float) -> None:
        """It is `now_s`: pods that were seen to end since the last instant ended now, and what is cold is forgotten."""
        for entry, ended_s in reversed(self._ended.items()):
            if ended_s is not None:
                break
            self._ended[entry] = now_s
        for entry, ended_s in list(self._ended.items()):
            if ended_s is None or now_s - ended_s <= self.savings.keep_s:
                break
            self._forget(*entry)

    # ---- what it is worth --------------------------------------------------------------------------------------

    def worth(self, demand: Demand, now_s: float) -> Floats | None:
        """(n,): taken off each node's price, in the scorers' unit; None: nothing is warm anywhere."""
        saved = self.saved_s(demand, now_s)
        if not saved or demand.shape is None or not self.savings.life_s:
            return None
        total = np.minimum(np.sum(list(saved.values()), axis=0), self.savings.most_s)
        warm = np.flatnonzero(total)
        each = np.array([self._asked(model, demand.shape) for model in self._fleet.models] or [0.0])
        kind = self._fleet.kind[:, warm]
        here = np.where(kind != Kind.NO_GPU, each.take(self._fleet.model[:, warm]), 0.0).max(axis=0, initial=0.0)
        worth = np.zeros(len(total))
        worth[warm] = demand.count * here * total[warm] / self.savings.life_s
        return worth

    def saved_s(self, demand: Demand, now_s: float) -> Seconds:
        """(n,) each: seconds that a start on each node is shorter, by what is there; without what is nowhere."""
        if demand.reuse == NOTHING:
            return {}
        self.passes(now_s)
        reuse, found = demand.reuse, dict[str, Floats]()
        for name in reuse.images:
            where = self._images.find(name)
            if where is not None:
                seconds = found.setdefault(IMAGE, self._none())
                seconds[where[0]] += where[1] / 2**20 / self.savings.image_mib_per_s
        said = {WEIGHTS: (reuse.weights_s, self.savings.weights_s), SESSION: (reuse.session_s, self.savings.session_s)}
        keys = reuse.keys(demand.tenant)
        parts = Counter(kind for _, kind, _ in keys)
        for key in keys:
            own_s, usual_s = said[key[1]]
            part_s = (usual_s if own_s is None or not usual_s else own_s) / parts[key[1]]
            columns = self._columns(key) if part_s else []
            if columns:
                found.setdefault(NAMES[key[1]], self._none())[columns] += part_s
        return found

    def on(self, demand: Demand, node: str, now_s: float) -> dict[str, float]:
        """Seconds that a start on one node is shorter, by what is there."""
        column = self._fleet.slots.get(node, NO_NODE)
        told = {what: round(float(seconds[column]), 3) for what, seconds in self.saved_s(demand, now_s).items()}
        return {what: seconds for what, seconds in told.items() if seconds}

    # ---- inside ------------------------------------------------------------------------------------------------

    def _asked(self, model: GpuModel, shape: Shape) -> float:
        if shape.modes == {Mode.EXCLUSIVE} and not self._whole_in_gib:
            return 1.0
        return asked_gib(model, shape)

    def _none(self) -> Floats:
        return np.zeros(len(self._fleet.renewed_s))

    def _columns(self, key: Key) -> list[int]:
        slots = self._fleet.slots
        return [slots[node] for node in self._on.get(key, ()) if node in slots]

    def _leave(self, pod: "_Resident", *, stays: bool) -> None:
        for key in pod.keys:
            self._on[key][pod.node] -= 1
            if not self._on[key][pod.node]:
                self._ended[key, pod.node] = None
                if not stays:
                    self._forget(key, pod.node)

    def _forget(self, key: Key, node: str) -> None:
        self._ended.pop((key, node), None)
        del self._on[key][node]
        if not self._on[key]:
            del self._on[key]


@dataclass(slots=True)
class _Resident:
    """A bound pod. `ran`: a container of it has run, so there is something that it can have brought."""

    node: str
    keys: tuple[Key, ...]
    ran: bool


def asked_gib(model: GpuModel, shape: Shape) -> float:
    """GPU memory of one slice of a shape, GiB, whatever its mode; 0 where the model has none."""
    if shape.modes == {Mode.EXCLUSIVE}:
        return model.memory_mib / 1024
    if shape.memory_mib:
        return shape.memory_mib / 1024
    if shape.profile is None:
        return model.memory_mib * shape.compute_pct / 100 / 1024
    k = profile_for(model, shape)
    return 0.0 if k is None else model.profiles[k].memory_mib / 1024


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
