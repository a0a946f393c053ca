"""What a placement is judged by: allocation, losses of each class of pods, first failure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.packing.model import ANY_KIND_MASK, GPU_MILLI, Experiment, FloatArray, Placement

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Allocated GPU work in percent of the cluster's, when the work that arrived is 100 % and 130 % of it.

    `first_failure_pct`: the work that had arrived, the pod included, when the first pod failed that an empty cluster
    could hold; all of the work if none did. `lost_by_class_pct`: work refused while the first 100 % arrived, in percent
    of the cluster's GPUs, for CPU-only pods of its CPU. Classes overlap: pods that name a GPU model are counted twice.
    """

    allocation_100_pct: float
    allocation_130_pct: float
    first_failure_pct: float
    lost_by_class_pct: dict[str, float]


def work_pct(experiment: Experiment, counted: BoolArray | None = None) -> FloatArray:
    """GPU work asked for up to each arrival, it included, by those that are counted (all), in percent of the GPUs."""
    classes = experiment.trace.classes
    request = (classes.gpu_milli * classes.gpu_count)[experiment.class_of_arrival].astype(np.float64)
    work = np.cumsum(request if counted is None else np.where(counted, request, 0.0))
    return np.asarray(100.0 * work / float(experiment.nodes.gpu_milli_total))


def evaluate(experiment: Experiment, placement: Placement) -> Outcome:
    arrivals, lost = experiment.class_of_arrival, placement.node_of_arrival < 0
    arrived_pct, allocated_pct = work_pct(experiment), work_pct(experiment, ~lost)
    within_100 = int(np.searchsorted(arrived_pct, 100.0, side="right"))
    failures = np.flatnonzero(lost & _holdable(experiment)[arrivals])
    return Outcome(
        float(allocated_pct[within_100 - 1]) if within_100 else 0.0,
        float(allocated_pct[-1]),
        float(arrived_pct[failures[0] if failures.size else -1]),
        _losses(experiment, lost & (np.arange(arrivals.size) < within_100)),
    )


def _losses(experiment: Experiment, lost: BoolArray) -> dict[str, float]:
    classes, arrivals = experiment.trace.classes, experiment.class_of_arrival
    gpu_work = 100.0 * (classes.gpu_milli * classes.gpu_count)[arrivals] / experiment.nodes.gpu_milli_total
    cpu_work = 100.0 * classes.cpu_milli[arrivals] / experiment.nodes.cpu_milli.sum()
    return {
        name: float((cpu_work if name == "cpu-only" else gpu_work)[lost & members].sum())
        for name, members in _members(experiment).items()
    }


def _members(experiment: Experiment) -> dict[str, BoolArray]:
    """Arrivals of each class. "2-4-gpu" has those of 5 to 7 GPUs too, which openb's pods never ask for."""
    classes, arrivals = experiment.trace.classes, experiment.class_of_arrival
    count, milli = classes.gpu_count[arrivals], classes.gpu_milli[arrivals]
    return {
        "8-gpu": count == 8,
        "2-4-gpu": (count >= 2) & (count < 8),
        "1-gpu": (count == 1) & (milli == GPU_MILLI),
        ">=600m": (count == 1) & (milli >= 600) & (milli < GPU_MILLI),
        "<600m": (count == 1) & (milli < 600),
        "cpu-only": count == 0,
        "with-model": classes.kind_mask[arrivals] != ANY_KIND_MASK,
    }


def _holdable(experiment: Experiment) -> BoolArray:
    """Per class: a pod that no empty node holds fails under every policy and says nothing about any."""
    nodes, classes = experiment.nodes, experiment.trace.classes
    capacity = np.stack([nodes.cpu_milli, nodes.memory_mib, nodes.gpu_count, nodes.kind_id], axis=1)
    cpu, memory, gpus, kind = np.unique(capacity, axis=0).T
    model = ((classes.kind_mask[:, None] >> kind) & 1 == 1) | (classes.gpu_count[:, None] == 0)
    held = (
        (classes.cpu_milli[:, None] <= cpu)
        & (classes.memory_mib[:, None] <= memory)
        & (classes.gpu_count[:, None] <= gpus)
        & model
    )
    return np.asarray(held.any(axis=1), dtype=np.bool_)
