"""Fits an engine's iteration times to what a real one did, or says how far the catalog is from it.

The replay is the compiled engine's; what is fitted are factors on groups of the twelve numbers (those that one piece of
hardware answers for), so that few measurements do not bend many numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import exp
from typing import Final

from sim.serving.observed import Log, Observed, errors
from sim.serving.pool import Shape
from sim.serving.times import BLOCK_TOKENS, Engine, Times

Errors = Mapping[str, Mapping[str, float]]
STEPS: Final = (0.4, 0.2, 0.1, 0.05, 0.025, 0.012)
SWEEPS: Final = 4  # of all groups at one step, while they help
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "weights": ("a0",),
    "weights per token": ("a1",),
    "all experts": ("cap",),
    "arithmetic": ("b1",),
    "arithmetic at no token": ("b0",),
    "KV": ("c2", "mixed_c2"),
    "sequences": ("c1", "mixed_c1"),
    "prefill": ("p1", "p2"),
    "host": ("fixed",),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How the engine was started; `kv_blocks` None: what fits beside the weights, and to be fitted for a log."""

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
    engine: Engine
    kv_blocks: int
    errors: Errors
    before: Errors
    rows: int


def parameters(engine: Engine) -> dict[str, float]:
    """The twelve numbers as they are published: milliseconds a pass, microseconds a layer."""
    t, layer, ms = engine.times, engine.layers * 1e6, 1e9
    per_layer = {"c0": t.c0, "c1": t.c1, "c2": t.c2, "p0": t.p0, "p1": 2 * t.p1, "p2": t.p2}
    whole = {"a0": t.a0, "a1": t.a1, "b0": t.b0, "b1": t.b1, "host": t.fixed}
    return (
        {f"{name}_ms": round(ps / ms, 9) for name, ps in whole.items()}
        | {f"{name}_us": round(ps / layer, 12) for name, ps in per_layer.items()}
        | {"mixed_factor": round(t.mixed_c2 / t.c2, 6) if t.c2 else 1.0, "chunk_floor": float(t.floor)}
        | {"request_ms": round(engine.request_s * 1e3, 6)}
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

    def errors_of(candidate: Model) -> Errors:
        return errors(observed.predict(shape(settings, candidate), candidate.request_s), observed.measured)

    before = errors_of(model)
    if not check_only:
        model = _search(model, errors_of, _moves(observed, settings))
        engine = replace(engine, times=model.times, request_s=model.request_s, basis="calibrated")
    return Calibration(engine, model.kv_blocks, errors_of(model), before, len(observed.measured.ttft))


def loss(found: Errors) -> float:
    """Of tokens and whole requests more than of first tokens, which measuring disturbs most; means beside each one."""
    weights = {"ttft_s": 0.5, "tpot_s": 1.0, "e2e_s": 1.0}
    return sum(w * (found[name]["mape_pct"] + abs(found[name]["mean_error_pct"])) for name, w in weights.items())


Move = Callable[[Model, float], Model]


def _moves(observed: Observed, settings: Settings) -> list[Move]:
    def scaled(names: tuple[str, ...]) -> Move:
        def move(model: Model, step: float) -> Model:
            changed = {name: round(getattr(model.times, name) * exp(step)) for name in names}
            return replace(model, times=replace(model.times, **changed))

        return move

    moves = [scaled(names) for names in GROUPS.values()]
    if isinstance(observed, Log):
        if settings.kv_blocks is None:
            moves.append(lambda model, step: replace(model, kv_blocks=max(1, round(model.kv_blocks * exp(step)))))
    else:
        moves.append(lambda model, step: replace(model, request_s=model.request_s * exp(step)))
    return moves


def _search(model: Model, errors_of: Callable[[Model], Errors], moves: list[Move]) -> Model:
    """One group after the other, up or down by ever smaller steps: deterministic, and enough for a dozen numbers."""
    best = loss(errors_of(model))
    for step in STEPS:
        for _ in range(SWEEPS):
            improved = False
            for move in moves:
                for signed in (step, -step):
                    candidate = move(model, signed)
                    found = loss(errors_of(candidate))
                    if found < best - 1e-9:
                        model, best, improved = candidate, found, True
                        break
            if not improved:
                break
    return model
