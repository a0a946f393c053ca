"""Fits an engine's iteration times to what a real one did, or says how far the catalog is from it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sim.fit import Fit, Model, Settings, loss, moves_of, shape
from sim.serving.observed import Errors, Latencies, Lengths, Log, Observed, Table, errors
from sim.serving.pool import Shape
from sim.serving.times import SPARED_BITS, Engine

LIMITS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
LENGTHS: Final[tuple[Lengths, ...]] = ("spread", "equal")
PARTS: Final = 5  # of a log, or of a table with few numbers of clients, each held out in turn
CONTRADICTED: Final = 0.85  # a token's time with more clients, of that with fewer
SUSPICIOUS: Final = 30.0  # as many times faster or slower as the start: units, or another engine


@dataclass(frozen=True, slots=True)
class Calibration:
    """`limits`: requests served at once by run of a table, where more waited than memory explains.

    `crowded`: how many such rows there are; `without_them`: the errors of the others (of all, if there are none).
    `lengths`: of a table's load, as given or found. `notes`: what a reader of the errors should know. `held_out`:
    errors of what a fit has not seen, where that was asked for.
    """

    engine: Engine
    kv_blocks: int
    errors: Errors
    before: Errors
    rows: int
    limits: Mapping[str, int]
    crowded: int
    without_them: Errors
    lengths: Lengths | None
    notes: tuple[str, ...]
    held_out: Errors | None = None


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


def calibrate(engine: Engine, observed: Observed, settings: Settings, *, check_only: bool) -> Calibration:
    """Raises `ValueError` where the model does not fit the GPU's memory, or a request not the cache."""
    model = _start(engine, observed, settings)
    lengths = (settings.lengths,) if settings.lengths else LENGTHS
    loads = [replace(observed, lengths=each) for each in lengths] if isinstance(observed, Table) else [observed]
    found = [_calibrated(engine, model, load, settings, check_only=check_only) for load in loads]
    return min(found, key=lambda each: loss(each.without_them, means=False))


def held_out(engine: Engine, observed: Observed, settings: Settings) -> Errors:
    """Of parts that no fit has seen: a table's numbers of clients one after the other, or fifths.

    Rows that say nothing about the engine's times are not among them. Raises `ValueError` as `calibrate`, and where
    there is but one row.
    """
    model = _start(engine, observed, settings)
    if isinstance(observed, Table) and settings.lengths:
        observed = replace(observed, lengths=settings.lengths)
    crowded = observed.crowded(shape(settings, model)) if isinstance(observed, Table) else frozenset[int]()
    parts = _parts(observed, crowded)
    if len(parts) < 2:
        raise ValueError("there is nothing to hold out: want at least two rows that differ in load")
    got = [np.full(len(column), np.nan) for column in observed.measured.columns()]
    for part in parts:
        fit = Fit.of(_predicting(observed, settings), observed, crowded | part, moves_of(engine, observed, settings))
        fitted = fit.search(model)
        for column, values in zip(got, fit.predict(fitted).columns(), strict=True):
            column[sorted(part)] = values[sorted(part)]
    kept = np.array([row not in crowded for row in range(len(observed.measured.ttft))])
    return errors(Latencies(*got).only(kept), observed.measured.only(kept))


def _parts(observed: Observed, crowded: frozenset[int]) -> list[frozenset[int]]:
    """Rows that measured the same are in the same part, or nothing would be held out."""
    if isinstance(observed, Log):
        rows = np.array_split(np.arange(len(observed.measured.ttft)), PARTS)
        return [frozenset(part.tolist()) for part in rows if len(part)]
    clients = [clients for _, _, clients in observed.points]
    kinds: list[object] = list(clients)
    if len({c for row, c in enumerate(clients) if row not in crowded}) < 3:
        points = sorted(set(observed.points))
        kinds = [points.index(point) % PARTS for point in observed.points]
    rows_of: dict[object, set[int]] = {}
    for row, kind in enumerate(kinds):
        if row not in crowded:
            rows_of.setdefault(kind, set()).add(row)
    return [frozenset(part) for part in rows_of.values()]


def _start(engine: Engine, observed: Observed, settings: Settings) -> Model:
    blocks = settings.kv_blocks or engine.kv_blocks(
        settings.memory_mib, settings.gpu_memory_utilization, settings.block_tokens
    )
    if blocks < 1:
        raise ValueError(f"{engine.name}: no room for a KV cache in {settings.memory_mib} MiB; give --kv-blocks")
    longest = int(observed.tokens.argmax())
    if (tokens := int(observed.tokens[longest])) > blocks * settings.block_tokens:
        place = observed.places[longest] if observed.places else f"row {longest + 1}"
        raise ValueError(
            f"{place}: a request of {tokens} tokens has no room in a KV cache of {blocks} blocks of "
            f"{settings.block_tokens}; give --kv-blocks as the engine logged it, or more --gpu-memory-utilization"
        )
    return Model(engine.times, engine.request_s, blocks)


def _predicting(observed: Observed, settings: Settings) -> Callable[[Model], Latencies]:
    return lambda model: observed.predict(shape(settings, model), model.request_s)


def _calibrated(
    engine: Engine, model: Model, observed: Observed, settings: Settings, *, check_only: bool
) -> Calibration:
    crowded = observed.crowded(shape(settings, model)) if isinstance(observed, Table) else frozenset[int]()
    start, limits = _seen(observed, crowded, settings, model)
    got, notes, rows = start, _notes(observed, start, crowded), len(observed.measured.ttft)
    if not check_only:
        moves = moves_of(engine, observed, settings)
        model = Fit.of(_predicting(observed, settings), observed, crowded, moves).search(model)
        got, limits = _seen(observed, crowded, settings, model)
        engine = replace(engine, times=model.times, request_s=model.request_s, basis="calibrated")
    kept = np.array([row not in crowded or len(crowded) == rows for row in range(rows)])
    return Calibration(
        engine,
        model.kv_blocks,
        errors(got, observed.measured),
        errors(start, observed.measured),
        rows,
        limits,
        len(crowded),
        errors(got.only(kept), observed.measured.only(kept)),
        observed.lengths if isinstance(observed, Table) else None,
        notes,
    )


def _seen(
    observed: Observed, crowded: frozenset[int], settings: Settings, model: Model
) -> tuple[Latencies, Mapping[str, int]]:
    """What the model says, and of how many served at once where a run does not tell."""
    limits: Mapping[str, int] = {}
    if isinstance(observed, Table) and crowded:
        observed, limits = served_at_once(observed, crowded, shape(settings, model), model.request_s)
    return _predicting(observed, settings)(model), limits


def _notes(observed: Observed, start: Latencies, crowded: frozenset[int]) -> tuple[str, ...]:
    notes = list[str]()
    if observed.failed:
        notes.append(f"{observed.failed} without an answer are left out; what they did to the others is not known")
    measured = observed.measured.tpot
    both = np.isfinite(measured) & np.isfinite(start.tpot) & (measured > 0)
    off = float(np.exp(np.median(np.log(measured[both] / start.tpot[both])))) if both.any() else 1.0
    if not 1 / SUSPICIOUS < off < SUSPICIOUS:
        notes.append(
            f"a token took {off:.3g} times as long as expected: are the times in the units that their names say, and "
            "is this the engine's GPU and model?"
        )
    if isinstance(observed, Table):
        notes += _contradictions(observed, crowded)
    if isinstance(observed, Table) and len({clients for _, _, clients in observed.points}) == 1:
        notes.append(f"all rows are of {observed.points[0][2]} clients: how times grow with them is not measured")
    return tuple(notes)


def _contradictions(table: Table, crowded: frozenset[int]) -> list[str]:
    """Rows that were slower than others with the same prompts and outputs and more clients."""
    notes, tpot = list[str](), table.measured.tpot
    kept = [row for row in range(len(table.points)) if row not in crowded]
    for row in kept:
        *load, clients = table.points[row]
        for other in kept:
            *same, more = table.points[other]
            if same == load and more > clients and tpot[other] < CONTRADICTED * tpot[row]:
                place = table.places[row] if table.places else f"row {row + 1}"
                notes.append(f"{place}: a token took longer with {clients} clients than with {more}: was it alone?")
                break
    return notes


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
