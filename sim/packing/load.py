"""Nodes and pods from CSV, plain or gzipped, in openb's columns; every fault has file, line, field and rule."""

import csv
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from sim.packing.model import (
    ANY_KIND_MASK,
    GPU_MILLI,
    GPUS_PER_NODE_MAX,
    KINDS_MAX,
    Nodes,
    PodClasses,
    Trace,
)
from sim.packing.replay import Timeline
from sim.strict import ConfigError, Fault

NODE_COLUMNS: Final = ("cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS: Final = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli")  # gpu_spec may be absent: any model
TIME_COLUMNS: Final = ("creation_time", "deletion_time")  # scheduled_time and qos may be absent
BEST_EFFORT: Final = "BE"
QUANTITY_MAX: Final = 2_000_000_000  # CPU milli and MiB; far beyond a node, and 32-bit words hold it
FAULTS_TOLD: Final = 20


@dataclass(frozen=True, slots=True)
class Inventory:
    """The nodes that have GPUs, and for each GPU model the kinds of node that have it, as bits."""

    nodes: Nodes
    kinds_of_model: Mapping[str, int]


@dataclass(slots=True)
class _Table:
    """The rows of one file; `faults` gathers what is wrong with them."""

    path: Path
    columns: tuple[str, ...]
    faults: list[Fault] = field(default_factory=list)

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """(line, row) one by one. Raises `ConfigError` for what is no such table, and at the end for its faults."""
        try:
            opened = gzip.open if self.path.suffix == ".gz" else open
            with opened(self.path, "rt", encoding="utf-8", newline="") as text:
                yield from self._rows(csv.DictReader(text, strict=True))
        except (OSError, EOFError, UnicodeDecodeError, csv.Error) as e:
            why = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
            raise ConfigError([Fault(str(self.path), 1, "", f"cannot be read: {why}")]) from e
        self.raise_faults()

    def _rows(self, reader: "csv.DictReader[str]") -> Iterator[tuple[int, dict[str, str]]]:
        missing = [name for name in self.columns if name not in (reader.fieldnames or ())]
        for name in missing:
            self.fault(1, name, f"the column is missing; needed are {', '.join(self.columns)}")
        if missing:
            return
        for row in reader:
            if None in row or None in row.values():
                self.fault(
                    reader.line_num, "", f"must have {len(reader.fieldnames or ())} fields as the first line has"
                )
            else:
                yield reader.line_num, row

    def fault(self, line: int, name: str, rule: str) -> None:
        self.faults.append(Fault(str(self.path), line, name, rule))
        if len(self.faults) == FAULTS_TOLD:
            self.raise_faults()

    def raise_faults(self) -> None:
        if self.faults:
            raise ConfigError(self.faults)

    def whole(self, line: int, row: Mapping[str, str], name: str, most: int) -> int:
        """The number in 0..most that stands in the field; what is none becomes a fault."""
        text = row[name].strip()
        if not (text.isascii() and text.isdecimal() and int(text) <= most):
            self.fault(line, name, f"must be a whole number from 0 to {most:,} (got {row[name]!r})")
            return 0
        return int(text)


def load_nodes(path: Path) -> Inventory:
    """Nodes without a GPU are left out, as the recipe does. Raises `ConfigError`.

    A kind of node is (model, GPUs, CPU); kinds are numbered in sorted order, whatever the order of the file.
    """
    table = _Table(path, NODE_COLUMNS)
    rows: list[tuple[int, int, int, str]] = []
    for line, row in table.rows():
        gpus = table.whole(line, row, "gpu", GPUS_PER_NODE_MAX)
        cpu_milli = table.whole(line, row, "cpu_milli", QUANTITY_MAX)
        memory_mib = table.whole(line, row, "memory_mib", QUANTITY_MAX)
        model = row["model"].strip()
        if gpus and (not model or "|" in model):
            table.fault(line, "model", f"a node with GPUs needs one model, without '|' (got {model!r})")
        if gpus:
            rows.append((cpu_milli, memory_mib, gpus, model))
    kinds = sorted({(model, gpus, cpu) for cpu, _, gpus, model in rows})
    if not rows:
        table.fault(1, "gpu", "no node has a GPU")
    if len(kinds) > KINDS_MAX:
        table.fault(1, "model", f"{len(kinds)} kinds of node (model, GPUs, CPU) are more than the {KINDS_MAX} at most")
    table.raise_faults()
    number = {kind: i for i, kind in enumerate(kinds)}
    kinds_of_model: dict[str, int] = {}
    for (model, _, _), i in number.items():
        kinds_of_model[model] = kinds_of_model.get(model, 0) | 1 << i
    columns = np.array([(cpu, mem, gpus, number[model, gpus, cpu]) for cpu, mem, gpus, model in rows], dtype=np.int64).T
    return Inventory(Nodes(*(np.ascontiguousarray(column) for column in columns)), kinds_of_model)


def load_pods(path: Path, kinds_of_model: Mapping[str, int]) -> Trace:
    """The pods of one file, named by its path; `gpu_milli` above one GPU counts as one GPU. Raises `ConfigError`."""
    table = _Table(path, POD_COLUMNS)
    classes: dict[tuple[int, int, int, int, int], int] = {}
    class_of_pod: list[int] = []
    for line, row in table.rows():
        gpus = table.whole(line, row, "num_gpu", GPUS_PER_NODE_MAX)
        cpu_milli = table.whole(line, row, "cpu_milli", QUANTITY_MAX)
        memory_mib = table.whole(line, row, "memory_mib", QUANTITY_MAX)
        milli = min(table.whole(line, row, "gpu_milli", QUANTITY_MAX), GPU_MILLI) if gpus else 0
        if gpus == 1 and milli == 0:
            table.fault(line, "gpu_milli", "a pod with a GPU must ask for 1 milli of it or more (got '0')")
        if gpus > 1 and milli < GPU_MILLI:
            table.fault(line, "gpu_milli", f"a pod of several GPUs takes them whole: 1000 (got {row['gpu_milli']!r})")
        kinds = _kind_mask(row.get("gpu_spec", ""), kinds_of_model) if gpus else ANY_KIND_MASK
        key = (cpu_milli, memory_mib, milli, gpus, kinds)
        class_of_pod.append(classes.setdefault(key, len(classes)))
    if not any(milli for _, _, milli, _, _ in classes):
        table.fault(1, "num_gpu", "no pod asks for a GPU")
    table.raise_faults()
    return Trace(
        str(path),
        PodClasses.of_rows(np.array(list(classes), dtype=np.int64)),
        np.array(class_of_pod, dtype=np.int64),
    )


def load_timeline(path: Path, trace: Trace) -> Timeline:
    """When the pods of a trace's file come and how long they run. Raises `ConfigError`.

    A pod runs from `scheduled_time`, or where that is empty from `creation_time`, to `deletion_time`, in seconds.
    Without a column `qos` no pod goes before another.
    """
    table = _Table(path, TIME_COLUMNS)
    rows: list[tuple[int, int, int]] = []
    for line, row in table.rows():
        arrives_s = table.whole(line, row, "creation_time", QUANTITY_MAX)
        began = "scheduled_time" if (row.get("scheduled_time") or "").strip() else "creation_time"
        runs_s = table.whole(line, row, "deletion_time", QUANTITY_MAX) - table.whole(line, row, began, QUANTITY_MAX)
        if runs_s < 0:
            table.fault(line, "deletion_time", f"must not be before {began} (got {row['deletion_time']!r})")
        rows.append((arrives_s, runs_s, row.get("qos", "").strip() != BEST_EFFORT))
    columns = np.array(rows, dtype=np.int64)
    order = np.argsort(columns[:, 0], kind="stable")
    arrives_s, runs_s, important = columns[order].T
    return Timeline(arrives_s.copy(), runs_s.copy(), important.copy(), trace.class_of_pod[order])


def _kind_mask(spec: str, kinds_of_model: Mapping[str, int]) -> int:
    """`A|B`: nodes of model A or B; a model that no node has adds nothing, so the pod may fit nowhere."""
    if not spec.strip():
        return ANY_KIND_MASK
    mask = 0
    for model in spec.split("|"):
        mask |= kinds_of_model.get(model.strip(), 0)
    return mask
