"""`python -m bench`: every benchmark of one machine in one run, so that its numbers may be compared with each other."""

import argparse
import asyncio
import inspect
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

Row = tuple[str, float, str]
BENCHMARKS: Final = {
    "getmetrics": "bench.getmetrics",
    "collect": "bench.collect",
    "scrape": "bench.scrape",
    "verbs": "bench.verbs",
    "simulate": "bench.simulate",
    "evaluation": "bench.evaluation",
    "packing": "bench.packing",
    "spr": "bench.spr",
    "warmth": "bench.warmth",
}


def measure(names: Sequence[str]) -> list[Row]:
    """Runs the named benchmarks one after the other: two at once would measure each other."""
    rows: list[Row] = []
    for name in names:
        answer = import_module(BENCHMARKS[name]).run()
        measured: Iterable[Row] = asyncio.run(answer) if inspect.iscoroutine(answer) else answer
        rows += [(label, float(value), unit) for label, value, unit in measured]
    return rows


def machine() -> dict[str, str | int]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "cores": cores,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
    }


def number(value: float) -> str:
    """Four significant digits without an exponent: wide enough to compare, too short to read noise into."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.4g}"


def table(rows: Sequence[Row]) -> str:
    cells = [(name, number(value), unit) for name, value, unit in rows]
    wide = [max(len(cell[column]) for cell in cells) for column in range(2)]
    return "\n".join(f"{name:<{wide[0]}}  {value:>{wide[1]}} {unit}".rstrip() for name, value, unit in cells)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the decisions and the simulator.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which of {', '.join(BENCHMARKS)} to run (default: all of them)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows and the machine as JSON")
    chosen = parser.parse_args(arguments)
    if strange := [name for name in chosen.names if name not in BENCHMARKS]:
        parser.error(f"no such benchmark: {', '.join(strange)}; there are {', '.join(BENCHMARKS)}")
    rows, here = measure(chosen.names or list(BENCHMARKS)), machine()
    print(table(rows))
    print(f"\nmachine: {here['cores']} cores, {here['python']}, {here['system']}")
    if chosen.json is not None:
        listed = [{"name": name, "value": value, "unit": unit} for name, value, unit in rows]
        chosen.json.write_text(json.dumps({"machine": here, "rows": listed}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
