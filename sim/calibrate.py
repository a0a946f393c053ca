"""Fits an engine's iteration times to what a real one did, or says how far the catalog is from it.

The replay is the compiled engine's; what is fitted are factors on groups of the model's numbers (those that one piece
of hardware answers for), held near 1 by how much the start is worth: few measurements do not bend many numbers.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import exp
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.serving.observed import Latencies, Log, Observed, Table, errors
from sim.serving.pool import Shape
from sim.serving.times import BLOCK_TOKENS, SPARED_BITS, Engine, Times

Errors = Mapping[str, Mapping[str, float]]
Floats = NDArray[np.float64]
BESIDE: Final = "decoding beside a prompt"
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "weights": ("a0",),
    "weights per token": ("a1",),
    "experts": ("experts",),
    "arithmetic": ("b1",),
    "arithmetic at no token": ("b0",),
    "KV": ("c2", "mixed_c2"),
    BESIDE: ("mixed_c1", "mixed_c2"),
    "sequences": ("c1", "mixed_c1"),
    "prompt pairs": ("p1",),
    "prompt tokens": ("p2",),
    "a prompt at all": ("p0",),
    "host": ("fixed",),
}
# How far a factor may be expected from 1, as a standard deviation of its logarithm.
WIDTH: Final = {"calibrated": 0.3, "interpolated": 0.5, "roofline": 0.8}
WEAK_WIDTH: Final = 3.0  # of a host's processor, of which the start knows next to nothing
NOISE: Final = 0.03  # of one measurement, relative
STEP: Final = 0.06  # of the derivatives
ROUNDS: Final = 10
HALVINGS: Final = 8
FAR: Final = 0.7  # as a logarithm; nearer, single factors find the way
FINE: Final = (0.1, 0.04, 0.015, 0.006)
WEIGHTS: Final = {"ttft_s": 0.3, "tpot_s": 1.0, "e2e_s": 0.7}
FLOOR: Final = {"ttft_s": 0.03, "tpot_s": 0.01, "e2e_s": 0.01}  # below it an error counts by its square
LIMITS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the engine was started; `kv_blocks` None: what fits beside the weights, and to be fitted."""

    max_num_seqs: int
    max_num_batched_tokens: int
    memory_mib: int
    gpu_memory_utilization: float
    kv_blocks: int | None


@dataclass(frozen=True, slots=True)
class Model:
    """What is fitted."""

    times: Times
    request_s: float
    kv_blocks: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """`limits`: requests served at once by run of a table, where more waited than memory explains.

    `crowded`: how many such rows there are; `without_them`: the errors of the others (of all, if there are none).
    """

    engine: Engine
    kv_blocks: int
    errors: Errors
    before: Errors
    rows: int
    limits: Mapping[str, int]
    crowded: int
    without_them: Errors


def parameters(engine: Engine) -> dict[str, float]:
    """The model's numbers as they are published: milliseconds a pass, microseconds a layer."""
    t, layer, ms = engine.times, engine.layers * 1e6, 1e9
    per_layer = {"c0": t.c0, "c1": t.c1, "c2": t.c2, "p0": t.p0, "p1": 2 * t.p1, "p2": t.p2}
    whole = {"a0": t.a0, "a1": t.a1, "experts": t.experts, "b0": t.b0, "b1": t.b1, "host": t.fixed}
    return (
        {f"{name}_ms": round(ps / ms, 9) for name, ps in whole.items()}
        | {f"{name}_us": round(ps / layer, 12) for name, ps in per_layer.items()}
        | {"mixed_factor": round(t.mixed_c2 / t.c2, 6) if t.c2 else 1.0, "chunk_floor": float(t.floor)}
        | {"spared": round(t.spared / (1 << SPARED_BITS), 6), "request_ms": round(engine.request_s * 1e3, 6)}
    )


def shape(settings: Settings, model: Model) -> Shape:
    context = model.kv_blocks * BLOCK_TOKENS
    return Shape(model.times, model.kv_blocks, settings.max_num_seqs, settings.max_num_batched_tokens, context)


def calibrate(engine: Engine, observed: Observed, settings: Settings, *, check_only: bool) -> Calibration:
    """Raises `ValueError` where the model does not fit the GPU's memory."""
    blocks = settings.kv_blocks or engine.kv_blocks(settings.memory_mib, settings.gpu_memory_utilization)
    if blocks < 1:
        raise ValueError(f"{engine.name}: no room for a KV cache in {settings.memory_mib} MiB; give --kv-blocks")
    model = Model(engine.times, engine.request_s, blocks)

    def predict(candidate: Model) -> Latencies:
        return observed.predict(shape(settings, candidate), candidate.request_s)

    before, limits = errors(predict(model), observed.measured), dict[str, int]()
    crowded = observed.crowded(shape(settings, model)) if isinstance(observed, Table) else frozenset[int]()
    if not check_only:
        fit = _Fit(predict, observed.measured, crowded, _moves(engine, observed, settings), isinstance(observed, Log))
        model = fit.search(model)
        if isinstance(observed, Table) and crowded:
            observed, limits = served_at_once(observed, crowded, shape(settings, model), model.request_s)
        engine = replace(engine, times=model.times, request_s=model.request_s, basis="calibrated")
    got, rows = observed.predict(shape(settings, model), model.request_s), len(observed.measured.ttft)
    kept = np.array([row not in crowded or len(crowded) == rows for row in range(rows)])
    return Calibration(
        engine,
        model.kv_blocks,
        errors(got, observed.measured),
        before,
        rows,
        limits,
        len(crowded),
        errors(got.only(kept), observed.measured.only(kept)),
    )


@dataclass(frozen=True, slots=True)
class Move:
    """One factor: how it changes a model by its logarithm, and how far from 0 that is expected."""

    change: Callable[[Model, float], Model]
    width: float
    time: bool = False  #: of an iteration


def _moves(engine: Engine, observed: Observed, settings: Settings) -> list[Move]:
    width = WEAK_WIDTH if engine.gpu == "cpu" else WIDTH[engine.basis]

    def scaled(names: tuple[str, ...]) -> Callable[[Model, float], Model]:
        def change(model: Model, step: float) -> Model:
            changed = {name: round(getattr(model.times, name) * exp(step)) for name in names}
            return replace(model, times=replace(model.times, **changed))

        return change

    moves = [
        Move(scaled(names), width, time=group != BESIDE)
        for group, names in GROUPS.items()
        if any(getattr(engine.times, name) for name in names)
    ]
    if engine.times.experts:
        moves.append(Move(_routing, 0.3))
    if settings.kv_blocks is None:
        moves.append(Move(lambda m, step: replace(m, kv_blocks=max(1, round(m.kv_blocks * exp(step)))), 0.2))
    if not isinstance(observed, Log):
        moves.append(Move(lambda m, step: replace(m, request_s=m.request_s * exp(step)), 1.0))
    return moves


def _routing(model: Model, step: float) -> Model:
    """Real tokens agree on experts more than random ones would: each new one asks for fewer that are not read yet."""
    used = min(1 << SPARED_BITS, round(((1 << SPARED_BITS) - model.times.spared) * exp(step)))
    return replace(model, times=replace(model.times, spared=(1 << SPARED_BITS) - used))


def loss(found: Errors, *, means: bool) -> float:
    """Of tokens and whole requests more than of first tokens, which measuring disturbs most.

    `means`: errors of the means count too, as they do for the requests of one run, but not for rows of a table that
    have nothing in common.
    """
    each = sum(w * found[name]["mape_pct"] for name, w in WEIGHTS.items())
    return each + means * sum(w * abs(found[name]["mean_error_pct"]) for name, w in WEIGHTS.items())


@dataclass(slots=True)
class _Fit:
    """Least absolute relative errors, by reweighted Gauss-Newton steps with numeric derivatives; then by hand.

    `means`: see `loss`. `left_out`: rows that say nothing about the engine's times.
    """

    predict: Callable[[Model], Latencies]
    measured: Latencies
    left_out: frozenset[int]
    moves: list[Move]
    means: bool

    def search(self, model: Model) -> Model:
        steps = self._as_fast(model)
        residuals = self._residuals(self._moved(model, steps))
        best = self._objective(residuals, steps)
        for _ in range(ROUNDS):
            slopes = np.stack(
                [
                    (self._residuals(self._moved(model, steps + STEP * unit)) - residuals) / STEP
                    for unit in np.eye(len(steps))
                ]
            )
            found = self._descend(model, steps, residuals, slopes, best)
            if found is None:
                break
            gained, (steps, residuals, best) = best - found[2], found
            if gained < 1e-3 * best:
                break
        return self._polish(model, steps, best)

    def _as_fast(self, model: Model) -> Floats:
        """All times by one factor, until half of the measurements are above and half below: where little is known."""
        steps = np.zeros(len(self.moves))
        times = np.array([move.time for move in self.moves])
        for _ in range(HALVINGS):
            got, wanted = self.predict(self._moved(model, steps)).tpot, self.measured.tpot
            both = np.isfinite(got) & np.isfinite(wanted) & (wanted > 0)
            off = float(np.median(np.log(got[both] / wanted[both]))) if both.any() else 0.0
            if abs(off) < FAR:
                break
            steps = steps - off * times
        return steps

    def _descend(
        self, model: Model, steps: Floats, residuals: Floats, slopes: Floats, best: float
    ) -> tuple[Floats, Floats, float] | None:
        """One step, shorter and shorter until it helps."""
        weights = self._weights() / np.maximum(np.abs(residuals), self._floors())
        prior = NOISE / np.array([move.width**2 for move in self.moves])
        curvature = (slopes * weights) @ slopes.T + np.diag(prior)
        gradient = (slopes * weights) @ residuals + prior * steps
        for damping in (0.0, 0.1, 1.0, 10.0):
            damped = curvature + damping * np.diag(np.diag(curvature))
            candidate = steps - np.clip(np.linalg.solve(damped, gradient), -1.0, 1.0)
            got = self._residuals(self._moved(model, candidate))
            if (value := self._objective(got, candidate)) < best - 1e-9:
                return candidate, got, value
        return None

    def _polish(self, model: Model, steps: Floats, best: float) -> Model:
        """One factor after the other, on what is reported."""
        best = self._reported(model, steps)
        for step in FINE:
            for unit in np.eye(len(steps)):
                for signed in (step, -step):
                    candidate = steps + signed * unit
                    if (value := self._reported(model, candidate)) < best - 1e-9:
                        steps, best = candidate, value
                        break
        return self._moved(model, steps)

    def _reported(self, model: Model, steps: Floats) -> float:
        kept = np.array([i not in self.left_out for i in range(len(self.measured.ttft))])
        found = errors(self.predict(self._moved(model, steps)).only(kept), self.measured.only(kept))
        return loss(found, means=self.means) + 100 * self._penalty(steps)

    def _moved(self, model: Model, steps: Floats) -> Model:
        for move, step in zip(self.moves, steps.tolist(), strict=True):
            model = move.change(model, step)
        return model

    def _residuals(self, model: Model) -> Floats:
        """Logarithms of predicted over measured, 0 where there is none: first tokens, tokens, requests."""
        got = self.predict(model)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.stack([np.log(a / b) for a, b in zip(got.columns(), self.measured.columns(), strict=True)])
        found[:, sorted(self.left_out)] = 0.0
        return np.asarray(np.where(np.isfinite(found), np.clip(found, -2.0, 2.0), 0.0).ravel())

    def _objective(self, residuals: Floats, steps: Floats) -> float:
        return float((self._weights() * np.abs(residuals)).sum()) + self._penalty(steps)

    def _penalty(self, steps: Floats) -> float:
        widths = np.array([move.width for move in self.moves])
        return NOISE / 2 * float(((steps / widths) ** 2).sum()) / len(self.measured.ttft)

    def _weights(self) -> Floats:
        n = len(self.measured.ttft)
        return np.repeat(list(WEIGHTS.values()), n) / n

    def _floors(self) -> Floats:
        return np.repeat(list(FLOOR.values()), len(self.measured.ttft))


def served_at_once(
    table: Table, crowded: Iterable[int], shape: Shape, request_s: float
) -> tuple[Table, dict[str, int]]:
    """How many were served at once in runs that say not how they were started: the number that explains them best."""
    runs: dict[str, list[int]] = {}
    for row in sorted(crowded):
        runs.setdefault(table.runs[row], []).append(row)
    limits: dict[str, int] = {}
    for run, rows in runs.items():
        part = table.rows(rows)

        def error(limit: int, part: Table = part) -> float:
            got = part.limited(dict.fromkeys(part.runs, limit)).predict(shape, request_s)
            return float(np.abs(got.tpot / part.measured.tpot - 1).sum())

        limits[run] = min(LIMITS, key=error)
    return table.limited(limits), limits
