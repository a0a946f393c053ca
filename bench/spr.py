"""Decisions of the extender by scarcity-priced rollout: filter and prioritize, from bytes to bytes, on shared GPUs."""

import json
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter
from typing import Any, Final

import numpy as np

from bench.verbs import pod
from extender.ledger import Ledger
from extender.placement.allocation import ALLOCATION, Allocation
from extender.placement.demand import Demand
from extender.placement.model import INVENTORY
from extender.placement.spr.desk import Desk
from extender.verbs import filter_nodes, score_nodes
from extender.warm import warm_up
from extender.wire import decode_args, encode_filter, encode_scores

Row = tuple[str, float, str]
NODES: Final = 5_000
GPUS: Final = 8
SAMPLE: Final = 500
LOADS: Final = (0.5, 0.9)
CALLS: Final = 25
NOW_S: Final = 1_000.0
#: What arrives: parts of a GPU as in openb, whole GPUs, whole nodes; each with milli-GPU and weight.
ARRIVING: Final = (
    ({"mode": "mps", "compute": "46"}, 1, 460, 30),
    ({"mode": "mps", "compute": "81"}, 1, 810, 15),
    ({"mode": "mps", "compute": "25"}, 1, 250, 15),
    ({"mode": "exclusive"}, 1, 1000, 30),
    ({"mode": "exclusive"}, 8, 8000, 3),
)
ASKED: Final = (("46 % of a GPU", ARRIVING[0]), ("a whole GPU", ARRIVING[3]), ("8 whole GPUs", ARRIVING[4]))


def a_pod(uid: str, kind: tuple[dict[str, str], int, int, int], cpu: int) -> dict[str, Any]:
    ask, count, _, _ = kind
    made = pod(uid, ask, "team")
    resources = {
        "limits": {"slicewise.dev/gpu-slice": str(count)},
        "requests": {"cpu": str(cpu), "memory": f"{4 * cpu}Gi"},
    }
    made["spec"]["containers"][0]["resources"] = resources
    return made


def node(name: str) -> dict[str, Any]:
    gpus = [
        {"uuid": f"GPU-{name}-{i}", "index": i, "model": "a100-80", "memory_mib": 81920, "mode": "mps"}
        for i in range(GPUS)
    ]
    return {
        "metadata": {"name": name, "annotations": {INVENTORY: json.dumps({"version": 1, "gpus": gpus})}},
        "status": {"allocatable": {"cpu": "96", "memory": "384Gi"}},
    }


def filled(share: float) -> Ledger:
    """SAMPLE nodes on which pods were placed at random where they fit, and as many copies of them as make NODES."""
    rng = np.random.default_rng(7)
    weights = np.array([kind[3] for kind in ARRIVING])
    sample = Ledger(scorer="first-fit")
    names = [f"node-{i:04}" for i in range(NODES)]
    for name in names[:SAMPLE]:
        sample.put_node_object(node(name))
        sample.heartbeat(name, NOW_S)
    left, uid = SAMPLE * GPUS * 1000 * share, 0
    pods: dict[str, list[dict[str, Any]]] = {name: [] for name in names[:SAMPLE]}
    while left > 0:
        kind = ARRIVING[int(rng.choice(len(ARRIVING), p=weights / weights.sum()))]
        made = a_pod(f"pod-{uid}", kind, int(rng.integers(1, 9)))
        demand, name = Demand.of(made), names[int(rng.integers(SAMPLE))]
        assert demand is not None
        chosen = sample.assume(demand.uid, demand.key, demand, name, NOW_S)
        if isinstance(chosen, Allocation):
            made["metadata"]["annotations"][ALLOCATION] = chosen.encode()
            pods[name].append(made)
            left -= kind[2]
        uid += 1
    ledger = Ledger(scorer="spr")
    for name in names:
        ledger.put_node_object(node(name))
        ledger.heartbeat(name, NOW_S)
    ledger.replace_pods(copies(names, pods), NOW_S)
    return ledger


def copies(names: list[str], pods: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Of the pods of the sample's nodes, one set for each node."""
    for i, name in enumerate(names):
        like = names[i % SAMPLE]
        for one in pods[like]:
            meta = one["metadata"]
            grants = meta["annotations"][ALLOCATION].replace(like, name)
            named = {**meta, "uid": f"{meta['uid']}-{name}", "annotations": {**meta["annotations"], ALLOCATION: grants}}
            yield {**one, "metadata": named, "spec": {**one["spec"], "nodeName": name}}


def timed(ledger: Ledger, what: tuple[dict[str, str], int, int, int], disturb: Callable[[int], None]) -> list[float]:
    """Milliseconds of filter and prioritize together. Before each the world is disturbed, which is not timed."""
    taken = []
    body = json.dumps({"Pod": a_pod("new", what, 4), "Nodes": None, "NodeNames": list(ledger.nodes())}).encode()
    for call in range(CALLS):
        disturb(call)
        start = perf_counter()
        args = decode_args(body)
        demand = Demand.of(args.pod)
        assert demand is not None
        found = filter_nodes(ledger, demand, args.names, NOW_S)
        encode_filter(found, args)
        encode_scores(score_nodes(ledger, demand, found.fit, NOW_S))
        taken.append((perf_counter() - start) * 1e3)
    return taken


def run() -> list[Row]:
    warm_up("spr")
    rows: list[Row] = []
    for share in LOADS:
        ledger = filled(share)
        desk = ledger.node_scorer
        assert isinstance(desk, Desk)
        small = Demand.of(a_pod("small", ARRIVING[2], 1))
        assert small is not None

        def one_changed(call: int, ledger: Ledger = ledger, small: Demand = small) -> None:
            ledger.forget(small.uid)
            ledger.assume(small.uid, small.key, small, ledger.nodes()[call * 7 % NODES], NOW_S)

        def all_stale(_call: int, desk: Desk = desk) -> None:
            desk.forget()

        for title, what in ASKED:
            label = f"filter and prioritize by spr, {NODES:,} nodes x {GPUS} GPUs, {100 * share:.0f} % full, {title}"
            for how, disturb in (("one node changed", one_changed), ("nothing known", all_stale)):
                taken = timed(ledger, what, disturb)
                rows.append((f"{label}, {how}, median", median(taken), "ms"))
        start = perf_counter()
        desk.renew()
        rows.append((f"new prices, {NODES:,} nodes, {100 * share:.0f} % full", (perf_counter() - start) * 1e3, "ms"))
    return rows
