"""What warmth does to packing: pods on MIG GPUs, placed as kube-scheduler does, by what a warm place is worth.

Poisson arrivals, exponential lives of an hour on average, one of sixty models (weights of 20 s) a pod, each with its
profile; the load is what all GPUs could hold, so that every bad placement loses somebody. No times of the machine.
"""

from collections import defaultdict
from heapq import heappop, heappush
from typing import Any, Final

import numpy as np

from bench.verbs import node, pod
from extender.ledger import Ledger
from extender.placement.allocation import ALLOCATION, Allocation
from extender.placement.demand import Demand
from extender.placement.warmth import Savings
from extender.verbs import filter_nodes, score_nodes

Row = tuple[str, float, str]
NODES: Final = 16
GPUS: Final = 8
SLICES: Final = {"1g.10gb": 1, "2g.20gb": 2, "3g.40gb": 4, "4g.40gb": 4, "7g.80gb": 8}  # memory slices of 8
MODELS: Final = 60
LIFE_S: Final = 3600.0
WARM_UP: Final = 2  # mean lives, before anything is counted
END: Final = 8
SEEDS: Final = range(5)
#: Off; the default, which is the life that pods have; and as if pods lived shorter, so that warmth weighs more.
LIVES_S: Final = (0.0, 3600.0, 600.0, 60.0)


def stream(seed: int, life_s: float) -> tuple[float, float]:
    """Shares: of the slices asked for, those that found a place; of the pods placed, those where their weights were."""
    rng = np.random.default_rng(seed)
    ledger = Ledger(savings=Savings(life_s=life_s))
    names = [f"node-{i:02}" for i in range(NODES)]
    for name in names:
        ledger.put_node_object(node(name, "mig"))
        ledger.heartbeat(name, float("inf"))
    profiles = [list(SLICES)[m % len(SLICES)] for m in range(MODELS)]
    each = np.mean([SLICES[p] for p in profiles])
    gap_s = LIFE_S * each / (NODES * GPUS * 8)
    now_s, sums, leaving = 0.0, defaultdict[str, float](float), list[tuple[float, str]]()
    while now_s < END * LIFE_S:
        now_s += rng.exponential(gap_s)
        model, lives_s, tie = int(rng.integers(MODELS)), rng.exponential(LIFE_S), rng.random()
        while leaving and leaving[0][0] <= now_s:
            ended_s, gone = heappop(leaving)
            ledger.drop_pod(gone)
            ledger.expire(ended_s)
        counted = now_s > WARM_UP * LIFE_S
        uid = f"pod-{now_s}"
        asked = pod(uid, {"profile": profiles[model], "weights": f"model-{model}"}, "team")
        sums["asked"] += counted * SLICES[profiles[model]]
        found = place(ledger, asked, names, now_s, tie)
        if found is None:
            continue
        sums["given"] += counted * SLICES[profiles[model]]
        sums["placed"] += counted
        sums["warm"] += counted * found
        heappush(leaving, (now_s + lives_s, uid))
    return sums["given"] / sums["asked"], sums["warm"] / sums["placed"]


def place(ledger: Ledger, asked: dict[str, Any], names: list[str], now_s: float, tie: float) -> bool | None:
    """On one of the best nodes. Whether it was warm; None: no room."""
    demand = Demand.of(asked)
    assert demand is not None
    scores = score_nodes(ledger, demand, filter_nodes(ledger, demand, names, now_s).fit, now_s)
    if not scores:
        return None
    top = max(score for _, score in scores)
    best = [name for name, score in scores if score == top]
    chosen = best[int(tie * len(best))]
    warm = bool(ledger.warmth.on(demand, chosen, now_s))
    given = ledger.assume(demand.uid, demand.key, demand, chosen, now_s)
    assert isinstance(given, Allocation)
    ledger.confirm(demand.uid)
    asked["spec"]["nodeName"] = chosen
    asked["metadata"]["annotations"][ALLOCATION] = given.encode()
    ledger.put_pod({**asked, "status": {"phase": "Running"}})
    return warm


def run() -> list[Row]:
    rows: list[Row] = []
    for life_s in LIVES_S:
        given, warm = np.array([stream(seed, life_s) for seed in SEEDS]).mean(axis=0) * 100
        what = "warmth off" if not life_s else f"warm_life_s {life_s:g}"
        rows.append((f"slices that found a place, {what}", float(given), "%"))
        rows.append((f"starts on a node with the weights, {what}", float(warm), "%"))
    return rows
