"""Compiled scorers, compiled before anybody waits for their answer."""

from typing import Final

from extender.ledger import Ledger
from extender.placement.demand import ContainerDemand, Demand, Shape
from extender.placement.model import Gpu, Inventory
from extender.placement.profile import GpuModel, Mode
from extender.verbs import filter_nodes, score_nodes

_SHAPES: Final = (Shape(frozenset({Mode.MPS}), compute_pct=50), Shape(frozenset({Mode.EXCLUSIVE})))


def warm_up(scorer: str) -> None:
    """One decision of each kind, in a cluster of one node. Some 20 s of a core where no machine code is kept, else 1 s.

    A scorer that is not compiled needs none.
    """
    ledger = Ledger(scorer=scorer)
    if ledger.node_scorer is None:
        return
    model = GpuModel("none", 1024)
    gpus = tuple(Gpu(f"GPU-{i}", i, model, 1024, Mode.MPS) for i in range(2))
    ledger.put_node("node", Inventory(gpus))
    ledger.heartbeat("node", 0.0)
    for i, shape in enumerate(_SHAPES):
        demand = Demand(f"pod-{i}", f"default/{i}", "default", shape=shape, containers=(ContainerDemand("main", 1),))
        filter_nodes(ledger, demand, ["node"], 0.0)
        score_nodes(ledger, demand, ["node"], 0.0)
        ledger.assume(demand.uid, demand.key, demand, "node", 0.0)
