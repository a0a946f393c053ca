"""What no policy can exceed: the most GPU work of the pods that arrived that the cluster can hold, as a linear program.

Clairvoyant, fractional, and free to refuse what is awkward. Nodes of one kind and memory are one group: CPU and memory
are added up over it. Each GPU is packed exactly, by a flow of GPUs over levels of milli (arc flow: Valério de Carvalho,
"Exact solution of bin-packing problems using column generation and branch-and-bound", 1999). Pods without a GPU are
refused, since they only take CPU and memory from the others.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType

import numpy as np

from sim.packing.metrics import work_pct
from sim.packing.model import GPU_MILLI, Experiment, IntArray, PodClasses


class NoSolverError(ImportError):
    """highspy is not installed."""


@dataclass(slots=True)
class _Program:
    """Maximise cost @ x over x >= 0 with rows @ x <= most."""

    cost: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])  # of each column in the two lists that follow
    rows: list[int] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)

    def row(self, most: float) -> int:
        self.most.append(most)
        return len(self.most) - 1

    def column(self, cost: float, entries: Iterable[tuple[int, float]]) -> None:
        self.cost.append(cost)
        for row, factor in entries:
            self.rows.append(row)
            self.factors.append(factor)
        self.starts.append(len(self.rows))


def bound_100_pct(experiment: Experiment) -> float:
    """Of the cluster's GPUs, in percent, with the pods that came until 100 % were asked for. Raises `NoSolverError`."""
    solver = load_solver()
    within_100 = int(np.searchsorted(work_pct(experiment), 100.0, side="right"))
    arrivals = experiment.class_of_arrival[:within_100]
    classes = experiment.trace.classes
    count = np.bincount(arrivals, minlength=classes.cpu_milli.size)
    wanted = np.flatnonzero((count > 0) & (classes.gpu_count > 0))
    program = _Program()
    demand = {int(c): program.row(float(count[c])) for c in wanted}
    nodes = experiment.nodes
    kinds = np.stack([nodes.cpu_milli, nodes.memory_mib, nodes.gpu_count, nodes.kind_id], axis=1)
    for kind, number in zip(*np.unique(kinds, axis=0, return_counts=True), strict=True):
        _add_group(program, classes, demand, kind, int(number))
    work_milli = _solved(solver, program) if program.cost else 0.0  # nothing fits anywhere
    return 100.0 * work_milli / nodes.gpu_milli_total


def _add_group(program: _Program, classes: PodClasses, demand: dict[int, int], kind: IntArray, number: int) -> None:
    """`demand`: the row of each class. `kind`: CPU, memory, GPUs and kind of each of so many nodes."""
    cpu, memory, gpus, kind_id = kind.tolist()
    gpu_row, cpu_row, memory_row = (program.row(float(number * most)) for most in (gpus, cpu, memory))
    shares: dict[int, int] = {}  # row of each share of a GPU: no more pods than the flow takes along
    for c, row in demand.items():
        fits = classes.cpu_milli[c] <= cpu and classes.memory_mib[c] <= memory and classes.gpu_count[c] <= gpus
        if not (fits and (int(classes.kind_mask[c]) >> kind_id) & 1):
            continue
        milli, wanted = int(classes.gpu_milli[c]), int(classes.gpu_count[c])
        if milli < GPU_MILLI and milli not in shares:
            shares[milli] = program.row(0.0)
        gpu = (gpu_row, float(wanted)) if milli == GPU_MILLI else (shares[milli], 1.0)
        taken = [(cpu_row, float(classes.cpu_milli[c])), (memory_row, float(classes.memory_mib[c]))]
        program.column(float(milli * wanted), [(row, 1.0), gpu, *taken])
    levels = {0: gpu_row}  # out of a level goes no more than came in; out of level 0, the GPUs
    for level, milli in _arcs(tuple(sorted(shares, reverse=True))):
        for reached in (level, level + milli):
            if reached not in levels:
                levels[reached] = program.row(0.0)
        program.column(0.0, [(levels[level], 1.0), (levels[level + milli], -1.0), (shares[milli], -1.0)])


@lru_cache(maxsize=64)
def _arcs(shares: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """(level, share) of each step with which a GPU can be filled, the larger share first. `shares`: descending."""
    reached, arcs = {0}, []
    for milli in shares:
        todo = sorted(reached)
        for level in todo:  # grows: a share may come several times
            if level + milli <= GPU_MILLI:
                arcs.append((level, milli))
                if level + milli not in reached:
                    reached.add(level + milli)
                    todo.append(level + milli)
    return tuple(arcs)


def load_solver() -> ModuleType:
    """Raises `NoSolverError`."""
    try:
        import highspy  # noqa: PLC0415  # an extra: only bounds need it
    except ImportError as e:
        raise NoSolverError("--bound: needs the solver HiGHS: pip install 'slicewise[bounds]'") from e
    return highspy


def _solved(highspy: ModuleType, program: _Program) -> float:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(program.cost), len(program.most)
    lp.sense_ = highspy.ObjSense.kMaximize
    lp.col_cost_ = np.array(program.cost)
    lp.col_lower_, lp.col_upper_ = np.zeros(lp.num_col_), np.full(lp.num_col_, highspy.kHighsInf)
    lp.row_lower_, lp.row_upper_ = np.full(lp.num_row_, -highspy.kHighsInf), np.array(program.most)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.array(program.starts)
    lp.a_matrix_.index_ = np.array(program.rows)
    lp.a_matrix_.value_ = np.array(program.factors)
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.passModel(lp)
    highs.run()
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise RuntimeError(f"HiGHS found no optimum: {highs.modelStatusToString(highs.getModelStatus())}")
    return float(highs.getInfo().objective_function_value)
