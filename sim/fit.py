"""The search for factors on an engine's numbers, those that one piece of hardware answers for.

They are held near 1 by how much the start is worth: few measurements do not bend many numbers. Factors keep numbers
physical: what is 0 or more stays so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import exp, isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.serving.observed import Errors, Latencies, Lengths, Log, Observed, errors
from sim.serving.pool import Shape
from sim.serving.times import BLOCK_TOKENS, SPARED_BITS, Engine, Times

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
FARTHEST: Final = 2.0  # as a logarithm; what the model refuses is as far
FINE: Final = (0.1, 0.04, 0.015, 0.006)
WEIGHTS: Final = {"ttft_s": 0.3, "tpot_s": 1.0, "e2e_s": 0.7}
FLOOR: Final = {"ttft_s": 0.03, "tpot_s": 0.01, "e2e_s": 0.01}  # below it an error counts by its square


@dataclass(frozen=True, slots=True)
class Settings:
    """How the engine was started, and what load it had.

    `kv_blocks` None: what fits beside the weights, and to be fitted. `lengths` of a table's prompts and outputs, None:
    whichever explains it better.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    memory_mib: int
    gpu_memory_utilization: float
    kv_blocks: int | None
    lengths: Lengths | None = None
    block_tokens: int = BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Model:
    """What is fitted."""

    times: Times
    request_s: float
    kv_blocks: int


def shape(settings: Settings, model: Model) -> Shape:
    """As long a context as the cache can hold."""
    return Shape(
        model.times,
        model.kv_blocks,
        settings.max_num_seqs,
        settings.max_num_batched_tokens,
        context_tokens=model.kv_blocks * settings.block_tokens,
        block_tokens=settings.block_tokens,
    )


@dataclass(frozen=True, slots=True)
class Move:
    """One factor: how it changes a model by its logarithm, and how far from 0 that is expected."""

    change: Callable[[Model, float], Model]
    width: float
    time: bool = False  #: of an iteration


def moves_of(engine: Engine, observed: Observed, settings: Settings) -> list[Move]:
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
        longest = -(-observed.longest // settings.block_tokens)
        moves.append(Move(lambda m, step: replace(m, kv_blocks=max(longest, round(m.kv_blocks * exp(step)))), 0.2))
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
    have nothing in common. What was not measured has no error.
    """
    each = sum(w * found[name]["mape_pct"] for name, w in WEIGHTS.items() if isfinite(found[name]["mape_pct"]))
    if not means:
        return each
    return each + sum(
        w * abs(found[name]["mean_error_pct"]) for name, w in WEIGHTS.items() if isfinite(found[name]["mape_pct"])
    )


@dataclass(slots=True)
class Fit:
    """Least absolute relative errors, by reweighted Gauss-Newton steps with numeric derivatives; then by hand.

    `means`: see `loss`. `left_out`: rows that say nothing about the engine's times.
    """

    predict: Callable[[Model], Latencies]
    measured: Latencies
    left_out: frozenset[int]
    moves: list[Move]
    means: bool

    @classmethod
    def of(
        cls, predict: Callable[[Model], Latencies], observed: Observed, left_out: frozenset[int], moves: list[Move]
    ) -> "Fit":
        return cls(predict, observed.measured, left_out, moves, isinstance(observed, Log))

    def search(self, model: Model) -> Model:
        model, steps = self._as_fast(model), np.zeros(len(self.moves))
        residuals = self._residuals(model)
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

    def _as_fast(self, model: Model) -> Model:
        """All times by one factor, until half of the measurements are above and half below: where little is known.

        Factors are then held near that, and less: such a start is worth no more than a roofline.
        """
        times = np.array([move.time for move in self.moves])
        for _ in range(HALVINGS):
            got, wanted = self.predict(model).tpot, self.measured.tpot
            both = np.isfinite(got) & np.isfinite(wanted) & (wanted > 0)
            off = float(np.median(np.log(got[both] / wanted[both]))) if both.any() else 0.0
            if abs(off) < FAR:
                break
            model = self._moved(model, -off * times)
            self.moves = [replace(move, width=max(move.width, WIDTH["roofline"])) for move in self.moves]
        return model

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
        """Logarithms of predicted over measured, 0 where nothing was measured: first tokens, tokens, requests."""
        got = self.predict(model)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.stack([np.log(a / b) for a, b in zip(got.columns(), self.measured.columns(), strict=True)])
        measured = np.stack([np.isfinite(column) & (column > 0) for column in self.measured.columns()])
        found = np.where(measured, np.clip(np.where(np.isnan(found), -FARTHEST, found), -FARTHEST, FARTHEST), 0.0)
        found[:, sorted(self.left_out)] = 0.0
        return np.asarray(found.ravel())

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
