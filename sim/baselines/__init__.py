"""Peers' scaling policies, from their published formulas: one file each, one line in the table.

Deviations that all share: decisions at ticks of 15 s, metrics that are `sim.fluid.service.METRIC_AGE_S` old, replicas
between 1 and the same maximum for everybody.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sim.baselines import (
    aibrix,
    dynamo,
    hpa_concurrency,
    hpa_queue,
    knative,
    kubeai,
    rate_hold,
    ray_serve,
    static,
    wva_v1,
    wva_v2,
)
from sim.baselines.base import Baseline

BASELINES: Final[Mapping[str, Baseline]] = MappingProxyType(
    {
        "static": Baseline(
            "as many as the peak", static.decide, static.MEMORY, static.defaults, static.grid, static.fewest
        ),
        "hpa-queue": Baseline(
            "KEDA and HPA on waiting requests",
            hpa_queue.decide,
            hpa_queue.MEMORY,
            hpa_queue.defaults,
            hpa_queue.grid,
            hpa_queue.fewest,
        ),
        "hpa-concurrency": Baseline(
            "HPA on requests in flight",
            hpa_concurrency.decide,
            hpa_concurrency.MEMORY,
            hpa_concurrency.defaults,
            hpa_concurrency.grid,
        ),
        "knative": Baseline("Knative KPA", knative.decide, knative.MEMORY, knative.defaults, knative.grid),
        "aibrix": Baseline("AIBrix APA", aibrix.decide, aibrix.MEMORY, aibrix.defaults, aibrix.grid),
        "wva-v1": Baseline("llm-d WVA V1", wva_v1.decide, wva_v1.MEMORY, wva_v1.defaults, wva_v1.grid),
        "wva-v2": Baseline("llm-d WVA V2", wva_v2.decide, wva_v2.MEMORY, wva_v2.defaults, wva_v2.grid),
        "dynamo-constant": Baseline(
            "Dynamo's SLA planner, last interval", dynamo.decide, dynamo.MEMORY, dynamo.constant, dynamo.constant_grid
        ),
        "dynamo-kalman": Baseline(
            "Dynamo's SLA planner, Kalman filter", dynamo.decide, dynamo.MEMORY, dynamo.kalman, dynamo.kalman_grid
        ),
        "kubeai": Baseline("KubeAI", kubeai.decide, kubeai.MEMORY, kubeai.defaults, kubeai.grid),
        "ray-serve": Baseline("Ray Serve", ray_serve.decide, ray_serve.MEMORY, ray_serve.defaults, ray_serve.grid),
        "rate-hold": Baseline(
            "work rate x headroom, held", rate_hold.decide, rate_hold.MEMORY, rate_hold.defaults, rate_hold.grid
        ),
    }
)
