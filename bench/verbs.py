"""Filter and prioritize as the scheduler asks for them: from the bytes of the request to the bytes of the answer."""

import json
from statistics import median
from time import perf_counter
from typing import Any, Final

import numpy as np

from extender.ledger import Ledger
from extender.placement.allocation import ALLOCATION, Allocation
from extender.placement.demand import Demand
from extender.placement.model import INVENTORY
from extender.placement.reserve import parse
from extender.verbs import filter_nodes, score_nodes
from extender.wire import decode_args, encode_filter, encode_scores

Row = tuple[str, float, str]
NODES: Final = (1_000, 5_000)
GPUS: Final = 8
OCCUPIED: Final = 0.6
CALLS: Final = 60
SAMPLE: Final = 120
NOW_S: Final = 1_000.0
#: What the running pods asked for, and how much of a GPU each has.
RUNNING: Final = (
    ({"profile": "1g.10gb"}, 1 / 8),
    ({"profile": "2g.20gb"}, 1 / 4),
    ({"profile": "3g.40gb"}, 1 / 2),
    ({"memory": "10Gi", "compute": "12", "mode": "mps"}, 1 / 8),
    ({"memory": "30Gi", "compute": "40", "mode": "mps"}, 3 / 8),
)
#: What is asked for, and how many of it: it fits on most nodes, on shared GPUs only, on few nodes, on none; and whole
#: GPUs that NVLink bridges join in pairs.
ASKED: Final = (
    ("MIG 1g", {"profile": "1g.10gb"}, 1),
    ("20 GiB, MIG or MPS", {"memory": "20Gi"}, 1),
    ("MIG 7g", {"profile": "7g.80gb"}, 1),
    ("fits nowhere", {"profile": "7g.80gb", "gpu-model": "h100-80"}, 1),
    ("2 whole GPUs", {"mode": "exclusive"}, 2),
    ("2 whole GPUs joined by NVLink", {"mode": "exclusive", "link": "require"}, 2),
)
#: Room that is kept: far from it, and all of it.
RESERVES: Final = (
    ("room kept", "priority>=1000: 4 x 1g.10gb"),
    ("all room kept", "priority>=1000: 1000000 x 1g.10gb"),
)


def pod(uid: str, ask: dict[str, str], namespace: str, count: int = 1) -> dict[str, Any]:
    return {
        "metadata": {
            "uid": uid,
            "name": uid,
            "namespace": namespace,
            "annotations": {f"slicewise.dev/{k}": v for k, v in ask.items()},
        },
        "spec": {"containers": [{"name": "main", "resources": {"limits": {"slicewise.dev/gpu-slice": str(count)}}}]},
        "status": {"phase": "Pending"},
    }


def node(name: str, mode: str) -> dict[str, Any]:
    gpus = [
        {"uuid": f"GPU-{name}-{i}", "index": i, "model": "a100-80", "memory_mib": 81920, "mode": mode, "numa": i // 4}
        | ({"links": {"nvlink": {str(i ^ 1): 12}}} if mode != "mig" else {})
        for i in range(GPUS)
    ]
    return {"metadata": {"name": name, "annotations": {INVENTORY: json.dumps({"version": 1, "gpus": gpus})}}}


def fill(names: list[str]) -> Ledger:
    """Pods one after another on random nodes, where they fit, until OCCUPIED of all GPUs is theirs."""
    rng = np.random.default_rng(7)
    ledger = Ledger()
    for i, name in enumerate(names):
        ledger.put_node_object(node(name, mode_of(i)))
        ledger.heartbeat(name, NOW_S)
    free, uid = len(names) * GPUS * OCCUPIED, 0
    while free > 0:
        ask, size = RUNNING[int(rng.integers(len(RUNNING)))]
        demand = Demand.of(pod(f"pod-{uid}", ask, f"team-{rng.integers(5)}"))
        assert demand is not None
        chosen = ledger.assume(demand.uid, demand.key, demand, names[int(rng.integers(len(names)))], NOW_S)
        free -= size if isinstance(chosen, Allocation) else 0
        uid += 1
    return ledger


def mode_of(index: int) -> str:
    """Two nodes with MIG for one with MPS."""
    return "mps" if index % 3 == 2 else "mig"


def cluster(nodes: int) -> Ledger:
    """SAMPLE nodes filled pod by pod, and as many copies of them as make `nodes`: the state of a running cluster."""
    sample = [f"node-{i:04}" for i in range(SAMPLE)]
    filled = fill(sample)
    ledger = Ledger()
    for i in range(nodes):
        name, like = f"node-{i:04}", sample[i % SAMPLE]
        ledger.put_node_object(node(name, mode_of(i % SAMPLE)))
        ledger.heartbeat(name, NOW_S)
        original = filled.node(like)
        assert original is not None
        for holding in original.pods.values():
            uid = f"{holding.uid}-{name}"
            running = pod(uid, {}, holding.tenant)
            running["spec"]["nodeName"] = name
            running["metadata"]["annotations"][ALLOCATION] = holding.allocation.encode().replace(like, name)
            ledger.put_pod(running)
    return ledger


def timed(ledger: Ledger, body: bytes) -> tuple[list[float], list[float]]:
    """Milliseconds of each filter and each prioritize call."""
    filters, scores = [], []
    for _ in range(CALLS):
        start = perf_counter()
        args = decode_args(body)
        demand = Demand.of(args.pod)
        assert demand is not None
        filtered = filter_nodes(ledger, demand, args.names, NOW_S)
        encode_filter(filtered, args)
        middle = perf_counter()
        encode_scores(score_nodes(ledger, demand, filtered.fit, NOW_S))
        filters.append((middle - start) * 1e3)
        scores.append((perf_counter() - middle) * 1e3)
    return filters, scores


def assume_ms(ledger: Ledger, names: list[str]) -> list[float]:
    """Milliseconds of a reservation and of its end, on one node after the other."""
    taken = []
    for i in range(CALLS):
        demand = Demand.of(pod(f"new-{i}", {"profile": "1g.10gb"}, "team-0"))
        assert demand is not None
        start = perf_counter()
        ledger.assume(demand.uid, demand.key, demand, names[i * 3 % len(names)], NOW_S)
        ledger.forget(demand.uid)
        taken.append((perf_counter() - start) * 1e3)
    return taken


def warmed(ledger: Ledger, names: list[str]) -> dict[str, Any]:
    """Half of the nodes list 50 images, the pod's among them, and on 200 its weights are. The pod."""
    listed = [{"names": [f"image-{i}:1", f"image-{i}@sha256:0"], "sizeBytes": (100 + i) << 20} for i in range(49)]
    for i, name in enumerate(names[::2]):
        engine = {"names": ["engine:1"], "sizeBytes": 20 << 30}
        ledger.put_node_object({**node(name, mode_of(2 * i % SAMPLE)), "status": {"images": [engine, *listed]}})
    for i, name in enumerate(names[:: len(names) // 200]):
        running = pod(f"weights-{i}", {"weights": "llama"}, "team-0")
        running["spec"] = {"nodeName": name, "containers": [{"name": "main"}]}
        ledger.put_pod({**running, "status": {"phase": "Running"}})
    asked = pod("new", {"profile": "1g.10gb", "weights": "llama"}, "team-0")
    asked["spec"]["containers"][0]["image"] = "engine:1"
    return asked


def run() -> list[Row]:
    rows: list[Row] = []
    for nodes in NODES:
        ledger = cluster(nodes)
        names = [f"node-{i:04}" for i in range(nodes)]
        asked = [(title, pod("new", ask, "team-0", count), "") for title, ask, count in ASKED]
        asked.append(("MIG 1g, image warm on half of the nodes", warmed(ledger, names), ""))
        asked += [(f"MIG 1g, {title}", asked[0][1], reserve) for title, reserve in RESERVES]
        for title, wanted, reserve in asked:
            ledger.reserves = parse(reserve)
            body = json.dumps({"Pod": wanted, "Nodes": None, "NodeNames": names}).encode()
            for verb, taken in zip(("filter", "prioritize"), timed(ledger, body), strict=True):
                what = f"{verb}, {nodes:,} nodes x {GPUS} GPUs, {title}"
                rows.append((f"{what}, median", median(taken), "ms"))
                rows.append((f"{what}, p99", float(np.percentile(taken, 99)), "ms"))
        ledger.reserves = ()
        rows.append(
            (f"assume and forget, {nodes:,} nodes x {GPUS} GPUs, median", median(assume_ms(ledger, names)), "ms")
        )
    return rows
