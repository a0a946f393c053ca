"""`python -m bench.gpu`: what engines that share one GPU do to one another, and what MPS keeps of its promises.

Wants an NVIDIA GPU, PyTorch and, for MPS, the driver's `nvidia-cuda-mps-control` and a user who may start it (root,
in a container). Changes no setting of the GPU. One process alone is the yardstick; then several at once by the GPU's
own turns, under MPS, and under MPS with the compute shared out. Where a case has a gap, a process leaves the GPU
alone for so long after each step, as an engine does while it schedules, samples and streams. About five minutes.
"""

import argparse
import json
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench.gpu import mps, sharing


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--model", action="append", choices=["1b", "8b"], help="default: both")
    parser.add_argument("--processes", default="2,3", help="how many share the GPU, with commas between (default: 2,3)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each case (default: 1)")
    parser.add_argument("--json", type=Path, help="a file for the rows")
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.processes.split(",")]
    found = list[sharing.Row]()
    with ExitStack() as stack:
        env = None
        if shutil.which("nvidia-cuda-mps-control"):
            env = stack.enter_context(mps.daemon(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
            for line in mps.limits(env):
                print(line, flush=True)
        else:
            print("no nvidia-cuda-mps-control here: MPS is left out", file=sys.stderr)
        for model in arguments.model or ["8b", "1b"]:
            for row in sharing.rows(model, numbers, env, arguments.seconds):
                found.append(row)
                print(line_of(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")


def line_of(row: sharing.Row) -> str:
    who = f"{row.model:<3} {row.case:<28} {row.by:<13} {row.processes:>2}"
    return f"{who} {row.ms:>8.2f} ms (P95 {row.p95_ms:>7.2f}) x {row.times:.2f}, throughput x {row.throughput:.2f}"


if __name__ == "__main__":
    main()
