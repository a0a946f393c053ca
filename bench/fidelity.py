"""`python -m bench.fidelity TOOLS`: is what the simulator foretells of an engine what a real one does?

Starts vLLM itself on the CPU with random weights (TOOLS: where tests/e2e/install-vllm put it), records one run of
requests and calibrates the serving model from that log, as `slicewise sim calibrate` does. Then it predicts two other
loads and sends them to the engine: a steady one near saturation, and a burst that has to queue. About seven minutes.

An iteration's time is what is modelled, and a busy machine changes it while one looks: the load average stands in the
report. Two cores must be free (engine and clients use about 1.5), or the errors tell of neighbours, not of the model.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim import calibrate, fit
from sim.serving import observed
from sim.serving.compiled import CompiledPool
from sim.serving.measured import read
from sim.serving.pool import Gauge, Shape
from sim.serving.times import Engine, load
from sim.serving.turns import Turns, open_loop, to_ps
from sim.streams import stream
from tests.e2e.clients import Ask, Seen, asks
from tests.e2e.clients import open_loop as send
from tests.e2e.parts.vllm import Vllm, Width, environment

Floats = NDArray[np.float64]
SLOTS: Final = 8
BUDGET_TOKENS: Final = 512
CONTEXT_TOKENS: Final = 1024
KV_BLOCKS: Final = 4096  # of 16 tokens: all that the slots can hold; memory is not what this compares
WIDTH: Final = Width(layers=8, hidden=512)
PROMPT: Final = (40, 400)
OUTPUT: Final = (10, 80)
ALONE, CROWD, MIXED, STEADY, BURST = 8, 40, 50, 90, 48  # requests of each part
NEAR_SATURATION: Final = 0.9
LOOK_EVERY_S: Final = 0.5
DENSE: Final = load()["h100-80-llama-3.1-8b"]  # lent: nothing of it but that it is dense, each time is guessed anew
SETTINGS: Final = fit.Settings(
    max_num_seqs=SLOTS,
    max_num_batched_tokens=BUDGET_TOKENS,
    memory_mib=0,
    gpu_memory_utilization=0.9,
    kv_blocks=KV_BLOCKS,
)


@dataclass(frozen=True, slots=True)
class Run:
    """A load that was sent: what its clients saw, and how many requests waited when the engine was looked at."""

    begun_s: float
    seen: list[Seen]
    looks: list[tuple[float, float]]  # (time, vllm:num_requests_waiting)

    def log(self) -> str:
        """As `slicewise sim calibrate` takes it."""
        rows = [
            {
                "input_toks": one.prompt_tokens,
                "output_toks": one.output_tokens,
                "queued_ts": one.sent_s - self.begun_s,
                "first_token_ts": one.first_s - self.begun_s,
                "last_token_ts": one.last_s - self.begun_s,
            }
            for one in sorted(self.seen, key=lambda one: one.sent_s)
        ]
        return "".join(json.dumps(row) + "\n" for row in rows)


@dataclass(frozen=True, slots=True)
class Row:
    """A prediction and its error in per cent of what was measured."""

    what: str
    measured: float
    predicted: float
    error_pct: float

    @classmethod
    def of(cls, what: str, measured: float, predicted: float) -> "Row":
        return cls(what, measured, predicted, 100 * (predicted / measured - 1))


# -- the real engine ---------------------------------------------------------------------------------------------------


@contextmanager
def engine(installed: Path) -> Iterator[Vllm]:
    options = (f"--max-num-batched-tokens={BUDGET_TOKENS}", "--no-enable-prefix-caching")
    with tempfile.TemporaryDirectory(prefix="slicewise-fidelity-") as folder:
        (Path(folder) / "logs").mkdir()
        # One thread computes: the other core is for the HTTP server and the clients, as they share a machine.
        server = Vllm(
            installed, Path(folder), slots=SLOTS, width=WIDTH, context_tokens=CONTEXT_TOKENS, options=options, threads=1
        )
        try:
            yield server.up()
        finally:
            server.stop()


async def sent(server: Vllm, *loads: Sequence[Ask]) -> Run:
    """The loads, one after the other."""
    begun_s, looks, over = time.monotonic(), list[tuple[float, float]](), asyncio.Event()
    watching = asyncio.create_task(_watch(server, looks, over))
    seen = [one for load in loads for one in await send(server.url, load)]
    over.set()
    await watching
    return Run(begun_s, seen, looks)


async def _watch(server: Vllm, looks: list[tuple[float, float]], over: asyncio.Event) -> None:
    while not over.is_set():
        said = await asyncio.to_thread(server.metrics)
        looks.append((time.monotonic(), waiting(said)))
        await asyncio.sleep(LOOK_EVERY_S)


def waiting(metrics: str) -> float:
    (line,) = (line for line in metrics.splitlines() if line.startswith("vllm:num_requests_waiting{"))
    return float(line.rsplit(" ", 1)[1])


def poisson(count: int, per_s: float, seed: int) -> list[float]:
    return [float(at_s) for at_s in np.cumsum(stream(seed, "fidelity").exponential(1 / per_s, count))]


def requests(at_s: Sequence[float], seed: int) -> list[Ask]:
    return asks(at_s, prompt_tokens=PROMPT, output_tokens=OUTPUT, seed=seed)


async def calibration_run(server: Vllm) -> tuple[Run, float]:
    """Requests alone, a crowd, and a mixture of both; and how many requests a second the engine ends at most."""
    await send(server.url, requests([0.0] * SLOTS, seed=9))  # warm
    first = await sent(server, *([ask] for ask in requests([0.0] * ALONE, seed=1)), requests([0.0] * CROWD, seed=2))
    most_per_s = throughput(first.seen[ALONE:])
    mixed = await sent(server, requests(poisson(MIXED, 0.6 * most_per_s, seed=3), seed=3))
    return Run(first.begun_s, first.seen + mixed.seen, first.looks + mixed.looks), most_per_s


def pace_of(alone: Sequence[Seen]) -> float:
    return float(np.mean([one.tpot_s for one in alone]))


async def pace_s(server: Vllm) -> float:
    """Seconds a token of requests that meet nobody: the machine's speed now."""
    return pace_of([one for ask in requests([0.0] * ALONE, seed=1) for one in await send(server.url, [ask])])


def throughput(crowd: Sequence[Seen]) -> float:
    """How many requests a second end as long as all slots are taken."""
    began_s, ends_s = min(one.sent_s for one in crowd), sorted(one.last_s for one in crowd)
    full = len(crowd) - SLOTS
    return full / (ends_s[full - 1] - began_s)


def burst_s(most_per_s: float) -> list[float]:
    """A trickle with a burst after some seconds, which has to queue."""
    trickle = poisson(BURST // 2, 0.3 * most_per_s, seed=5)
    return sorted([*trickle, *[trickle[BURST // 8]] * BURST])


# -- the model ---------------------------------------------------------------------------------------------------------


def first_guess(alone: Sequence[Seen]) -> Engine:
    """An engine from requests that met nobody: a line through prompts and times to the first token, and a token's time.

    How both are shared out among the twelve numbers is what calibration finds.
    """
    per_token_s, fixed_s = np.polyfit([one.prompt_tokens for one in alone], [one.ttft_s for one in alone], 1)
    decode_s = float(np.mean([one.tpot_s for one in alone]))
    per_token, decode = 1e12 * max(per_token_s, 1e-6), 1e12 * decode_s
    ps = {
        "a0": 0.7 * decode,
        "a1": 0.3 * per_token,
        "b0": 0.3 * decode,
        "b1": 0.8 * per_token,
        "c0": 0.02 * decode,
        "c1": 0.02 * decode,
        "c2": 1e-4 * decode,
        "mixed_c1": 0.02 * decode,
        "mixed_c2": 1e-4 * decode,
        "p0": max(0.1 * 1e12 * fixed_s, 0.0),
        "p1": per_token / CONTEXT_TOKENS / 20,
        "p2": 0.1 * per_token,
        "fixed": 0.2 * decode,
    }
    times = replace(DENSE.times, **{name: round(value) for name, value in ps.items()}, floor=1)
    return replace(DENSE, name="cpu", gpu="cpu", model="random", basis="roofline", layers=WIDTH.layers, times=times)


def in_time(run: Run) -> Run:
    """As the engine must have sent it, where a stalled client saw the first token late, in one lump with others.

    No token takes less than half of what it takes a request that meets nobody.
    """
    least_s = pace_of(run.seen[:ALONE]) / 2
    latest_s = [one.last_s - least_s * (one.output_tokens - 1) for one in run.seen]
    seen = [replace(one, first_s=min(one.first_s, at_s)) for one, at_s in zip(run.seen, latest_s, strict=True)]
    return replace(run, seen=[replace(one, first_s=max(one.first_s, one.sent_s)) for one in seen])


def calibrated(run: Run, keep: Path) -> tuple[Engine, calibrate.Calibration]:
    log = keep / "calibration.jsonl"
    log.write_text(in_time(run).log())
    found = calibrate.calibrate(first_guess(run.seen[:ALONE]), read(log), SETTINGS, check_only=False)
    return found.engine, found


def depths(turns: Turns, shape: Shape, at_s: Floats) -> Floats:
    """How many requests wait in the simulated engine at these times after its begin."""
    pool = CompiledPool(turns)
    slot = pool.add(shape)
    found = np.empty(len(at_s))
    for i, when_s in enumerate(at_s):
        pool.run_until(to_ps(float(when_s)))
        found[i] = pool.read((slot,)).gauge(Gauge.QUEUED)[0]
    return found


def turns_of(ordered: Sequence[Seen]) -> Turns:
    """The same requests for the simulated engine, from time 0 on."""
    return open_loop(
        np.array([one.sent_s - ordered[0].sent_s for one in ordered]),
        np.array([one.prompt_tokens for one in ordered]),
        np.array([one.output_tokens for one in ordered]),
    )


def compared(run: Run, fitted: Engine) -> list[Row]:
    shape = fit.shape(SETTINGS, fit.Model(fitted.times, 0.0, KV_BLOCKS))
    ordered = sorted(run.seen, key=lambda one: one.sent_s)
    begun_s = ordered[0].sent_s
    turns = turns_of(ordered)
    measured = observed.Latencies(
        *(np.array([getattr(one, f"{name}_s") for one in ordered]) for name in ("ttft", "tpot", "e2e"))
    )
    predicted = observed.Log(turns, measured).predict(shape, 0.0)
    rows = list[Row]()
    for name in ("ttft", "tpot", "e2e"):
        real, foretold = getattr(measured, name), getattr(predicted, name)
        rows.append(Row.of(f"{name.upper()} mean, s", float(real.mean()), float(foretold.mean())))
        p95 = (float(np.quantile(latencies, 0.95)) for latencies in (real, foretold))
        rows.append(Row.of(f"{name.upper()} P95, s", *p95))
    return rows + _queue(run, turns, shape, begun_s)


def _queue(run: Run, turns: Turns, shape: Shape, begun_s: float) -> list[Row]:
    looks = [(when - begun_s, depth) for when, depth in run.looks if when >= begun_s]
    at_s, real = (np.array(column) for column in zip(*looks, strict=True))
    foretold = depths(turns, shape, at_s)
    apart = float(np.abs(foretold - real).mean())
    return [
        Row.of("waiting, mean", float(real.mean()), float(foretold.mean())),
        Row.of("waiting, most", float(real.max()), float(foretold.max())),
        Row("waiting, apart at a look", float(real.mean()), apart, 100 * apart / float(real.mean())),
    ]


# -- the report --------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    lines = [f"  {'':<26}{'measured':>10}{'predicted':>11}{'error':>9}"]
    lines += [f"  {r.what:<26}{r.measured:>10.3f}{r.predicted:>11.3f}{r.error_pct:>+8.1f} %" for r in rows]
    return "\n".join(lines)


async def run(installed: Path, keep: Path) -> None:
    with engine(installed) as server:
        print(f"vLLM on the CPU serves at {server.url}; load average {os.getloadavg()[0]:.1f}")
        first, most_per_s = await calibration_run(server)
        fitted, found = calibrated(first, keep)
        print(f"calibrated from {len(first.seen)} requests; at most {most_per_s:.2f} requests/s end")
        for name, error in found.errors.items():
            print(f"  {name:<8} mean {error['mean_error_pct']:+.1f} %, of each request {error['mape_pct']:.1f} %")
        loads = {"steady": poisson(STEADY, NEAR_SATURATION * most_per_s, seed=4), "burst": burst_s(most_per_s)}
        for name, at_s in loads.items():
            slower_pct = 100 * (await pace_s(server) / pace_of(first.seen[:ALONE]) - 1)
            sent_run = await sent(server, requests(at_s, seed=6))
            (keep / f"{name}.jsonl").write_text(sent_run.log())
            print(f"{name}: {len(at_s)} requests; load average {os.getloadavg()[0]:.1f}; just before, a token of a")
            print(f"  lone request took {slower_pct:+.0f} % against calibration: far from 0, and the neighbours spoke")
            print(table(compared(sent_run, fitted)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fidelity", description=__doc__)
    parser.add_argument("tools", type=Path, help="the folder that tests/e2e/install-vllm installed into")
    parser.add_argument("--keep", type=Path, help="a folder for the request logs (default: they are thrown away)")
    arguments = parser.parse_args()
    installed = environment(arguments.tools.expanduser())
    if installed is None:
        parser.error(f"no vLLM in {arguments.tools}; install it with: tests/e2e/install-vllm {arguments.tools}")
    with tempfile.TemporaryDirectory(prefix="slicewise-fidelity-") as thrown_away:
        keep = arguments.keep or Path(thrown_away)
        keep.mkdir(parents=True, exist_ok=True)
        asyncio.run(run(installed, keep))


if __name__ == "__main__":
    main()
