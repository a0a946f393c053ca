"""The loads in a folder, recognised by what stands in them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sim.fluid import recorded, servegen
from sim.fluid.load import Counts
from sim.fluid.service import Service
from sim.workloads.trace import TraceError, opened


class Source(Protocol):
    def counts(self, service: Service, peak_replicas: int, seed: int) -> Counts: ...


@dataclass(frozen=True, slots=True)
class Trace:
    """`files`: of one load; ServeGen has two, rates and lengths."""

    name: str
    kind: str
    files: tuple[Path, ...]

    @property
    def is_week(self) -> bool:
        """Others that are known last an hour."""
        return self.kind == "servegen"

    def read(self) -> Source:
        """Raises `TraceError`."""
        match self.kind:
            case "servegen":
                return servegen.read(*self.files)
            case "azure":
                return recorded.read_azure(*self.files)
            case _:
                return recorded.read_mooncake(*self.files)


def find(folder: Path) -> list[Trace]:
    """By name. Files of other kinds are left alone. Raises `TraceError` where there is nothing to evaluate."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and _plain(path).suffix in {".csv", ".jsonl"})
    traces = [trace for path in files if (trace := _trace(path, files)) is not None]
    if not traces:
        raise TraceError(
            f"{folder}: no load in it; want ServeGen (NAME_week1.csv with NAME_lengths.csv), Azure (CSV with "
            "TIMESTAMP, ContextTokens, GeneratedTokens) or Mooncake (JSON lines with timestamp, input_length, "
            "output_length), each plain or as .gz"
        )
    return traces


def _plain(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == ".gz" else path


def _trace(path: Path, files: list[Path]) -> Trace | None:
    with opened(path) as text:
        first = text.readline()
    name = _plain(path).stem
    if "rate_rps" in first:
        model = name.rsplit("_", 1)[0]
        lengths = [other for other in files if _plain(other).stem == f"{model}_lengths"]
        if not lengths:
            raise TraceError(f"{path}: its lengths are not there; want {path.with_name(model + '_lengths.csv')} or .gz")
        return Trace(name, "servegen", (path, lengths[0]))
    if "ContextTokens" in first:
        return Trace(name, "azure", (path,))
    if '"input_length"' in first:
        return Trace(name, "mooncake", (path,))
    return None
