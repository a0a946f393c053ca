"""Small clusters and pods: as strategies, and as CSV."""

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from sim.packing.model import ANY_KIND_MASK, Experiment, Nodes, PodClasses, Trace

KINDS = (  # CPU milli, memory MiB, GPUs; a node of kind i has model i
    (16_000, 32_768, 1),
    (32_000, 65_536, 2),
    (96_000, 393_216, 8),
    (128_000, 262_144, 8),
)
ANY = ANY_KIND_MASK

NODES_CSV = """sn,cpu_milli,memory_mib,gpu,model
n0,16000,32768,1,T4
n1,32000,65536,2,P100
n2,96000,393216,8,V100
n3,96000,393216,0,
"""
PODS_CSV = """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec
p0,4000,8192,1,1000,
p1,2000,4096,1,460,T4|P100
p2,8000,16384,0,0,
p3,64000,65536,8,1000,V100
p4,1000,1024,1,250,
"""


def nodes_of(kinds: list[int]) -> Nodes:
    columns = np.array([(*KINDS[kind], kind) for kind in kinds], dtype=np.int64).T
    return Nodes(*(np.ascontiguousarray(column) for column in columns))


def trace_of(pods: list[tuple[int, int, int, int, int]]) -> Trace:
    """Pods as (CPU, memory, GPU milli, GPUs, mask)."""
    classes = list(dict.fromkeys(pods))
    rows = np.array(classes, dtype=np.int64)
    return Trace("pods", PodClasses.of_rows(rows), np.array([classes.index(pod) for pod in pods], dtype=np.int64))


def experiment_of(kinds: list[int], pods: list[tuple[int, int, int, int, int]]) -> Experiment:
    trace = trace_of(pods)
    return Experiment(nodes_of(kinds), trace, trace.class_of_pod)


@st.composite
def pod(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    cpu = draw(st.sampled_from([0, 1_000, 4_000, 9_000, 30_000, 120_000]))
    memory = draw(st.sampled_from([0, 1_024, 30_000, 100_000]))
    gpus = draw(st.sampled_from([0, 1, 1, 1, 1, 2, 4, 8]))
    if gpus == 0:
        return cpu, memory, 0, 0, ANY
    milli = draw(st.sampled_from([100, 250, 333, 460, 500, 810, 1000])) if gpus == 1 else 1000
    mask = draw(st.sampled_from([ANY, ANY, ANY, 0b1100, 0b0010, 0b0001]))
    return cpu, memory, milli, gpus, mask


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    kinds = draw(st.lists(st.integers(0, len(KINDS) - 1), min_size=1, max_size=5))
    different = draw(st.lists(pod(), min_size=1, max_size=6))
    return experiment_of(kinds, draw(st.lists(st.sampled_from(different), min_size=1, max_size=60)))


def write(folder: Path, nodes: str = NODES_CSV, pods: str = PODS_CSV) -> tuple[Path, Path]:
    (folder / "nodes.csv").write_text(nodes)
    (folder / "pods.csv").write_text(pods)
    return folder / "nodes.csv", folder / "pods.csv"
