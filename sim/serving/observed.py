"""What a real engine did, a log of requests or a table of measured points, and what a model says it would have done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sim.serving.closed import ROUNDS, SPREAD, closed_loop
from sim.serving.compiled import CompiledPool
from sim.serving.pool import Shape, Status
from sim.serving.turns import PS_PER_S, Turns

Floats = NDArray[np.float64]
Errors = Mapping[str, Mapping[str, float]]
FOREVER_PS: Final = 2**61
CROWDED: Final = 0.5  # a row is, where less than this share of those that could be served are


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds; one value a request of a log, a mean a row of a table. NaN where there is none."""

    ttft: Floats
    tpot: Floats
    e2e: Floats

    def columns(self) -> tuple[Floats, Floats, Floats]:
        return self.ttft, self.tpot, self.e2e

    def only(self, kept: NDArray[Any]) -> "Latencies":
        return Latencies(*(column[kept] for column in self.columns()))


@dataclass(frozen=True, slots=True)
class Log:
    """`places`: file and line of each request; `failed`: those that are left out, for they were not answered."""

    turns: Turns
    measured: Latencies
    places: tuple[str, ...] = ()
    failed: int = 0

    @property
    def tokens(self) -> NDArray[np.int64]:
        """(n,) that a request has in the cache at its end."""
        return self.turns.prompt.astype(np.int64) + self.turns.output

    @property
    def longest(self) -> int:
        return int(self.tokens.max())

    def predict(self, shape: Shape, request_s: float) -> Latencies:
        """`request_s` is not in it: the stamps are the engine's own."""
        del request_s
        return _replayed(self.turns, shape)


Point = tuple[int, int, int]  # prompt, output, clients
Lengths = Literal["spread", "equal"]


@dataclass(frozen=True, slots=True)
class Table:
    """`runs`: what else a row says of how it came about; rows that agree in it were one run of an engine.

    `limits`: requests served at once in some of the runs, where that is known. `lengths`: what the tool sent; where
    they are equal, the engine was given room for one prompt an iteration. `places`: file and line of each row;
    `failed`: rows that are left out, for they have no measurement.
    """

    points: tuple[Point, ...]
    measured: Latencies
    runs: tuple[str, ...]
    limits: Mapping[str, int] = field(default_factory=dict)
    lengths: Lengths = "spread"
    places: tuple[str, ...] = ()
    failed: int = 0

    @property
    def tokens(self) -> NDArray[np.int64]:
        """(rows,) that a request has in the cache at its end."""
        return np.array([prompt + output for prompt, output, _ in self.points], np.int64)

    @property
    def longest(self) -> int:
        """Of those that a tool sends whose lengths are spread."""
        return int(self.tokens.max() * (1 + SPREAD)) + 2

    def predict(self, shape: Shape, request_s: float) -> Latencies:
        keys = [(point, self.limits.get(run)) for point, run in zip(self.points, self.runs, strict=True)]
        means = {key: _point(shape, *key, self.lengths) for key in dict.fromkeys(keys)}
        ttft, tpot = (np.array(column) for column in zip(*(means[key] for key in keys), strict=True))
        outputs = np.array([output for _, output, _ in self.points])
        return Latencies(ttft + request_s, tpot, ttft + request_s + np.where(outputs > 1, tpot, 0.0) * (outputs - 1))

    def crowded(self, shape: Shape) -> frozenset[int]:
        """Rows where far fewer were served at once than memory and options would allow.

        By Little's law clients x (time of generation / whole time) are served. The rest waited in front of the engine,
        for a reason that the row does not tell (a client's own connections, an option of that run).
        """
        found = set[int]()
        for row, (prompt, output, clients) in enumerate(self.points):
            served = clients * (1 - self.measured.ttft[row] / self.measured.e2e[row])
            room = shape.kv_blocks * shape.block_tokens / (prompt + output)
            if served < CROWDED * min(clients, shape.max_running, room):
                found.add(row)
        return frozenset(found)

    def rows(self, rows: Sequence[int]) -> "Table":
        points, runs = tuple(self.points[r] for r in rows), tuple(self.runs[r] for r in rows)
        measured = self.measured.only(np.array(rows, np.int64))
        return replace(self, points=points, measured=measured, runs=runs, places=())

    def limited(self, limits: Mapping[str, int]) -> "Table":
        return replace(self, limits={**self.limits, **limits})


def _point(shape: Shape, point: Point, limit: int | None, lengths: Lengths) -> tuple[float, float]:
    prompt, output, clients = point
    if limit is not None:
        shape = replace(shape, max_running=min(limit, shape.max_running))
    spread = SPREAD
    if lengths == "equal":
        served, spread = min(clients, shape.max_running), 0.0
        shape = replace(shape, max_running=served, token_budget=min(shape.token_budget, prompt + served))
    requests = ROUNDS * min(clients, limit or clients)
    seen = _replayed(closed_loop(clients, prompt, output, spread=spread, requests=requests), shape)
    return _mean(seen.ttft), _mean(seen.tpot)


def _mean(values: Floats) -> float:
    """Of those that there are; NaN if there is none."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


Observed = Log | Table


def _replayed(turns: Turns, shape: Shape) -> Latencies:
    pool = CompiledPool(turns)
    pool.add(shape)
    pool.run_until(FOREVER_PS)
    outcome = pool.outcome()
    done = outcome.status == Status.DONE
    first, last = outcome.first_ps / PS_PER_S, outcome.done_ps / PS_PER_S
    arrival = outcome.arrival_ps / PS_PER_S
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = np.where(turns.output > 1, (last - first) / (turns.output - 1), np.nan)
    return Latencies(*(np.where(done, values, np.nan) for values in (first - arrival, tpot, last - arrival)))


def errors(predicted: Latencies, measured: Latencies) -> Errors:
    """Per cent: of the means, and the mean over requests or rows of the absolute ones; NaN where nothing was measured.

    What the model refuses is wrong by all of it.
    """
    found: dict[str, dict[str, float]] = {}
    for name in ("ttft", "tpot", "e2e"):
        got, want = getattr(predicted, name), getattr(measured, name)
        told = np.isfinite(want) & (want > 0)
        got, want = np.nan_to_num(got[told]), want[told]
        mean, each = (got.sum() / want.sum() - 1, np.abs(got / want - 1).mean()) if told.any() else (np.nan, np.nan)
        found[f"{name}_s"] = {
            "mean_error_pct": round(100 * float(mean), 4),
            "mape_pct": round(100 * float(each), 4),
        }
    return found
