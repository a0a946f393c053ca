"""Simulated requests a second by both engines, a whole bundled hour, and HPA decisions a second."""

import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from sim.cluster.hpa import NO_PAST, Behavior, Scale, Spec, Target, sync
from sim.run import load, simulate
from sim.scenario import bundled
from sim.serving.compiled import CompiledPool
from sim.serving.pool import Pool, Shape, Status
from sim.serving.reference import ReferencePool
from sim.serving.times import load as engines
from sim.serving.turns import Turns, open_loop, to_ps
from sim.streams import stream

Row = tuple[str, float, str]
REPLICAS = 50
REQUESTS_PER_S = 6.0  # a replica: about two thirds of what it can do
PROMPT, OUTPUT = 1155, 211  # mean tokens of Azure's conversation trace of 2023
SYNCS = 20_000


def turns(count: int) -> Turns:
    random = stream(0, "bench")
    arrivals = np.cumsum(random.exponential(1 / REQUESTS_PER_S / REPLICAS, count))
    prompts = np.maximum(1, np.rint(random.exponential(PROMPT, count)))
    outputs = np.maximum(1, np.rint(random.exponential(OUTPUT, count)))
    return open_loop(arrivals, prompts.astype(np.int64), outputs.astype(np.int64))


def requests_per_s(pool: Pool) -> float:
    engine = engines()["h100-80-llama-3.1-8b"]
    shape = Shape(engine.times, engine.kv_blocks(81920, 0.9), 128, 2048, 131_072)
    for _ in range(REPLICAS):
        pool.add(shape)
    began_s = perf_counter()
    pool.run_until(to_ps(1e6))
    took_s = perf_counter() - began_s
    if not (pool.outcome().status == Status.DONE).all():
        raise RuntimeError("the benchmark's load does not end")
    return len(pool.turns) / took_s


def hpa_syncs_per_s() -> float:
    target = Target("s0-desired_replicas", "AverageValue", 1000)
    spec = Spec(min_replicas=1, max_replicas=1000, targets=(target,), behavior=Behavior())
    past, replicas = NO_PAST, 10
    wanted = stream(0, "bench-hpa").integers(5, 60, SYNCS).tolist()
    began_s = perf_counter()
    for i, count in enumerate(wanted):
        scale = Scale(spec=replicas, status=replicas, ready=replicas)
        verdict, past = sync(spec, scale, {target.name: count * 1000}, past, 15.0 * i)
        replicas = verdict.replicas
    return SYNCS / (perf_counter() - began_s)


def bundled_hour_s() -> float:
    began_s = perf_counter()
    simulate(load(bundled()["agents"]), seed=0)
    return perf_counter() - began_s


def command_line_hour_s() -> float:
    """The whole process, imports and all, as someone who types it waits for it; the median of three."""
    command = [sys.executable, "-c", "from slicewise.cli import main; main()", "sim", "run", "agents"]

    def once_s() -> float:
        began_s = perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return perf_counter() - began_s

    return median(once_s() for _ in range(3))


WEEK = """
name: week
about: 1,000 whole GPUs under a policy
duration: 16h48m
workload:
  kind: poisson
  rate: [{at: 0m, perMinute: 992}]
  promptTokens: {p50: 800, p90: 2500, max: 8000}
  outputTokens: {p50: 150, p90: 450, max: 2000}
engine: {catalog: h100-80-llama-3.1-8b, maxNumSeqs: 128, maxModelLen: 16384}
pod:
  metadata: {annotations: {slicewise.dev/mode: exclusive}}
  spec: {containers: [{name: engine, resources: {limits: {slicewise.dev/gpu-slice: 1}}}]}
startReplicas: 1000
scaledObject:
  apiVersion: keda.sh/v1alpha1
  kind: ScaledObject
  metadata: {name: week}
  spec:
    scaleTargetRef: {name: week}
    minReplicaCount: 990
    maxReplicaCount: 1000
    triggers:
    - {type: external, metadata: {workload: week, policy: queue, queuePerReplica: "4"}}
cluster: {nodes: [{count: 125, gpu: h100-80, mode: exclusive}]}
slo: {firstToken: 2s}
"""


def tenth_of_a_week_s() -> float:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "week.yaml"
        path.write_text(WEEK)
        began_s = perf_counter()
        simulate(load(path), seed=0)
        return perf_counter() - began_s


def run() -> list[Row]:
    requests_per_s(CompiledPool(turns(1000)))  # compiles, or loads what was compiled
    fast, plain = requests_per_s(CompiledPool(turns(500_000))), requests_per_s(ReferencePool(turns(2000)))
    return [
        (
            f"simulated requests, compiled engine, {REPLICAS} replicas",
            fast,
            "1/s",
        ),
        (
            f"simulated requests, reference engine, {REPLICAS} replicas",
            plain,
            "1/s",
        ),
        ("simulated hour of agents, whole", bundled_hour_s(), "s"),
        ("the same hour from the command line, whole process", command_line_hour_s(), "s"),
        ("a tenth of a week: 1,000 replicas, 1 M requests, whole", tenth_of_a_week_s(), "s"),
        ("HPA syncs", hpa_syncs_per_s(), "1/s"),
    ]
